"""Colours of classes, and pictures of maps of them."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

_GROUND = ("background", "unlabeled", "unlabelled", "void", "other", "ignore")


def voc_palette() -> np.ndarray:
    """Pascal VOC's colours uint8 [256, 3]: 0 is black, 255 nearly white."""
    numbers, colours = np.arange(256), np.zeros((256, 3), int)
    for shift in range(8):
        for channel in range(3):
            colours[:, channel] |= (numbers >> (3 * shift + channel) & 1) << (7 - shift)
    return colours.astype(np.uint8)


def map_image(levels: np.ndarray) -> Image.Image:
    """A map of classes uint8 [H, W] as a picture with VOC's palette, whose levels they are."""
    image = Image.fromarray(levels, "P")
    image.putpalette(voc_palette().tobytes())
    return image


def map_text(levels: np.ndarray) -> str:
    """A map of classes uint8 [H, W] as a PNG in base64."""
    file = io.BytesIO()
    map_image(levels).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def map_of_text(text: str) -> np.ndarray:
    """The opposite of `map_text`."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


def ground(names: Sequence[str]) -> tuple[int, ...]:
    """The classes that are nothing in particular, which pictures leave unpainted; 255 is one."""
    return (*(k for k, name in enumerate(names) if name.strip("_ ").lower() in _GROUND), 255)


def overlaid(image: np.ndarray, levels: np.ndarray, hidden: Sequence[int] = ()) -> np.ndarray:
    """An image uint8 [H, W, 3] with the colours of its classes [H, W] over it.

    Args:
      image: what is below.
      levels: numbers of classes.
      hidden: those that are not painted, such as the ground.
    """
    painted = (image * 0.4 + voc_palette()[levels] * 0.6).astype(np.uint8)
    return np.where(np.isin(levels, hidden)[..., None], image, painted)


def draw_legend(axes: Any, names: Sequence[tuple[int, str]]) -> None:
    """A line below a picture of matplotlib's for each class (number, name)."""
    from matplotlib.patches import Patch

    colours = voc_palette() / 255
    patches = [Patch(color=colours[number], label=name) for number, name in names]
    if patches:
        axes.legend(
            handles=patches,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            ncols=2,
            fontsize=7,
            frameon=False,
        )
