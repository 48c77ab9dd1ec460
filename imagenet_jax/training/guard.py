"""Guard rails of the step: norms that are logged, and updates that are skipped."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from imagenet_jax.errors import DivergenceError
from imagenet_jax.training.optimizers.lookahead import LookaheadState
from imagenet_jax.training.optimizers.prodigy import ProdigyState
from imagenet_jax.training.optimizers.prune import prune_state
from imagenet_jax.training.state import TrainState

NORMS = ("gradient_norm", "update_norm")


def guarded(
    config: ml_collections.ConfigDict,
    before: TrainState,
    after: TrainState,
    gradient: Any,
    updates: Any,
    loss: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after a step, or that before it if config.optim.nonfinite skips the update.

    A skipped update leaves parameters, statistics and moments as they were; the schedule goes on.

    Args:
      config: see `schema.SCHEMA`.
      before, after: the states.
      gradient, updates: of the trained parameters, over the global batch.
      loss: its sum over the batch.

    Returns:
      The state, and what config.log.norms, optim.nonfinite and prune ask for: float32 norms
      `NORMS`, "skipped", bool, and "pruned", the float32 share of the prunable weights.
    """
    facts = {}
    if config.log.norms or config.optim.nonfinite:
        norms = optax.tree.norm(gradient), optax.tree.norm(updates)
    if config.log.norms:
        facts |= dict(zip(NORMS, norms, strict=True))
    if config.optim.nonfinite:
        good = jnp.isfinite(loss) & jnp.isfinite(norms[0]) & jnp.isfinite(norms[1])
        kept = jax.tree.map(lambda old, new: jnp.where(good, new, old), before, after)
        after = kept.replace(opt_state=_schedule_on(kept.opt_state, after.opt_state))
        facts["skipped"] = ~good
    if pruning := prune_state(after.opt_state):
        facts["pruned"] = pruning.share
    return after, facts


def _schedule_on(kept: Any, after: Any) -> Any:
    """`kept` with the counts of `after` by which the schedule goes."""

    counting = (optax.ScaleByScheduleState, LookaheadState, ProdigyState)

    def counted(old: Any, new: Any) -> Any:
        if isinstance(old, LookaheadState):
            return old._replace(count=new.count, inner=_schedule_on(old.inner, new.inner))
        return old._replace(count=new.count) if isinstance(old, counting) else old

    return jax.tree.map(counted, kept, after, is_leaf=lambda part: isinstance(part, counting))


class SkippedUpdates:
    """Counts on the host how many updates in a row were skipped, since the run was started."""

    def __init__(self, limit: int):
        """`limit` is config.optim.nonfinite."""
        self.limit, self.in_a_row = limit, 0

    def kept(self, sums: Sequence[Mapping[str, Any]], first: int) -> list[Mapping[str, Any]]:
        """The sums of steps, the first of which has the number `first`, that were not skipped.

        Raises:
          DivergenceError: if more in a row were skipped than may be, or a loss is not finite.
        """
        kept = []
        for step, part in enumerate(sums, first):
            if part.get("skipped", False):
                self.in_a_row += 1
                if self.in_a_row > self.limit:
                    raise DivergenceError(
                        f"the updates of the {self.in_a_row} steps up to step {step} are not "
                        f"finite, and config.optim.nonfinite = {self.limit} may be skipped"
                    )
                continue
            if not math.isfinite(part["loss"]):
                raise DivergenceError(f"the training loss is {part['loss']} at step {step}")
            self.in_a_row = 0
            kept.append(part)
        return kept


def facts_of(
    sums: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What a line of the log says of the facts of `guarded`: mean norms, skipped updates, the last
    share that is pruned.

    Args:
      sums: of all steps.
      kept: those of `SkippedUpdates.kept`.
    """
    facts = {}
    for name in NORMS:
        values = [float(part[name]) for part in kept if name in part]
        facts |= {f"train/{name}": sum(values) / len(values)} if values else {}
    if sums and "pruned" in sums[-1]:
        facts["train/pruned"] = float(sums[-1]["pruned"])
    if any("skipped" in part for part in sums):
        facts["train/skipped_updates"] = len(sums) - len(kept)
    return facts
