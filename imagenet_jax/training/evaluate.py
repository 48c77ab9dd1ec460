"""Exact evaluation: every example once, whatever the batch size and the devices."""

from collections.abc import Callable
from typing import Any

import jax

from imagenet_jax.data import Split
from imagenet_jax.devices.parallel import local_rows
from imagenet_jax.hosts.watchdog import doing
from imagenet_jax.training.feed import Feed
from imagenet_jax.training.program import Program


def evaluate_split(
    program: Program, eval_step: Callable[..., Any], variables: Any, split: Split
) -> dict[str, Any]:
    """Runs `eval_step`, compiled for a split of this size, over a whole split.

    Returns:
      split, num_examples, the metrics of the task (see `Task.summarize`), and unreadable (images
      that could not be decoded).
    """
    batch_size = program.eval_batch_size(split.num_examples)
    host_batches = split.eval_batches(local_rows(program.mesh, batch_size), batch_size)
    results = []
    with Feed(host_batches, program.mesh) as feed:
        while (batch := feed.next()) is not None:
            doing(f"evaluation, batch {len(results) + 1}")
            results.append(eval_step(variables, batch))
            # No more than two steps in flight, or their batches would fill the memory.
            jax.block_until_ready(results[-3:-2])
    summary = program.task.summarize(jax.device_get(results))
    unreadable = split.num_examples - summary["num_examples"]
    return {"split": split.name, **summary, "unreadable": unreadable}
