import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import launch

ROOT = Path(__file__).parents[1]
TINY = [
    f"--config={ROOT}/configs/fake_data.py",
    "--config.model.name=resnet8",
    "--config.model.stem=cifar",
    "--config.model.dtype=float32",
    "--config.model.bn_group_size=2",
    "--config.data.image_size=8",
    "--config.data.fake_eval_examples=30",
    "--config.data.fake_classes=10",
    "--config.batch_size=16",
    "--config.duration=4 steps",
    "--config.log.every=2 steps",
]
# Beside TINY, for config.task=detection.
BOXES = [
    "--config.model.head=fcos",
    "--config.model.fpn_strides=(2, 4)",
    "--config.model.fpn_width=32",
    "--config.data.train_crop=none",
    "--config.data.eval_crop=none",
    "--config.optim.learning_rate=0.001",
]


def test_train_then_evaluate_from_the_workdir_alone(tmp_path, capsys, one_block):
    workdir, out = tmp_path / "run", tmp_path / "out"
    fields = ["--config.eval.report=best", "--config.eval.every=1 steps"]
    arguments = ["train", *TINY, *fields, f"--workdir={workdir}"]
    assert launch.main([*arguments, f"--json={out}/train.json"]) == 0
    printed = capsys.readouterr().out
    assert f"everything is in {workdir}" in printed
    trained = json.loads((out / "train.json").read_text())
    assert trained == json.loads((workdir / "summary.json").read_text())
    assert f"({trained['eval']['correct_top1']} of 30)" in printed

    # The config is the run's own; a field of it can still be set.
    arguments = [f"--workdir={workdir}", "--config.eval.batch_size=7", f"--json={out}/eval.json"]
    assert launch.main(["evaluate", *arguments]) == 0
    evaluated = json.loads((out / "eval.json").read_text())
    assert evaluated["model"] == "resnet8" and evaluated["step"] == trained["step"]
    assert evaluated["eval"]["correct_top1"] == trained["eval"]["correct_top1"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("data.name=nothing", "there is no data set 'nothing'"),
        ("batch_size=60", "does not divide by 8 devices"),
    ],
)
def test_what_data_and_devices_refuse_is_one_message(field, message, capsys, tmp_path):
    """What shows without them is in test_front_door.py."""
    assert launch.main([f"--config.{field}", f"--workdir={tmp_path}"]) == 1
    title, *_, error = capsys.readouterr().err.splitlines()
    assert title.startswith("imagenet_jax ") and error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_compiled_programs_are_kept(tmp_path):
    """Where they are kept if nothing says where; the second start finds all of them."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_NUM_CPU_DEVICES": "1"}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    kept = tmp_path / "imagenet_jax" / "compiled"
    counts = []
    for number in range(2):
        command = [sys.executable, "launch.py", *TINY, f"--workdir={tmp_path}/{number}"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        counts.append(len(list(kept.glob("*-cache"))))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_disable_jit", True),
    ],
)
def test_settings_of_jax_that_change_numbers_are_refused(setting, value, capsys, tmp_path):
    usual = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        assert launch.main([*TINY, f"--workdir={tmp_path}"]) == 1
    finally:
        jax.config.update(setting, usual)
    assert f"error: {setting.upper()} = {value}: it has to be {usual}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
