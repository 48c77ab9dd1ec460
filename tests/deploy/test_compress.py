"""Smaller forms of a run: pruned, trained on, compared; each is a run like any other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.config import base_config
from imagenet_jax.deploy.variants import Variant, config_of, parse_variants
from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.workdir import saved_config
from imagenet_jax.weights.files import read_weights


def compressed(run, out, *flags):
    """The rows of a comparison by their names."""
    assert main(["compress", f"--workdir={run}", f"--out={out}", *flags]) == 0
    result = json.loads((Path(out) / "compress.json").read_text())
    assert Image.open(Path(out) / "compress.png").size == (1320, 576)
    return {row["name"]: row for row in result["variants"]}


def test_what_is_pruned_at_once_is_counted_measured_and_a_run(
    finished_run, tmp_path, one_block, capsys
):
    flags = ["--prune=0.5", "--structure=weights,channels,2:4", "--epochs=0"]
    rows = compressed(finished_run, tmp_path / "out", *flags)
    assert [*rows] == ["whole", "weights 0.5", "channels 0.5", "2:4"]
    whole = rows["whole"]
    assert whole["parameters"] == whole["nonzero"] == 1506
    # 3x3 kernels of 3, 8 and 8 channels; but the stem's three are no group of four.
    assert rows["weights 0.5"]["nonzero"] == 1506 - 9 * 8 * (3 + 8 + 8) // 2
    assert rows["2:4"]["nonzero"] == 1506 - 9 * 8 * (8 + 8) // 2
    small = rows["channels 0.5"]
    assert small["parameters"] == 9 * 4 * (3 + 4 + 4) + 3 * 2 * 4 + 4 * 10 + 10
    assert 3 * small["gmacs"] < whole["gmacs"] and 2 * small["bytes"] < whole["bytes"]
    assert rows["2:4"]["bytes"] == whole["bytes"] > 1.2 * rows["2:4"]["gzip_bytes"]
    for name, row in rows.items():
        assert set(row["latency_ms"]) == {"1", "32"} and min(row["latency_ms"].values()) > 0
        if name == "whole":
            continue
        predictor = Predictor.from_run(row["workdir"])
        assert predictor.evaluate()["eval"]["top1"] == row["top1"]
        params = read_weights(Path(row["file"])).arrays
        zeros = sum(int((array == 0).sum()) for array in params.values() if array.ndim == 4)
        assert zeros == row["parameters"] - row["nonzero"]
    told = capsys.readouterr().out
    assert "made smaller at once, on 30 images of fake, validation" in told
    assert "non-zero" in told and "at once  " not in told


@pytest.mark.slow
def test_a_variant_recovers(finished_run, tmp_path, one_block, capsys):
    """Of weights in training/test_prune.py."""
    rows = compressed(finished_run, tmp_path, "--prune=0.5", "--structure=channels", "--epochs=1")
    assert "at once" in capsys.readouterr().out
    summary = json.loads((tmp_path / "channels-0.5" / "summary.json").read_text())
    row = rows["channels 0.5"]
    assert summary["eval"]["top1"] == row["top1"] and summary["step"] == 3
    assert row["at_once"] is not None
    config = saved_config(tmp_path / "channels-0.5")
    assert "layer1.0/conv1=4" in config.model.channels and config.duration == "1 epochs"


@pytest.mark.slow
def test_the_same_command_goes_on_and_another_is_refused(finished_run, tmp_path, one_block, capsys):
    flags = ["--prune=0.5", "--structure=channels,weights", "--epochs=2"]
    rows = compressed(finished_run, tmp_path, *flags)
    assert rows["weights 0.5"]["nonzero"] == 1506 - 684
    assert "resumed: step 0 of 5" in capsys.readouterr().out
    for step in (tmp_path / "channels-0.5" / "checkpoints").glob("5"):
        shutil.rmtree(step)
    again = compressed(finished_run, tmp_path, *flags)
    assert "resumed: step 0 of 5" in capsys.readouterr().out
    for name, row in rows.items():
        assert all(again[name].get(key) == row.get(key) for key in ("top1", "at_once", "nonzero"))
    compressed(finished_run, tmp_path, *flags)
    assert "already finished: step 5 of 5" in capsys.readouterr().out
    argv = ["compress", f"--workdir={finished_run}", f"--out={tmp_path}", *flags[:2]]
    assert main([*argv, "--epochs=1"]) == 1
    assert "was written with another config" in capsys.readouterr().err


@pytest.mark.slow
def test_without_data_it_says_what_pruning_costs(finished_run, tmp_path, one_block, capsys):
    flags = ["--prune=0.9", "--epochs=0", "--config.data.name=folder:/nowhere"]
    rows = compressed(finished_run, tmp_path / "out", *flags)
    assert rows["weights 0.9"]["top1"] is None and rows["weights 0.9"]["nonzero"] < 400
    told = capsys.readouterr()
    assert "nothing was evaluated" in told.out and "/nowhere" in told.err
    argv = ["compress", f"--workdir={finished_run}", f"--out={tmp_path}/other", *flags]
    assert main([*argv[:-2], "--epochs=1", argv[-1]]) == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_variants_of_a_command_line():
    assert parse_variants("weights,2:4", "0.5,0.8") == [
        Variant("weights", 0.5),
        Variant("weights", 0.8),
        Variant("2:4", 0.5),
    ]
    folders = [variant.folder for variant in parse_variants("channels,blocks,1:4", "0.25")]
    assert folders == ["channels-0.25", "blocks-0.25", "1-of-4"]


def test_the_schedule_keeps_its_share_of_the_run():
    """But for what somebody has said, and what is in other units."""
    config = base_config()
    config.duration, config.finetune.weights, config.finetune.mode = "90 epochs", "x", "head"
    config.schedule.update(warmup="9 epochs", boundaries=("30 epochs", "50 percent"))
    variant = Variant("weights", 0.8)
    found = config_of(variant, config, duration="10 epochs", said=["schedule.timescale"])
    assert found.schedule.warmup == "1 epochs" and found.schedule.timescale == "1 epochs"
    assert found.schedule.boundaries == ("3.33333 epochs", "50 percent")
    assert (found.finetune.weights, found.finetune.mode) == ("", "full")
    assert (found.prune.share, found.prune.scope, found.prune.begin) == (0.8, "global", "0 steps")
    assert config_of(variant, config).prune.end == "0 steps"
    channels = config_of(Variant("channels", 0.5), found, duration="10 epochs")
    assert (channels.prune.share, channels.prune.end) == (0.8, "0 steps")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("filters", "0.5"),
            "--structure=filters; expected one or more of weights, channels, blocks or",
        ),
        (("4:2", ""), "--structure=4:2; expected"),
        ((",", "0.5"), "--structure=,; expected"),
        (("", ""), "--structure=weights needs a share"),
        (("channels", ""), "--structure=channels needs a share"),
        (("2:4", "0.5"), "--prune=0.5 does not go with --structure=2:4 alone"),
        (("weights", "80"), "--prune=80; expected shares above 0 and below 1"),
        (("weights", "half"), "--prune=half; expected"),
    ],
)
def test_what_is_no_variant_is_said(flags, message):
    with pytest.raises(ConfigError, match=message):
        parse_variants(*flags)


@pytest.mark.slow
def test_the_whole_network_teaches(finished_run, tmp_path, one_block):
    flags = ["--prune=0.5", "--structure=channels", "--epochs=1", "--distill"]
    compressed(finished_run, tmp_path, *flags)
    config = saved_config(tmp_path / "channels-0.5")
    assert config.distill.weights == str(finished_run)
    assert np.isfinite(
        json.loads((tmp_path / "channels-0.5/summary.json").read_text())["eval"]["loss"]
    )
