"""Sweeps through the front door."""

import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from test_launch import ROOT, TINY
from test_step import EXHAUSTIVE

import launch
from imagenet_jax.config import base_config
from imagenet_jax.errors import STOPPED, ConfigError
from imagenet_jax.hosts.lock import NAME, Lock
from imagenet_jax.reports.writers import replace_figure
from imagenet_jax.sweep.space import grid, parse_space

# A network that learns nothing: the loss depends on the learning rate alone.
SHORT = [*TINY, "--config.duration=6 steps", "--config.eval.every=2 steps"]

# What stands for Python where the run itself is not looked at: it knows the loss of its fields.
RUN = """
import json, pathlib, sys
flags = dict(flag.split("=", 1) for flag in sys.argv[2:] if "=" in flag)
if int(flags["--config.batch_size"]) > 16:
    sys.exit("error: it does not divide")
rate, seed = (float(flags.get(f"--config.{name}", 0)) for name in ("optim.learning_rate", "seed"))
summary = {"eval": {"loss": 2 - rate + seed / 10, "top1": 0.5}}
pathlib.Path(flags["--workdir"], "summary.json").write_text(json.dumps(summary))
"""

# A run that meets a full disk the first time.
FAILS_ONCE = """
import pathlib, sys
workdir = pathlib.Path(next(f for f in sys.argv if f.startswith("--workdir")).split("=", 1)[1])
if "--config.optim.learning_rate=0.1" in sys.argv and not (workdir / "tried").exists():
    (workdir / "tried").touch()
    sys.exit("error: no space left on device")
"""


def write_python(folder, script=RUN):
    """What runs `script` in place of launch.py."""
    path = folder.with_suffix(".py")
    path.write_text(f"#!{sys.executable} -S\n{script}")
    path.chmod(0o755)
    return str(path)


def run_sweep(workdir, *flags):
    assert launch.main(["sweep", *SHORT, f"--workdir={workdir}", *flags]) == 0
    return json.loads((workdir / "sweep.json").read_text())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("optim.learning_rate", "expected FIELD=A,B,C or FIELD=LOW..HIGH"),
        ("optim.learning_rat=1,2", "did you mean 'optim.learning_rate'"),
        ("optim.name=sgd,adam", "one of sgd, adamw"),
        ("optim.learning_rate=0.1..0.01", "expected LOW < HIGH"),
        ("optim.learning_rate=0..1:log", "expected 0 < LOW < HIGH"),
        ("optim.learning_rate=1..2:cubic", "LOW..HIGH:log are for numbers"),
        ("data.name=1..2", "LOW..HIGH:log are for numbers"),
        ("schedule.boundaries=('2 steps'", "lacks \\) at its end"),
    ],
)
def test_impossible_spaces_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        parse_space([spec], base_config())


def test_a_field_has_all_its_values_in_one_place():
    with pytest.raises(ConfigError, match="batch_size is given twice; write all its values as"):
        parse_space(["batch_size=8", "seed=1", "batch_size=16"], base_config())


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ("schedule.boundaries=('2 steps','4 steps')", ["('2 steps','4 steps')"]),
        ("schedule.boundaries=[2 steps, 4 steps], ()", ["[2 steps, 4 steps]", "()"]),
        ("data.crop_area=(0.1,1),(0.2,1)", ["(0.1,1)", "(0.2,1)"]),
        ("data.name='csv:a,b',folder:../x,'zip:(c'", ["csv:a,b", "folder:../x", "zip:(c"]),
        ("data.train_split=train[:90%],train[:10%]", ["train[:90%]", "train[:10%]"]),
        ("augment.flip=true,false", ["true", "false"]),
    ],
)
def test_a_value_may_have_commas_and_dots_of_its_own(spec, values):
    (found,) = parse_space([spec], base_config()).values()
    assert list(found.values) == values


def test_a_grid_is_all_combinations():
    space = parse_space(["optim.learning_rate=0.1,0.2", "seed=1,2,3"], base_config())
    assert len(grid(space)) == 6
    assert {"optim.learning_rate": "0.2", "seed": "3"} in grid(space)
    with pytest.raises(ConfigError, match="a grid is made of values"):
        grid(parse_space(["seed=1..3"], base_config()))


@pytest.fixture(params=[False, pytest.param(True, marks=EXHAUSTIVE)])
def trains(request, tmp_path, monkeypatch):
    """Whether the runs are real ones."""
    if not request.param:
        monkeypatch.setattr(sys, "executable", write_python(tmp_path))
    return request.param


@pytest.fixture
def drawn(monkeypatch):
    """Collects the figures that are saved."""
    figures = []

    def save(path, figure):
        figures.append(figure)
        replace_figure(path, figure)

    monkeypatch.setattr("imagenet_jax.sweep.picture.replace_figure", save)
    return figures


