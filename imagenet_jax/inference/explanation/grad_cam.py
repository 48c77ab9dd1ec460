"""Grad-CAM (Selvaraju et al. 2016, https://arxiv.org/abs/1610.02391).

Of a box or a segment it is HiResCAM (Draelos & Carin 2020, https://arxiv.org/abs/2011.08891):
the mean gradient over an image says little of a part of it, and would show every thing of a class.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.inference.explanation.maps import Place, map_and_gradient
from imagenet_jax.inference.explanation.programs import Program, Programs


def grad_cam(programs: Programs, place: Place) -> Program:
    """A program of float32 [B, h, w]: the sum of a map's channels, each weighted by the mean of the
    score's gradient by it, where it is positive; of a part of an image by the gradient itself."""
    run = functools.partial(programs.scores, moves=False)

    @jax.jit
    def cam(variables: Any, inputs: jax.Array, arrays: Any) -> jax.Array:
        x, gradient = map_and_gradient(run, place, variables, inputs, arrays)
        weights = gradient.astype(jnp.float32)
        if not programs.target.is_local:
            weights = weights.mean((1, 2), keepdims=True)
        return jax.nn.relu((weights * x.astype(jnp.float32)).sum(-1))

    return cam


def resized(coarse: np.ndarray, size: int) -> np.ndarray:
    """Maps [n, h, w] as float32 [n, size, size], bilinearly."""
    import cv2

    how = {"dsize": (size, size), "interpolation": cv2.INTER_LINEAR}
    return np.stack([cv2.resize(np.float32(one), **how) for one in coarse])
