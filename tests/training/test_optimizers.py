"""Every optimizer over 20 steps, against torch, timm or the formulas of its paper in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_oracles import (
    STEPS,
    assert_same,
    by_formula,
    by_torch,
    decays,
    gradient_of,
    newton_schulz,
    ours,
    rate,
    tree,
)
from oracles import torchvision

from imagenet_jax.config import base_config
from imagenet_jax.training.optim import make_optimizer

# One worker imports it, which takes seconds.
TIMM = pytest.mark.xdist_group("timm_optim")


def timm_optim():
    torchvision()  # timm imports it
    return pytest.importorskip("timm.optim", reason="timm is not installed")


def decayed(groups, decay=0.05):
    """With the weight decay in the first group."""
    return [groups[0] | {"weight_decay": decay}, groups[1] | {"weight_decay": 0.0}]


@TIMM
def test_nadamw_is_timms():
    found = ours({"name": "nadamw", "b1": 0.9, "b2": 0.98, "eps": 1e-8})
    make = lambda groups: timm_optim().NAdamW(decayed(groups), betas=(0.9, 0.98), eps=1e-8)  # noqa: E731
    assert_same(found, by_torch(make))


@TIMM
def test_rmsprop_is_tensorflows():
    found = ours({"name": "rmsprop", "b2": 0.9, "eps": 1e-3, "momentum": 0.9})

    def make(groups):
        return timm_optim().RMSpropTF(decayed(groups), alpha=0.9, eps=1e-3, momentum=0.9)

    assert_same(found, by_torch(make))


@TIMM
def test_lamb_is_timms_without_its_clip():
    found = ours({"name": "lamb", "b1": 0.9, "b2": 0.98, "eps": 1e-6})

    def make(groups):
        options = {"betas": (0.9, 0.98), "eps": 1e-6, "max_grad_norm": None}
        return timm_optim().Lamb(decayed(groups), **options)

    assert_same(found, by_torch(make))


@TIMM
def test_lamb_clipped_is_timms():
    found = ours({"name": "lamb", "b1": 0.9, "b2": 0.98, "eps": 1e-6, "clip_norm": 1.0})
    options = {"betas": (0.9, 0.98), "eps": 1e-6}
    assert_same(found, by_torch(lambda groups: timm_optim().Lamb(decayed(groups), **options)))


@TIMM
def test_lion_is_timms():
    found = ours({"name": "lion", "b1": 0.9, "b2": 0.99})
    make = lambda groups: timm_optim().Lion(decayed(groups), betas=(0.9, 0.99))  # noqa: E731
    assert_same(found, by_torch(make))


@TIMM
def test_adafactor_is_timms_port_of_big_vision():
    found = ours({"name": "adafactor", "momentum": 0.9, "b2": 0.999})

    def make(groups):
        options = {"min_dim_size_to_factor": 32, "momentum_dtype": "float32"}
        return timm_optim().AdafactorBigVision(decayed(groups), **options)

    assert_same(found, by_torch(make))


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_mlperfs(nesterov):
    """The rate within the momentum; biases and norms as of plain momentum."""

    def make(path, p):
        buffer = np.zeros_like(p)

        def update(step, p, g, rate):
            if decays(path):
                size, slope = np.linalg.norm(p), np.linalg.norm(g)
                g = (g + 0.05 * p) * 0.02 * size / (slope + 0.05 * size)
            buffer[...] = 0.9 * buffer + rate * g
            return p - (0.9 * buffer + rate * g if nesterov else buffer)

        return update

    found = ours({"name": "lars", "momentum": 0.9, "nesterov": nesterov, "trust": 0.02})
    assert_same(found, by_formula(make))


@TIMM
@pytest.mark.parametrize("trust", [0.02, 0.5])  # 0.5: the ratio is above the rate throughout
def test_larc_is_timms(trust):
    found = ours({"name": "larc", "momentum": 0.9, "nesterov": False, "trust": trust})

    def make(groups):
        options = {"momentum": 0.9, "trust_coeff": trust, "trust_clip": True}
        return timm_optim().Lars(decayed(groups), **options)

    assert_same(found, by_torch(make))


def test_ademamix_is_the_papers():
    def make(path, p):
        m, s, v = (np.zeros_like(p) for _ in range(3))

        def update(step, p, g, rate):
            m[...], s[...] = 0.9 * m + 0.1 * g, 0.99 * s + 0.01 * g
            v[...] = 0.98 * v + 0.02 * g**2
            top = m / (1 - 0.9 ** (step + 1)) + 3 * s
            direction = top / (np.sqrt(v / (1 - 0.98 ** (step + 1))) + 1e-8)
            return p - rate * (direction + 0.05 * p * decays(path))

        return update

    fields = {"b1": 0.9, "b2": 0.98, "b3": 0.99, "alpha": 3.0, "eps": 1e-8}
    assert_same(ours({"name": "ademamix", **fields}), by_formula(make))


@pytest.mark.parametrize("scale", ["shape", "rms"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_is_its_authors_and_adam_for_the_rest(scale, nesterov):
    def make(path, p):
        m, v = np.zeros_like(p), np.zeros_like(p)

        def update(step, p, g, rate):
            decay = 0.05 * p * decays(path)
            if path in (("conv", "kernel"), ("fc", "kernel")):
                m[...] += 0.05 * (g - m)
                ahead = g + 0.95 * (m - g) if nesterov else m
                flat = ahead.reshape(-1, p.shape[-1]).T  # [out, in]
                x = newton_schulz(flat)
                rows, columns = flat.shape
                size = max(1, rows / columns) ** 0.5
                size = size if scale == "shape" else 0.2 * max(rows, columns) ** 0.5
                return p - rate * (size * x.T.reshape(p.shape) + decay)
            m[...], v[...] = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g**2
            root = np.sqrt(v / (1 - 0.98 ** (step + 1))) + 1e-8
            # Its own rate is a quarter of the other one.
            return p - rate / 4 * (m / (1 - 0.9 ** (step + 1)) / root + decay)

        return update

    fields = {"momentum": 0.95, "nesterov": nesterov, "muon_scale": scale, "b2": 0.98}
    found = ours({"name": "muon", "adam_learning_rate": 0.025, **fields})
    assert_same(found, by_formula(make), 1e-4)


def prodigyopt(steps=STEPS):
    """prodigyopt's Prodigy(lr=1, weight_decay=0.05, betas=(0.9, 0.98)): parameters and d.

    Its sums are over all parameters.
    """
    params, d, d0, above, b3 = tree(), 1e-6, 1e-6, 0.0, 0.98**0.5
    leaves, structure = jax.tree.flatten(params)
    decay = [
        0.05 * decays([path[-1].key]) for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    first = [leaf.copy() for leaf in leaves]
    ms, vs, sums = ([np.zeros_like(leaf) for leaf in leaves] for _ in range(3))
    for step in range(steps):
        gradient = jax.tree.leaves(gradient_of(structure.unflatten(leaves), step))
        rate_now, old, below = d * 10 * float(rate(step)), d, 0.0
        above *= b3
        for p, p0, g, m, v, s in zip(leaves, first, gradient, ms, vs, sums, strict=True):
            above += d / d0 * rate_now * np.sum(g * (p0 - p))
            m[...], v[...] = 0.9 * m + 0.1 * d * g, 0.98 * v + 0.02 * d * d * g * g
            s[...] = b3 * s + d / d0 * rate_now * g
            below += np.abs(s).sum()
        d = max(d, above / below) if below else old
        for i, (p, m, v) in enumerate(zip(leaves, ms, vs, strict=True)):
            p = p - decay[i] * rate_now * p
            leaves[i] = p - rate_now * m / (np.sqrt(v) + d * 1e-8) if below else p
    return structure.unflatten(leaves), d


def test_prodigy_is_prodigyopts():
    expected, d = prodigyopt()
    assert d > 1e2 * 1e-6
    config = base_config()
    config.optim.update(name="prodigy", learning_rate=1.0, weight_decay=0.05, b2=0.98)
    made = make_optimizer(config.optim, lambda step: 10 * rate(step))
    found = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), tree())
    state, update = made.init(found), jax.jit(made.update)
    for step in range(STEPS):
        updates, state = update(gradient_of(found, step), state, found)
        found = jax.tree.map(jnp.add, found, updates)
    assert_same(found, expected, 1e-4)


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_is_the_papers(name):
    """By x, y and z of the paper; the average x is what is evaluated."""
    xs = {}

    def make(path, p):
        z, x, v = p.copy(), p.copy(), np.zeros_like(p)
        sums = {"weight": 0.0, "highest": 0.0}

        def update(step, y, g, rate):
            if name == "schedule_free_adamw":
                v[...] = 0.98 * v + 0.02 * g**2
                g = g / (np.sqrt(v / (1 - 0.98 ** (step + 1))) + 1e-8)
            z[...] -= rate * (g + 0.05 * y * decays(path))
            sums["highest"] = max(sums["highest"], rate)
            sums["weight"] += sums["highest"] ** 2
            share = sums["highest"] ** 2 / sums["weight"] if sums["weight"] else 0.0
            x[...] = (1 - share) * x + share * z
            xs[path] = x
            return 0.1 * z + 0.9 * x

        return update

    fields = {"name": name, "b1": 0.9, "momentum": 0.9, "b2": 0.98, "eps": 1e-8}
    fields["decay_coupling"] = "rate"
    expected = by_formula(make)
    assert_same(ours(fields), expected)
    found = ours(fields, evaluated=True)
    for (module, leaf), x in xs.items():
        np.testing.assert_allclose(found[module][leaf], x, atol=5e-5)
    assert np.abs(xs["fc", "kernel"] - expected["fc"]["kernel"]).max() > 1e-2
