"""The course of a run as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import read_metrics, replace_figure

# One colour for each curve, in every panel.
_TRAIN, _EVALUATION, _RAW, _NEITHER = "tab:blue", "tab:orange", "tab:green", "tab:gray"


def plot_curves(workdir: Path, config: ml_collections.ConfigDict, metric: str, split: str) -> None:
    """Draws loss, a metric and learning rate of WORKDIR/metrics.jsonl into WORKDIR/curves.png.

    Args:
      workdir, config: of the run.
      metric: beside the loss, as `Task.best`.
      split: that was evaluated on.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = read_metrics(workdir / "metrics.jsonl")
    epochs = _epochs(lines)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    shown = printable(split).replace("$", r"\$")  # a legend would take it for a formula
    parts = {
        "train": ("training", _TRAIN),
        "eval": (f"evaluation: {shown}", _EVALUATION),
        "eval_raw": ("the same, raw weights", _RAW),
    }
    panels = [
        ("loss", {f"{part}/loss": about for part, about in parts.items()}),
        (metric, {f"{part}/{metric}": about for part, about in parts.items()}),
        ("learning rate", {"learning_rate": ("", _NEITHER)}),
    ]
    for axis, (name, curves) in zip(axes, panels, strict=True):
        for key, (label, color) in curves.items():
            points = [(epochs(line["step"]), line[key]) for line in lines if key in line]
            if points:
                marker = "." if len(points) < 100 else None
                axis.plot(*zip(*points, strict=True), label=label, color=color, marker=marker)
        axis.set(xlabel="epochs", ylabel=name)
        axis.grid(alpha=0.3)
        if any(axis.get_legend_handles_labels()[1]):
            axis.legend()
    axes[0].set_title(training_loss_note(config), fontsize=8)
    figure.suptitle(printable(workdir)[-120:], parse_math=False)
    replace_figure(workdir / "curves.png", figure)
    plt.close(figure)


def training_loss_note(config: ml_collections.ConfigDict) -> str:
    """Why the loss of training is no match for that of evaluation; '' if nothing says so."""
    augment, data = config.augment, config.data
    reasons = {
        "smoothed labels": config.loss.label_smoothing,
        "mixed images": augment.mixup or augment.cutmix,
        "dropout": config.model.dropout > 0 or config.model.drop_path > 0,
        "augmented images": data.train_crop == "random_resized_crop"
        or data.policy
        or augment.erase,
    }
    named = [reason for reason, there in reasons.items() if there]
    return f"the training loss is lifted by {', '.join(named)}" if named else ""


def _epochs(lines: Sequence[Mapping[str, Any]]) -> Any:
    """The epochs at a step, from the lines that say so."""
    known = {
        line["step"]: line["epoch"] for line in lines if np.isfinite(line.get("epoch", np.nan))
    }
    steps = sorted(known)
    epochs = [known[step] for step in steps]
    return lambda step: float(np.interp(step, steps, epochs)) if known else float(step)