def points(panel):
    """{what the legend says: the points that are so drawn}."""
    return {line.get_label(): line.get_xydata().tolist() for line in panel.get_lines()}


def check_hparams(folder, rate):
    """TensorBoard shows the runs of a trial as one, with its learning rate."""
    for seed in (0, 1):
        events = EventAccumulator(str(folder / f"seed{seed}")).Reload()
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        info = metadata.parse_session_start_info_plugin_data(content)
        assert info.group_name == folder.name and len(info.hparams) == 1
        assert info.hparams["optim.learning_rate"].number_value == rate


def test_a_grid_over_seeds_ranks_by_the_mean(tmp_path, capsys, trains, drawn):
    flags = ["--grid", "optim.learning_rate=0.1,1e-9", "--seeds=0,1", "--metric=loss"]
    flags += ["--config.log.tensorboard=true"]
    result = run_sweep(tmp_path, *flags)
    first, second = result["trials"]
    assert {first["fields"]["optim.learning_rate"], second["fields"]["optim.learning_rate"]} == {
        "0.1",
        "1e-9",
    }
    assert first["loss"] < second["loss"] and result["best"] == first
    for trial in result["trials"]:
        losses = [
            json.loads((tmp_path / "trials" / path / "summary.json").read_text())["eval"]["loss"]
            for path in (f"{trial['workdir'].rpartition('/')[2]}/seed{n}" for n in (0, 1))
        ]
        assert losses[0] != losses[1]
        assert trial["loss"] == pytest.approx(statistics.mean(losses))
        assert trial["stdev"] == pytest.approx(statistics.stdev(losses))
    (panel,) = drawn[0].axes
    assert len(points(panel)["seeds and folds"]) == 4
    for trial in result["trials"] if not trains else ():
        check_hparams(Path(trial["workdir"]), float(trial["fields"]["optim.learning_rate"]))
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert f"{first['loss']:.4f}" in capsys.readouterr().out

    # Again: all is there, nothing is trained.
    files = [*(tmp_path / "trials").rglob("summary.json")]
    before = [file.stat().st_mtime_ns for file in files]
    assert run_sweep(tmp_path, *flags) == result
    assert [file.stat().st_mtime_ns for file in files] == before
    # Another sweep does not fit in there.
    other = ["sweep", *SHORT, f"--workdir={tmp_path}", "--random", "seed=1..2"]
    assert launch.main(other) == 1
    assert "holds another sweep" in capsys.readouterr().err


@pytest.mark.slow
def test_cross_validation_by_bayesian_search(tmp_path):
    flags = ["--bayes", "optim.learning_rate=1e-3..1:log", "--trials=2", "--folds=2"]
    result = run_sweep(tmp_path, *flags, "--config.data.fake_train_examples=41", "--parallel=2")
    assert len(result["trials"]) == 2
    for trial in result["trials"]:
        assert 1e-3 <= trial["fields"]["optim.learning_rate"] <= 1
        name = trial["workdir"].rpartition("/")[2]
        sizes = [
            json.loads((tmp_path / f"trials/{name}/fold{fold}/summary.json").read_text())["eval"]
            for fold in (0, 1)
        ]
        assert [size["num_examples"] for size in sizes] == [21, 20]
        assert sizes[0]["split"] == "train, fold 0 of 2"


@pytest.mark.slow
def test_a_random_sweep_that_goes_on_draws_other_trials(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(sys, "executable", write_python(tmp_path))
    flags = [
        "--random",
        "optim.learning_rate=0.01..1:log",
        "--metric=loss",
        "--config.batch_size=16",
    ]
    run_sweep(tmp_path / "a", *flags, "--trials=3")
    trials = run_sweep(tmp_path / "a", *flags, "--trials=6")["trials"]
    rates = {trial["fields"]["optim.learning_rate"]: trial["loss"] for trial in trials}
    assert len(rates) == 6
    (panel,) = drawn[-1].axes
    assert panel.get_xscale() == "log" and dict(points(panel)["trials (6)"]) == rates


def test_nothing_is_tried_twice(tmp_path, monkeypatch, capsys):
    """Two at a time would also write into one folder."""
    monkeypatch.setattr(sys, "executable", write_python(tmp_path))
    flags = ["--random", "optim.learning_rate=0.1,0.2,0.3", "--trials=6", "--parallel=2"]
    trials = run_sweep(tmp_path / "a", *flags, "--metric=loss")["trials"]
    assert {trial["fields"]["optim.learning_rate"] for trial in trials} == {"0.1", "0.2", "0.3"}
    assert len(trials) == 3 and {trial["state"] for trial in trials} == {"complete"}
    assert "what is left of the space has been tried" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid", "seed=0,1", "--seeds=5,6"], "--seeds and the field seed"),
        (["--grid", "data.fold=0,1", "--folds=2"], "--folds sets data.fold, which is also tried"),
        (["--grid", "seed=0,1", "--dry_run", "--launcher=processes:2x1"], "--dry_run: a sweep"),
    ],
)
def test_a_field_is_set_in_one_place(tmp_path, capsys, flags, message):
    assert launch.main(["sweep", *SHORT, f"--workdir={tmp_path}", *flags]) == 1
    assert message in capsys.readouterr().err


