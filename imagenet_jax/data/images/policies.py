"""Augmentation policies on the host: which operations an image gets, drawn from its numbers.

Magnitudes and tables are torchvision's (torchvision.transforms.autoaugment), but those of
`randaugment_tf`, `autoaugment_tf` and `randaugment_timm`.
"""

import functools
from collections.abc import Callable, Iterator

import ml_collections
import numpy as np
from PIL import Image

from imagenet_jax.data.images import autoaugment
from imagenet_jax.data.images.boxes import uniforms
from imagenet_jax.data.images.image_ops import OPERATIONS, rotate, translate_x, translate_y
from imagenet_jax.data.images.randaugment_tf import autoaugment_tf, randaugment_tf
from imagenet_jax.data.images.randaugment_timm import randaugment_timm

# {operation: (magnitudes, whether either sign is drawn)}
Space = dict[str, tuple[np.ndarray, bool]]
Draw = Iterator[float]

_STREAM = 1 << 32  # added to the seed: other numbers than those of the crop
_NUMBERS = 64  # more than any policy draws


def augment(
    image: np.ndarray,
    data: ml_collections.ConfigDict,
    seed: int,
    epoch: int,
    index: int,
    view: int = 0,
) -> np.ndarray:
    """Rotation, translation and the policy of config.data on an image uint8 [S, S, 3].

    seed, epoch, index and view, from 0 on, decide on what is drawn.
    """
    own = seed + (1 + view) * _STREAM
    draw = iter(uniforms(own, np.array([epoch]), np.array([index]), _NUMBERS)[0])
    picture = Image.fromarray(image)
    if data.rotate:
        picture = rotate(picture, data.rotate * (2 * next(draw) - 1))
    if data.translate:
        for move, side in ((translate_x, picture.width), (translate_y, picture.height)):
            picture = move(picture, side * data.translate * (2 * next(draw) - 1))
    if data.policy:
        picture = POLICIES[data.policy](picture, draw, data)
    return np.asarray(picture)


def is_on(data: ml_collections.ConfigDict) -> bool:
    """Whether `augment` does anything."""
    return bool(data.policy or data.rotate or data.translate)


def randaugment(image: Image.Image, draw: Draw, data: ml_collections.ConfigDict) -> Image.Image:
    """RandAugment (Cubuk et al. 2020): policy_ops operations of policy_magnitude, 0 to 30."""
    space = randaugment_space(image.size)
    for _ in range(data.policy_ops):
        image = _random_operation(image, draw, space, int(data.policy_magnitude))
    return image


def trivialaugment(image: Image.Image, draw: Draw, data: ml_collections.ConfigDict) -> Image.Image:
    """TrivialAugment Wide (Mueller and Hutter 2021): one operation of any magnitude."""
    return _random_operation(image, draw, trivialaugment_space(), int(31 * next(draw)))


def learnt_policy(
    image: Image.Image, draw: Draw, data: ml_collections.ConfigDict, *, policy: tuple
) -> Image.Image:
    """AutoAugment (Cubuk et al. 2019): one of the policy's 25 pairs of operations."""
    space = autoaugment_space(image.size)
    for name, probability, number in policy[int(len(policy) * next(draw))]:
        applied, negative = next(draw) < probability, next(draw) < 0.5
        if applied:
            magnitudes, signed = space[name]
            magnitude = 0.0 if number is None else float(magnitudes[number])
            image = OPERATIONS[name](image, -magnitude if signed and negative else magnitude)
    return image


def augmix(image: Image.Image, draw: Draw, data: ml_collections.ConfigDict) -> Image.Image:
    """AugMix (Hendrycks et al. 2020) with alpha 1 and three chains of one to three operations.

    Severity is policy_magnitude, 1 to 10.
    """
    space = augmix_space(image.size)
    weights = -np.log1p(-np.array([next(draw) for _ in range(3)]))  # Dirichlet(1, 1, 1)
    weights /= weights.sum()
    share = next(draw)  # Beta(1, 1)
    mixed = (1 - share) * np.asarray(image, np.float32)
    for weight in weights:
        chain = image
        for _ in range(1 + int(3 * next(draw))):
            number = int(data.policy_magnitude * next(draw))
            chain = _random_operation(chain, draw, space, number)
        mixed += share * weight * np.asarray(chain, np.float32)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


