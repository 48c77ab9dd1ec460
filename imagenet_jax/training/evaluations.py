"""What a run evaluates on the way: its split, with one or both weights, and suites."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from imagenet_jax.data import Split
from imagenet_jax.hosts.preemption import StopRequests
from imagenet_jax.reports.report import raw_rows
from imagenet_jax.tasks.task import Meter, Task
from imagenet_jax.training.batch_statistics import BatchStatistics
from imagenet_jax.training.evaluate import bank_for, evaluate_split
from imagenet_jax.training.program import Program
from imagenet_jax.training.state import TrainState
from imagenet_jax.training.suites import Suites


class Evaluation(NamedTuple):
    """What was found of a state.

    Attributes:
      result: see `evaluate_split`, of the weights that count.
      raw: of those of the step, with config.eval.weights = "both"; else {}.
      suites: metrics of the suites by name.
      meter: was given all examples of the split.
    """

    result: dict[str, Any]
    raw: dict[str, Any]
    suites: dict[str, float]
    meter: Meter | None

    def metrics(self, task: Task) -> dict[str, float]:
        """All of it as writers take it, {"eval/NAME": number}."""
        names = [name for name in task.eval_metrics if name in self.result]
        found = {f"eval/{name}": self.result[name] for name in names}
        if self.raw:
            found |= {f"eval_raw/{name}": self.raw[name] for name in names}
        return found | self.suites

    def rows(self, task: Task, suites: Suites | None) -> dict[str, str]:
        """Lines of the table at the end of an evaluation."""
        rows = task.rows(self.result) | raw_rows(task, self.raw)
        return rows | (suites.rows() if suites else {})


class Evaluations:
    """Evaluates the states of a run; the compiled step is kept."""

    def __init__(
        self, train_split: Split, eval_split: Split, stop: StopRequests, suites: Suites | None
    ):
        self._train_split, self._split, self._stop = train_split, eval_split, stop
        self._suites = suites
        self._step: Callable[..., Any] | None = None
        self._statistics: BatchStatistics | None = None

    def compile(self, program: Program) -> None:
        """Compiles what evaluations run, unless that is done."""
        self._step = self._step or program.compile_eval_step(self._split.num_examples)
        if self._suites:
            self._suites.compile()

    def evaluate(
        self, program: Program, state: TrainState, step: int
    ) -> tuple[TrainState, Evaluation]:
        """The state, whose average may have got statistics of its own, and what was found of it.

        Raises:
          StopRequested: if a signal came between.
        """
        self._step = self._step or program.compile_eval_step(self._split.num_examples)
        weights, meter = program.config.eval.weights, program.task.meter(self._split)
        if program.config.eval.norm_batches:
            self._statistics = self._statistics or BatchStatistics(program, self._train_split)
            state = state.replace(ema=self._statistics.estimated(state.ema, step, self._stop))
        variables, raw, others = state.eval_variables(weights), {}, {}
        evaluated = partial(
            evaluate_split,
            *(program, self._step),
            split=self._split,
            stop=self._stop,
            bank=bank_for(program.task, self._train_split),
        )
        result = evaluated(variables, meter=meter)
        if weights == "both":
            raw = evaluated(state.eval_variables("raw"))
        if self._suites:
            others = self._suites.evaluate(variables, self._stop)
        return state, Evaluation(result, raw, others, meter)
