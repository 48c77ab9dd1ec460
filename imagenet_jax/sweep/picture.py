"""What a sweep found, as a picture: each field that varies against the metric."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import replace_figure

_COLUMNS = 3
_LONGEST = 18  # letters of a category
_DONE, _BEST, _STOPPED, _FAILED = "tab:blue", "tab:red", "tab:orange", "tab:gray"


def draw_sweep(
    trials: Sequence[FrozenTrial], best: FrozenTrial, metric: str, about: str, path: Path
) -> None:
    """A panel for each field, with all trials in it.

    A trial is a point at its mean, above and below it a small one for each seed and fold. One that
    was stopped stands at its last evaluation; one that failed, on the lower edge.

    Args:
      trials: all, with those that failed or were stopped.
      best: of them.
      metric: its name.
      about: the sweep, for the title.
      path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(best.params)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    size = (max(4.0 * columns, 7.0), 3.4 * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for number, panel in enumerate(panels.flat):
        if number < len(names):
            _draw_field(panel, names[number], trials, best)
            panel.set_ylabel(metric if number % columns == 0 else "")
        else:
            panel.set_axis_off()
    kinds = panels.flat[0].get_legend_handles_labels()
    figure.legend(*kinds, loc="outside lower center", ncols=len(kinds[0]), fontsize=8)
    fields = ", ".join(f"{name} = {_short(value)}" for name, value in best.params.items())
    title = f"{about}\nbest: {metric} {best.value:.4f} at {fields}"
    lines = (textwrap.fill(printable(line), int(size[0] * 12)) for line in title.split("\n"))
    figure.suptitle("\n".join(lines), fontsize=9, parse_math=False)
    replace_figure(path, figure)


def _draw_field(panel: Any, name: str, trials: Sequence[FrozenTrial], best: FrozenTrial) -> None:
    place = _scale(panel, name, trials, best)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    stopped = [trial for trial in trials if trial.state == TrialState.PRUNED]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    parts = [(place(trial), value) for trial in done for value in _parts(trial)]
    if parts:
        panel.plot(*zip(*parts, strict=True), ".", color=_DONE, alpha=0.5, label="seeds and folds")
    last = [trial.intermediate_values.get(trial.last_step, np.nan) for trial in stopped]
    groups = (
        (done, [trial.value for trial in done], "o", _DONE, "trials"),
        (stopped, last, "v", _STOPPED, "stopped early"),
    )
    for group, values, marker, color, text in groups:
        if group:
            style = {"color": color, "markeredgecolor": "white", "markersize": 7}
            text = f"{text} ({len(group)})"
            panel.plot([*map(place, group)], values, marker, **style, label=text)
    if failed:  # on the edge, wherever it will be
        points, edge = [*map(place, failed)], [0.0] * len(failed)
        style = {"color": _FAILED, "markersize": 7, "clip_on": False, "zorder": 5}
        at_edge = panel.get_xaxis_transform()
        panel.plot(points, edge, "x", **style, transform=at_edge, label=f"failed ({len(failed)})")
    style = {"color": _BEST, "markeredgecolor": "white", "markersize": 15, "zorder": 6}
    panel.plot([place(best)], [best.value], "*", **style, label="best")
    panel.grid(alpha=0.3)


def _scale(
    panel: Any, name: str, trials: Sequence[FrozenTrial], best: FrozenTrial
) -> Callable[[FrozenTrial], float]:
    """Labels the axis of a field; gives the function from a trial to its place there."""
    kind = best.distributions[name]
    panel.set_xlabel(printable(name), parse_math=False)
    if isinstance(kind, CategoricalDistribution):
        return _categories(panel, name, kind.choices, trials)
    if kind.log:
        panel.set_xscale("log")
        fine = (1, 2, 5) if kind.high / kind.low < 300 else (1,)
        panel.xaxis.set_major_locator(LogLocator(subs=fine))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
    return lambda trial: trial.params[name]


def _categories(
    panel: Any, name: str, choices: Sequence[str], trials: Sequence[FrozenTrial]
) -> Callable[[FrozenTrial], float]:
    """Those of one value stand side by side."""
    texts = [printable(choice) or "''" for choice in choices]
    texts = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in texts]
    angle = {"rotation": 30, "ha": "right"} if sum(map(len, texts)) > 36 else {}
    panel.set_xticks(range(len(choices)), texts, fontsize=8, parse_math=False, **angle)
    panel.set_xlim(-0.5, len(choices) - 0.5)
    places = {}
    for number, choice in enumerate(choices):
        here = [trial.number for trial in trials if trial.params[name] == choice]
        spread = min(0.6, 0.06 * (len(here) - 1)) / 2
        for trial, offset in zip(here, np.linspace(-spread, spread, len(here)), strict=True):
            places[trial] = number + float(offset)
    return lambda trial: places[trial.number]


def _parts(trial: FrozenTrial) -> list[float]:
    """The values of its seeds and folds, if it has several."""
    values = trial.user_attrs.get("values", [])
    return values if len(values) > 1 else []


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