POLICIES: dict[str, Callable[[Image.Image, Draw, ml_collections.ConfigDict], Image.Image]] = {
    "randaugment": randaugment,
    "randaugment_tf": randaugment_tf,
    "randaugment_timm": randaugment_timm,
    "trivialaugment": trivialaugment,
    "autoaugment_tf": autoaugment_tf,
    "autoaugment": functools.partial(learnt_policy, policy=autoaugment.IMAGENET),
    "autoaugment_cifar10": functools.partial(learnt_policy, policy=autoaugment.CIFAR10),
    "autoaugment_svhn": functools.partial(learnt_policy, policy=autoaugment.SVHN),
    "augmix": augmix,
}


def randaugment_space(size: tuple[int, int], bins: int = 31) -> Space:
    """Magnitudes of RandAugment for an image of (width, height)."""
    width, height = size
    move = 150 / 331
    return {
        "Identity": (np.zeros(bins), False),
        "ShearX": (np.linspace(0, 0.3, bins), True),
        "ShearY": (np.linspace(0, 0.3, bins), True),
        "TranslateX": (np.linspace(0, move * width, bins), True),
        "TranslateY": (np.linspace(0, move * height, bins), True),
        "Rotate": (np.linspace(0, 30, bins), True),
        **{name: (np.linspace(0, 0.9, bins), True) for name in _ENHANCE},
        "Posterize": (_bits(8, 4, bins), False),
        "Solarize": (np.linspace(255, 0, bins), False),
        "AutoContrast": (np.zeros(bins), False),
        "Equalize": (np.zeros(bins), False),
    }


def trivialaugment_space(bins: int = 31) -> Space:
    """Magnitudes of TrivialAugment Wide."""
    return {
        **randaugment_space((1, 1), bins),
        "ShearX": (np.linspace(0, 0.99, bins), True),
        "ShearY": (np.linspace(0, 0.99, bins), True),
        "TranslateX": (np.linspace(0, 32, bins), True),
        "TranslateY": (np.linspace(0, 32, bins), True),
        "Rotate": (np.linspace(0, 135, bins), True),
        **{name: (np.linspace(0, 0.99, bins), True) for name in _ENHANCE},
        "Posterize": (_bits(8, 6, bins), False),
    }


def autoaugment_space(size: tuple[int, int], bins: int = 10) -> Space:
    """Magnitudes of AutoAugment for an image of (width, height)."""
    space = {**randaugment_space(size, bins), "Invert": (np.zeros(bins), False)}
    del space["Identity"]
    return space


def augmix_space(size: tuple[int, int], bins: int = 10) -> Space:
    """Magnitudes of AugMix with all operations for an image of (width, height)."""
    width, height = size
    space = randaugment_space(size, bins)
    del space["Identity"]
    return {
        **space,
        "TranslateX": (np.linspace(0, width / 3, bins), True),
        "TranslateY": (np.linspace(0, height / 3, bins), True),
        "Posterize": (_bits(4, 4, bins), False),
    }


_ENHANCE = ("Brightness", "Color", "Contrast", "Sharpness")


def _bits(most: int, span: int, bins: int) -> np.ndarray:
    return most - np.round(np.arange(bins) / ((bins - 1) / span))


def _random_operation(image: Image.Image, draw: Draw, space: Space, number: int) -> Image.Image:
    name = list(space)[int(len(space) * next(draw))]
    magnitudes, signed = space[name]
    negative = next(draw) < 0.5
    magnitude = float(magnitudes[number])
    return OPERATIONS[name](image, -magnitude if signed and negative else magnitude)
