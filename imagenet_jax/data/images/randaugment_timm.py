"""RandAugment as timm has it, "rand-m9-mstd0.5-inc1" in its words.

Fifteen operations, of which each that is drawn is applied by chance only, at a magnitude of 10
that varies, or beyond ("mmax"). DeiT, Swin, ConvNeXt and ResNet strikes back were trained with
it. Of huggingface/pytorch-image-models timm/data/auto_augment.py, commit aa4b5850.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_collections
from PIL import Image, ImageEnhance, ImageOps

from imagenet_jax.data.images.image_ops import AFFINE, posterize
from imagenet_jax.data.images.randaugment_tf import solarize_add

Draw = Iterator[float]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class Look(NamedTuple):
    """How an operation that moves pixels makes new ones: interpolation, and what comes in."""

    resample: Image.Resampling
    fill: tuple[int, ...]


# Of an image, the magnitude's share of 10, a sign for what has two directions, and `Look`.
Operation = Callable[[Image.Image, float, int, Look], Image.Image]


def randaugment_timm(
    image: Image.Image, draw: Draw, data: ml_collections.ConfigDict
) -> Image.Image:
    """policy_ops operations, each with probability policy_prob, on an RGB image.

    Their magnitudes are normal numbers about policy_magnitude, cut to 0 to policy_magnitude_max.

    Args:
      image: of any size.
      draw: random numbers in [0, 1), of which an operation takes six at most.
      data: config.data; with resize_method "random", an operation draws its interpolation.
    """
    operations = operations_timm(data.policy_increasing)
    names = list(operations)
    for _ in range(data.policy_ops):
        name, applied = names[int(len(names) * next(draw))], next(draw) < data.policy_prob
        if not applied:
            continue
        noise = math.sqrt(-2 * math.log(1 - next(draw))) * math.cos(2 * math.pi * next(draw))
        magnitude = max(data.policy_magnitude + data.policy_magnitude_std * noise, 0.0)
        magnitude = min(magnitude, data.policy_magnitude_max)
        sign = -1 if next(draw) < 0.5 else 1
        method = data.resize_method
        if method == "random":
            method = "bilinear" if next(draw) < 0.5 else "bicubic"
        look = Look(RESAMPLING[method], tuple(data.policy_fill))
        image = operations[name](image, magnitude / 10, sign, look)
    return image


def operations_timm(increasing: bool) -> dict[str, Operation]:
    """{name: operation}; `increasing`: those that change more the larger the magnitude is."""
    return {**_OPERATIONS, **(_INCREASING if increasing else {})}


def _affine(*matrix: Callable[[float, Image.Image], float] | float) -> Operation:
    """A transform by a matrix, of which functions get the signed share and the image."""

    def transform(image: Image.Image, share: float, sign: int, look: Look) -> Image.Image:
        numbers = [part(sign * share, image) if callable(part) else part for part in matrix]
        return image.transform(image.size, AFFINE, numbers, look.resample, fillcolor=look.fill)

    return transform


def _enhanced(kind: Callable[..., Any], increasing: bool) -> Operation:
    def enhance(image: Image.Image, share: float, sign: int, look: Look) -> Image.Image:
        factor = max(0.1, 1 + sign * 0.9 * share) if increasing else 1.8 * share + 0.1
        return kind(image).enhance(factor)

    return enhance


def _rotate(image: Image.Image, share: float, sign: int, look: Look) -> Image.Image:
    return image.rotate(sign * 30 * share, look.resample, fillcolor=look.fill)


def _keep_bits(image: Image.Image, bits: int) -> Image.Image:
    """Posterized, as far as there are 0 to 8 bits."""
    return posterize(image, min(max(bits, 0), 8))


def _invert_from(image: Image.Image, level: int) -> Image.Image:
    """Solarized, as far as the level is 0 to 256."""
    return ImageOps.solarize(image, min(max(level, 0), 256))


_MOST_ADDED = 128 / 110  # a share of what SolarizeAdd adds at 10
_ENHANCERS = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}
_OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda image, share, sign, look: ImageOps.autocontrast(image),
    "Equalize": lambda image, share, sign, look: ImageOps.equalize(image),
    "Invert": lambda image, share, sign, look: ImageOps.invert(image),
    "Rotate": _rotate,
    "Posterize": lambda image, share, sign, look: _keep_bits(image, int(4 * share)),
    "Solarize": lambda image, share, sign, look: _invert_from(image, int(256 * share)),
    "SolarizeAdd": lambda image, share, sign, look: solarize_add(image, min(share, _MOST_ADDED)),
    **{name: _enhanced(kind, False) for name, kind in _ENHANCERS.items()},
    "ShearX": _affine(1, lambda share, image: 0.3 * share, 0, 0, 1, 0),
    "ShearY": _affine(1, 0, 0, lambda share, image: 0.3 * share, 1, 0),
    "TranslateX": _affine(1, 0, lambda share, image: 0.45 * share * image.width, 0, 1, 0),
    "TranslateY": _affine(1, 0, 0, 0, 1, lambda share, image: 0.45 * share * image.height),
}
_INCREASING: dict[str, Operation] = {
    "Posterize": lambda image, share, sign, look: _keep_bits(image, 4 - int(4 * share)),
    "Solarize": lambda image, share, sign, look: _invert_from(image, 256 - int(256 * share)),
    **{name: _enhanced(kind, True) for name, kind in _ENHANCERS.items()},
}
