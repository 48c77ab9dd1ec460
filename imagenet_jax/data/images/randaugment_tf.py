"""RandAugment and AutoAugment as TensorFlow's models for TPUs and big_vision have them.

Sixteen operations, each always applied at one level, 10 being the scale's end (recipes go
beyond it). Its oddities are kept, since published numbers were reached with them: above level 5
brightness, colour, contrast and sharpness only rise; contrast turns about a level that depends
on the number of pixels; solarize at level 10 inverts everything; posterize keeps more the
higher the level is. Of big_vision's pp/archive/autoaugment.py, commit 0127fb6b.
"""

from collections.abc import Callable, Iterator
from typing import Any

import ml_collections
from PIL import Image, ImageEnhance, ImageOps

from imagenet_jax.data.images import image_ops
from imagenet_jax.data.images.autoaugment import IMAGENET_TF

Draw = Iterator[float]

_GREY = (128, 128, 128)  # where nothing is


def randaugment_tf(image: Image.Image, draw: Draw, data: ml_collections.ConfigDict) -> Image.Image:
    """policy_ops operations of level policy_magnitude, on an RGB image.

    Args:
      image: of any size.
      draw: random numbers in [0, 1), of which an operation takes two, Cutout four.
      data: config.data.
    """
    names = list(OPERATIONS_TF)
    for _ in range(data.policy_ops):
        name = names[int(len(names) * next(draw))]
        sign = -1 if next(draw) < 0.5 else 1
        image = OPERATIONS_TF[name](image, data.policy_magnitude / 10, sign, draw)
    return image


def autoaugment_tf(image: Image.Image, draw: Draw, data: ml_collections.ConfigDict) -> Image.Image:
    """One of the 25 pairs of operations that EfficientNets were trained with ("v0").

    The pairs are others than those of Cubuk et al. 2019. Arguments as of `randaugment_tf`.
    """
    for name, probability, level in IMAGENET_TF[int(len(IMAGENET_TF) * next(draw))]:
        applied, sign = next(draw) < probability, -1 if next(draw) < 0.5 else 1
        if applied:
            image = _AUTOAUGMENT_TF[name](image, level / 10, sign, draw)
    return image


def posterize(image: Image.Image, share: float) -> Image.Image:
    """Keeps the highest 4 `share` bits; one if that is 0 or above 8: TensorFlow shifts by 7."""
    bits = int(4 * share)
    return ImageOps.posterize(image, bits if 1 <= bits <= 8 else 1)


def solarize(image: Image.Image, share: float) -> Image.Image:
    """Inverts all levels from 256 `share` on, which as a byte is 0 where it is 256."""
    return ImageOps.solarize(image, int(256 * share) % 256)


def solarize_add(image: Image.Image, share: float) -> Image.Image:
    """Adds 110 `share` to the levels below 128, as far as 255."""
    return image.point([min(v + int(110 * share), 255) if v < 128 else v for v in range(256)] * 3)


def contrast(image: Image.Image, factor: float) -> Image.Image:
    """Blends with the grey of a 256th of the number of pixels (196 at 224 x 224), not the mean."""
    grey = min(image.width * image.height // 256, 255)
    return Image.blend(Image.new("RGB", image.size, (grey, grey, grey)), image, factor)


def cutout(image: Image.Image, share: float, draw: Draw) -> Image.Image:
    """Makes a square grey, 80 `share` pixels wide about a random place, as far as it is inside."""
    reach, image = int(40 * share), image.copy()
    y, x = int(image.height * next(draw)), int(image.width * next(draw))
    box = (max(x - reach, 0), max(y - reach, 0))
    end = (min(x + reach, image.width), min(y + reach, image.height))
    image.paste(_GREY, (*box, *end))
    return image


def _factor(share: float) -> float:
    return 1.8 * share + 0.1


def _enhanced(kind: Callable[..., Any]) -> "Operation":
    return lambda image, share, sign, draw: kind(image).enhance(_factor(share))


def _moved(operation: Callable[..., Image.Image], most: float) -> "Operation":
    return lambda image, share, sign, draw: operation(image, sign * most * share, fill=_GREY)


# Of an image, the level's share of 10, a sign for what has two directions, and random numbers.
Operation = Callable[[Image.Image, float, int, Draw], Image.Image]

OPERATIONS_TF: dict[str, Operation] = {
    "AutoContrast": lambda image, share, sign, draw: ImageOps.autocontrast(image),
    "Equalize": lambda image, share, sign, draw: ImageOps.equalize(image),
    "Invert": lambda image, share, sign, draw: ImageOps.invert(image),
    "Rotate": _moved(image_ops.rotate, 30),
    "Posterize": lambda image, share, sign, draw: posterize(image, share),
    "Solarize": lambda image, share, sign, draw: solarize(image, share),
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": lambda image, share, sign, draw: contrast(image, _factor(share)),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "ShearX": _moved(image_ops.shear_x, 0.3),
    "ShearY": _moved(image_ops.shear_y, 0.3),
    "TranslateX": _moved(image_ops.translate_x, 100),
    "TranslateY": _moved(image_ops.translate_y, 100),
    "Cutout": lambda image, share, sign, draw: cutout(image, share, draw),
    "SolarizeAdd": lambda image, share, sign, draw: solarize_add(image, share),
}
_AUTOAUGMENT_TF = OPERATIONS_TF | {
    "TranslateX": _moved(image_ops.translate_x, 250),
    "TranslateY": _moved(image_ops.translate_y, 250),
}
