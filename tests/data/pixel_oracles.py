"""What Pillow and NumPy make of an image, to compare the decoder with."""

import io

import numpy as np
from PIL import Image


def pil_pixels(encoded: bytes) -> np.ndarray:
    """The pixels uint8 [H, W, 3] of an encoded image, as Pillow decodes it."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def encode(pixels: np.ndarray, format: str = "PNG", **options) -> bytes:
    """An image file of these pixels: PNG, or another format of Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise uint8 [height, width, 3], in which no two places look the same."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def center_crop(pixels: np.ndarray, fraction: float) -> np.ndarray:
    """The square in the middle, its side `fraction` of the short side, rounded."""
    height, width = pixels.shape[:2]
    side = round(min(height, width) * fraction)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes to float64 [size, size, 3] with half-pixel centres, without a filter."""
    result = pixels.astype(np.float64)
    for axis in (0, 1):
        length = result.shape[axis]
        place = (np.arange(size) + 0.5) * length / size - 0.5
        low = np.floor(place).astype(int)
        weight = np.expand_dims(place - low, tuple(i for i in range(3) if i != axis))
        before = np.take(result, np.clip(low, 0, length - 1), axis)
        after = np.take(result, np.clip(low + 1, 0, length - 1), axis)
        result = before * (1 - weight) + after * weight
    return result
