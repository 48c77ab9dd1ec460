"""Networks with fewer blocks: those go that matter least, and an ordinary network is left."""

import functools
import json

import jax
import numpy as np
import pytest
from test_channels import logits, model_of, with_a_quarter_alive
from test_export import random_model, task_config

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.config import from_json, to_json
from imagenet_jax.deploy.blocks import block_importance, without_blocks
from imagenet_jax.deploy.channels import without_channels
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.pretrained import pretrained_model
from imagenet_jax.models.blocks import left_without
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.table import MODELS
from imagenet_jax.reports.workdir import saved_config
from imagenet_jax.tasks import make_task
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.weights.files import write_safetensors

NAMES = ("layer1.0", "layer1.1", "layer1.2", "layer1.3")


@pytest.fixture
def four_blocks(monkeypatch):
    """A resnet8 of one stage of four blocks, the second and the fourth of which add little."""
    make = functools.partial(MODELS["resnet8"], stage_sizes=(4,))
    monkeypatch.setitem(MODELS, "resnet8", make)
    whole = model_of("resnet8", **{"model.width": 16})
    for name, factor in zip(NAMES, (1.0, 0.01, 0.3, 0.03), strict=True):
        for leaf in whole.variables["params"][name]["bn2"].values():
            leaf *= factor
    return whole


def test_importance_is_how_far_the_logits_move(four_blocks):
    """As networks say that are made without the block."""
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    inputs = np.asarray(four_blocks.task.image_inputs(images))

    def apply(names):
        config = four_blocks.config.copy_and_resolve_references()
        config.model.without_blocks = names
        model = make_task(config).model()
        return model.apply(left_without(four_blocks.variables, names), inputs, train=False)

    whole = apply(())
    expected = {
        name: float(((apply((name,)) - whole) ** 2).sum() / (whole**2).sum()) for name in NAMES
    }
    assert block_importance(four_blocks, images) == pytest.approx(expected, rel=1e-3)


def test_the_blocks_that_matter_least_go(four_blocks, capsys):
    """What is left is described by its config, and can lose blocks again."""
    less = without_blocks(four_blocks, 0.5)
    assert less.config.model.without_blocks == ("layer1.1", "layer1.3")
    told = capsys.readouterr().err
    assert "on 64 images of fake, train" in told
    assert "without layer1.1, layer1.3: 2 of 4 blocks that could go" in told
    config = from_json(to_json(less.config))
    check_config(config, make_mesh())
    assert make_task(config).model() == less.model
    before, after = logits(four_blocks, 32), logits(less, 32)
    assert 0 < np.abs(after - before).max() < 0.2 * np.abs(before).max()
    again = without_blocks(less, 0.4)
    assert again.config.model.without_blocks == ("layer1.1", "layer1.3", "layer1.2")
    with pytest.raises(ConfigError, match=r"is none of the 2 blocks .*; take 0.25 or more"):
        without_blocks(less, 0.2)
    with pytest.raises(ConfigError, match=r"is none of the 0 blocks that random could do without$"):
        without_blocks(without_blocks(less, 0.9), 0.9)


@pytest.mark.slow
def test_blocks_and_channels_go_in_either_order(four_blocks):
    """Channels that say nothing change nothing, with all blocks or with some."""
    whole = with_a_quarter_alive(four_blocks, "fc")
    shallow, narrow = without_blocks(whole, 0.5), without_channels(whole, 0.5)
    expected = logits(shallow, 32)
    for both in (without_channels(shallow, 0.5), without_blocks(narrow, 0.5)):
        assert both.config.model.without_blocks == shallow.config.model.without_blocks
        assert set(both.config.model.channels) == {
            *("conv1=8", "layer1.0/conv1=8", "layer1.0/conv2=8"),
            *("layer1.2/conv1=8", "layer1.2/conv2=8"),
        }
        check_config(both.config, make_mesh())
        np.testing.assert_allclose(logits(both, 32), expected, atol=1e-5 * np.abs(expected).max())


