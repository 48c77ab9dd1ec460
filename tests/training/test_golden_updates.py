"""Whole updates of published recipes: loss, gradient, optimizer and norms, against torch and timm.

A recipe's own config trains a small network for two updates, the second of which the momentum of
the first has a part in. Both sides have the same images and weights, in float64: a ReLU that flips
by rounding alone changes float32 gradients by a hundredth.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_torch import CLASSES, arrays_of, libraries, oracle

from imagenet_jax.config import load_config
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.state import init_state
from imagenet_jax.training.step import train_step
from imagenet_jax.weights.torch_layout import export_arrays, from_torch, leaves, put_leaf

# Relative: sums of some hundred products in float64, in another order, at the end of a network.
TOLERANCE = 1e-9
# What breaks if it is another one, by recipe: as if the config had it.
BROKEN = {
    "rsb:a2": (
        *(("optim.decayed", ("@all",)), ("optim.eps", 1e-8), ("optim.clip_norm", 0.0)),
        *(("optim.name", "adamw"), ("optim.weight_decay", 0.01), ("optim.learning_rate", 8e-3)),
        *(("loss.target_threshold", 0.0), ("loss.name", "softmax"), ("optim.b1", 0.95)),
        *(("loss.class_reduction", "sum"), ("optim.b2", 0.99)),
    ),
    "torchvision_v2:resnet50": (
        *(("optim.decayed", ("@all",)), ("optim.decayed", ("kernel$",))),
        *(("optim.nesterov", True), ("optim.momentum", 0.875), ("optim.decay_coupling", "rate")),
        *(("loss.label_smoothing", 0.0), ("optim.weight_decay", 1e-4)),
    ),
    "deit:s": (
        *(("optim.decayed", ("@not_norms",)), ("optim.decayed", ("kernel$", "pos_embed"))),
        *(("optim.eps", 1e-6), ("optim.b2", 0.95), ("loss.label_smoothing", 0.0)),
        ("optim.decay_coupling", "l2"),
    ),
    "nvidia_resnet50:90": (
        *(("optim.decayed", ("@not_norms",)), ("optim.decayed", ("kernel$",))),
        *(("optim.nesterov", True), ("optim.momentum", 0.9), ("loss.label_smoothing", 0.0)),
    ),
    "mlperf_lars:32k": (
        *(("optim.decayed", ("@all",)), ("optim.trust", 0.01), ("optim.momentum", 0.9)),
        *(("optim.nesterov", True), ("loss.label_smoothing", 0.0), ("optim.weight_decay", 2e-4)),
    ),
    "timm_efficientnet_b0:timm": (
        *(("optim.decayed", ("@all",)), ("optim.eps", 1.0), ("optim.b2", 0.99)),
        *(("optim.momentum", 0.0), ("loss.label_smoothing", 0.0), ("optim.weight_decay", 4e-5)),
    ),
    "ffcv_resnet50:16": (
        *(("optim.decayed", ("@not_norms",)), ("optim.decayed", ("@all",))),
        *(("optim.nesterov", True), ("loss.label_smoothing", 0.0), ("optim.weight_decay", 5e-5)),
    ),
}
# One worker imports timm and compiles.
pytestmark = pytest.mark.xdist_group("timm_optim")


class Update(NamedTuple):
    """Of one update: loss, logits [B, K], and by torch's names gradient and what comes out."""

    loss: float
    logits: Any
    gradient: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


def config_of(recipe):
    """That of a recipe for a small network, with nothing random but a mixup of about halves."""
    config = load_config(recipe)
    options = {"name": "deit_ti16"} if recipe == "deit:s" else {"name": "resnet8", "width": 8}
    options |= {} if recipe == "deit:s" else {"stem": "cifar"}
    config.model.update(options, dtype="float32", bn_group_size=0, drop_path=0.0, blur_pool="")
    config.model.update(dropout=0.0)
    config.augment.update(flip=False, erase=0.0, switch_prob=0.0)
    config.augment.mixup = 8.0 if config.augment.mixup else 0.0
    config.batch_size, config.ema_decay = 8, 0.0
    config.data.image_size = 32 if recipe == "deit:s" else 16
    return config


