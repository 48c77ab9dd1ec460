"""A small tree of parameters, moved by an optimizer here and by an independent one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.optimizers.schedule_free import averaged
from imagenet_jax.training.rules import Layers

LAYERS = Layers(heads=(("head",),), stem=("stem",))
STEPS = 20


def rate(step):
    """Warms up from 0, as most recipes do, and falls."""
    return jnp.minimum(step / 4, (24 - step) / 20) * 0.1


def tree(seed=0, width=6):
    """A convolution, two dense layers, and a norm."""
    draw = np.random.default_rng(seed).normal
    return {
        "stem": {"kernel": draw(size=(3, 3, 3, width))},
        "conv": {"kernel": draw(size=(3, 3, width, 5))},
        "norm": {"scale": 1 + 0.1 * draw(size=width), "bias": 0.1 * draw(size=width)},
        "fc": {"kernel": draw(size=(40, 36)), "bias": draw(size=36)},
        "head": {"kernel": draw(size=(36, 4)), "bias": draw(size=4) * (seed > 0)},
    }


def gradient_of(params, step):
    """Of a bowl with noise, zero for the head's bias in the first steps."""
    noise = tree(seed=step + 1)
    gradient = jax.tree.map(lambda p, n: 0.3 * p + 0.2 * n, params, noise)
    if step < 3:
        gradient["head"]["bias"] = 0 * gradient["head"]["bias"]
    return gradient


def ours(fields, *, steps=STEPS, evaluated=False):
    """Parameters after the steps, float32, by the optimizer that the fields name."""
    config = base_config()
    config.optim.update({"learning_rate": 0.1, "weight_decay": 0.05, **fields})
    made = make_optimizer(config.optim, rate, LAYERS)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), tree())
    state, update = made.init(params), jax.jit(made.update)
    for step in range(steps):
        updates, state = update(gradient_of(params, step), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return averaged(state, params) if evaluated else params


def decays(path):
    return path[-1] == "kernel"


def by_formula(make, *, steps=STEPS):
    """The same by update(step, path, parameter, gradient, rate) in float64, `make` for each."""
    params = tree()
    rules = jax.tree_util.tree_map_with_path(
        lambda path, p: make(tuple(k.key for k in path), p), params
    )
    for step in range(steps):
        gradient, now = gradient_of(params, step), float(rate(step))
        params = jax.tree.map(lambda f, p, g, t=step, r=now: f(t, p, g, r), rules, params, gradient)
    return params


def by_torch(make, *, steps=STEPS):
    """The same by a torch optimizer, which `make` gets two groups for, decayed and others."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    leaves, structure = jax.tree.flatten(tree())
    paths = [path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree())]
    tensors = [torch.nn.Parameter(torch.tensor(torch_layout(leaf))) for leaf in leaves]
    groups = [
        {"params": [t for t, name in zip(tensors, paths, strict=True) if (name == "kernel") == d]}
        for d in (True, False)
    ]
    optimizer = make(groups)
    for step in range(steps):
        now = structure.unflatten([jax_layout(t.detach().numpy()) for t in tensors])
        for t, g in zip(tensors, jax.tree.leaves(gradient_of(now, step)), strict=True):
            t.grad = torch.tensor(torch_layout(g))
        for group in optimizer.param_groups:
            group["lr"] = float(rate(step))
        optimizer.step()
    return structure.unflatten([jax_layout(t.detach().numpy()) for t in tensors])


def torch_layout(array):
    """[H, W, in, out] to [out, in, H, W], [in, out] to [out, in]."""
    return np.ascontiguousarray(np.transpose(array, (3, 2, 0, 1) if array.ndim == 4 else None))


def jax_layout(array):
    return np.transpose(array, (2, 3, 1, 0) if array.ndim == 4 else None)


def assert_same(found, expected, tolerance=2e-5):
    moved = jax.tree.map(lambda p, s: np.abs(p - s).max(), expected, tree())
    assert min(jax.tree.leaves(moved)) > 1e-5  # all went somewhere, so equality means something
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, atol=tolerance * max(1, np.abs(e).max())),
        *(found, expected),
    )


def newton_schulz(g):
    """Keller Jordan's zeropower_via_newtonschulz5, of a matrix [out, in]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (np.linalg.norm(g) + 1e-7)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if g.shape[0] > g.shape[1] else x