def test_weights_lose_the_blocks_that_the_config_leaves_out(four_blocks, tmp_path):
    less, file = without_blocks(four_blocks, 0.5), tmp_path / "whole.safetensors"
    write_safetensors(file, four_blocks.variables)
    found = pretrained_model("resnet8", less.config, str(file), ("a", "b", "c"))
    assert [*found.variables["params"]] == [*less.variables["params"]]
    np.testing.assert_array_equal(logits(found, 32), logits(less, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "head"),
    [
        ("segmentation", "mobilenet_v2", "lraspp"),
        ("detection", "resnet18", "faster_rcnn"),
        ("classification", "vit_ti16", ""),
        ("multi_task", "resnet18", "both"),
    ],
)
def test_networks_of_every_kind_lose_blocks(task, name, head):
    fields = {"model.scan": True, "model.remat": True} if not head else {}
    fields |= {"model.dtype": "float32", "data.fake_train_examples": 4}
    config = task_config(task, name, "" if head == "both" else head, **fields)
    if head == "both":
        config.multi_task.tasks = ("detection:fcos", "segmentation:fcn")
    whole = random_model(config)
    less = without_blocks(whole, 0.5)
    assert len(less.config.model.without_blocks) == {"vit_ti16": 6, "resnet18": 3}.get(name, 5)
    check_config(less.config, make_mesh())
    shapes = variable_shapes(less.model, 64)
    assert jax.tree.map(np.shape, less.variables) == jax.tree.map(np.shape, shapes)


@pytest.mark.slow
def test_a_network_without_blocks_is_a_run(finished_run, tmp_path, one_block, capsys):
    """It recovers, and what takes a run takes it."""
    argv = ["compress", f"--workdir={finished_run}", f"--out={tmp_path}/out", "--structure=blocks"]
    assert main([*argv, "--prune=0.5", "--epochs=1"]) == 0
    run = tmp_path / "out" / "blocks-0.5"
    facts = json.loads((tmp_path / "out" / "compress.json").read_text())
    whole, row = facts["variants"]
    # Two 3x3 kernels of 8 by 8, and two norms.
    assert row["parameters"] == whole["parameters"] - 2 * (9 * 8 * 8 + 2 * 8)
    assert row["gmacs"] < whole["gmacs"] and row["at_once"] is not None
    summary = json.loads((run / "summary.json").read_text())
    assert summary["eval"]["top1"] == row["top1"] and summary["step"] == 3
    assert saved_config(run).model.without_blocks == ("layer1.0",)
    assert Predictor.from_run(run).evaluate()["eval"]["top1"] == row["top1"]
    assert main(["export", f"--workdir={run}", f"--out={tmp_path}/export"]) == 0
    argv = ["compress", f"--workdir={run}", "--prune=0.5", "--epochs=0"]
    assert main([*argv, "--structure=channels"]) == 0
    assert main([*argv, "--structure=blocks"]) == 1
    assert "is none of the 0 blocks" in capsys.readouterr().err


def test_without_data_it_says_what_was_looked_at(four_blocks, capsys):
    four_blocks.config.data.name = "folder:/nowhere"
    assert len(without_blocks(four_blocks, 0.3).config.model.without_blocks) == 1
    assert "on the photos that come with scikit-learn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (("layer2.0",), "resnet8 has no block 'layer2.0' whose output has the shape of its input"),
        (("layer1.0", "layer1.0"), "names of blocks, none twice"),
    ],
)
def test_blocks_that_cannot_go_are_said(blocks, message):
    config = task_config("classification", "resnet8")
    config.model.without_blocks = blocks
    with pytest.raises(ConfigError, match=message):
        check_config(config, make_mesh())


def test_a_model_that_has_no_such_blocks_is_told():
    config = task_config("classification", "vgg11")
    config.model.without_blocks = ("features.0",)
    with pytest.raises(ConfigError, match="vgg11 has no residual blocks that it could do without"):
        check_fields(config)