def batch_of(size, number):
    rng = np.random.default_rng(number)
    return {
        "image": rng.integers(0, 256, (8, size, size, 3), np.uint8),
        "label": np.int32([0, 1, 2, 3, 4, 5, 6, 6]),
        "mask": np.ones(8, bool),
        "epoch": np.zeros(8, np.int32),
        "index": np.arange(8, dtype=np.int32) + 8 * number,
    }


@dataclasses.dataclass(frozen=True)
class Given(Classification):
    """That gets its inputs with the batch: drawn twice they would differ by rounding."""

    def inputs(self, batch, key, step, *, train):
        return batch["inputs"], batch["targets"]


def drawn(config, number):
    """A batch with what the recipe's augmentation makes of it, in float64."""
    batch = batch_of(config.data.image_size, number)
    task = Classification.of_size(config, CLASSES)
    images, targets = task.inputs(batch, jax.random.key(0), jnp.int32(number), train=True)
    if targets.weight is not None:
        targets = targets._replace(weight=np.float64(targets.weight))
    return batch | {"inputs": np.float64(images), "targets": targets}


def optimizer_of(config):
    """At the peak of the rate."""
    return make_optimizer(config.optim, lambda step: config.optim.learning_rate)


def network_of(task):
    """In float64, as large as the other side's."""
    model = task.model()
    layers = model.layers.__class__(**{**vars(model.layers), "dtype": jnp.float64})
    small = {"depth": 1, "width": 24, "heads": 3} if hasattr(model, "depth") else {}
    return model.clone(layers=layers, **small)


def remembered(optimizer):
    """With the gradient in its state."""

    def update(gradient, state, params):
        updates, inner = optimizer.update(gradient, state[1], params)
        return updates, (gradient, inner)

    return optax.GradientTransformation(lambda params: (params, optimizer.init(params)), update)


@functools.cache
def leaves_of(model):
    return list(leaves(variable_shapes(model, 32)))


def tree_of(model, arrays, collection="params"):
    """Those of torch's arrays in our layout, in float64."""
    tree = {}
    for leaf in leaves_of(model):
        if leaf.collection == collection:
            array = from_torch(leaf.path[-1], arrays[leaf.torch_name])
            put_leaf(tree, leaf.path, np.array(array))
    return tree


def ours(config, start, batches):
    """Two updates from torch's arrays."""
    task = Given.of_size(config, CLASSES)
    model, optimizer = network_of(task), remembered(optimizer_of(config))
    variables = {name: tree_of(model, start, name) for name in ("params", "batch_stats")}
    state = init_state(jax.random.key(0), variables, optimizer=optimizer, ema=False)
    step = jax.jit(functools.partial(train_step, task=task, model=model, optimizer=optimizer))
    updates = []
    for batch in batches:
        state, sums = step(state, batch)
        gradient = export_arrays({"params": jax.device_get(state.opt_state[0])})
        after = {"params": state.params, "batch_stats": state.batch_stats}
        loss = float(sums["loss"]) / 8
        updates.append(Update(loss, None, gradient, export_arrays(jax.device_get(after))))
    return updates


def shares(targets):
    """How much images have of their own and of the other one, [B, 1]."""
    if targets.weight is None:
        return np.ones((8, 1)), np.zeros((8, 1))
    own = np.asarray(targets.weight)[:, None]
    assert ((own > 0.2) & (own < 0.8)).all()  # else the threshold would be of no account
    return own, 1 - own


