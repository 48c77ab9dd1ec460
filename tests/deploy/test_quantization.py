"""Networks in int8: calibrated, compared with the runtimes that have integers, trained on."""

import json

import jax
import numpy as np
import pytest
from test_compress import compressed
from test_export import random_model, task_config
from test_step import curve, largest_difference

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.config import base_config
from imagenet_jax.deploy.program import program_of
from imagenet_jax.deploy.quantization import quantized, sensitivity
from imagenet_jax.deploy.runtimes import in_runtimes
from imagenet_jax.deploy.variants import Variant, config_of, parse_variants
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.pretrained import pretrained_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.layers.quantized import NAME, rounded_layers
from imagenet_jax.reports.workdir import saved_config
from imagenet_jax.tasks import make_task
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.loop import train
from imagenet_jax.training.program import make_program
from imagenet_jax.weights.detectors import load_detector
from imagenet_jax.weights.files import write_safetensors
from imagenet_jax.weights.segmenters import load_segmenter


@pytest.mark.slow
def test_int8_is_calibrated_and_the_runtimes_say_the_same(
    finished_run, tmp_path, one_block, capsys
):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("onnxruntime")
    rows = compressed(finished_run, tmp_path / "out", "--quantize=int8", "--epochs=0")
    files = ["int8 in LiteRT", "int8 in ONNX Runtime"]
    assert [*rows] == ["whole", "int8", *files]
    row = rows["int8"]
    assert row["calibrated_on"] == "40 images of fake, train"
    assert row["latency_ms"] is row["bytes"] is None
    assert len(row["sensitivity"]) == 4
    differences = [layer["difference"] for layer in row["sensitivity"]]
    assert differences == sorted(differences, reverse=True) and 0 < differences[0] < 0.1
    for name in files:
        # Of noise the logits are nearly the same: a level more or less decides.
        assert rows[name]["same_answers"] >= rows[name]["compared"] - 3 == 27
        assert abs(rows[name]["top1"] - row["top1"]) <= 3 / 30 + 1e-9
        assert min(rows[name]["latency_ms"].values()) > 0 and rows[name]["bytes"] > 0
    predictor = Predictor.from_run(row["workdir"])
    assert predictor.evaluate()["eval"]["top1"] == row["top1"]
    own = predictor.variables["batch_stats"]["conv1"][NAME]
    images = predictor.preprocess([np.full((8, 8, 3), level, np.uint8) for level in (0, 255)])
    seen = np.asarray(predictor.trained.task.image_inputs(images))
    assert seen.min() <= own["low"] <= 0 <= own["high"] <= seen.max()  # of the calibration
    told = capsys.readouterr().out
    assert "int8 in LiteRT: " in told and "What a layer alone changes" in told
    argv = ["export", f"--workdir={row['workdir']}", "--format=stablehlo,litert_int8"]
    assert main([*argv, f"--out={tmp_path}/export"]) == 0
    exported = json.loads((tmp_path / "export" / "export.json").read_text())["formats"]
    assert exported["litert_int8"]["calibrated_on"] == 30  # images of the evaluation split


@pytest.mark.slow
def test_a_network_in_int8_is_trained_on_and_goes_on(finished_run, tmp_path, one_block, capsys):
    flags = ["--quantize=int8", "--quantize_skip=^conv1/", "--prune=0.5", "--epochs=1"]
    rows = compressed(finished_run, tmp_path, *flags)
    assert [name for name in rows if " in " not in name] == [
        *("whole", "int8", "weights 0.5", "weights 0.5 int8")
    ]
    told = capsys.readouterr()
    assert "quantize int8; 3 layers; as they are: conv1" in told.err + told.out
    assert "has every layer in int8" in told.err + told.out
    config = saved_config(tmp_path / "weights-0.5-int8")
    assert config.model.quantize == "int8" and config.prune.share == 0.5
    assert config.optim.learning_rate == pytest.approx(
        0.1 * saved_config(finished_run).optim.learning_rate
    )
    both = Predictor.from_run(tmp_path / "weights-0.5-int8").variables
    zeros = sum(int((np.asarray(leaf) == 0).sum()) for leaf in jax.tree.leaves(both["params"]))
    assert zeros >= 684 and rounded_layers(both["batch_stats"]) == [
        *("fc", "layer1.0/conv1", "layer1.0/conv2")
    ]
    again = compressed(finished_run, tmp_path, *flags)
    assert "already finished: step 3 of 3" in capsys.readouterr().out
    assert all(again[name].get("top1") == row["top1"] for name, row in rows.items())
    assert main(["compress", f"--workdir={tmp_path}/int8", "--prune=0.5"]) == 1
    assert "this network is quantized" in capsys.readouterr().err


def test_what_is_quantized():
    whole, pruned = Variant("", 0.0, "int8"), Variant("channels", 0.5)
    assert parse_variants("", "", "int8") == [whole]
    both = Variant("channels", 0.5, "int8")
    assert parse_variants("channels", "0.5", "int8") == [whole, pruned, both]
    assert (whole.base, pruned.base, both.base) == (None, None, pruned)
    assert (whole.folder, both.folder) == ("int8", "channels-0.5-int8")


def test_a_rate_that_was_said_stays(loop_config):
    variant = Variant("", 0.0, "int8")
    found = config_of(variant, loop_config, said=["optim.learning_rate"], skip=["^conv1/"])
    assert found.optim.learning_rate == loop_config.optim.learning_rate
    assert (found.model.quantize, found.model.quantize_skip) == ("int8", ("^conv1/",))
    loop_config.model.quantize_skip = ("^conv1/",)
    with pytest.raises(ConfigError, match=r"is of model.quantize, which is ''"):
        check_fields(loop_config)
    config = base_config()
    config.model.update(name="vit_s16", quantize="int8", scan=True)
    with pytest.raises(ConfigError, match=r"does not go with config.model.scan = True"):
        check_fields(config)


