"""What a sweep found: sweep.json, a picture and a table."""

import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from imagenet_jax.errors import UserError
from imagenet_jax.reports.writers import replace_figure, write_summary


def report(
    study: optuna.Study, counted: Sequence[FrozenTrial], request: Any, workdir: Path
) -> dict[str, Any]:
    """What the trials `counted` gave, also in sweep.json and a picture; see `sweep.sweep`.

    Raises:
      UserError: if no trial gave a result.
    """
    sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
    trials = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            request.metric: trial.value if trial.state == TrialState.COMPLETE else None,
            "stdev": _stdev(trial.user_attrs.get("values", [])),
            "fields": trial.params,
            "workdir": trial.user_attrs.get("workdir"),
            "fault": trial.user_attrs.get("fault", ""),
        }
        for trial in counted
    ]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        faults = {trial["fault"] for trial in trials}
        raise UserError(f"no trial of the sweep gave a result: {'; '.join(sorted(faults))}")
    rank = {id(trial): sign * trial[request.metric] for trial in complete}
    trials.sort(key=lambda trial: rank.get(id(trial), float("inf")))
    result = {"method": request.method, "metric": request.metric, "trials": trials}
    result["best"] = trials[0]
    write_summary(workdir / "sweep.json", result)
    if len(complete) > 1:
        _draw(study, workdir / "parallel_coordinates.png", request.metric)
    return result


def _stdev(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _draw(study: optuna.Study, path: Path, metric: str) -> None:
    import matplotlib

    matplotlib.use("Agg")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(study, target_name=metric)
    figure = axes.get_figure()
    figure.set_size_inches(11, 5)
    figure.subplots_adjust(bottom=0.3)  # for the names of the fields
    for plane in figure.axes:  # values of users may have $, those of a log scale are formulas
        for tick in plane.get_yticklabels() if plane.get_yscale() != "log" else ():
            tick.set_parse_math(False)
    replace_figure(path, figure)


def sweep_text(result: dict[str, Any]) -> str:
    """The table of the trials, the best first."""
    metric = result["metric"]
    names = list(result["best"]["fields"])
    rows = [["", metric, "+-", *names, "workdir"]]
    for trial in result["trials"]:
        value = trial[metric]
        spread = trial["stdev"]
        rows.append(
            [
                str(trial["number"]),
                trial["state"] if value is None else f"{value:.4f}",
                "" if spread is None else f"{spread:.4f}",
                *(_short(trial["fields"].get(name, "")) for name in names),
                trial["fault"] or trial["workdir"],
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.rjust(w) for cell, w in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in rows
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
