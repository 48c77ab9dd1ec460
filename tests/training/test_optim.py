import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imagenet_jax.config import base_config, validate
from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.rules import chosen


def run_optimizer(steps=5, **fields):
    """Parameters after a few updates with the gradient 2 * p + 1, and the same in NumPy form."""
    optim = base_config().optim
    optim.update(fields)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    made = make_optimizer(optim, lambda step: 0.1, progress=lambda updates: updates / steps)
    state = made.init(params)
    for _ in range(steps):
        gradient = jax.tree.map(lambda p: 2 * p + 1, params)
        updates, state = made.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_is_torchs_formula_with_decay_on_kernels_only(nesterov):
    found = run_optimizer(name="sgd", momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    for name, decay in (("kernel", 0.1), ("bias", 0.0)):
        p, buffer = 1.0, 0.0
        for _ in range(5):  # torch.optim.SGD, dampening 0
            gradient = 2 * p + 1 + decay * p
            buffer = 0.9 * buffer + gradient
            p -= 0.1 * (gradient + 0.9 * buffer if nesterov else buffer)
        np.testing.assert_allclose(found[name], p, rtol=1e-5)


def test_adamw_is_the_papers_formula_with_decay_on_kernels_only():
    found = run_optimizer(name="adamw", b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1)
    for name, decay in (("kernel", 0.1), ("bias", 0.0)):
        p, m, v = 1.0, 0.0, 0.0
        for step in range(1, 6):
            gradient = 2 * p + 1
            m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
            direction = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8)
            p -= 0.1 * (direction + decay * p)
        np.testing.assert_allclose(found[name], p, rtol=1e-5)


def test_weight_decay_goes_to_its_end_by_a_cosine():
    """As DINO's cosine_scheduler, of AdamW: torch's, with another decay at each step."""
    found = run_optimizer(name="adamw", weight_decay=0.1, weight_decay_end=0.4)
    for name, is_decayed in (("kernel", True), ("bias", False)):
        p, m, v = 1.0, 0.0, 0.0
        for step in range(5):
            decay = 0.4 + (0.1 - 0.4) * (1 + np.cos(np.pi * step / 5)) / 2
            gradient = 2 * p + 1
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            direction = m / (1 - 0.9 ** (step + 1))
            direction /= np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8
            p -= 0.1 * (direction + is_decayed * decay * p)
        np.testing.assert_allclose(found[name], p, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_momentum_kept_in_bfloat16(name):
    def kept(value):
        return np.float32(jnp.bfloat16(value))

    fields = {"momentum": 0.9, "nesterov": False, "b1": 0.9, "b2": 0.99, "weight_decay": 0.0}
    found = run_optimizer(name=name, momentum_dtype="bfloat16", **fields)
    p, m, v = 1.0, 0.0, 0.0
    for step in range(1, 6):
        gradient = 2 * p + 1
        m = kept(kept(0.9) * m) + (0.1 if name == "adamw" else 1.0) * gradient
        v = 0.99 * v + 0.01 * gradient**2
        root = np.sqrt(v / (1 - 0.99**step)) + 1e-8
        p -= 0.1 * (m / (1 - 0.9**step) / root if name == "adamw" else m)
        m = kept(m)
    np.testing.assert_allclose(found["kernel"], p, rtol=1e-5)
    exact = run_optimizer(name=name, **fields)
    assert np.abs(exact["kernel"] - p).max() > 1e-4


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_tree_of_old_checkpoints(name, everything):
    """Orbax compares empty nodes as well."""
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    rate, mask = lambda step: 0.1, None if everything else {"kernel": True, "bias": False}
    old = optax.adamw(rate, mask=mask)
    if name == "sgd":
        decay = optax.add_decayed_weights(0.1, mask)
        old = optax.chain(decay, optax.sgd(rate, 0.9))
    optim = base_config().optim
    optim.update(name=name, decay_norm_and_bias=everything)
    for fields in ({}, {"agc": 0.1, "clip_norm": 1.0, "rules": ("kernel$ rate=2",)}):
        optim.update(fields)
        found = jax.tree.structure(make_optimizer(optim, rate).init(params))
        for clip in (optax.identity(), optax.clip_by_global_norm(1.0)):
            assert found == jax.tree.structure(optax.chain(clip, old).init(params))


def test_decay_of_norm_and_bias_if_asked():
    decayed = run_optimizer(weight_decay=0.1, decay_norm_and_bias=True)
    np.testing.assert_allclose(decayed["bias"], decayed["kernel"][0])
    plain = run_optimizer(weight_decay=0.1, decay_norm_and_bias=False)
    assert not np.allclose(plain["bias"], plain["kernel"][0])


def test_clip_norm_bounds_the_first_update():
    found = run_optimizer(1, name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=0.5)
    moved = np.concatenate([np.ravel(1 - found[name]) for name in found])
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1 * 0.5, rtol=1e-5)


