"""A run of a masked autoencoder on digits, and what a classifier takes of it."""

import json

import numpy as np
import pytest
from PIL import Image

import launch
from imagenet_jax import Predictor
from imagenet_jax.errors import WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.heads.masked_autoencoder import create_masked_autoencoder
from imagenet_jax.models.layers.sincos import sincos2d
from imagenet_jax.weights.adapt import adapt

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mae_run")]

VIT = {"patch": 2, "width": 16, "depth": 1, "heads": 2}


def flags(workdir, **fields):
    fields = {
        **{"data.name": "digits", "data.eval_split": "test", "data.image_size": 8},
        **{"data.train_crop": "none", "data.eval_crop": "none", "augment.flip": False},
        **{"model.name": "vit_ti16", "model.dtype": "float32", "model.bn_group_size": 0},
        **{f"model.{name}": value for name, value in VIT.items()},
        **{
            "batch_size": 64,
            "schedule.warmup": "5 steps",
            "eval.every": "",
            "log.every": "10 steps",
        },
        **{"optim.name": "adamw", "optim.learning_rate": 0.01, "log.tensorboard": False},
        **fields,
    }
    return [f"--workdir={workdir}", *(f"--config.{name}={value}" for name, value in fields.items())]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A working directory."""
    workdir = tmp_path_factory.mktemp("run") / "mae"
    decoder = {"mae.decoder_depth": 1, "mae.decoder_width": 16, "mae.decoder_heads": 2}
    fields = {"task": "mae", "duration": "60 steps", "mae.mask_ratio": 0.5, **decoder}
    assert launch.main(["train", *flags(workdir, **fields)]) == 0
    return workdir


def test_the_loss_falls_and_a_picture_is_drawn(run, tmp_path, capsys):
    summary = json.loads((run / "summary.json").read_text())
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    trained = [line for line in lines if "train/loss" in line]
    assert trained[-1]["train/loss"] < 0.95 * trained[0]["train/loss"]
    assert all(0.01 < line["train/feature_std"] < 1.5 for line in trained)
    assert summary["eval"]["num_examples"] == 360
    assert summary["eval"]["loss"] == pytest.approx(trained[-1]["train/loss"], rel=0.3)
    assert "reconstruction.png" in summary["report"]["files"]
    with Image.open(run / "evaluation/reconstruction.png") as picture:
        drawn = np.asarray(picture)
    (run / "evaluation/reconstruction.png").unlink()
    told = tmp_path / "out.json"
    assert launch.main(["evaluate", f"--workdir={run}", f"--json={told}"]) == 0
    assert json.loads(told.read_text())["eval"] == summary["eval"]
    with Image.open(run / "evaluation/reconstruction.png") as picture:
        assert (np.asarray(picture) == drawn).all()  # the same patches are hidden each time
    assert "mean squared error of what is hidden" in capsys.readouterr().out


def test_a_classifier_starts_from_the_workdir(run, tmp_path, capsys, caplog):
    fields = {"finetune.weights": run, "duration": "2 steps", "model.pool": "avg"}
    fields["schedule.warmup"] = "0 steps"
    assert launch.main(["train", *flags(tmp_path / "classes", **fields)]) == 0
    said = capsys.readouterr()
    assert "the weights were learnt without labels" in said.out + said.err + caplog.text
    features = Predictor.from_run(run)
    predictor = Predictor.from_run(tmp_path / "classes")
    for name in ("qkv", "proj"):
        before = features.variables["params"]["blocks.0"]["attn"][name]["kernel"]
        after = predictor.variables["params"]["blocks.0"]["attn"][name]["kernel"]
        difference = np.abs(np.asarray(before) - np.asarray(after)).max()
        assert 0 < difference < 0.05  # two steps away
    assert features.features(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 16)


@pytest.mark.slow
def test_features_are_probed(run, tmp_path):
    told = tmp_path / "out.json"
    assert launch.main(["evaluate", f"--workdir={run}", "--probe=train", f"--json={told}"]) == 0
    found = json.loads(told.read_text())
    assert found["features"] == 16 and found["linear_probe"]["top1"] > 0.15


@pytest.mark.slow
def test_pre_training_goes_on_from_a_workdir(run, tmp_path):
    decoder = {"mae.decoder_depth": 1, "mae.decoder_width": 16, "mae.decoder_heads": 2}
    fields = {"task": "mae", "duration": "1 steps", "finetune.weights": run, **decoder}
    fields |= {"mae.mask_ratio": 0.5, "schedule.warmup": "0 steps", "optim.learning_rate": 1e-5}
    assert launch.main(["train", *flags(tmp_path / "more", **fields)]) == 0
    first, more = (
        json.loads((workdir / "summary.json").read_text())["eval"]["loss"]
        for workdir in (run, tmp_path / "more")
    )
    assert more == pytest.approx(first, rel=0.02)


@pytest.mark.parametrize("pos_embed", ["learn", "sincos2d"])
@pytest.mark.parametrize(
    ("token", "pool"),
    [
        (True, "token"),
        (False, "token"),
        (True, "avg"),
        (False, "avg"),
        *(pytest.param(token, "norm_avg", marks=pytest.mark.slow) for token in (True, False)),
    ],
)
def test_every_pool_starts_from_every_encoder(token, pool, pos_embed):
    options = {"pos_embed": pos_embed, **VIT}
    encoder = create_masked_autoencoder("vit_ti16", pool="token" if token else "avg", **options)
    shapes = {"batch_stats": {}, **variable_shapes(encoder, 8)}
    rng = np.random.default_rng(0)
    learnt = {name: rng.normal(size=leaf.shape) for name, leaf in _leaves(shapes["params"])}
    variables = {"params": _tree(learnt), "batch_stats": {}}
    model = create_model("vit_ti16", num_classes=3, pool=pool, **options)
    adapted = dict(_leaves(adapt(variables, model, 8, new_head=True)["params"]))
    assert adapted.keys() == dict(_leaves(variable_shapes(model, 8)["params"])).keys()
    new = {name for name, array in adapted.items() if name not in learnt}
    expected = {"head/kernel", "head/bias"}
    expected |= {"fc_norm/scale", "fc_norm/bias"} if pool == "avg" else set()
    expected |= {"cls_token"} if pool == "token" and not token else set()
    assert new == expected
    for name in adapted.keys() - new - {"pos_embed"}:
        np.testing.assert_array_equal(adapted[name], learnt[name])
    if pool == "avg":
        assert (adapted["fc_norm/scale"] == 1).all() and (adapted["fc_norm/bias"] == 0).all()
    if pos_embed == "learn":
        count = 16  # patches
        np.testing.assert_array_equal(
            adapted["pos_embed"][:, -count:], learnt["pos_embed"][:, -count:]
        )
        assert adapted["pos_embed"].shape[1] == count + (pool == "token")


def test_positions_that_are_learnt_start_from_the_fixed_ones():
    """As in the reference, whose fine-tuning moves them."""
    encoder = create_masked_autoencoder("vit_ti16", pool="avg", pos_embed="sincos2d", **VIT)
    shapes = variable_shapes(encoder, 8)["params"]
    learnt = _tree({name: np.zeros(leaf.shape) for name, leaf in _leaves(shapes)})
    model = create_model("vit_ti16", num_classes=3, pool="token", **VIT)
    adapted = adapt({"params": learnt, "batch_stats": {}}, model, 8, new_head=True)["params"]
    places = adapted["pos_embed"]
    assert places.shape == (1, 17, 16) and (places[:, 0] == 0).all()
    np.testing.assert_array_equal(places[:, 1:], sincos2d(4, 4, 16))


def test_a_classifier_has_no_decoder_to_start_from():
    model = create_masked_autoencoder("vit_ti16", **VIT, decoder_depth=1)
    classifier = create_model("vit_ti16", num_classes=3, **VIT)
    shapes = variable_shapes(classifier, 8)["params"]
    params = _tree({name: np.zeros(leaf.shape) for name, leaf in _leaves(shapes)})
    with pytest.raises(WeightsError, match=r"missing decoder_blocks\.0\.attn\.proj"):
        adapt({"params": params, "batch_stats": {}}, model, 8, new_head=True)


def _leaves(tree, prefix=""):
    for name, value in tree.items():
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _tree(leaves):
    tree = {}
    for path, value in leaves.items():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return tree
