"""One trial of a sweep: a training run for each seed and fold, in processes of their own."""

import json
import signal
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

import optuna

from imagenet_jax.errors import STOPPED
from imagenet_jax.hosts.children import start_child
from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import read_metrics


class TrialRuns:
    """The runs of a trial, one after the other; `poll` starts, watches and prunes them."""

    def __init__(
        self,
        trial: optuna.Trial,
        runs: Sequence[tuple[Path, list[str]]],
        *,
        metric: str,
        prune: bool,
    ):
        """`runs` are the working directory and command of each."""
        self.trial = trial
        self._left, self._done = list(runs), 0
        self._metric, self._prune = metric, prune
        self._process: subprocess.Popen | None = None
        self._workdir, self._begin = Path(), 0
        self.values: list[float] = []
        self.state: optuna.trial.TrialState | None = None
        self.fault = ""
        self._reported = 0

    def poll(self) -> bool:
        """Goes on with what is to be done; True when the trial has ended."""
        if self._process is None:
            self._start()
        elif self._process.poll() is None:
            self._watch()
        else:
            self._end_run(self._process.returncode)
        return self.state is not None

    @property
    def value(self) -> float:
        """The mean of the metric over the runs that have ended."""
        return statistics.mean(self.values)

    def stop(self) -> None:
        """Lets the run save and end; a later sweep goes on with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()

    def _start(self) -> None:
        self._workdir, command = self._left[0]
        self._workdir.mkdir(parents=True, exist_ok=True)
        with (self._workdir / "output.log").open("ab") as log:
            self._begin = log.tell()  # what is before is of an earlier try
            self._process = start_child(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def _watch(self) -> None:
        """Reports the evaluations of the first run so far; ends it if others were much better."""
        if self._done or not self._prune:
            return
        name = f"eval/{self._metric}"
        for line in read_metrics(self._workdir / "metrics.jsonl"):
            if name in line and line["step"] > self._reported:
                self._reported = line["step"]
                self.trial.report(line[name], line["step"])
        if self.trial.should_prune():
            self.stop()
            self.state = optuna.trial.TrialState.PRUNED

    def _fail(self, fault: str) -> None:
        self.state, self.fault = optuna.trial.TrialState.FAIL, printable(fault)

    def _end_run(self, status: int) -> None:
        self._process = None
        if status == STOPPED:  # by somebody else; it goes on where it was
            return
        if status:
            said = (self._workdir / "output.log").read_bytes()[self._begin :]
            lines = said.decode(errors="replace").splitlines()
            errors = [line for line in lines if "error: " in line]
            ended = f"it was ended by {_signal(-status)}" if status < 0 else f"status {status}"
            told = errors or (lines if status > 0 else [])
            self._fail((told or [ended])[-1])
            return
        summary = self._workdir / "summary.json"
        try:
            value = json.loads(summary.read_text())["eval"][self._metric]
        except (OSError, ValueError, LookupError, TypeError) as error:
            self._fail(f"{summary} cannot be read: {error}")
            return
        if not isinstance(value, int | float):  # null: NaN
            self._fail(f"{summary}: its {self._metric} is no number")
            return
        self.values.append(value)
        self._left.pop(0)
        self._done += 1
        if not self._left:
            self.state = optuna.trial.TrialState.COMPLETE


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