def test_what_failed_is_tried_again_by_the_same_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", write_python(tmp_path, f"{FAILS_ONCE}\n{RUN}"))
    flags = ["--grid", "optim.learning_rate=0.1,0.5", "--metric=loss", "--config.batch_size=16"]
    states = [
        {trial["fields"]["optim.learning_rate"]: trial["state"] for trial in result["trials"]}
        for result in (run_sweep(tmp_path / "a", *flags) for _ in range(2))
    ]
    assert states == [{"0.1": "fail", "0.5": "complete"}, {"0.1": "complete", "0.5": "complete"}]


BAD_SUMMARY = """
import pathlib, sys
flags = dict(flag.split("=", 1) for flag in sys.argv[2:] if "=" in flag)
text = {"0.1": '{"eval": {"loss": null}}', "0.2": "{", "0.3": "[]"}.get(
    flags["--config.optim.learning_rate"], '{"eval": {"loss": 1.5}}')
pathlib.Path(flags["--workdir"], "summary.json").write_text(text)
"""


@pytest.mark.slow
def test_a_run_without_a_number_fails_and_names_of_any_kind_are_drawn(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(sys, "executable", write_python(tmp_path, BAD_SUMMARY))
    rates = ["--grid", "optim.learning_rate=0.1,0.2,0.3,0.4,0.5", "data.dir=/a/$x^$"]
    trials = run_sweep(tmp_path / "$b^$_{", *rates, "--metric=loss")["trials"]
    faults = {trial["fields"]["optim.learning_rate"]: trial["fault"] for trial in trials}
    assert "its loss is no number" in faults["0.1"]
    assert all("summary.json cannot be read" in faults[rate] for rate in ("0.2", "0.3"))
    assert faults["0.4"] == faults["0.5"] == ""
    assert (tmp_path / "$b^$_{" / "sweep.png").exists()
    first, second = drawn[0].axes
    assert points(first) == {
        "trials (2)": [[3, 1.5], [4, 1.5]],
        "failed (3)": [[0, 0], [1, 0], [2, 0]],
        "best": [[3, 1.5]],
    }
    side_by_side = [[-0.12, 0], [-0.06, 0], [0, 0]]
    assert points(second)["failed (3)"] == [pytest.approx(place) for place in side_by_side]
    assert first.get_ylabel() == "loss"
    assert (first.get_xlabel(), second.get_xlabel()) == ("optim.learning_rate", "data.dir")
    assert [text.get_text() for text in second.get_xticklabels()] == ["/a/$x^$"]


def test_a_second_sweep_in_a_workdir_is_refused(tmp_path, capsys):
    lock = Lock(tmp_path / NAME)
    assert launch.main(["sweep", *SHORT, f"--workdir={tmp_path}", "--grid", "seed=1,2"]) == 1
    assert f"--workdir={tmp_path} is in use by process" in capsys.readouterr().err
    assert not (tmp_path / "trials").exists()
    lock.release()


def test_a_trial_that_fails_is_shown_and_the_others_count(tmp_path, capsys, trains):
    result = run_sweep(tmp_path, "--grid", "batch_size=16,3000001", "--config.duration=1 epochs",
                       "--config.data.fake_train_examples=32")  # fmt: skip
    states = {trial["fields"]["batch_size"]: trial["state"] for trial in result["trials"]}
    assert states == {"16": "complete", "3000001": "fail"}
    assert "does not divide" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_with_the_trial_it_left(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    flags = [*SHORT, f"--workdir={tmp_path}", "--grid", "seed=1", "--config.duration=300 steps"]
    command = [sys.executable, str(ROOT / "launch.py"), "sweep", *flags]
    command += ["--config.log.every=1 steps", "--config.eval.every=300 steps"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not any(file.stat().st_size for file in tmp_path.glob("trials/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    output = first.communicate(timeout=120)[0]
    assert first.returncode == STOPPED, output
    (left,) = tmp_path.glob("trials/*")
    assert "the same command line continues" in (left / "output.log").read_text()
    assert launch.main(command[2:]) == 0
    trials = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert [trial["fields"]["seed"] for trial in trials] == ["1"]
    assert "resumed: step" in (left / "output.log").read_text()
