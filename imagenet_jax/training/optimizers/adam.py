"""Relatives of Adam: NAdamW, AdEMAMix, and big_vision's Adafactor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def scale_by_nadam(
    b1: float, b2: float, eps: float, mu_dtype: Any = None
) -> optax.GradientTransformation:
    """Adam with Nesterov's momentum as AlgoPerf's NAdamW and timm's have it.

    Both parts of the momentum share one correction, 1 - b1^t; optax.nadamw corrects the first by
    1 - b1^(t+1), and PyTorch's NAdam has a schedule of b1: their constants do not transfer.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        mu = optax.tree.zeros_like(params, dtype=mu_dtype)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu, optax.tree.zeros_like(params))

    def update(updates: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        ahead = optax.tree.bias_correction(optax.tree.update_moment(updates, mu, b1, 1), b1, count)
        root = optax.tree.bias_correction(nu, b2, count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), ahead, root)
        return updates, optax.ScaleByAdamState(count, optax.tree.cast(mu, mu_dtype), nu)

    return optax.GradientTransformation(init, update)


class AdemamixState(NamedTuple):
    """Moments of `scale_by_ademamix`; the second one is float32 whatever the others are."""

    count: jax.Array
    fast: Any
    slow: Any
    nu: Any


def scale_by_ademamix(
    b1: float, b2: float, b3: float, alpha: float, eps: float, mu_dtype: Any = None
) -> optax.GradientTransformation:
    """AdEMAMix (Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137): Adam whose momentum is
    a fast average plus `alpha` times a slow one, which is not corrected for its start.

    Without the paper's warmup of b3 and alpha. Optax's keeps the second moment in `mu_dtype` too.
    """

    def init(params: Any) -> AdemamixState:
        fast, slow = (optax.tree.zeros_like(params, dtype=mu_dtype) for _ in range(2))
        return AdemamixState(jnp.zeros((), jnp.int32), fast, slow, optax.tree.zeros_like(params))

    def update(updates: Any, state: AdemamixState, params: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        fast = optax.tree.update_moment(updates, state.fast, b1, 1)
        slow = optax.tree.update_moment(updates, state.slow, b3, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        updates = jax.tree.map(
            lambda m, s, v: (m + alpha * s) / (jnp.sqrt(v) + eps),
            optax.tree.bias_correction(fast, b1, count),
            slow,
            optax.tree.bias_correction(nu, b2, count),
        )
        fast, slow = (optax.tree.cast(moment, mu_dtype) for moment in (fast, slow))
        return updates, AdemamixState(count, fast, slow, nu)

    return optax.GradientTransformation(init, update)


def scale_by_adafactor(
    momentum: float, most_b2: float, mu_dtype: Any = None
) -> optax.GradientTransformation:
    """big_vision's Adafactor (Zhai et al. 2021, https://arxiv.org/abs/2106.04560).

    The second moment is factored over the two largest axes where both are 32 or more, with the
    decay min(most_b2, 1 - t^-0.8); then a plain average of the updates, in bfloat16 there. No
    clipping and no scaling by the parameters, unlike optax.adafactor.
    """

    def decay(step: jax.Array, power: float) -> jax.Array:
        return jnp.minimum(most_b2, 1.0 - (step + 1.0) ** -power)

    second = optax.scale_by_factored_rms(
        min_dim_size_to_factor=32, decay_rate=0.8, epsilon=1e-30, decay_rate_fn=decay
    )
    if not momentum:
        return second
    return optax.chain(second, optax.ema(momentum, debias=False, accumulator_dtype=mu_dtype))
