"""Fixed position embeddings."""

import numpy as np


def sincos2d(height: int, width: int, channels: int) -> np.ndarray:
    """Fixed position embeddings float32 [1, height * width, channels] of a grid of patches.

    Sines and cosines of x, then of y, at channels / 4 frequencies from 1 to 1 / 10,000, as
    big_vision has MoCo v3's (Chen et al. 2021, https://arxiv.org/abs/2104.02057).
    """
    places = np.mgrid[:height, :width].reshape(2, -1, 1)
    angles = places / 10_000 ** np.linspace(0, 1, channels // 4)
    y, x = angles
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], 1)
    return table[None].astype(np.float32)
