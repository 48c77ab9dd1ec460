"""How precise boxes are at each recall, drawn."""

from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.reports.writers import replace_figure

_IOUS = (0.5, 0.75, 0.9)


def draw_precision_recall(evaluation: Any, about: str, path: Path) -> None:
    """A curve of the mean over the classes for three thresholds of the IoU, as a PNG.

    Args:
      evaluation: pycocotools' COCOeval, after it was accumulated.
      about: the title.
      path: of the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, K]
    precision = np.where(precision < 0, np.nan, precision)
    known = ~np.isnan(precision[0, 0])
    thresholds, recalls = evaluation.params.iouThrs, evaluation.params.recThrs
    figure, axes = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    try:
        for iou in _IOUS:
            curve = precision[np.abs(thresholds - iou).argmin()][:, known].mean(1)
            axes.plot(recalls, curve, label=f"IoU {iou:g}: AP {curve.mean():.1%}")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="best", frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(about, fontsize=9, parse_math=False)
        replace_figure(path, figure)
    finally:
        plt.close(figure)
