"""Sheets of small images with words beside or below them, drawn by Pillow."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import ml_collections
import numpy as np
from PIL import Image, ImageDraw

from imagenet_jax.printable import printable

COLUMNS = 8
_SIDE, _GAP = 112, 4  # pixels: of an image, between two
_NAME, _LINE, _LETTER = 190, 15, 7  # of what stands beside a row; of a line below an image


def pixels_of(images: np.ndarray, augment: ml_collections.ConfigDict) -> np.ndarray:
    """Images float32 [..., 3] as the network takes them, as uint8; `augment` is config.augment."""
    levels = 255 * (np.asarray(images, np.float32) * augment.std + augment.mean)
    return np.round(levels).clip(0, 255).astype(np.uint8)


def sheet_of_rows(rows: Mapping[str, np.ndarray]) -> Image.Image:
    """A row for each name with its images uint8 [COLUMNS, S, S, 3]."""
    width = _NAME + COLUMNS * (_SIDE + _GAP)
    sheet = Image.new("RGB", (width, len(rows) * (_SIDE + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows.items()):
        top = row * (_SIDE + _GAP)
        draw.text((8, top + _SIDE // 2), name, fill="black", anchor="lm", font_size=14)
        for column, image in enumerate(images):
            sheet.paste(_small(image), (_NAME + column * (_SIDE + _GAP), top))
    return sheet


def sheet_of_images(images: np.ndarray, texts: Sequence[str]) -> Image.Image:
    """Images uint8 [B, S, S, 3] in the order of the batch, each above its text of some lines."""
    lines = [[_fitting(line) for line in text.split("\n")] for text in texts]
    below = max(map(len, lines), default=0) * _LINE + _GAP
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    size = (columns * (_SIDE + _GAP) + _GAP, rows * (_SIDE + below + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, text) in enumerate(zip_longest(images, lines, fillvalue=())):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + below + _GAP)
        sheet.paste(_small(image), (left, top))
        for place, line in enumerate(text):
            at = (left, top + _SIDE + 1 + place * _LINE)
            draw.text(at, line, fill="black", font_size=13)
    return sheet


def _small(image: np.ndarray) -> Image.Image:
    """Of a smaller one each pixel can be seen."""
    ways = Image.Resampling
    way = ways.NEAREST if len(image) < _SIDE else ways.BICUBIC
    return Image.fromarray(image).resize((_SIDE, _SIDE), way)


def _fitting(line: str) -> str:
    """A line that is no wider than an image."""
    line, most = printable(line), _SIDE // _LETTER
    return line if len(line) <= most else f"{line[: most - 1]}…"
