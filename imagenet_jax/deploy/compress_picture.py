"""The variants of a network as a picture: what they reach against what they cost."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import replace_figure

_MARKERS = {" in LiteRT": "^", " in ONNX Runtime": "s"}  # of files, by how their names end


def draw_variants(result: Mapping[str, Any], path: Path) -> None:
    """Two panels: the metric against the size of the packed file, and against the latency.

    A hollow point is a variant before it recovered. Without data the panels have no heights. What
    has no file, int8 as it is simulated, is left out.

    Args:
      result: see `compress.compress`.
      path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    rows, count = result["variants"], list(result["variants"][0]["latency_ms"])[-1]
    known = rows[0][result["metric"]] is not None
    _draw(left, result, lambda row: row["gzip_bytes"] / 1e6)
    left.set_xlabel("file, packed by gzip (MB)")
    _draw(right, result, lambda row: row["latency_ms"][count])
    right.set_xlabel(f"{count} images on this {result['device_kind']} (ms, median)")
    left.set_ylabel(_label(result["metric"]) if known else "nothing was evaluated")
    after = f"and trained for {result['duration']}" if result["duration"] else "at once"
    title = f"{result['model']}, made smaller {after}"
    if known and result["duration"]:
        title += " (hollow: before that)"
    names = left.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=min(len(rows), 7), fontsize=9)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    replace_figure(path, figure)


def _label(metric: str) -> str:
    return metric if metric == "loss" else f"{metric} (%)"


def _draw(panel: Any, result: Mapping[str, Any], place: Callable[[Any], float]) -> None:
    metric = result["metric"]
    factor = 1 if metric == "loss" else 100  # others are shares
    number = -1
    for row in result["variants"]:
        runtime = next((one for one in _MARKERS if row["name"].endswith(one)), "")
        number += not runtime  # files of a variant have its color
        if not row["latency_ms"]:
            continue
        color = f"C{number - 1}" if number else "black"
        marker = _MARKERS.get(runtime, "o" if number else "*")
        x, value, before = place(row), row[metric], row.get("at_once")
        height = 0.0 if value is None else factor * value
        style = {"color": color, "markeredgecolor": "white", "linestyle": "none", "zorder": 5}
        size = 9 if number else 14
        panel.plot([x], [height], marker, **style, markersize=size, label=row["name"])
        if number == 0 and value is not None:
            panel.axhline(height, color="gray", linewidth=0.7, linestyle="--")
        if before is not None and result["duration"]:
            panel.plot([x, x], [factor * before, height], ":", color=color, linewidth=1)
            panel.plot([x], [factor * before], "o", color=color, fillstyle="none")
    if result["variants"][0][metric] is None:
        panel.set_yticks([])
    panel.margins(0.06, 0.08)
    panel.set_xlim(0, panel.get_xlim()[1])
    panel.grid(alpha=0.3)
