"""Two studies side by side: ratios, and what changed in the program."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from imagenet_jax.errors import ConfigError, UserError

_RATIOS = (
    *("compile_seconds", "flops", "bytes_accessed", "hbm_bytes", "estimated_cycles"),
    *("peak_bytes", "temporary_bytes", "generated_code_bytes", "fusions", "copies"),
    *("all_reduces", "collective_seconds", "predicted_step_seconds"),
    *("predicted_images_per_second_per_chip", "mfu"),
)
SHOWN = 10


def compare_reports(one: Path, other: Path) -> dict[str, Any]:
    """Two saved variants side by side, see `compare`. Raises as `read_report`."""
    return compare(read_report(one), read_report(other))


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Facts of two variants with all their operations, see `read_report`.

    Returns:
      "ratios": {fact: [A, B, B / A or None]}; "kinds": {kind of operation: [A, B]} where the
      numbers differ; "lost" and "new": the costliest operations that only A and only B have,
      told apart by layer, phase, kind and shape.
    """
    ratios = {
        name: [one[name], other[name], other[name] / one[name] if one[name] else None]
        for name in _RATIOS
    }
    kinds = [Counter(op["kind"] for op in side["operations"]) for side in (one, other)]
    return {
        "ratios": ratios,
        "kinds": {
            kind: [count[kind] for count in kinds]
            for kind in sorted(set(kinds[0]) | set(kinds[1]))
            if kinds[0][kind] != kinds[1][kind]
        },
        "lost": _only(one["operations"], other["operations"]),
        "new": _only(other["operations"], one["operations"]),
    }


def _only(operations: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Operations without a counterpart, the costliest first."""

    def identity(operation: dict[str, Any]) -> tuple[str, ...]:
        return tuple(operation[field] for field in ("layer", "phase", "kind", "shape"))

    left = Counter(identity(operation) for operation in others)
    alone = []
    for operation in operations:
        if left[identity(operation)]:
            left[identity(operation)] -= 1
        else:
            alone.append(operation)
    return sorted(alone, key=lambda operation: -operation["seconds"])[:SHOWN]


def read_report(path: Path) -> dict[str, Any]:
    """A saved variant or --json of a study with one variant.

    Raises:
      UserError: if the file is neither.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        variants = report.get("variants", [report])
        lacking = [name for name in (*_RATIOS, "operations") if name not in variants[0]]
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is no report of a study: {error}") from error
    if len(variants) != 1:
        raise ConfigError(
            f"{path} holds {len(variants)} variants; --compare wants reports of one, as in "
            "WORKDIR/study/NAME.json"
        )
    if lacking:
        raise UserError(
            f"{path} lacks {', '.join(lacking)}: it is no study, or an earlier version's"
        )
    if variants[0]["predicted_step_seconds"] is None:
        raise UserError(f"{path} is of a step that does not fit: there is nothing to compare")
    return variants[0]
