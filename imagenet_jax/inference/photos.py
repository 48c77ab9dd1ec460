"""Photos in files: which ones are meant, and what a model sees of them."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from imagenet_jax.data.landmarks import landmarks_of_photo
from imagenet_jax.errors import DataError
from imagenet_jax.printable import printable

MOST = 32  # images at once


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


def to_pixels(image: Any, config: Any) -> np.ndarray:
    """An image upright as config.data says, uint8 [H, W, 3].

    Args:
      image: the path of a file; its bytes; an image of Pillow's; or an array uint8 [H, W, 3] of
        RGB, or [H, W] of grey.
      config: see `schema.SCHEMA`.

    Raises:
      DataError: for what is none of these, or is no image.
    """
    from imagenet_jax.data.images.decode import check_size, decode_image, image_pixels

    orientation, most = config.data.exif_orientation, config.data.max_pixels
    if isinstance(image, str | os.PathLike):
        return read_pixels(os.path.expanduser(image), config)
    try:
        if isinstance(image, bytes | bytearray | memoryview):
            return decode_image(image, exif_orientation=orientation, max_pixels=most)
        if hasattr(image, "getexif"):
            return image_pixels(image, b"", orientation, most)
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2:
            raise ValueError(
                f"{type(image).__name__} of {array.dtype} {list(array.shape)}; expected a path, "
                "bytes, an image of Pillow's, or an array uint8 [H, W, 3] or [H, W]"
            )
        check_size(*array.shape[:2], most)
    except (OSError, ValueError) as error:
        raise DataError(f"an image cannot be read: {error}") from error
    return np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array


def read_photo(path: str, config: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """A photo as the model sees it before it is normalised, uint8 [S, S, 3], and its own height and
    width.

    Raises:
      DataError: for a file that is missing, no image, or not of the size that config.data wants.
    """
    try:
        pixels = read_pixels(path, config)
        return model_input(pixels, config, path), pixels.shape[:2]
    except ValueError as error:
        raise DataError(f"{printable(path)} cannot be read: {error}") from error


def model_input(pixels: np.ndarray, config: Any, path: str = "") -> np.ndarray:
    """Pixels [H, W, 3] cropped and resized as in evaluation, uint8 [S, S, 3].

    Args:
      pixels: of a photo.
      config: see `schema.SCHEMA`.
      path: of its file, by whose name data.landmarks knows it; "": it has none.

    Raises:
      ValueError: if they are not of the size that config.data wants, or a face is to be aligned
        and there is no path.
      DataError: if data.landmarks has no points of the file.
    """
    from imagenet_jax.data.images.preprocess import Preprocess

    landmarks = None
    if config.data.eval_crop == "align":
        if not path:
            raise ValueError(
                "config.data.eval_crop = 'align' knows the points of a face by the name of its "
                "file, and this image has none; set 'resize' for faces that are aligned"
            )
        landmarks = landmarks_of_photo(config.data.landmarks, path)[None]
    preprocess = Preprocess(config.data, config.seed, train=False, landmarks=landmarks)
    out = np.empty((config.data.image_size, config.data.image_size, 3), np.uint8)
    zero = np.zeros(1, np.int64)
    ((top, left, height, width),) = preprocess.boxes(np.array([pixels.shape[:2]]), zero, zero)
    preprocess.finish(pixels[top : top + height, left : left + width], out, 0, 0)
    return out


def is_several(images: Any) -> bool:
    """Whether it is a sequence of images, or an array of them, and not a single one."""
    if isinstance(images, list | tuple):
        return True
    return not hasattr(images, "getexif") and getattr(images, "ndim", 0) == 4


def model_inputs(images: Any, config: Any) -> Iterator[tuple[np.ndarray, list[tuple[int, int]]]]:
    """What `model_input` gives of one image or several, uint8 [n, S, S, 3], in parts of MOST at
    most, with the heights and widths that they had.

    Raises:
      DataError: for what is no image, or not of the size that config.data wants.
    """
    images = images if is_several(images) else [images]
    if not len(images):
        raise DataError("no images are given")
    for start in range(0, len(images), MOST):
        part, shapes = [], []
        for number, image in enumerate(images[start : start + MOST], start):
            try:
                pixels = to_pixels(image, config)
                path = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
                part.append(model_input(pixels, config, path))
            except ValueError as error:
                raise DataError(f"image {number}: {error}") from error
            shapes.append(pixels.shape[:2])
        yield np.stack(part), shapes
