"""What a verification found of each group of images, over the pairs within it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.tasks.group_files import Groups
from imagenet_jax.tasks.verification import Verification

FEWEST = 30  # pairs; a share of fewer is not told
_SHOWN = 20  # groups on the terminal
_TOO_FEW = "too few"
_COLUMNS = (
    *("group", "images", "pairs", "same_pairs", "other_pairs", "right", "accuracy"),
    *("false_accepts", "far", "false_rejects", "frr", "tar"),
)


def group_metrics(
    found: Verification, groups: Groups, number: np.ndarray, far: float
) -> dict[str, Any]:
    """Results by group, at one distance for all of them.

    Args:
      found: of all pairs.
      groups: of the images of the split.
      number: int [N], the groups of the images that the pairs count.
      far: the false-accept rate over all pairs, 0 to 1, that says at which distance; where it is
        less than one pair, that of one pair.

    Returns:
      groups, for each of group, images, pairs (both images are in the group), same_pairs and
      other_pairs (of them, of one identity and of two), right (told right, each pair at the
      threshold of its fold) and accuracy, their share; false_accepts and far, false_rejects and
      frr, at the distance; tar = 1 - frr. Shares of fewer than `FEWEST` pairs are None.
      grouping: column, kind ("images" or "identities", which the list names), far (of all pairs,
      what it really is) and threshold, the distance; pairs_between, all other pairs;
      images_without_group and the first, ungrouped; names_not_found and the first, not_found.
    """
    pairs, distances = found.pairs, found.distances
    _, threshold = found.at(max(far, 1 / int((~pairs.same).sum())))
    accepted = distances <= threshold
    ends = number[pairs.first], number[pairs.second]
    within = np.where(ends[0] == ends[1], ends[0], -1)
    images = np.bincount(number[number >= 0], minlength=len(groups.names))
    each = []
    for place, name in enumerate(groups.names):
        mine = within == place
        same, other = mine & pairs.same, mine & ~pairs.same
        right, accepts = int(found.right[mine].sum()), int(accepted[other].sum())
        rejects, kinds = int((~accepted[same]).sum()), (int(same.sum()), int(other.sum()))
        values = (
            *(name, int(images[place]), sum(kinds), *kinds, right, _share(right, sum(kinds))),
            *(accepts, _share(accepts, kinds[1]), rejects, _share(rejects, kinds[0])),
            _share(kinds[0] - rejects, kinds[0]),
        )
        each.append(dict(zip(_COLUMNS, values, strict=True)))
    grouping = {
        "column": groups.column,
        "kind": groups.kind,
        "far": float(accepted[~pairs.same].mean()),
        "threshold": threshold,
        "pairs_between": int((within < 0).sum()),
        "images_without_group": int((groups.number < 0).sum()),
        "ungrouped": list(groups.ungrouped),
        "names_not_found": len(groups.unknown),
        "not_found": list(groups.unknown[:3]),
    }
    return {"groups": each, "grouping": grouping}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole >= FEWEST else None


def group_rows(groups: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    """A table of what `group_metrics` gave as groups; shares of too few pairs are empty."""
    yield _COLUMNS
    for group in groups:
        yield [
            "" if value is None else f"{value:.6f}" if isinstance(value, float) else value
            for value in map(group.get, _COLUMNS)
        ]


def group_lines(result: Mapping[str, Any]) -> list[str]:
    """What `group_metrics` gave, for the terminal: the groups with most pairs, and what is left
    out; no lines where there are no groups."""
    if not result.get("groups"):
        return []
    groups, about = result["groups"], result["grouping"]
    shown = sorted(groups, key=lambda group: -group["pairs"])[:_SHOWN]
    shown = [group for group in groups if group in shown]
    rows = [
        (
            *(printable(about["column"])[:30], "images", "accuracy"),
            *("false accepts", "false rejects", "TAR"),
        ),
        *(_cells(group) for group in shown),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    threshold = f"{about['threshold']:.4f}, where the FAR of all pairs is {about['far']:.2g}"
    lines = [f"by {printable(about['column'])[:30]}; false ones at the distance {threshold}:"]
    for name, *cells in rows:
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(("", name.ljust(widths[0]), *numbers)))
    if more := len(groups) - len(shown):
        lines.append(f"  and {more:,} groups with fewer pairs")
    if any(group[name] is None for group in shown for name in ("accuracy", "far", "frr")):
        lines.append(f"  {_TOO_FEW}: fewer than {FEWEST} pairs, of which no share is told")
    lines.append(f"  {about['pairs_between']:,} pairs are not within a group")
    if count := about["images_without_group"]:
        lines.append(f"  {count:,} images have no group{_named(about['ungrouped'], count)}")
    if count := about["names_not_found"]:
        named = _named(about["not_found"], count)
        lines.append(f"  {count:,} names of the list are no {about['kind']} of the split{named}")
    return lines


def _cells(group: Mapping[str, Any]) -> Sequence[str]:
    counts = {
        "accuracy": (group["right"], group["pairs"]),
        "far": (group["false_accepts"], group["other_pairs"]),
        "frr": (group["false_rejects"], group["same_pairs"]),
    }
    told = [
        f"{_TOO_FEW if group[name] is None else format(group[name], '.2%')} ({part:,} of {whole:,})"
        for name, (part, whole) in counts.items()
    ]
    tar = _TOO_FEW if group["tar"] is None else f"{group['tar']:.2%}"
    return (printable(group["group"])[:30], f"{group['images']:,}", *told, tar)


def _named(names: Sequence[str], count: int) -> str:
    more = ", ..." if count > len(names) else ""
    return f": {', '.join(printable(name)[-40:] for name in names)}{more}"
