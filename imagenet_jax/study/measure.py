"""Runs a compiled step on the attached devices and takes its time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.data.names import train_views
from imagenet_jax.devices import parallel
from imagenet_jax.training.clock import Clock
from imagenet_jax.training.feed import Feed
from imagenet_jax.training.program import Program
from imagenet_jax.training.state import TrainState

WARM_UP, LEAST_STEPS, SECONDS = 3, 10, 2.0
# XLA's CPU devices take 32 programs each; where one has to wait for a place while others are in
# a collective that it is to join, all wait for ever.
MOST_IN_FLIGHT = 16


def measure(
    program: Program,
    train_step: Callable[..., Any],
    trace: Path | None = None,
    split: Split | None = None,
) -> dict[str, Any]:
    """Times single steps, each to its end, on a batch of noise that is on the devices.

    Args:
      program: of attached devices.
      train_step: compiled, of `program`.
      trace: folder for a trace of five more steps by jax.profiler, for TensorBoard or xprof.
      split: of the training data, to run on as well, as `train` does.

    Returns:
      steps: timed ones; step_seconds, p10 and p90; images_per_second_per_chip;
      dispatch_seconds: median until the call returned, while the devices work;
      gap_seconds: step_seconds less the time per step of a row of steps that only waits at its
        end: what a loop gains that lets the host run ahead;
      peak_bytes: most memory in use of the first device so far, where the backend tells;
      input_wait_fraction, images_per_second_per_chip_with_input: on `split`.
    """
    state, batch = program.init_state(), noise_batch(program)
    teacher = program.teacher
    fixed = (teacher.blank(program.mesh),) if teacher else ()

    def step() -> tuple[TrainState, Any]:
        nonlocal state
        state, sums = train_step(state, batch, *fixed)
        return state, sums

    times = time_steps(step, jax.block_until_ready)
    if trace:
        with jax.profiler.trace(str(trace)):
            for _ in range(5):
                state, _ = train_step(state, batch, *fixed)
            jax.block_until_ready(state)
    per_chip = program.config.batch_size / program.mesh.size
    memory = program.mesh.local_devices[0].memory_stats() or {}
    facts = times | {
        "images_per_second_per_chip": per_chip / times["step_seconds"],
        "peak_bytes": memory.get("peak_bytes_in_use"),
    }
    return facts | (_with_input(program, train_step, state, split, *fixed) if split else {})


def time_steps(step: Callable[[], Any], wait: Callable[[Any], Any]) -> dict[str, float]:
    """The times of a step on devices that run while the host goes on.

    Args:
      step: starts one, and returns what to wait for.
      wait: until the devices have it.

    Returns:
      steps, step_seconds, p10, p90, dispatch_seconds and gap_seconds, as of `measure`.
    """
    for _ in range(WARM_UP):
        wait(step())
    times, dispatches, begin = [], [], time.perf_counter()
    while len(times) < LEAST_STEPS or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        result = step()
        dispatches.append(time.perf_counter() - start)
        wait(result)
        times.append(time.perf_counter() - start)
    row = min(len(times), MOST_IN_FLIGHT)
    start = time.perf_counter()
    for _ in range(row):
        result = step()
    wait(result)
    in_a_row = (time.perf_counter() - start) / row
    low, middle, high = np.percentile(times, (10, 50, 90))
    return {
        "steps": len(times),
        "step_seconds": middle,
        "p10": low,
        "p90": high,
        "dispatch_seconds": float(np.median(dispatches)),
        "gap_seconds": middle - in_a_row,
    }


def _with_input(
    program: Program, train_step: Callable[..., Any], state: TrainState, split: Split, *fixed: Any
) -> dict[str, float]:
    """The loop of `train`, less all that is not feeding and stepping."""
    rows = parallel.local_rows(program.mesh, program.config.batch_size)
    batches = split.train_batches(rows, 0, program.total_steps)
    clock, sums = Clock(), None
    with Feed(batches, program.mesh, clock) as feed:
        for step in range(program.total_steps):
            state, new = train_step(state, feed.next(running=sums), *fixed)
            jax.block_until_ready(sums)  # one step ahead of the devices
            sums = new
            if step < WARM_UP:
                clock.tick(training=False)
                clock.input_wait_seconds = 0.0
                continue
            clock.images += program.config.batch_size
            clock.tick(training=True)
            if clock.train_seconds > SECONDS:
                break
    return {
        "input_wait_fraction": clock.input_wait_fraction,
        "images_per_second_per_chip_with_input": clock.images_per_second / program.mesh.size,
    }


def noise_batch(program: Program) -> dict[str, jax.Array]:
    """A batch that looks like one of the data set's."""
    config, random = program.config, np.random.default_rng(0)
    rows = parallel.local_rows(program.mesh, config.batch_size)
    shape = train_views(config.data)
    return parallel.put_batch(
        {
            "image": random.integers(0, 256, (len(rows), *shape), np.uint8),
            **{
                name: field.sized(shape[1]).filled(len(rows))
                for name, field in program.task.fields().items()
            },
            "mask": np.ones(len(rows), np.bool_),
            "index": rows.astype(np.int32),
            "epoch": np.zeros(len(rows), np.int32),
        },
        program.mesh,
    )
