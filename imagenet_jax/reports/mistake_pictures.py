"""Pictures of mistakes: a classifier's confusion matrix, and images that something was wrong on.

Placed by hand: matplotlib's layout engines take seconds for that many texts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import replace_figure

if TYPE_CHECKING:  # it imports this
    from imagenet_jax.reports.mistakes import Mistakes

_CELL, _LETTER = 0.42, 0.07  # inches: of the matrix, of a letter of size 8
_LONGEST = 24  # letters of a class's name
_TILE, _LINE, _COLUMNS = 1.8, 0.16, 6  # inches of an image and of a line below it


def short(name: str, most: int) -> str:
    """A name on one line with at most so many letters, 5 at least: without its middle."""
    name = printable(name)
    if len(name) <= most:
        return name
    begin = most // 2  # names that begin alike can be told by their ends
    return f"{name[:begin]}…{name[begin + 1 - most :]}"


def draw_confusion(mistakes: "Mistakes", classes: np.ndarray, about: str, path: Path) -> None:
    """A row for each class, with the numbers of its images that were taken for the others.

    Args:
      mistakes: of an evaluation.
      classes: the classes to show.
      about: the evaluation, for the title.
      path: of the PNG.
    """
    counts, size = mistakes.confusion(classes), len(classes)
    names = [short(mistakes.titles[k], _LONGEST) for k in classes]
    margin = _LETTER * max(map(len, names)) + 0.45
    side, right, top = max(size * _CELL, 3.0), 1.3, 0.6
    width, height = max(margin + side + right, 6.0), top + side + margin
    figure = _figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    shares = counts / np.maximum(mistakes.images[classes], 1)[:, None]
    axes.imshow(_colors(shares))
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = shares[row, column] > 0.6
        text = _count(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="kw"[int(dark)])
    for row, k in enumerate(classes):
        count = mistakes.images[k]
        text = f"{mistakes.right[k] / count:.1%} of {count:,}" if count else "no images"
        axes.text(
            size - 0.5 + 0.05 * size / side, row, text, va="center", fontsize=7, color="dimgray"
        )
    axes.set_xticks(range(size), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(size), names, fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true class", fontsize=8)
    there = int((mistakes.images > 0).sum())
    part = f"the {size} most confused of {there:,} classes, " if size < there else ""
    total = f"{int(mistakes.correct.sum()):,} of {len(mistakes.correct):,} images right"
    _title(figure, f"{about}\n{part}{total}")
    replace_figure(path, figure)


def draw_images(
    pixels: np.ndarray, captions: Sequence[Sequence[tuple[str, str]]], title: str, path: Path
) -> None:
    """A sheet of images with words below.

    Args:
      pixels: uint8 [n, S, S, 3].
      captions: of each some lines with their colours, the last of which is small.
      title: of lines.
      path: of the PNG.
    """
    columns = min(_COLUMNS, len(pixels))
    rows = -(-len(pixels) // columns)
    below = max(map(len, captions)) * _LINE + 0.14
    top, gap = 0.6, 0.1
    width = max(columns * (_TILE + gap) + gap, 6.0)
    height = top + rows * (_TILE + below)
    figure = _figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))  # one, in inches: one an image would take as long again
    for number, caption in enumerate(captions):
        row, column = divmod(number, columns)
        left, bottom = gap + column * (_TILE + gap), height - top - row * (_TILE + below) - _TILE
        extent = (left, left + _TILE, bottom, bottom + _TILE)
        axes.imshow(pixels[number], extent=extent, aspect="auto")
        for line, (text, color) in enumerate(caption):
            size = 8 if line < len(caption) - 1 else 6
            options = {"va": "top", "fontsize": size, "color": color, "parse_math": False}
            axes.text(left, bottom - 0.04 - line * _LINE, text, **options)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    _title(figure, title)
    replace_figure(path, figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Any, text: str) -> None:
    width, height = figure.get_size_inches()
    lines = [short(line, int(width / 0.085)) for line in text.split("\n")]
    place = (0.1 / width, 1 - 0.1 / height)
    figure.text(*place, "\n".join(lines), va="top", fontsize=9, parse_math=False)


def _colors(shares: np.ndarray) -> np.ndarray:
    """Blue for what is right, red for what is wrong, the more the darker, [n, n, 3]."""
    from matplotlib import colormaps

    blue, red = (colormaps[name](shares)[..., :3] for name in ("Blues", "Reds"))
    # Few mistakes can still be seen.
    red = np.where(shares[..., None] > 0, colormaps["Reds"](0.1 + 0.9 * shares)[..., :3], 1.0)
    return np.where(np.eye(len(shares), dtype=bool)[..., None], blue, red)


def _count(count: int) -> str:
    """In at most four characters."""
    for limit, unit in ((10**4, 1), (10**6, 10**3)):
        if count < limit:
            return f"{count // unit}{'k' if unit > 1 else ''}"
    return f"{count // 10**6}M"
