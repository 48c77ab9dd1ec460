"""From the results of the parts of suites to their metrics, and to a table."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.suites.table import ALEXNET_ERROR, BENCHMARK, Part, subset

_COUNTS = ("num_examples", "correct_top1", "correct_top5", "left_out", "unreadable")


def suite_result(parts: Sequence[Part], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is said of a suite.

    Args:
      parts: of it.
      found: of each, what `training.evaluate.evaluate_split` gives, with left_out.

    Returns:
      num_examples, left_out (images without a right class), unreadable, correct_top1, correct_top5,
      top1, top5, loss, data (where the images are), classes (how many are compared), published (how
      many images there should be, None if that is not known). Of several parts num_examples and the
      like are sums, top1, top5 and loss means over the parts, and there are: error, 1 - top1;
      corruptions, {name: error, the mean over its severities, and ce, that over AlexNet's, where it
      is known}; severities, {CORRUPTION/SEVERITY: result}; and, of all 15, mce, the mean of the ce.
    """
    suite = parts[0].suite
    about = {
        "data": os.path.commonpath([part.path for part in parts]),
        "classes": len(subset(suite.column)),
        "published": suite.images and suite.images * len(parts),
    }
    found = [{name: value for name, value in one.items() if name != "split"} for one in found]
    if len(parts) == 1:
        return {**found[0], **about}
    by_name = {part.name.removeprefix("c/"): one for part, one in zip(parts, found, strict=True)}
    errors: dict[str, list[float]] = {}
    for name, one in by_name.items():
        errors.setdefault(name.partition("/")[0], []).append(1 - one["top1"])
    corruptions = {name: _corruption(name, of_name) for name, of_name in errors.items()}
    result = {name: sum(one[name] for one in found) for name in _COUNTS}
    result |= {
        name: float(np.mean([one[name] for one in found])) for name in ("top1", "top5", "loss")
    }
    result |= {"error": float(np.mean([one["error"] for one in corruptions.values()]))}
    if set(corruptions) == set(BENCHMARK):
        result["mce"] = float(np.mean([one["ce"] for one in corruptions.values()]))
    return {**result, **about, "corruptions": corruptions, "severities": by_name}


def _corruption(name: str, errors: Sequence[float]) -> dict[str, float]:
    error, alexnet = float(np.mean(errors)), ALEXNET_ERROR[name]
    return {"error": error} if alexnet is None else {"error": error, "ce": error / alexnet}


def scalars(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What a run logs of suites, {"v2/top1": 0.63, ...}."""
    return {
        f"{name}/{metric}": result[metric]
        for name, result in results.items()
        for metric in ("top1", "top5", "error", "mce")
        if metric in result
    }


def short_rows(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A suite each, {name: its metric}."""
    return {
        name: f"mCE {result['mce']:.2%}" if "mce" in result else f"{result['top1']:.2%}"
        for name, result in results.items()
    }


def suites_text(result: Mapping[str, Any]) -> str:
    """The model and `suites_table`, of what `inference.evaluate_suites` gives."""
    return f"{result['model']}\n{suites_table(result['suites'])}"


def suites_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each suite and for each corruption."""
    rows = [("suite", "images", "top-1", "top-5", "")]
    for name, result in results.items():
        rows.append(_row(name, result, _remarks(result)))
        for corruption, one in result.get("corruptions", {}).items():
            ce = f", CE {one['ce']:.2%}" if "ce" in one else ""
            rows.append((f"  {corruption}", "", "", "", f"error {one['error']:.2%}{ce}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  "
        + "  ".join(
            [f"{row[0]:<{widths[0]}}"]
            + [f"{row[column]:>{widths[column]}}" for column in (1, 2, 3)]
            + [row[4]]
        ).rstrip()
        for row in rows
    )


def _row(name: str, result: Mapping[str, Any], remarks: str) -> tuple[str, ...]:
    shares = (f"{result[metric]:.2%}" for metric in ("top1", "top5"))
    return (name, f"{result['num_examples']:,}", *shares, remarks)


def _remarks(result: Mapping[str, Any]) -> str:
    said = []
    if "mce" in result:
        said.append(f"mCE {result['mce']:.2%}, mean error {result['error']:.2%}")
    if result["classes"] < len(subset("")):
        said.append(f"among {result['classes']} classes")
    if result["left_out"]:
        said.append(f"{result['left_out']:,} left out that have none of the classes")
    if result["unreadable"]:
        said.append(f"{result['unreadable']:,} unreadable")
    there = result["num_examples"] + result["left_out"] + result["unreadable"]
    if result["published"] not in (None, there, result["num_examples"]):
        said.append(f"{result['published']:,} were published")
    return ", ".join(said)
