"""Integrated gradients and SmoothGrad: the gradients of many images that are made of one."""

from typing import Any

import numpy as np

from imagenet_jax.inference.explanation.programs import Images

NOISE = 0.15  # of SmoothGrad, over the range of an image; its authors take 0.1 to 0.2


def integrated_gradients(images: Images, steps: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """What each pixel adds to the score on the way from the mean colour (Sundararajan et al. 2017,
    https://arxiv.org/abs/1703.01365), float32 [n, S, S], the sum of its channels.

    The integral is a sum over `steps` points, of Gauss and Legendre as in captum. Also of each
    image sum, that of its map; difference, by how much the score is above that of the mean colour;
    and gap, the first less the second, 0 but for the error of the integral and rounding.
    """
    inputs = images.inputs
    points, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = np.float32((points + 1) / 2), np.float32(weights / 2)
    total = np.zeros_like(inputs)
    for image, step, gradient in images.over(
        images.programs.gradient, lambda image, step: points[step] * inputs[image], steps
    ):
        total[image] += weights[step] * gradient
    maps = (inputs * total).sum(-1)
    sums = maps.sum((1, 2), dtype=np.float64)
    rises = images.scores - images.scores_of(lambda image, step: np.zeros_like(inputs[image]))[:, 0]
    return maps, [
        {"steps": steps, "sum": float(s), "difference": float(d), "gap": float(s - d)}
        for s, d in zip(sums, rises, strict=True)
    ]


def smooth_grad(images: Images, steps: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The mean gradient by `steps` noisy images (Smilkov et al. 2017,
    https://arxiv.org/abs/1706.03825), float32 [n, S, S], the sum of its channels' absolute values.
    """
    total = np.zeros_like(images.inputs)
    for image, _, gradient in images.over(
        images.programs.gradient_in_place,
        lambda image, step: noisy(images.inputs[image], step),
        steps,
    ):
        total[image] += gradient / steps
    return np.abs(total).sum(-1), [{"steps": steps}] * len(total)


def noisy(image: np.ndarray, step: int) -> np.ndarray:
    """A normalised image [S, S, 3] with the noise of a step, the same one for every image."""
    noise = np.random.default_rng((0, step)).standard_normal(image.shape, np.float32)
    return image + NOISE * (image.max() - image.min()) * noise
