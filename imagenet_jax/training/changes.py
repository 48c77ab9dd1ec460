"""What of a config may be another when a run is resumed."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from imagenet_jax.config import differences, from_dict
from imagenet_jax.errors import CheckpointError, ConfigError
from imagenet_jax.models.facts import FACTS

# Fields, or sections, that cannot change what a run learns, and why.
FREE = {
    "sharding": "the same sums, spread over the devices in another way",
    "partitioner": "another way to write the same program",
    "compiler_options": "how the program is compiled, and not what it computes",
    "hang_timeout": "when to give up",
    "data.dir": "where the data set lies; its size and names are compared",
    "data.workers": "the order of the data does not depend on who reads them",
    "data.prefetch": "how many batches wait",
    "data.cache": "where decoded images wait",
    "eval.batch_size": "evaluation is exact: each example counts once",
    "eval.suites": "what is evaluated beside, and looked at by nobody but people",
    "checkpoint": "when and how many states are kept",
    "log": "what is written down of it, and where",
}

# Families with arrays of two axes that are no kernels; they decayed before optim.decayed was.
_ONCE_DECAYED = ("vit", "swin", "nfnet", "convnext")


def check_changes(
    record: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    data: Mapping[str, Any],
    allowed: bool | Sequence[str],
    where: str,
) -> list[str]:
    """Compares the config and the data set with those of a checkpoint's record.

    Args:
      record: of the checkpoint.
      config: of now.
      data: what the record calls "data", of now.
      allowed: whether anything may have changed, or the names of the fields and sections that may
        ("dataset" for the data set).
      where: the checkpoint, for the message.

    Returns:
      A line "NAME: OLD -> NEW" for each change.

    Raises:
      CheckpointError: if something changed that is neither in `FREE` nor `allowed`.
    """
    try:
        before = from_dict(record["config"])
    except ConfigError as error:
        raise CheckpointError(
            f"{where} is of another version of this program: {error}. Go on with that version, or "
            "use another --workdir"
        ) from error
    changes = differences(before, config)
    family = FACTS[config.model.name].family
    if "decayed" not in record["config"]["optim"] and family in _ONCE_DECAYED:
        changes.append(f"optim.decayed: all of two axes -> {config.optim.decayed!r}")
    changes += differences({"dataset": record["data"]}, {"dataset": data})
    names = (*FREE, *(() if isinstance(allowed, bool) else allowed))
    refused = [change for change in changes if not _is_of(change.partition(":")[0], names)]
    if refused and allowed is not True:
        raise CheckpointError(
            f"{where} was written with another config or data set:\n  "
            + "\n  ".join(refused)
            + "\nUse another --workdir, the old values, or --allow_config_change to go on, or "
            f"--allow_config_change={','.join(c.partition(':')[0] for c in refused)}"
        )
    return changes


def _is_of(name: str, fields: Sequence[str]) -> bool:
    """Whether a field is one of these, or in a section that is."""
    return any(name == field or name.startswith(f"{field}.") for field in fields)
