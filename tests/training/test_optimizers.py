"""Every optimizer over 20 steps, against torch, timm or the formulas of its paper in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision

from imagenet_jax.config import base_config
from imagenet_jax.config.optim_fields import OPTIMIZERS
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.optimizers.schedule_free import averaged
from imagenet_jax.training.rules import Layers, chosen

LAYERS = Layers(heads=(("head",),), stem=("stem",))
STEPS = 20
# One worker imports it, which takes seconds.
TIMM = pytest.mark.xdist_group("timm_optim")


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


def newton_schulz(g):
    """Keller Jordan's zeropower_via_newtonschulz5, of a matrix [out, in]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (np.linalg.norm(g) + 1e-7)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if g.shape[0] > g.shape[1] else x


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
