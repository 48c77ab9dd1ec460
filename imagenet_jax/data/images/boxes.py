"""Which part of an image is used: boxes (top, left, height, width) in pixels, in NumPy."""

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, epoch: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Random numbers float64 [k, count] in [0, 1), a function of (seed, epoch, index) only.

    SplitMix64 (Steele, Lea and Flood 2014), its seed being the hash of the three.

    Args:
      seed: of the run.
      epoch, index: int [k].
      count: numbers per example.
    """
    key = _mixed(np.full(len(index), seed, np.uint64))
    for part in (epoch, index):
        key = _mixed(key + np.asarray(part).astype(np.uint64))
    stream = key[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
    return (_mixed(stream) >> np.uint64(11)) * 2.0**-53


def random_resized_crop(
    shape: np.ndarray,
    uniform: np.ndarray,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> np.ndarray:
    """Inception's random crop (Szegedy et al. 2014) as torchvision draws it.

    The first of ten random boxes that fits is taken; if none does, the largest one in the
    middle whose ratio is allowed.

    Args:
      shape: height and width of k images, int [k, 2].
      uniform: random numbers in [0, 1), float64 [k, 40].
      area: range of the box's share of the image's area.
      ratio: range of its width / height, drawn from a log-uniform distribution.

    Returns:
      Boxes int32 [k, 4].
    """
    height, width = np.asarray(shape, np.float64).T[..., None]
    share, logarithm, down, right = uniform.reshape(len(uniform), 10, 4).transpose(2, 0, 1)
    pixels = height * width * (area[0] + (area[1] - area[0]) * share)
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * logarithm)
    w, h = np.round(np.sqrt(pixels * aspect)), np.round(np.sqrt(pixels / aspect))
    fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
    top, left = np.floor(down * (height - h + 1)), np.floor(right * (width - w + 1))
    drawn = np.stack([top, left, h, w], -1)
    first = np.take_along_axis(drawn, fits.argmax(1)[:, None, None], 1)[:, 0]
    fallback = _largest_of_ratio(height[:, 0], width[:, 0], ratio)
    return np.where(fits.any(1)[:, None], first, fallback).astype(np.int32)


def center_square(shape: np.ndarray, fraction: float) -> np.ndarray:
    """Squares in the middle, their side `fraction` of the short side, rounded; int32 [k, 4]."""
    shape = np.asarray(shape)
    side = np.maximum(np.round(shape.min(1) * fraction), 1).astype(np.int32)
    top, left = ((shape - side[:, None]) // 2).T
    return np.stack([top, left, side, side], -1).astype(np.int32)


def whole(shape: np.ndarray) -> np.ndarray:
    """The whole images; int32 [k, 4]."""
    return np.concatenate([np.zeros_like(shape), shape], 1).astype(np.int32)


def scaled(
    shape: Sequence[int], factor: float, size: int, uniform: Sequence[float] = (0.0, 0.0)
) -> tuple[int, int, int, int]:
    """Where an image goes in a square if it is made larger by a factor.

    Args:
      shape: its height and width.
      factor: of both, which are rounded, to one pixel at least.
      size: of the square.
      uniform: two random numbers in [0, 1): which part of a larger image is in the square.

    Returns:
      Its top and left, at most 0, and its height and width.
    """
    sides = [max(1, round(side * factor)) for side in shape]
    top, left = (
        -int(u * (max(0, side - size) + 1)) for u, side in zip(uniform, sides, strict=True)
    )
    return top, left, *sides


def _largest_of_ratio(
    height: np.ndarray, width: np.ndarray, ratio: tuple[float, float]
) -> np.ndarray:
    w = np.where(width / height > ratio[1], np.round(height * ratio[1]), width)
    h = np.where(width / height < ratio[0], np.round(width / ratio[0]), height)
    w, h = np.clip(w, 1, width), np.clip(h, 1, height)
    return np.stack([(height - h) // 2, (width - w) // 2, h, w], -1)


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
