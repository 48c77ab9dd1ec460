"""Maps of classes: images of one channel whose levels are the numbers of the pixels' classes."""

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from imagenet_jax.data.images.decode import DAMAGE, FORMATS, check_size

_LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF")
_MOST_PIXELS = 2**27  # as data.max_pixels is unless it is set


def decode_map(encoded: bytes | memoryview, shape: Sequence[int], name: str) -> np.ndarray:
    """The levels uint8 [H, W] of a PNG, or another image file without loss.

    Of a picture with a palette they are the numbers of its colours, as in Pascal VOC.

    Args:
      encoded: the file.
      shape: height and width of the image that it is a map of.
      name: what it is called, for messages.

    Raises:
      ValueError, OSError: for no image, a damaged one, one of colours or of another size.
    """
    levels = map_levels(encoded, name, max(shape[0] * shape[1], _MOST_PIXELS))
    if levels.shape != tuple(shape):
        height, width = levels.shape
        raise ValueError(f"{name} has {height} x {width} pixels, the image {shape[0]} x {shape[1]}")
    return levels


def map_levels(encoded: bytes | memoryview, name: str, most: int = _MOST_PIXELS) -> np.ndarray:
    """As `decode_map`, of any size up to so many pixels."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.format in _LOSSY:
                raise ValueError(
                    f"{name} is a {image.format}, which changes the numbers of classes; expected a "
                    "PNG"
                )
            mode = image.mode
            if mode not in ("P", "L", "1") and not mode.startswith("I"):
                raise ValueError(f"{name} has the channels {mode}, not one of class numbers")
            check_size(image.height, image.width, most)
            levels = np.array(image)
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name} is no image, or of an unknown format") from None
    except (*DAMAGE, struct.error) as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    if levels.dtype != np.uint8:
        if levels.min() < 0 or levels.max() > 255:
            raise ValueError(f"{name} has levels up to {levels.max()}, beyond 255")
        levels = levels.astype(np.uint8)
    return levels