def test_what_cannot_be_quantized_is_said(loop_config):
    whole = random_model(loop_config)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"\('.',\) leaves no layer of random that could be"):
        quantized(whole, images, ["."])
    with pytest.raises(
        ConfigError, match=r"'\^conv9/' finds no kernel of random, such as 'conv1/k"
    ):
        quantized(whole, images, ["^conv9/"])
    loop_config.model.update(quantize="int8", quantize_skip=("^conv9/",))
    with pytest.raises(ConfigError, match=r"quantize_skip: '\^conv9/' finds no kernel of resnet8"):
        make_program(make_task(loop_config), make_mesh())
    with pytest.raises(ConfigError, match=r"weights of a model have no ranges of int8"):
        pretrained_model("resnet8", loop_config, "resnet8.safetensors")


@pytest.mark.xdist_group("eight_devices")
@pytest.mark.parametrize(
    "partitioner",
    [
        "shard_map",
        pytest.param("jit", marks=(pytest.mark.slow, pytest.mark.exhaustive)),
        pytest.param("pmap", marks=(pytest.mark.slow, pytest.mark.exhaustive)),
    ],
)
def test_eight_devices_round_as_one_does(loop_config, partitioner):
    loop_config.model.quantize = "int8"
    alone, alone_state = curve(loop_config, devices=1, steps=4)
    loop_config.partitioner = partitioner
    spread, spread_state = curve(loop_config, steps=4)
    np.testing.assert_allclose(spread, alone, rtol=1e-3)
    assert (
        largest_difference(alone_state, spread_state) < 0.02
    )  # a level more or less here or there
    ends = alone_state.batch_stats["layer1.0"]["conv2"][NAME]
    assert ends["high"] > ends["low"] == 0  # of what comes out of a ReLU


@pytest.mark.slow
def test_weights_start_a_network_in_int8_and_the_other_way_round(
    finished_run, loop_config, tmp_path
):
    """What the other one does not have is its own."""
    loop_config.finetune.weights, loop_config.model.quantize = str(finished_run), "int8"
    assert train(loop_config, tmp_path / "int8")["eval"]["top1"] >= 0
    loop_config.finetune.weights, loop_config.model.quantize = str(tmp_path / "int8"), ""
    assert train(loop_config, tmp_path / "float")["eval"]["top1"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "read"),
    [("fcn", load_segmenter), ("fcos", load_detector), ("retinanet", load_detector)],
)
def test_files_of_whole_networks_start_one_in_int8(head, read, tmp_path):
    """Also one of fewer blocks; in floating point and with their ranges."""
    task = "segmentation" if head == "fcn" else "detection"
    fields = {"model.width": 16, "data.image_size": 64}
    whole = random_model(task_config(task, "resnet18", head, **fields))
    write_safetensors(tmp_path / "whole.safetensors", whole.variables)
    gone = ("layer1.1", "layer3.1")
    smaller = {"model.quantize": "int8", "model.without_blocks": gone}
    model = make_task(task_config(task, "resnet18", head, **fields, **smaller)).model()
    found = read(tmp_path / "whole.safetensors", model).variables
    shapes = variable_shapes(model, 64)
    assert jax.tree.map(np.shape, found["params"]) == jax.tree.map(np.shape, shapes["params"])
    assert not rounded_layers(found["batch_stats"])
    stats = jax.tree.map(lambda leaf: np.full(leaf.shape, 2, np.float32), shapes["batch_stats"])
    theirs = {"params": found["params"], "batch_stats": stats}
    write_safetensors(tmp_path / "int8.safetensors", theirs)
    again = read(tmp_path / "int8.safetensors", model).variables
    assert rounded_layers(again["batch_stats"]) == rounded_layers(stats) != []


@pytest.mark.slow
def test_detectors_of_two_stages_are_simulated_alone(capsys, tmp_path):
    """Their boxes are ordered amid the network, for which runtimes have no operation."""
    fields = {"model.width": 16, "data.image_size": 64}
    whole = random_model(task_config("detection", "resnet18", "faster_rcnn", **fields))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = quantized(whole, images)
    assert in_runtimes(found, "int8", tmp_path, images, evaluates=False) == ([], {})
    assert sensitivity(found, images) == []
    told = capsys.readouterr().err
    assert "without model_int8.onnx: " in told and "without model_int8.tflite: " in told
    assert "no layer is tried alone: " in told and not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("segmentation", "fcn"),
        ("detection", "fcos"),
        pytest.param("instances", "mask_rcnn", marks=pytest.mark.exhaustive),
        pytest.param("detection", "detr", marks=pytest.mark.exhaustive),
    ],
)
def test_every_task_is_quantized(task, head):
    """Each layer has a range of what it is given; what is told is finite, and not the same."""
    config = task_config(task, "resnet18", head, **{"model.width": 16, "data.image_size": 128})
    whole = random_model(config)
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    found = quantized(whole, images)
    leaves = jax.tree_util.tree_leaves_with_path(found.variables["batch_stats"])
    ends = [leaf for path, leaf in leaves if [path[-2].key, path[-1].key] == [NAME, "high"]]
    assert len(ends) > 20 and min(ends) > 0
    ours, theirs = (jax.jit(program_of(one))(one.variables, images) for one in (whole, found))
    assert all(np.isfinite(np.asarray(array, np.float64)).all() for array in theirs.values())
    assert any((np.asarray(ours[name]) != theirs[name]).any() for name in ours)
