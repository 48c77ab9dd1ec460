"""Exact evaluation: every example once, whatever the batch size and the devices."""

import collections
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from imagenet_jax.data import Split
from imagenet_jax.data.bank import bank_of
from imagenet_jax.devices.parallel import local_rows
from imagenet_jax.hosts.preemption import StopRequested, StopRequests
from imagenet_jax.hosts.watchdog import doing
from imagenet_jax.tasks.task import Meter, Task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.feed import Feed
from imagenet_jax.training.program import Program


def evaluate_split(
    program: Program,
    eval_step: Callable[..., Any],
    variables: Any,
    split: Split,
    stop: StopRequests | None = None,
    meter: Meter | None = None,
    batch_size: int | None = None,
    bank: Split | None = None,
) -> dict[str, Any]:
    """Runs `eval_step` over a whole split.

    Args:
      program, eval_step, variables, split: what is evaluated, and on what.
      stop: whether to stop before the end.
      meter: of the program's task, for who looks into it afterwards.
      batch_size: that `eval_step` is compiled for; None: that of a split of this size.
      bank: training images that the meter is given first, see `bank_for`.

    Returns:
      split, num_examples, the metrics of the task (see `Task.summarize`), and unreadable (images
      that could not be decoded).

    Raises:
      StopRequested: between two batches, if `stop` says so.
    """
    stop, meter = stop or StopRequests(), meter or program.task.meter(split)
    batch_size = batch_size or program.eval_batch_size(split.num_examples)
    run = partial(_run_over, program, eval_step, variables, batch_size=batch_size, stop=stop)
    if bank:
        run(bank, meter.learn)
    results = run(split, meter and meter.add, meter)
    if bank:  # to compare millions of images takes hours, in which nothing hangs
        doing(f"the metrics of {split.name}", limited=False)
    summary = program.task.summarize(results) | (meter.metrics() if meter else {})
    summary = program.task.completed(summary)
    unreadable = split.num_examples - summary["num_examples"] - summary.get("left_out", 0)
    return {"split": split.name, **summary, "unreadable": unreadable}


def _run_over(
    program: Program,
    eval_step: Callable[..., Any],
    variables: Any,
    split: Split,
    add: Callable[[dict[str, Any]], None] | None,
    meter: Meter | None = None,
    *,
    batch_size: int,
    stop: StopRequests,
) -> list[Any]:
    """`Task.metered` sums of each batch of a split; `add` is given what was observed."""
    host_batches = split.eval_batches(local_rows(program.mesh, batch_size), batch_size)
    results: list[Any] = []
    running: collections.deque[Any] = collections.deque()

    def take(sums: Any, observed: Any) -> None:
        results.append(program.task.metered(jax.device_get(sums), meter))
        if add:
            rows = jax.device_get(observed)
            mask = rows.pop("mask")
            add({name: array[mask] for name, array in rows.items()})

    with (
        Feed(host_batches, program.mesh, check_wait=stop.check_wait) as feed,
        working(f"evaluating {split.name}", stays=False) as show,
    ):
        while (batch := feed.next()) is not None:
            if stop.reached():
                raise StopRequested
            doing(f"evaluation, batch {len(results) + len(running) + 1}")
            running.append(eval_step(variables, batch))
            # No more than two steps in flight, or their batches would fill the memory.
            if len(running) > 2:
                take(*running.popleft())
                done = len(results) * batch_size
                show(f"evaluating {split.name}: {done:,} of {split.num_examples:,}")
    while running:
        take(*running.popleft())
    return results


def bank_for(task: Task, train_split: Split) -> Split | None:
    """The training images that evaluations of a task compare with; None if it looks at none."""
    most = task.config.eval.probe_examples
    return bank_of(train_split, most) if task.looks_at_training else None


def say_bank(bank: Split, train_split: Split) -> None:
    """A line on what evaluations compare with."""
    count, whole = bank.num_examples, train_split.num_examples
    part = f"{count:,} of the {whole:,}" if count < whole else f"the {whole:,}"
    say(f"{'features':8} are compared with those of {part} images of {train_split.name}")


def write_report(task: Task, meter: Meter | None, split: Split, folder: Path) -> dict[str, Any]:
    """`Task.report` in process 0; {} in others, and after a warning: a result needs no pictures."""
    if meter is None or jax.process_index() != 0:
        return {}
    try:
        with working("drawing what goes wrong"):
            return task.report(meter, split, folder)
    except Exception as error:
        say(f"warning: what goes wrong cannot be written to {folder}: {error}")
        return {}
