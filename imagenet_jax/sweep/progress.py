"""What a sweep is at, in a line."""

import datetime
from collections.abc import Sequence

import optuna
import tqdm
from optuna.trial import FrozenTrial, TrialState

_LONGEST = 68  # characters: a terminal's line also says for how long it has been going on


def progress_line(
    study: optuna.Study, counted: Sequence[FrozenTrial], total: int, parallel: int
) -> str:
    """Trials done, the best so far, the time left, and what runs.

    Args:
      study, counted: the trials that have begun.
      total: trials there will be.
      parallel: trials at a time.
    """
    running = [trial for trial in counted if trial.state == TrialState.RUNNING]
    facts = [f"{len(counted) - len(running)} of {total} trials"]
    values = [trial.value for trial in counted if trial.state == TrialState.COMPLETE]
    if values:
        higher = study.direction == optuna.study.StudyDirection.MAXIMIZE
        facts.append(f"best {max(values) if higher else min(values):.4f}")
    seconds = _seconds_left(counted, running, total, parallel)
    if seconds is not None:
        facts.append(f"{tqdm.tqdm.format_interval(seconds)} left")
    line = ", ".join(facts)
    if len(running) == 1:
        fields = (f"{name.rpartition('.')[2]}={v}" for name, v in running[0].params.items())
        line += f"; now {running[0].number}: {' '.join(fields)}"
    elif running:
        line += f"; now {', '.join(str(trial.number) for trial in running)}"
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _seconds_left(
    counted: Sequence[FrozenTrial], running: Sequence[FrozenTrial], total: int, parallel: int
) -> float | None:
    """By the mean of the trials that ended well; None before there is one."""
    ended = [t.duration.total_seconds() for t in counted if t.duration and not _failed(t)]
    if not ended:
        return None
    now, mean = datetime.datetime.now(), sum(ended) / len(ended)
    rest = [max(mean - (now - trial.datetime_start).total_seconds(), 0) for trial in running]
    waiting = mean * (total - len(counted))
    return (sum(rest) + waiting) / max(min(parallel, total - len(counted) + len(running)), 1)


def _failed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL
