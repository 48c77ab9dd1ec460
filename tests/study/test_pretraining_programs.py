"""Learning without labels, or with few, as XLA's TPU compiler makes it: what travels."""

import importlib.util

import pytest
from test_programs import own_flags, study  # noqa: F401 - a fixture

EXHAUSTIVE = [pytest.mark.slow, pytest.mark.exhaustive]
VIEWS = {"data.crops": 2, "pretrain.hidden": 128, "pretrain.size": 64, "augment.pad": 0}
AVERAGE = {"ema_decay": 0.99, "ema_ramp": "cosine"}
TASKS = {
    "simclr": VIEWS,
    "byol": {**VIEWS, **AVERAGE, "pretrain.predictor": 128},
    "dino": {
        **{**VIEWS, **AVERAGE, "pretrain.prototypes": 256, "pretrain.norm": "none"},
        **{"data.local_crops": 2, "data.local_size": 16},
    },
    "mae": {
        **{"model.name": "vit_ti16", "model.patch": 4, "model.depth": 2, "model.width": 192},
        **{"model.stem": "", "mae.decoder_depth": 1, "mae.decoder_width": 64},
        "mae.decoder_heads": 2,
    },
    "fixmatch": {
        **{"data.views": 2, "data.policy": "randaugment", "data.labelled_share": 0.125},
        "data.labelled_per_class": 4,
    },
}
BATCH = 32  # images on each of eight devices


@pytest.mark.xdist_group("large")
@pytest.mark.parametrize(
    "task",
    [pytest.param(t, marks=[pytest.mark.slow] if t == "simclr" else EXHAUSTIVE) for t in TASKS],
)
def test_it_compiles_and_what_travels_is_counted(tmp_path, task):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    fields = {
        **{"task": task, "data.name": "fake", "data.fake_classes": 10, "data.image_size": 32},
        **{"model.name": "resnet8", "model.width": 16, "model.stem": "cifar"},
        "model.bn_group_size": 0,
        **TASKS[task],
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    more = (f"--batch_per_device={BATCH}", "--partitioner=shard_map")
    facts, _ = study(tmp_path, "v5e:2x4", *more, *flags)
    assert facts["fits"] and facts["predicted_step_seconds"] > 0
    found = facts["collectives"]
    assert found["all-reduce"]["bytes"] > 4 * 75_000  # gradients, the smallest network's
    if task == "simclr":  # of each device the projections of its views, in bfloat16
        assert found["all-gather"]["bytes"] >= 2 * BATCH * 64 * 2
