"""Evaluation on other sets than that of the run: `imagenet_jax.suites`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from imagenet_jax.hosts.preemption import StopRequests
from imagenet_jax.hosts.watchdog import doing
from imagenet_jax.suites.results import scalars, short_rows, suite_result
from imagenet_jax.suites.sets import SuiteSplit, open_set
from imagenet_jax.suites.table import Part, find_suites
from imagenet_jax.suites.task import SuiteTask
from imagenet_jax.terminal import working
from imagenet_jax.training.evaluate import evaluate_split
from imagenet_jax.training.program import Program


class Suites:
    """The suites of config.eval.suites, which one compiled step evaluates."""

    def __init__(self, program: Program):
        """Opens the first part of each: what is wrong with it is known before anything runs.

        Args:
          program: of the classifier.

        Raises:
          ConfigError: if its classes are not ImageNet's.
          DataError: for a suite that is not there, or not as it is published.
        """
        config, task = program.config, SuiteTask.of_task(program.task)
        self._classes = task.numbers()
        self._program = dataclasses.replace(program, task=task)
        self._parts = find_suites(config.eval.suites, config.data.dir)
        with working("opening the evaluation suites"):
            first = [self._open(parts[0]) for parts in self._parts.values()]
        self._largest = max(split.num_examples for split in first)
        self._step: Callable[..., Any] | None = None
        self.results: dict[str, dict[str, Any]] = {}  # of the last evaluation
        images = sum(
            split.num_examples * len(parts)
            for split, parts in zip(first, self._parts.values(), strict=True)
        )
        self.about = f"{', '.join(self._parts)}: {images:,} images"

    def compile(self) -> None:
        """Compiles the step, if it is not yet."""
        self._step = self._step or self._program.compile_eval_step(self._largest)

    def evaluate(self, variables: Any, stop: StopRequests | None = None) -> dict[str, float]:
        """Evaluates all suites into `results`.

        Args:
          variables: to evaluate, on the devices.
          stop: as of `evaluate_split`.

        Returns:
          The metrics to log, {"v2/top1": 0.63, ...}.

        Raises:
          StopRequested: between two batches, if `stop` says so.
        """
        self.compile()
        results = {}
        for name, parts in self._parts.items():
            found = [self._evaluate(part, variables, stop) for part in parts]
            results[name] = suite_result(parts, found)
        self.results = results
        return scalars(results)

    def rows(self) -> dict[str, str]:
        """The metric of each suite, for people."""
        return short_rows(self.results)

    def _evaluate(self, part: Part, variables: Any, stop: StopRequests | None) -> Mapping[str, Any]:
        doing(f"opening the evaluation suite {part.name}", limited=False)
        split = self._open(part)  # the parts of some are too many to be kept open
        size = self._program.eval_batch_size(self._largest)
        what = (self._program, self._step, variables, split, stop)
        found = evaluate_split(*what, batch_size=size)
        return {**found, "left_out": found["left_out"] + split.images_left_out}

    def _open(self, part: Part) -> SuiteSplit:
        return open_set(self._program.config, part, self._classes)