# What is no kernel and yet has two axes or more, in the families that have such.
UNDECAYED = {
    "vit_ti16": {"pos_embed", "cls_token"},
    "swin_t": {"relative_position_bias_table"},
    "nfnet_f0": {"gain"},
}


@pytest.mark.parametrize("name", [*UNDECAYED, "resnet18", "convnext_tiny"])
def test_kernels_decay_and_nothing_else(name):
    params = variable_shapes(create_model(name, num_classes=3), 32)["params"]
    mask = chosen(params, base_config().optim.decayed)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    decayed = dict(zip([path for path, _ in leaves], jax.tree.leaves(mask), strict=True))
    assert {path[-1].key for path, decays in decayed.items() if decays} == {"kernel"}
    spared = {path[-1].key for path, leaf in leaves if leaf.ndim > 1 and not decayed[path]}
    assert spared - {"gain"} == UNDECAYED.get(name, set()) - {"gain"}
    assert not any(decays for path, decays in decayed.items() if path[-1].key != "kernel")


def test_patterns_say_what_decays():
    params = {"layer1": {"kernel": 1.0, "bias": 1.0}, "fc": {"kernel": 1.0}, "lora_a": 1.0}
    params = jax.tree.map(np.float32, params)
    mask = chosen(params, ("^layer1/", "lora_[ab]$"))
    expected = {"layer1": {"kernel": True, "bias": True}, "fc": {"kernel": False}, "lora_a": True}
    assert mask == expected
    assert not any(jax.tree.leaves(chosen(params, ())))
    # Each with flags and a group of its own, which do not go together in one expression.
    odd = ("(?i)^LAYER1/(?P<x>b)", r"^(?P<x>f)c/")
    expected = {"layer1": {"kernel": False, "bias": True}, "fc": {"kernel": True}, "lora_a": False}
    assert chosen(params, odd) == expected
    config = base_config()
    config.optim.decayed = ("kernel(",)
    with pytest.raises(ConfigError, match=r"optim\.decayed = .* regular expressions"):
        validate(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optim.b2", 1.0),
        ("optim.learning_rate", float("inf")),
        ("ema_decay", 1.0),
        ("optim.momentum", float("nan")),
        ("loss.label_smoothing", float("nan")),
    ],
)
def test_numbers_with_which_nothing_is_learnt_are_refused(field, value):
    config = base_config()
    section, _, name = field.rpartition(".")
    (config[section] if section else config)[name] = value
    with pytest.raises(ConfigError, match=rf"config\.{field} = "):
        validate(config)


@pytest.mark.parametrize("power", [0.0, 3.0])
def test_lookahead_goes_back_to_the_average_every_so_many_steps_and_at_the_end(power):
    optim = base_config().optim
    optim.update(name="sgd", momentum=0.0, nesterov=False, weight_decay=0.0)
    optim.update(lookahead=0.25, lookahead_every=3, lookahead_power=power)
    made = make_optimizer(optim, lambda step: 0.1, progress=lambda updates: updates / 8)
    params = jnp.float32(1.0)
    state, slow, fast = made.init(params), 1.0, 1.0
    for step in range(1, 9):
        updates, state = made.update(jnp.float32(step), state, params)
        params += updates
        fast -= 0.1 * step
        if step % 3 == 0:  # airbench: slow.lerp_(fast, 1 - decay); fast = slow
            decay = 0.75 * (step / 8) ** 3 if power else 0.75
            slow = fast = decay * slow + (1 - decay) * fast
        if step == 8:
            fast = slow
        np.testing.assert_allclose(params, fast, rtol=1e-5)
