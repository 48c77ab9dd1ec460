"""The most probable classes of an image, as lines and as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def most_probable(probabilities: np.ndarray, top: int) -> list[tuple[int, float]]:
    """Number and probability of the `top` most probable of the classes [K], the first first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(int(label), float(probabilities[label])) for label in order]


def lines(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each class: probability, a bar of 20 characters, title."""
    made = []
    for found in classes:
        bar = "#" * round(20 * found["probability"])
        made.append(f"{found['probability']:6.1%}  {bar:20}  {found['title']}")
    return made


def columns(classes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """class 1, probability 1, class 2, ... of the classes in their order."""
    made = {}
    for place, found in enumerate(classes, 1):
        made |= {
            f"class {place}": found["title"],
            f"probability {place}": f"{found['probability']:.6f}",
        }
    return made


def draw(figure: Any, picture: Any, classes: Sequence[Mapping[str, Any]]) -> None:
    """Draws a photo, and below it a bar for each class.

    Args:
      figure: matplotlib's Figure or SubFigure.
      picture: the photo.
      classes: title and probability of each, the most probable first.
    """
    above, bars = figure.subplots(2, 1, height_ratios=[3, 1.4])
    above.imshow(np.asarray(picture))
    values = [found["probability"] for found in classes[::-1]]
    bars.barh(range(len(values)), values, color="tab:blue", alpha=0.4)
    for height, found in enumerate(classes[::-1]):
        text = f"{found['title'][:34]}  {found['probability']:.1%}"
        bars.text(0.01, height, text, va="center", fontsize=8, parse_math=False)
    bars.set_xlim(0, 1)
    for axes in (above, bars):
        axes.set_axis_off()
