"""Batch normalisation over groups of images, the same on any number of devices."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.pointwise import Product, moments, product_statistics
from imagenet_jax.models.layers.sums import scale_and_shift, sums_and_squares


def sign(scale: jax.Array) -> jax.Array:
    """-1 where negative, else 1; without gradient."""
    return jax.lax.stop_gradient(jnp.where(scale < 0, -1.0, 1.0).astype(scale.dtype))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) with ghost batches (Hoffer et al. 2017).

    In training the B images are split into B / `group_size` consecutive groups, each
    normalised with its own mean and variance. A device that holds whole groups needs no
    traffic to normalise, and the result does not depend on the number of devices.

    Running statistics follow torch: they are updated with the mean over groups of the
    mean and of the unbiased variance (Flax's own BatchNorm keeps the biased one).

    Attributes:
      group_size: images that share statistics; 0 means all B images of the call.
      momentum: share of the old running statistics kept at an update (torch: 1 - momentum).
      epsilon: added to the variance.
      dtype: dtype of the output; statistics are computed in float32 at least.
      scale_init: initialiser of the scale (zeros for the last norm of a residual block).
      axis_name: mapped axis over which "all images" extends under shard_map or pmap.
      frozen: normalise by the running statistics in training too, which stay as they are, and so
        do scale and bias, which get no gradient (torchvision's FrozenBatchNorm2d).
    """

    group_size: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    scale_init: Callable = nn.initializers.ones
    axis_name: str | None = None
    frozen: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        *,
        kernel: jax.Array | None = None,
        max_pool: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array | Product:
        """Normalises over all axes but the last.

        Args:
          x: [B, ..., C]; B divisible by group_size.
          train: by the statistics of each group, not by the running ones.
          kernel: [C, D]; normalise x @ kernel, as `pointwise` does. x is [B, H, W, C] then, and
            the result is yet to be computed by `pointwise.add`.
          max_pool: pool the result, given x of which channels have been multiplied by
            `sign(scale)`. As scaling and shifting keep the order then, x is pooled, and the
            rest has fewer pixels to do.

        Raises:
          ValueError: if the batch does not divide into groups.
          ConfigError: for statistics of a single value, in training.
        """
        channels = (x if kernel is None else kernel).shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        scale = self.param("scale", self.scale_init, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        if self.frozen:
            train, scale, bias = False, *jax.lax.stop_gradient((scale, bias))

        groups = self._groups(x.shape[0]) if train else 1
        # The spatial axes stay apart: XLA's CPU backend is up to 18x slower on [G, N, C].
        grouped = x.astype(self.dtype).reshape(groups, x.shape[0] // groups, *x.shape[1:])
        if kernel is not None:
            kernel = kernel.astype(wide(self.dtype))
        if train:
            mean, var, count = self._statistics(grouped, kernel)
            mean = mean if max_pool is None else mean * sign(scale)[None]
            if not self.is_initializing():
                self._check_count(count, grouped.shape)
                unbiased = var * (count / (count - 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(0)
                running_var.value = keep * running_var.value + (1 - keep) * unbiased.mean(0)
        else:
            mean, var = running_mean.value[None], running_var.value[None]

        factor = scale[None] * jax.lax.rsqrt(var + self.epsilon)
        shift = bias[None] - mean * factor
        if (
            not train and kernel is None and max_pool is None
        ):  # no groups: what is exported is plain
            factor, shift = (v.reshape(*[1] * (x.ndim - 1), -1) for v in (factor, shift))
            out = x.astype(self.dtype).astype(wide(self.dtype)) * factor + shift
            return out.astype(self.dtype)
        if max_pool is not None:
            # Kept for the backward pass as it is here, not in float32.
            pooled = jax.lax.optimization_barrier(max_pool(x.astype(self.dtype)))
            grouped = pooled.reshape(*grouped.shape[:2], *pooled.shape[1:])
            factor = factor * sign(scale)[None]
        if kernel is not None:
            return Product(grouped, kernel, factor, shift, self._local)
        out = scale_and_shift(grouped.astype(wide(self.dtype)), factor, shift)
        return out.astype(self.dtype).reshape(x.shape[0], *out.shape[2:])

    @property
    def _local(self) -> bool:
        """Whether a device holds whole groups, or its share of them as a program of its own."""
        return bool(self.group_size or self.axis_name)

    def _groups(self, images: int) -> int:
        """How many groups there are of so many images. Raises ValueError."""
        groups, rest = divmod(images, self.group_size or images)
        if rest:
            raise ValueError(
                f"BatchNorm: {images} images do not divide into groups of {self.group_size}"
            )
        return groups

    def _check_count(self, count: float, shape: Sequence[int]) -> None:
        """Raises ConfigError where a channel [G, N, ..., C] has one value, which becomes 0."""
        if count > 1:
            return
        _, images, *sides, _ = shape
        pixels = f" of {' x '.join(map(str, sides))} pixels" if sides else ""
        raise ConfigError(
            f"BatchNorm {'/'.join(self.path)}: in training each channel has 1 value, from {images} "
            f"image{pixels}: its variance is 0, and nothing can be learnt from it. Raise "
            f"{'model.bn_group_size' if self.group_size else 'batch_size / accumulate'} or "
            "data.image_size, or set model.frozen_norm"
        )

    def _statistics(
        self, grouped: jax.Array, kernel: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, float]:
        """Mean and biased variance [G, C] of [G, N, ..., C], and the values behind each."""
        # As JAX takes no int of more than 32 bits, and a pod's batch has more pixels than that.
        count = float(grouped.size // (len(grouped) * grouped.shape[-1]))
        if kernel is None:
            sums = sums_and_squares(grouped.astype(wide(self.dtype)))
        else:
            sums = moments(grouped)
        if self.axis_name and not self.group_size:
            sums = jax.lax.psum(sums, self.axis_name)
            count *= jax.lax.axis_size(self.axis_name)
        if kernel is not None:
            return *product_statistics(*sums, kernel, count, self._local), count
        first, second = (part / count for part in sums)
        return first, jnp.maximum(second - jnp.square(first), 0), count
