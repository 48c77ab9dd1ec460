"""Photos with heat maps over them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.inference.explanation.methods import OF_PIXELS, SIGNED
from imagenet_jax.inference.explanation.photos import ExplainedPhoto
from imagenet_jax.inference.photos import read_pixels
from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import replace_figure

DRAWN = 24  # photos of a picture
_WIDTH, _WORDS = 3.0, 0.4  # inches: of a photo, of the lines above it
_SIDE = 400  # pixels of a photo in it, at most
_BLUR = 0.01  # of a map of single pixels, which a person could not see; of its side
_PEAK = 99.5  # percentile of a map's values that has the strongest colour


def heat(image: np.ndarray, array: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] in grey, under a map [H, W]: what speaks for the answer from red to
    yellow, what speaks against it blue."""
    from matplotlib import colormaps

    strongest = np.percentile(np.abs(array), _PEAK) or np.abs(array).max() or 1.0
    strength = np.clip(array / strongest, -1, 1)
    warm = colormaps["hot"](0.25 + 0.55 * np.maximum(strength, 0))[..., :3]
    cold = np.array([0.1, 0.3, 1.0])
    colour = np.where((strength >= 0)[..., None], warm, cold)
    share = 0.75 * np.abs(strength)[..., None]
    grey = np.repeat(image.mean(-1, keepdims=True), 3, -1) / 255 * 0.75 + 0.1
    return np.uint8(255 * np.clip((1 - share) * grey + share * colour, 0, 1))


def in_photo(array: np.ndarray, photo: ExplainedPhoto, shape: Sequence[int]) -> np.ndarray:
    """A map [S, S] as float32 [H, W] of the photo in any size; 0 where the network saw nothing."""
    import cv2

    scale = np.array(shape[::-1]) / photo.shape[::-1]
    left, top, right, bottom = photo.seen * np.tile(scale, 2)
    across, down = (right - left) / array.shape[1], (bottom - top) / array.shape[0]
    # The middle of a pixel has whole coordinates in OpenCV.
    move = np.array(
        [[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]], np.float64
    )
    return cv2.warpAffine(np.float32(array), move, tuple(shape[::-1]), flags=cv2.INTER_LINEAR)


def shown(array: np.ndarray, method: str) -> np.ndarray:
    """A map as it is drawn: of methods that tell each pixel apart, blurred a little."""
    import cv2

    if method not in OF_PIXELS:
        return array
    return cv2.GaussianBlur(array, (0, 0), max(0.5, _BLUR * len(array)))


def draw_explanations(
    result: dict[str, Any], photos: Sequence[ExplainedPhoto], path: Path, config: Any
) -> dict[str, Any]:
    """Draws photos, each beside its heat maps, into a PNG.

    Args:
      result: of `explain_photos`.
      photos: what it explained.
      path: of the PNG.
      config: of the model: how photos are read.

    Returns:
      The result with picture and drawn, how many photos there are in it; where that failed, with
      one more of its errors.
    """
    try:
        _draw(result, photos[:DRAWN], path, config)
    except Exception as error:  # matplotlib, its fonts and the disk raise anything
        failed = {"path": str(path), "error": f"{printable(str(path))} cannot be drawn: {error}"}
        return {**result, "errors": [*result["errors"], failed]}
    return {**result, "picture": str(path), "drawn": len(photos[:DRAWN])}


def _draw(
    result: dict[str, Any], photos: Sequence[ExplainedPhoto], path: Path, config: Any
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods, facts = result["methods"], result["explanations"]
    columns = 1 + len(methods)
    tall = [max(0.2, photo.shape[0] / photo.shape[1]) for photo in photos]
    heights = [_WIDTH * min(each, 2) + _WORDS for each in tall]
    figure = Figure(figsize=(_WIDTH * columns, sum(heights) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(photos), columns, squeeze=False, height_ratios=heights)
    for row, photo, told in zip(places, photos, facts, strict=False):
        pixels = _small(read_pixels(photo.path, config))
        row[0].imshow(pixels)
        row[0].set_title(_caption(told), fontsize=7, parse_math=False)
        for axes, name in zip(row[1:], methods, strict=True):
            array = shown(photo.explanation.maps[name], name)
            axes.imshow(heat(pixels, in_photo(array, photo, pixels.shape[:2])))
            sign = ", blue: against it" if name in SIGNED else ""
            axes.set_title(f"{name.replace('_', ' ')}{sign}", fontsize=7)
        for axes in row:
            _outline(axes, told, photo, pixels)
            axes.set_axis_off()
    figure.suptitle(printable(result["model"])[-80:], fontsize=9, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_figure(path, figure)


def _small(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def _caption(told: dict[str, Any]) -> str:
    target = told["target"]
    title = printable(target["title"])[:30]
    shares = [f"{target[name]:.1%}" for name in ("probability", "share") if name in target]
    name = printable(Path(told["path"]).name)[-40:]
    return f"{name}\n{title} {shares[0] if shares else format(told['score'], '.1%')}"


def _outline(axes: Any, told: dict[str, Any], photo: ExplainedPhoto, pixels: np.ndarray) -> None:
    """Of the box or the segment that is explained."""
    from matplotlib.patches import Rectangle

    box, inside = told["target"].get("box"), photo.explanation.target.inside
    height, width = pixels.shape[:2]
    if box is not None:
        scale = np.array([width / photo.shape[1], height / photo.shape[0]] * 2)
        left, top, right, bottom = np.array(box) * scale
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, ec="lime", lw=1)
        axes.add_patch(frame)
    elif inside is not None:
        axes.contour(in_photo(inside, photo, (height, width)), [0.5], colors="lime", linewidths=0.7)
