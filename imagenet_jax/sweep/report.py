"""What a sweep found: sweep.json, a picture and a table."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from imagenet_jax.errors import UserError
from imagenet_jax.reports.writers import write_summary
from imagenet_jax.sweep.picture import draw_sweep


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
    result["picture"] = str(workdir / "sweep.png")
    write_summary(workdir / "sweep.json", result)
    (best,) = [trial for trial in counted if trial.number == trials[0]["number"]]
    about = f"{workdir}: {request.method}, {_counts(counted)}"
    draw_sweep(counted, best, request.metric, about, Path(result["picture"]))
    return result


def _counts(counted: Sequence[FrozenTrial]) -> str:
    """How many trials ended how."""
    names = {
        TrialState.COMPLETE: "done",
        TrialState.PRUNED: "stopped early",
        TrialState.FAIL: "failed",
    }
    counts = {text: sum(t.state == state for t in counted) for state, text in names.items()}
    return ", ".join(f"{count} {text}" for text, count in counts.items() if count)


def _stdev(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


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
    lines = [
        "  ".join([*(cell.rjust(w) for cell, w in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in rows
    ]
    return "\n".join([*lines, f"drawn in {result['picture']}"])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
