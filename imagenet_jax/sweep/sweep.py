"""Runs the trials of a sweep, some at a time, and remembers them, so that it can go on."""

import dataclasses
import hashlib
import itertools
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from imagenet_jax.config import base_config, flatten
from imagenet_jax.errors import ConfigError
from imagenet_jax.hosts.children import stop_signals
from imagenet_jax.hosts.ending import giving_back
from imagenet_jax.hosts.lock import NAME, Lock
from imagenet_jax.sweep.hparams import write_columns, write_trial
from imagenet_jax.sweep.progress import progress_line
from imagenet_jax.sweep.report import report
from imagenet_jax.sweep.space import Choices, Range, Space, grid, parse_space, with_fields
from imagenet_jax.sweep.trial import TrialRuns
from imagenet_jax.tasks.table import find_task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.changes import FREE

_POLL_SECONDS = 0.5
_DRAWS = 200  # in a row that were tried before, until nothing is left to try


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is to be tried.

    Attributes:
      method: "grid", "random" or "bayes" (Optuna's TPE, Bergstra et al. 2011).
      specs: fields and values, see `space.parse_space`.
      trials: how many; 0: all of a grid, else 20.
      parallel: trials at a time.
      seeds: each trial trains with all of them.
      folds: of a cross-validation; 0: the config's own splits.
      metric: of the evaluation, see `Task.eval_metrics`; "": the task's own. A trial's value is
        the mean over seeds and folds.
      prune: stop trials that stay behind the median of those before (Optuna's MedianPruner).
      hparams: write what TensorBoard's HPARAMS page compares them by.
    """

    method: str
    specs: tuple[str, ...]
    trials: int = 0
    parallel: int = 1
    seeds: tuple[int, ...] = ()
    folds: int = 0
    metric: str = ""
    prune: bool = True
    hparams: bool = True


def sweep(
    request: Sweep,
    config: ml_collections.ConfigDict,
    workdir: Path,
    command: Callable[[Path, dict[str, Any]], list[str]],
) -> dict[str, Any]:
    """Trains every trial of the sweep that has not been trained yet.

    Args:
      request: what is to be tried.
      config: of the runs, but for the fields that vary.
      workdir: gets trials/, sweep.journal, sweep.json and sweep.png.
      command: the command that trains in a working directory with some fields changed.

    Returns:
      method, metric, trials (a list, the best first), best (the first of them) and picture.

    Raises:
      ConfigError: for impossible values, a metric that the task does not have, or a workdir that
        holds another sweep.
      UserError: if no trial gave a result, or another sweep is at work in the workdir.
    """
    space = parse_space(request.specs, config)
    combinations = grid(space) if request.method == "grid" else []
    for combination in combinations:
        with_fields(config, combination)
    task = find_task(config.task)
    request = dataclasses.replace(request, metric=request.metric or task.best_of(config))
    if request.metric not in task.eval_metrics:
        raise ConfigError(
            f"--metric={request.metric} is no metric of config.task = {config.task!r}; expected "
            + ", ".join(task.eval_metrics)
        )
    workdir.mkdir(parents=True, exist_ok=True)
    with giving_back(Lock(workdir / NAME).release):  # another would begin this one's trials again
        study = _open_study(request, config, workdir)
        _take_up(study, combinations)
        total = request.trials or len(combinations) or 20
        if request.hparams:
            write_columns(workdir, space, request.metric)
        _run_trials(study, space, request, workdir, command, total)
        return report(study, _counted(study), request, workdir)


def _run_trials(
    study: optuna.Study,
    space: Space,
    request: Sweep,
    workdir: Path,
    command: Callable[[Path, dict[str, Any]], list[str]],
    total: int,
) -> None:
    """Runs trials until there are `total`; a signal stops those at work."""
    active: list[TrialRuns] = []
    # As Ctrl-C: the runs are stopped first, see below.
    signals = stop_signals()
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        with working("sweeping", stays=False) as show:
            while True:
                left = total - len(_counted(study))
                for _ in range(min(left, request.parallel - len(active))):
                    trial = _next_trial(study, space, request, workdir, command)
                    active += [trial] if trial else []
                if not active:
                    break
                show(progress_line(study, _counted(study), total, request.parallel))
                time.sleep(_POLL_SECONDS)
                for trial in [trial for trial in active if trial.poll()]:
                    active.remove(trial)
                    _tell(study, trial, request)
    finally:
        for trial in active:
            trial.stop()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _open_study(request: Sweep, config: ml_collections.ConfigDict, workdir: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    higher = find_task(config.task).eval_metrics[request.metric]
    backend = JournalFileBackend(str(workdir / "sweep.journal"))
    samplers = {
        "grid": optuna.samplers.RandomSampler,  # all of a grid is put into the queue
        "random": optuna.samplers.RandomSampler,
        "bayes": optuna.samplers.TPESampler,
    }
    study = optuna.create_study(
        storage=JournalStorage(backend),
        study_name="sweep",
        load_if_exists=True,
        direction="maximize" if higher else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    # A sweep that goes on would draw the same once more if it began with the same numbers.
    study.sampler = samplers[request.method](seed=config.seed + len(study.trials))
    asked = {"method": request.method, "specs": list(request.specs), "metric": request.metric}
    asked |= {"seeds": list(request.seeds), "folds": request.folds}
    asked |= {f"config.{name}": value for name, value in flatten(config)}
    asked = json.loads(json.dumps(asked))
    # Fields that came with a later version had their defaults before.
    usual = {f"config.{name}": value for name, value in flatten(base_config())}
    before = json.loads(json.dumps(usual)) | study.user_attrs.get("asked", asked)
    changed = [
        f"{name}: {before.get(name)!r} -> {value!r}"
        for name, value in asked.items()
        if before.get(name) != value and not _is_free(name.removeprefix("config."))
    ]
    if changed:
        raise ConfigError(
            f"--workdir={workdir} holds another sweep:\n  "
            + "\n  ".join(changed)
            + "\nUse another --workdir, or the old values to go on"
        )
    study.set_user_attr("asked", asked)
    return study


def _is_free(name: str) -> bool:
    """Whether a field cannot change what a run learns."""
    return name in FREE or name.partition(".")[0] in FREE


def _take_up(study: optuna.Study, combinations: Sequence[dict[str, str]]) -> None:
    """Puts a grid into the queue, and in front of it what an earlier sweep left or failed at."""
    before = study.user_attrs.get("interrupted", [])
    unfinished = study.get_trials(states=[TrialState.RUNNING, TrialState.FAIL])
    left = [trial for trial in unfinished if trial.number not in before]
    study.set_user_attr("interrupted", before + [trial.number for trial in left])
    for trial in left:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    for combination in combinations:
        study.enqueue_trial(combination, skip_if_exists=True)


def _counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials begun, without those that were interrupted and come again."""
    interrupted = study.user_attrs["interrupted"]
    return [
        trial
        for trial in study.trials
        if trial.state != TrialState.WAITING and trial.number not in interrupted
    ]


def _name(params: Mapping[str, Any]) -> str:
    """By what is tried, not by number: a trial that was interrupted finds its checkpoints."""
    return hashlib.sha1(json.dumps(params, sort_keys=True).encode()).hexdigest()[:8]


def _ask(study: optuna.Study, space: Space) -> optuna.Trial | None:
    """A trial that differs from those at work and those with a result, or None."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    known = {_name(trial.params) for trial in study.get_trials(states=ended)}
    for _ in range(_DRAWS):
        trial = study.ask({name: _distribution(values) for name, values in space.items()})
        if _name(trial.params) not in known:
            return trial
        study.set_user_attr("interrupted", study.user_attrs["interrupted"] + [trial.number])
        study.tell(trial, state=TrialState.FAIL)
    say("what is left of the space has been tried")
    return None


def _next_trial(
    study: optuna.Study,
    space: Space,
    request: Sweep,
    workdir: Path,
    command: Callable[[Path, dict[str, Any]], list[str]],
) -> TrialRuns | None:
    """A trial of what was not tried before; None if nothing is left."""
    trial = _ask(study, space)
    if not trial:
        return None
    name = _name(trial.params)
    folder = workdir / "trials" / name
    trial.set_user_attr("workdir", str(folder))
    shown = ", ".join(f"{key}={value}" for key, value in trial.params.items())
    say(f"trial {trial.number}: {shown} in {folder}")
    seeds = [("seed", seed) for seed in request.seeds] or [None]
    folds = [("data.fold", fold) for fold in range(request.folds)] or [None]
    runs = []
    for parts in itertools.product(seeds, folds):
        extra = dict(part for part in parts if part)
        if request.folds:
            extra["data.folds"] = request.folds
        inner = "_".join(f"{key.rpartition('.')[2]}{value}" for key, value in filter(None, parts))
        run = folder / inner if inner else folder
        runs.append((run, command(run, trial.params | extra)))
        if request.hparams:
            write_trial(run, name, trial.params, space)
    return TrialRuns(trial, runs, metric=request.metric, prune=request.prune)


def _distribution(values: Choices | Range) -> BaseDistribution:
    if isinstance(values, Choices):
        return CategoricalDistribution(values.values)
    kind = IntDistribution if isinstance(values.low, int) else FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _tell(study: optuna.Study, ended: TrialRuns, request: Sweep) -> None:
    trial = ended.trial
    trial.set_user_attr("values", ended.values)
    if ended.state == TrialState.COMPLETE:
        study.tell(trial, ended.value)
        say(f"trial {trial.number}: {request.metric} {ended.value:.4f}")
    else:
        trial.set_user_attr("fault", ended.fault)
        study.tell(trial, state=ended.state)
        state = {TrialState.PRUNED: "stopped, as it stays behind"}.get(ended.state, "failed: ")
        say(f"trial {trial.number}: {state}{ended.fault}")