def theirs(recipe, network, batches, augment):
    """Two updates by torch; what is drawn is checked, too."""
    torch, _ = libraries()
    side = oracle(recipe)
    optimizer, updates = side.optimizer(network), []
    neighbour = np.arange(8) ^ 1
    for batch in batches:
        images, (own, rest) = batch["inputs"], shares(batch["targets"])
        plain = (batch["image"] / 255 - np.array(augment.mean)) / np.array(augment.std)
        mixed = own[..., None, None] * plain + rest[..., None, None] * plain[neighbour]
        np.testing.assert_allclose(images, mixed, atol=1e-5)
        label = torch.eye(CLASSES, dtype=torch.float64)[batch["label"].tolist()]
        optimizer.zero_grad()
        logits = network(torch.tensor(images.transpose(0, 3, 1, 2)))
        loss = side.loss(
            *(logits, label, label[neighbour.tolist()]),
            lambda a, b, own=own, rest=rest: torch.tensor(own) * a + torch.tensor(rest) * b,
        )
        loss.backward()
        gradient = arrays_of((n, p.grad) for n, p in network.named_parameters())
        optimizer.step()
        after = arrays_of(network.state_dict().items())
        updates.append(Update(loss.item(), logits.detach().numpy(), gradient, after))
    return updates


@functools.cache
def both(recipe):
    """Arrays of the start, our updates, theirs, and the batches."""
    torch, _ = libraries()
    torch.manual_seed(0)
    network = oracle(recipe).network().train().double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            if name in ("fc.weight", "head.weight"):
                parameter.mul_(30)  # a gradient that is longer than A2 clips it to
    start = arrays_of(network.state_dict().items())
    config = config_of(recipe)
    batches = [drawn(config, number) for number in range(2)]
    found = ours(config, start, batches)
    return start, found, theirs(recipe, network, batches, config.augment), batches


def distance(found, expected, start=None):
    """How far arrays are from what they should be, over how far they should have gone from the
    start or, without one, over their size: the largest of all."""
    assert found.keys() == expected.keys()
    whole = max(np.linalg.norm(array) for array in expected.values())
    far = [0.0]
    for name, array in expected.items():
        size = np.linalg.norm(array - start[name] if start else array)
        # A bias of keys has no gradient but by rounding.
        far.append(np.linalg.norm(found[name] - array) / max(size, 1e-9 * whole))
    return max(far)


# Adam's relatives with soft targets; the others have parts of them.
FAST = ("deit:s",)


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in BROKEN],
)
def test_two_updates_are_the_sources(recipe):
    with jax.enable_x64(True):
        start, found, expected, _ = both(recipe)
    for one, other in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-9)
        assert distance(one.gradient, other.gradient) < TOLERANCE
        assert distance(one.after, other.after, start) < TOLERANCE


def optimized(config, start, gradients):
    """Where updates with these gradients lead, by torch's names."""
    model, optimizer = network_of(Classification.of_size(config, CLASSES)), optimizer_of(config)
    params = tree_of(model, start)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(tree_of(model, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return export_arrays({"params": jax.device_get(params)})


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("recipe", BROKEN)
def test_another_constant_is_another_update(recipe):
    """Of the optimizer, given their gradients; or of the loss, given their logits."""

    def error(config, field):
        if field.startswith("optim."):
            return distance(optimized(config, start, gradients), moved, start)
        task = Classification.of_size(config, CLASSES)
        loss = task.loss(jnp.asarray(expected[0].logits), batches[0]["targets"]).mean()
        return abs(float(loss) / expected[0].loss - 1)

    with jax.enable_x64(True):
        start, _, expected, batches = both(recipe)
        gradients = [update.gradient for update in expected]
        moved = {name: expected[1].after[name] for name in gradients[0]}
        for field in ("optim.name", "loss.name"):
            assert error(config_of(recipe), field) < TOLERANCE
        for field, value in BROKEN[recipe]:
            config = config_of(recipe)
            config.update_from_flattened_dict({field: value})
            assert error(config, field) > 100 * TOLERANCE, (field, value)
