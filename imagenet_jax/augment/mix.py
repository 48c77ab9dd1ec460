"""Mixup and CutMix between neighbours in the batch.

What shares a ratio is augment.mix_per: "batch", a pair of neighbours, or each "image" (timm's modes
batch, pair and elem). With "half" (timm's half) a pair makes one image only, of a ratio of its own.
Mixup or CutMix with switch_prob 0.5 per batch is torchvision's draw; EfficientNetV2 and NFNets have
mixup for half of a batch, CutMix for the other: here pairs take turns.

Row i is mixed with row i ^ 1. The order of the examples is random, so neighbours are random
partners; and they stay together on any number of devices and in any micro-batch.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.augment.geometry import inside
from imagenet_jax.augment.keys import example_keys, fold_in


class Targets(NamedTuple):
    """What images show: `weight` of `label` and 1 - weight of `other`.

    Attributes:
      label: of whatever kind, [B, ...].
      other: the partner's label [B, ...]; None: images are not mixed.
      weight: float32 [B] in [0, 1]; None: images are not mixed.
    """

    label: jax.Array
    other: jax.Array | None = None
    weight: jax.Array | None = None

    @classmethod
    def of_pairs(cls, label: jax.Array, weight: jax.Array | None) -> "Targets":
        """Those of images that `mix` has mixed; `weight` as it gives it."""
        if weight is None:
            return cls(label)
        if len(weight) < len(label):  # augment.mix_per = "half"
            return cls(label[::2], label[1::2], weight)
        other = label.reshape(-1, 2, *label.shape[1:])[:, ::-1].reshape(label.shape)
        return cls(label, other, weight)

    def dominant(self) -> jax.Array:
        """The label that has at least half of the weight, [B, ...]."""
        if self.weight is None:
            return self.label
        own = self.weight.reshape(-1, *[1] * (self.label.ndim - 1)) >= 0.5
        return jnp.where(own, self.label, self.other)


def is_mixing(augment: ml_collections.ConfigDict) -> bool:
    """Whether images are mixed at all."""
    return bool(augment.mixup or augment.cutmix)


def rows_together(augment: ml_collections.ConfigDict) -> int:
    """How many neighbouring rows of a batch have to stay together."""
    if not is_mixing(augment):
        return 1
    return 4 if augment.switch_halves else 2


def kept_rows(rows: jax.Array, augment: ml_collections.ConfigDict) -> jax.Array:
    """What is known of each row of a batch [B, ...], of those that `mix` makes an image of."""
    return rows[::2] if augment.mix_per == "half" and is_mixing(augment) else rows


def mix(
    image: jax.Array,
    batch: dict[str, jax.Array],
    key: jax.Array,
    step: jax.Array,
    augment: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array]:
    """Mixes images with their neighbours, where timm's Mixup takes those at the other end.

    Args:
      image: float32 [B, H, W, C], B a multiple of `rows_together`.
      batch: mask, epoch and index of the images; rows with mask False stay as they are,
        and so do their partners.
      key: of the run.
      step: number of the step; with augment.mix_per = "batch" it decides for all pairs.
      augment: mixup and cutmix (alpha of Zhang et al. 2018 and Yun et al. 2019; 0: off),
        switch_prob (chance of CutMix where both are on) or switch_halves, mix_prob (chance to mix
        at all), mixup_fold (no image keeps less than half of itself in mixup), mix_per.

    Returns:
      The images, of `kept_rows`, and the share float32 that each has of itself; the rest is its
      partner's.
    """
    pairs = image.reshape(-1, 2, *image.shape[1:])
    whole = batch["mask"].reshape(-1, 2).all(1)
    # Of each pair; taken, where it is given, in place of a draw.
    cuts = jnp.arange(len(pairs)) % 2 == 1 if augment.switch_halves else None
    if augment.mix_per == "batch":
        one = jax.random.fold_in(jax.random.fold_in(key, 2**31 - 1), step)
        keys = jnp.broadcast_to(one, len(pairs))
    else:
        which = slice(None, None, 1 if augment.mix_per == "image" else 2)
        keys = fold_in(example_keys(key, batch["epoch"][which], batch["index"][which]), 4)
    own, other = pairs, pairs[:, ::-1]
    if augment.mix_per == "image":
        own, other = image, other.reshape(image.shape)
        whole, cuts = (None if part is None else jnp.repeat(part, 2) for part in (whole, cuts))
    elif augment.mix_per == "half":
        own, other = pairs[:, 0], pairs[:, 1]
    mixed, weight = jax.vmap(partial(_mix, augment=augment))(own, other, keys, cuts)
    mixed = jnp.where(jax.lax.expand_dims(whole, range(1, own.ndim)), mixed, own)
    weight = jnp.where(whole, weight, 1.0)
    if own is pairs:
        return mixed.reshape(image.shape), jnp.repeat(weight, 2)
    return mixed, weight


def _mix(
    own: jax.Array,
    other: jax.Array,
    key: jax.Array,
    cuts: jax.Array | None,
    augment: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array]:
    """Images [..., H, W, C], mixed with others, and the share that each keeps of itself, [].

    By CutMix if `cuts`, bool [], by mixup if not; None: as drawn.
    """
    chance, switch, up, cut, place = jax.random.split(key, 5)
    if cuts is None:
        cuts = jax.random.uniform(switch) < (augment.switch_prob if augment.mixup else 1.0)
    if not augment.cutmix:
        cuts = jnp.bool_(False)
    blended = symmetric_beta(up, augment.mixup or 1.0)
    if augment.mixup_fold:
        blended = jnp.maximum(blended, 1 - blended)
    share = jnp.where(cuts, symmetric_beta(cut, augment.cutmix or 1.0), blended)
    height, width = own.shape[-3:-1]
    box = cutmix_box(share, jax.random.uniform(place, (2,)), (height, width))
    kept = 1 - box[2] * box[3] / (height * width)
    covered = inside(box, (height, width))[..., None]
    result = jnp.where(cuts, jnp.where(covered, other, own), share * own + (1 - share) * other)
    applied = jax.random.uniform(chance) < augment.mix_prob
    weight = jnp.where(cuts, kept, share)
    return jnp.where(applied, result, own), jnp.where(applied, weight, 1.0)


def symmetric_beta(key: jax.Array, alpha: float) -> jax.Array:
    """A number from the distribution Beta(alpha, alpha), float32 [], alpha > 0.

    As jax.random.beta, from two of a gamma distribution (Marsaglia & Tsang 2000, doi
    10.1145/358407.358414), but without loops, for which a GPU waits for its host: of 16
    candidates the first counts that is accepted. One in 20 is refused at most.
    """
    normal, uniform, power = jax.random.split(key, 3)
    shape = alpha + 1 - 1 / 3  # of Gamma(alpha + 1), which a power of a uniform number turns
    x = jax.random.normal(normal, (2, 16)) / (9 * shape) ** 0.5
    cube = jnp.maximum(1 + x, 0) ** 3
    log_cube = jnp.log(cube)
    bound = 4.5 * shape * x**2 + shape * (1 - cube + log_cube)
    chosen = jnp.argmax(jnp.log(jax.random.uniform(uniform, (2, 16))) < bound, 1)
    log_gamma = jnp.take_along_axis(log_cube, chosen[:, None], 1)[:, 0]
    log_gamma += jnp.log1p(-jax.random.uniform(power, (2,))) / alpha
    return jax.nn.sigmoid(log_gamma[0] - log_gamma[1])


def cutmix_box(share: jax.Array, center: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Top, left, height, width int32 [4] of the box that covers about 1 - share of the image.

    Args:
      share: of the image that is kept, [].
      center: of the box in [0, 1), [2]; what is beyond the edge is cut off.
      shape: height and width of the image.
    """
    size = jnp.array(shape)
    side = (size * jnp.sqrt(1 - share)).astype(jnp.int32)
    begin = (size * center).astype(jnp.int32) - side // 2
    low, high = jnp.clip(begin, 0, size), jnp.clip(begin + side, 0, size)
    return jnp.concatenate([low, high - low])
