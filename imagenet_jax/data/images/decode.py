"""Any image file to RGB pixels, with Pillow: what the fast path for JPEGs does not take."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from imagenet_jax.data.images.jpeg import ORIENTATION, read_header

Image.init()
Image.MAX_IMAGE_PIXELS = None  # data.max_pixels is the limit, and its error names the image
# Of Pillow's formats those of data sets: some others run programs or decode for minutes.
_NAMES = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"]
# What Pillow's plugins raise beside ValueError and OSError.
DAMAGE = (SyntaxError, LookupError, EOFError, TypeError, RuntimeError, MemoryError)
_TURNS = {  # by EXIF's orientation, what makes an image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FORMATS = tuple(name for name in _NAMES if name in Image.OPEN)


def decode_image(
    encoded: bytes | memoryview, *, exif_orientation: bool, max_pixels: int
) -> np.ndarray:
    """The pixels uint8 [H, W, 3] of an image file of any of the FORMATS.

    The contents say what the format is, not the file's name. Grey, palette and CMYK images
    become RGB, transparency is dropped, 16 bits of grey are scaled to 8 and of an animation
    the first frame is taken. A binary PPM is not copied.

    Args:
      encoded: the file.
      exif_orientation: turn the image upright if its EXIF data say how.
      max_pixels: the largest height x width.

    Raises:
      ValueError, OSError: for no image, a truncated or damaged one or one that is too large.
    """
    if not encoded:
        raise ValueError("the file is empty")
    ppm = _ppm_size(encoded)
    if ppm:
        width, height, offset = ppm
        check_size(height, width, max_pixels)
        return np.frombuffer(encoded, np.uint8, height * width * 3, offset).reshape(
            height, width, 3
        )
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            return image_pixels(image, encoded, exif_orientation, max_pixels)
    except Image.UnidentifiedImageError:
        raise ValueError("no image, or of an unknown format") from None


def image_pixels(
    image: Image.Image, encoded: bytes | memoryview, exif_orientation: bool, max_pixels: int
) -> np.ndarray:
    """As `decode_image`, for an image that Pillow has opened; `encoded` is its file, or b""."""
    try:
        check_size(image.height, image.width, max_pixels)
        image.load()
        turn = _TURNS.get(_orientation(image, encoded)) if exif_orientation else None
        return np.array(_rgb(image if turn is None else image.transpose(turn)))
    except (*DAMAGE, struct.error) as error:
        raise ValueError(f"damaged: {error}") from error


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Raises ValueError for an image of more than `max_pixels` or of none."""
    if not 0 < height * width <= max_pixels:
        raise ValueError(
            f"it has {height} x {width} pixels; data.max_pixels = {max_pixels} is the limit"
        )


def _orientation(image: Image.Image, encoded: bytes | memoryview) -> Any:
    """What the file says; of a JPEG what `read_header` finds, on which the fast path relies."""
    header = read_header(encoded)
    if header is not None:
        return header.orientation
    try:
        value = image.getexif().get(ORIENTATION)
    except (*DAMAGE, ValueError, OSError, struct.error):
        return 1  # the pixels are whole
    return value[0] if isinstance(value, bytes | tuple) and value else value


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        grey = np.asarray(image.convert("I"))
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"its values {grey.min()} to {grey.max()} are not of 16 bits")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its values are floats, whose range is not known")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _ppm_size(encoded: bytes | memoryview) -> tuple[int, int, int] | None:
    """Width, height and where the pixels begin, of the PPM that `launch.py prepare` writes."""
    if encoded[:3] != b"P6\n":
        return None
    size, _, rest = bytes(encoded[3:64]).partition(b"\n")
    width, _, height = size.partition(b" ")
    if not rest.startswith(b"255\n") or not (width.isdigit() and height.isdigit()):
        return None  # Pillow reads the others
    offset = 3 + len(size) + 1 + 4
    if len(encoded) < offset + int(width) * int(height) * 3:
        raise ValueError("truncated")
    return int(width), int(height), offset
