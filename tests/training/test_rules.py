"""What all optimizers have in common: decay, dtypes, clipping, rules of single parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_oracles import (
    LAYERS,
    assert_same,
    by_formula,
    decays,
    newton_schulz,
    ours,
    rate,
    tree,
)

from imagenet_jax.config import base_config
from imagenet_jax.config.optim_fields import OPTIMIZERS
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.rules import chosen


@pytest.mark.parametrize("coupling", ["l2", "rate", "schedule"])
@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_decay_by_the_gradient_the_rate_or_the_schedule(name, coupling):
    """torch's L2 and AdamW; p * (1 - decay * rate / peak) in big_vision and Composer."""

    def make(path, p):
        m, v = np.zeros_like(p), np.zeros_like(p)

        def update(step, p, g, rate):
            decay = 0.05 * decays(path)
            shrunk = {"l2": 0, "rate": rate * decay, "schedule": rate / 0.1 * decay}[coupling]
            g = g + decay * p if coupling == "l2" else g
            if name == "sgd":
                m[...] = 0.9 * m + g
                return p * (1 - shrunk) - rate * m
            if name == "muon" and path[0] in ("conv", "fc") and path[1] == "kernel":
                m[...] += 0.1 * (g - m)
                flat = newton_schulz(m.reshape(-1, p.shape[-1]).T)
                size = max(1, flat.shape[0] / flat.shape[1]) ** 0.5
                return p * (1 - shrunk) - rate * size * flat.T.reshape(p.shape)
            part = 0.5 if name == "muon" else 1.0
            shrunk *= part if coupling == "rate" else 1
            m[...], v[...] = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g**2
            root = np.sqrt(v / (1 - 0.98 ** (step + 1))) + 1e-8
            return p * (1 - shrunk) - rate * part * m / (1 - 0.9 ** (step + 1)) / root

        return update

    fields = {"name": name, "decay_coupling": coupling, "nesterov": False, "b2": 0.98}
    assert_same(ours(fields | {"adam_learning_rate": 0.05}), by_formula(make), 1e-4)


def made_and_started(**fields):
    config = base_config()
    config.optim.update(fields)
    made = make_optimizer(config.optim, rate, LAYERS)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), tree())
    return made, params, made.init(params)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_keeps_its_dtypes(name, dtype):
    """And has a bfloat16 momentum where one was asked for, of all parameters."""
    free = name in ("prodigy", "schedule_free_sgd", "schedule_free_adamw")
    if free and dtype == "bfloat16":  # refused, see test_checks
        return
    made, params, state = made_and_started(name=name, momentum_dtype=dtype)
    updates, after = jax.eval_shape(made.update, params, state, params)
    assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(lambda a: a.dtype, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    halves = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert halves == (dtype == "bfloat16") * size * (2 if name == "ademamix" else 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_gradients_at_a_rate_of_zero_give_no_nan(name):
    made, params, state = made_and_started(name=name, agc=0.01)
    zero = jax.tree.map(jnp.zeros_like, params)
    for gradient in (zero, zero, params):
        updates, state = jax.jit(made.update)(gradient, state, params)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))


def test_adaptive_clipping_is_by_units():
    """NFNets' formula, and the axes of kernels with three: [in, head, depth] and back."""
    draw = np.random.default_rng(0).normal
    params = tree() | {
        "attn": {"query": {"kernel": draw(size=(6, 2, 3))}, "out": {"kernel": draw(size=(2, 3, 6))}}
    }
    params["token"] = draw(size=(1, 1, 6))
    gradient = jax.tree.map(lambda p: draw(size=p.shape), params)
    config = base_config()
    config.optim.update(momentum=0.0, weight_decay=0.0, agc=0.5)
    made = make_optimizer(config.optim, lambda step: 1.0, LAYERS)
    gradient, params = jax.tree.map(np.float32, (gradient, params))
    found, _ = jax.jit(made.update)(gradient, made.init(params), params)
    units = {"query": (0,), "out": (0, 1), "stem": (0, 1, 2), "conv": (0, 1, 2), "fc": (0,)}

    def clipped(path, g, p):
        if path[0].key == "head":
            return g
        kernel = path[-1].key == "kernel"
        axes = units[path[-2].key] if kernel else tuple(range(p.ndim))
        most = 0.5 * np.maximum(1e-3, np.sqrt((p**2).sum(axes, keepdims=True)))
        length = np.sqrt((g**2).sum(axes, keepdims=True))
        return g * np.minimum(1, most / length)

    expected = jax.tree_util.tree_map_with_path(clipped, gradient, params)
    jax.tree.map(lambda f, e: np.testing.assert_allclose(-f, e, rtol=1e-5), found, expected)
    assert not np.allclose(expected["conv"]["kernel"], gradient["conv"]["kernel"])


def test_rules_change_rate_and_decay_of_what_they_find():
    """The rate of torch's parameter groups, with which the decay goes; the last rule counts."""
    rules = ("kernel$ rate=0.5 decay=2", "@norms rate=3", "^conv/ decay=0", "norm/bias$ decay=1")
    rates = {"norm": 3, "stem": 0.5, "conv": 0.5, "fc": 0.5, "head": 0.5}

    def make(path, p):
        m = np.zeros_like(p)
        decay = 0.05 * {"kernel": 2}.get(path[1], 0) * (path[0] != "conv")
        decay = 0.05 if path == ("norm", "bias") else decay
        own = 1 if path in (("fc", "bias"), ("head", "bias")) else rates[path[0]]

        def update(step, p, g, rate):
            m[...] = 0.9 * m + g + decay * p
            return p - rate * own * m

        return update

    assert_same(ours({"rules": rules, "nesterov": False}), by_formula(make))
    # With schedule-free the point without the average moves by them as well.
    free = {"name": "schedule_free_sgd", "weight_decay": 0.0}
    part = ours(free | {"rules": ("fc/ rate=0",)}, evaluated=True)
    np.testing.assert_allclose(part["fc"]["kernel"], tree()["fc"]["kernel"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("@all", "stem/kernel norm/scale norm/bias fc/kernel fc/bias pos_embed head/kernel"),
        ("@kernels", "stem/kernel fc/kernel head/kernel"),
        ("@norms", "norm/scale norm/bias"),
        ("@biases", "fc/bias"),
        ("@embeddings", "pos_embed"),
        ("@head", "head/kernel"),
        ("@stem", "stem/kernel"),
        ("@not_norms", "stem/kernel fc/kernel fc/bias pos_embed head/kernel"),
        ("@torchvision", "stem/kernel fc/kernel head/kernel"),
        ("@timm", "stem/kernel fc/kernel head/kernel"),
    ],
)
def test_named_sets_of_parameters(name, found):
    some = {
        "stem": {"kernel": np.ones((2, 2))},
        "norm": {"scale": np.ones(2), "bias": np.ones(2)},
        "fc": {"kernel": np.ones((2, 2)), "bias": np.ones(2)},
        "pos_embed": np.ones((1, 2, 2)),
        "head": {"kernel": np.ones((2, 2))},
    }
    mask = jax.tree_util.tree_leaves_with_path(chosen(some, [name], LAYERS))
    assert {"/".join(k.key for k in path) for path, hit in mask if hit} == set(found.split())
