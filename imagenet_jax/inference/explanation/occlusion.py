"""Occlusion (Zeiler & Fergus 2013, https://arxiv.org/abs/1311.2901)."""

from typing import Any

import numpy as np

from imagenet_jax.inference.explanation.programs import Images

_PARTS = 7  # windows beside each other that cover an image


def occlusion(images: Images) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """By how much the score falls where the mean colour hides a window, float32 [n, S, S]: the mean
    over the windows that a pixel is in."""
    hidden = windows(images.programs.size)

    def without(image: int, step: int) -> np.ndarray:
        made = images.inputs[image].copy()
        made[hidden[step]] = 0
        return made

    falls = images.scores[:, None] - images.scores_of(without, len(hidden))
    total = np.zeros(images.inputs.shape[:3], np.float32)
    counts = np.zeros(total.shape[1:], np.float32)
    for fall, (down, across) in zip(falls.T, hidden, strict=True):
        total[:, down, across] += fall[:, None, None]
        counts[down, across] += 1
    return total / counts, [{"windows": len(hidden)}] * len(total)


def windows(size: int) -> list[tuple[slice, slice]]:
    """Squares of a seventh of an image's side, each half of it further than the one before; at the
    right and the lower edge smaller ones.

    Args:
      size: height and width of the image in pixels.
    """
    side = -(-size // _PARTS)
    stride = max(1, side // 2)
    count = -(-(size - side) // stride) + 1
    ends = [slice(k * stride, min(k * stride + side, size)) for k in range(count)]
    return [(down, across) for down in ends for across in ends]
