"""Photos in files: which ones are meant, and what a model sees of them."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from imagenet_jax.errors import DataError
from imagenet_jax.printable import printable


def find_photos(names: Sequence[str]) -> list[str]:
    """The files that are meant by names, folders and patterns, in their order.

    Args:
      names: files; folders, which stand for all image files in them and below, in alphabetical
        order; or patterns with * ? [ ], ** for any depth, for shells that do not expand them.

    Raises:
      DataError: for a folder or a pattern without image files, or if no file can be opened.
    """
    found: list[str] = []
    for name in names:
        path = os.path.expanduser(name)
        if os.path.isdir(path):
            files = _images(path)
        elif os.path.exists(path) or not glob.has_magic(path):
            files = [path]  # one that is missing is told with the predictions of the others
        else:
            matches = sorted(glob.glob(path, recursive=True))
            files = [file for file in matches if not os.path.isdir(file)]
        if not files:
            raise DataError(f"{printable(name)}: no image files there")
        found += files
    for path in found:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device may have no end
            raise DataError(f"{printable(path)} cannot be read: it is no file")
    if not any(os.path.exists(path) for path in found):
        raise DataError(f"{printable(found[0])} cannot be read: there is no such file")
    return found


def _images(folder: str) -> list[str]:
    """The image files in a folder and below; others are counted in a line of the log."""
    from imagenet_jax.data.sources.files import folder_files
    from imagenet_jax.data.sources.layout import find_images, left_out_text

    files = folder_files(Path(folder))
    images, left_out = find_images(files.names, files.beginning)
    if others := left_out_text(left_out):
        logging.warning("%s: left out: %s", printable(folder), others)
    return [os.path.join(folder, name) for name in images]


def read_pixels(path: str, config: Any) -> np.ndarray:
    """A photo upright as config.data says, uint8 [H, W, 3].

    Raises:
      DataError: for a file that is missing or no image.
    """
    from imagenet_jax.data.images.decode import decode_image
    from imagenet_jax.data.sources.files import check_bytes

    data = config.data
    try:
        check_bytes(os.path.getsize(path))
        return decode_image(
            Path(path).read_bytes(),
            exif_orientation=data.exif_orientation,
            max_pixels=data.max_pixels,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{printable(path)} cannot be read: {reason}") from error


def read_photo(path: str, config: Any) -> np.ndarray:
    """A photo as the model sees it before it is normalised, uint8 [S, S, 3].

    Raises:
      DataError: for a file that is missing, no image, or not of the size that config.data wants.
    """
    from imagenet_jax.data.images.preprocess import Preprocess

    preprocess = Preprocess(config.data, config.seed, train=False)
    out = np.empty((config.data.image_size, config.data.image_size, 3), np.uint8)
    pixels = read_pixels(path, config)
    zero = np.zeros(1, np.int64)
    ((top, left, height, width),) = preprocess.boxes(np.array([pixels.shape[:2]]), zero, zero)
    try:
        preprocess.finish(pixels[top : top + height, left : left + width], out, 0, 0)
    except ValueError as error:
        raise DataError(f"{printable(path)} cannot be read: {error}") from error
    return out
