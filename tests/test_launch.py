import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_train_then_evaluate_from_the_workdir_alone(tmp_path, capsys):
    workdir, out = tmp_path / "run", tmp_path / "out"
    assert launch.main(["train", *TINY, f"--workdir={workdir}", f"--json={out}/train.json"]) == 0
    printed = capsys.readouterr().out
    assert f"everything is in {workdir}" in printed
    trained = json.loads((out / "train.json").read_text())
    assert trained == json.loads((workdir / "summary.json").read_text())
    assert f"({trained['eval']['correct_top1']} of 30)" in printed

    # The config is the run's own; a field of it can still be set.
    arguments = [f"--workdir={workdir}", "--config.eval.batch_size=7", f"--json={out}/eval.json"]
    assert launch.main(["evaluate", *arguments, "--checkpoint=best"]) == 0
    evaluated = json.loads((out / "eval.json").read_text())
    assert evaluated["model"] == "resnet8"
    assert evaluated["eval"]["correct_top1"] == trained["eval"]["correct_top1"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "there is no verb 'fly'; there are train, evaluate"),
        (["--config=configs/nothing.py"], "configs/nothing.py is no Python file"),
        (["--config.bach_size=3"], "did you mean 'batch_size'"),
        (["--config.batch_size", "3"], "write it as --config.batch_size=VALUE"),
        (["--config.optim.name=adam"], "one of sgd, adamw"),
        (["--config.data.name=nothing"], "there is no data set 'nothing'"),
        (["--config.data.name=folder:/nowhere"], "there is no such folder"),
        (["--config.batch_size=60"], "does not divide by 8 devices"),
        (["evaluate", "--workdir=/nowhere"], "no checkpoints in /nowhere"),
        (["evaluate", "--dataset=cifar10"], "--dataset goes with --model"),
        (["predict", "a.jpg", "--weights=a.pth"], "--weights goes with --model"),
        (
            ["predict", "a.jpg", "--model=resnet18", "--config=a.py"],
            "--model brings its own config",
        ),
        (["evaluate", "--model=resnet5O", "--dataset=fake"], "did you mean 'resnet50'"),
        (["models", "--filter=nothing"], "no model matches"),
    ],
)
def test_errors_are_one_message_without_a_traceback(argv, message, capsys, tmp_path):
    if not any(arg.startswith("--workdir") for arg in argv):
        argv = [*argv, f"--workdir={tmp_path}"]
    assert launch.main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.iterdir())


def test_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit):
        launch.main(["--wrkdir=x"])
    assert "unrecognized arguments: --wrkdir=x" in capsys.readouterr().err


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit):
        launch.main(["--help"])
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in launch.VERBS)


def test_compiled_programs_are_kept(tmp_path):
    """The second start finds all that took more than a second to compile."""
    environment = {key: os.environ[key] for key in ("PATH", "JAX_PLATFORMS") if key in os.environ}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    kept = tmp_path / "imagenet_jax" / "compiled"
    counts = []
    for number in range(2):
        command = [sys.executable, "launch.py", *TINY, f"--workdir={tmp_path}/{number}"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        counts.append(len(list(kept.glob("*-cache"))))
    assert counts[0] == counts[1] > 0
