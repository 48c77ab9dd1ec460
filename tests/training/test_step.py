"""The compiled step on 8 virtual devices: what it computes must not depend on how it is spread."""

import functools
import itertools

import jax
import numpy as np
import pytest

from imagenet_jax.config import from_json, to_json
from imagenet_jax.data import open_split
from imagenet_jax.devices import parallel
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.models.table import MODELS
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.training.program import make_program
from imagenet_jax.training.state import state_sha256

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
ONE_BLOCK_VIT = functools.partial(MODELS["vit_s16"], depth=1)


def compiled(config, devices=8):
    """A program, and its step; tests that run the same one on a worker compile it once."""
    return _compiled(to_json(config), MODELS[config.model.name], devices)


@functools.lru_cache(maxsize=32)
def _compiled(config_json, make_model, devices):
    config = from_json(config_json)
    mesh = make_mesh(config.sharding, jax.devices()[:devices])
    split = task_split(config, train=True)
    program = make_program(make_task(config, split), mesh, num_examples=split.num_examples)
    return program, program.compile_train_step()


def curve(config, *, devices=8, steps=20):
    """Training losses, and the last state."""
    program, train_step = compiled(config, devices)
    mesh, state, losses = program.mesh, program.init_state(), []
    rows = parallel.local_rows(mesh, config.batch_size)
    for batch in task_split(config, train=True).train_batches(rows, 0, steps):
        state, sums = train_step(state, parallel.put_batch(batch, mesh))
        losses.append(float(sums["loss"]) / int(sums["count"]))
    return np.array(losses), state


def largest_difference(one, other):
    """Over all parameters and statistics, relative to the largest value of each array."""
    pairs = zip(
        jax.tree.leaves((one.params, one.batch_stats)),
        jax.tree.leaves((other.params, other.batch_stats)),
        strict=True,
    )
    return max(
        np.abs(a - b).max() / max(np.abs(a).max(), 1e-3) for a, b in jax.device_get(list(pairs))
    )


@pytest.mark.xdist_group("eight_devices")
@pytest.mark.parametrize(
    ("bn_group_size", "partitioner"),
    [
        *itertools.product((2, 0), ("jit", "shard_map")),
        (2, "pmap"),
        pytest.param(0, "pmap", marks=EXHAUSTIVE),
    ],
)
def test_eight_devices_give_the_numbers_of_one(loop_config, partitioner, bn_group_size):
    loop_config.model.bn_group_size = bn_group_size
    alone, alone_state = curve(loop_config, devices=1)
    loop_config.partitioner = partitioner
    spread, spread_state = curve(loop_config)
    np.testing.assert_allclose(spread, alone, atol=1e-4)
    assert largest_difference(alone_state, spread_state) < 1e-3
    _, start = curve(loop_config, devices=1, steps=0)
    assert largest_difference(start, alone_state) > 0.1  # it moved, so equality means something


@pytest.mark.xdist_group("accumulated")
@pytest.mark.parametrize(
    "partitioner", ["jit", "shard_map", pytest.param("pmap", marks=EXHAUSTIVE)]
)
def test_accumulated_gradient_is_that_of_the_whole_batch(loop_config, partitioner):
    # Two images at a time on a device: every norm group holds the same images either way.
    loop_config.batch_size, loop_config.model.bn_group_size = 32, 1
    whole, whole_state = curve(loop_config, steps=5)
    loop_config.accumulate, loop_config.partitioner = 4, partitioner
    parts, parts_state = curve(loop_config, steps=5)
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    difference = max(
        np.abs(a - b).max()
        for a, b in zip(
            jax.tree.leaves(whole_state.params), jax.tree.leaves(parts_state.params), strict=True
        )
    )
    assert difference < 1e-3


@pytest.mark.xdist_group("augmentation")
@pytest.mark.parametrize(
    ("mix_per", "partitioner", "accumulate"),
    [
        pytest.param("pair", "jit", 2, marks=pytest.mark.slow),
        pytest.param("batch", "shard_map", 2, marks=EXHAUSTIVE),
        pytest.param("half", "shard_map", 2, marks=EXHAUSTIVE),
        pytest.param("pair", "jit", 1, marks=EXHAUSTIVE),
        pytest.param("batch", "shard_map", 1, marks=EXHAUSTIVE),
        pytest.param("pair", "shard_map", 2, marks=EXHAUSTIVE),
        pytest.param("batch", "jit", 2, marks=EXHAUSTIVE),
    ],
)
def test_augmentation_does_not_depend_on_devices_and_micro_batches(
    loop_config, mix_per, partitioner, accumulate
):
    loop_config.batch_size, loop_config.data.image_size = 32, 32
    loop_config.model.update(name="lenet", stem="", width=0, bn_group_size=0)
    loop_config.augment.mixup, loop_config.augment.cutmix = 0.8, 1.0
    loop_config.augment.mix_per = mix_per
    loop_config.augment.erase, loop_config.augment.brightness = 0.5, 0.4
    plain, _ = curve(loop_config, devices=1, steps=5)
    loop_config.partitioner, loop_config.accumulate = partitioner, accumulate
    parts, _ = curve(loop_config, steps=5)
    np.testing.assert_allclose(parts, plain, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.xdist_group("augmentation")
def test_views_do_not_depend_on_devices_and_micro_batches(loop_config):
    loop_config.batch_size, loop_config.data.image_size = 32, 32
    loop_config.model.update(name="lenet", stem="", width=0, bn_group_size=0)
    loop_config.data.views, loop_config.loss.jsd = 3, 12.0
    plain, _ = curve(loop_config, devices=1, steps=3)
    loop_config.partitioner, loop_config.accumulate = "shard_map", 2
    parts, _ = curve(loop_config, steps=3)
    np.testing.assert_allclose(parts, plain, atol=1e-4)
    loop_config.loss.jsd = 0.1
    other, _ = curve(loop_config, steps=3)
    assert plain[0] > other[0] + 0.01


@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ema_is_the_running_average_of_the_parameters(every, loop_config):
    loop_config.ema_decay, loop_config.ema_every = 0.5, every
    states = [curve(loop_config, steps=steps)[1] for steps in range(4)]
    expected = states[0].params["fc"]["kernel"]
    for step in range(3):
        decay = min(0.5, (1 + step // every) / (10 + step // every))
        decay = 1.0 if (step + 1) % every else decay
        expected = decay * expected + (1 - decay) * states[step + 1].params["fc"]["kernel"]
    np.testing.assert_allclose(
        states[3].ema["params"]["fc"]["kernel"], expected, rtol=1e-5, atol=1e-7
    )
    assert states[3].eval_variables() is states[3].ema


@pytest.mark.parametrize("partitioner", ["shard_map", pytest.param("pmap", marks=EXHAUSTIVE)])
def test_the_equal_average_is_the_mean_of_its_steps(partitioner, loop_config):
    loop_config.swa_start, loop_config.partitioner = "10 percent", partitioner
    states = [curve(loop_config, steps=steps)[1] for steps in (2, 3, 4)]  # of 20
    expected = np.mean([state.params["fc"]["kernel"] for state in states], 0)
    np.testing.assert_allclose(
        states[-1].ema["params"]["fc"]["kernel"], expected, rtol=1e-5, atol=1e-7
    )
    raw = states[-1].eval_variables("raw")
    assert raw["params"] is states[-1].params and raw["batch_stats"] is states[-1].batch_stats


def test_masked_images_do_not_train(loop_config):
    """A batch with half of it masked gives the gradient of the other half alone."""
    loop_config.model.bn_group_size = 1
    loop_config.optim.momentum = 0.0
    split = open_split(loop_config, train=True)
    updates = []
    for rows, masked in ((16, True), (8, False)):
        loop_config.batch_size = rows
        mesh = make_mesh()
        program = make_program(Classification.of_size(loop_config, 10), mesh, num_examples=40)
        batch = next(split.train_batches(np.arange(rows), 0, 1))
        if masked:
            batch["mask"][8:] = False
            full = batch
        else:
            batch = {name: array[:8] for name, array in full.items()}
        state, sums = program.compile_train_step()(
            program.init_state(), parallel.put_batch(batch, mesh)
        )
        assert sums["count"] == 8
        updates.append(state.params["fc"]["kernel"])
    np.testing.assert_allclose(updates[0], updates[1], atol=1e-6)


@pytest.mark.xdist_group("eight_devices")
def test_the_state_is_donated(loop_config):
    program, train_step = compiled(loop_config)
    split, state = open_split(loop_config, train=True), program.init_state()
    batch = parallel.put_batch(next(split.train_batches(np.arange(16), 0, 1)), program.mesh)
    train_step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))


@pytest.mark.xdist_group("eight_devices")
@pytest.mark.parametrize("partitioner", ["jit", "shard_map"])
def test_norm_groups_on_one_device_leave_the_gradients_all_reduces(loop_config, partitioner):
    loop_config.partitioner = partitioner
    counts = []
    for group in (2, 0):
        loop_config.model.bn_group_size = group
        counts.append(compiled(loop_config)[1].as_text().count(" all-reduce("))
    assert counts[0] <= 3
    # Over the global batch each of the 3 norms needs one forward and one backward.
    assert counts[1] >= counts[0] + 3


@pytest.mark.xdist_group("eight_devices")
def test_the_same_seed_gives_the_same_bits_and_another_does_not(loop_config):
    first, again = (state_sha256(curve(loop_config, steps=3)[1]) for _ in range(2))
    assert first == again
    loop_config.seed = 1
    assert state_sha256(curve(loop_config, steps=3)[1]) != first


@pytest.mark.xdist_group("dropout")
@pytest.mark.parametrize(
    "partitioner",
    ["jit", *(pytest.param(other, marks=EXHAUSTIVE) for other in ("shard_map", "pmap"))],
)
def test_dropout_does_not_depend_on_the_devices(loop_config, partitioner, monkeypatch):
    monkeypatch.setitem(MODELS, "vit_s16", ONE_BLOCK_VIT)
    loop_config.model.update(name="vit_s16", width=96, stem="", dropout=0.3, bn_group_size=0)
    loop_config.data.image_size = 32
    alone, _ = curve(loop_config, devices=1, steps=4)
    loop_config.partitioner = partitioner
    spread, _ = curve(loop_config, steps=4)
    np.testing.assert_allclose(spread, alone, atol=1e-4)
    loop_config.model.dropout = 0.0
    without, _ = curve(loop_config, steps=4)
    assert np.abs(without - alone).max() > 1e-3


@pytest.mark.exhaustive
@pytest.mark.slow
def test_auxiliary_heads_add_to_the_loss_that_is_trained(loop_config):
    loop_config.model.update(name="googlenet", width=0, stem="", dropout=0.0)
    loop_config.data.image_size, loop_config.batch_size = 32, 16
    moved = {}
    for weight in (0.0, 0.3):
        loop_config.loss.auxiliary = weight
        loop_config.optim.weight_decay = 0.0
        _, start = curve(loop_config, steps=0)
        first = jax.device_get(start.params["aux1"]["fc2"]["kernel"])
        _, state = curve(loop_config, steps=2)
        moved[weight] = np.abs(jax.device_get(state.params["aux1"]["fc2"]["kernel"]) - first).max()
    assert moved[0.0] == 0 < moved[0.3]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_resnet50_on_eight_devices_gives_the_numbers_of_one(loop_config):
    loop_config.model.update(name="resnet50", width=0, stem="imagenet", bn_group_size=4)
    loop_config.data.image_size, loop_config.batch_size = 64, 32
    loop_config.optim.learning_rate = 0.01
    alone, alone_state = curve(loop_config, devices=1, steps=2)
    spread, spread_state = curve(loop_config, steps=2)
    np.testing.assert_allclose(spread, alone, rtol=1e-4)
    assert largest_difference(alone_state, spread_state) < 1e-2


@pytest.mark.exhaustive
@pytest.mark.slow
def test_fused_norm_gives_the_numbers_of_the_plain_step(loop_config):
    """A bottleneck ResNet, 20 steps in float32 on 8 devices."""
    loop_config.model.update(name="resnet50", width=32, stem="imagenet", bn_group_size=8)
    loop_config.data.image_size, loop_config.batch_size = 32, 64
    # So small that rounding is not blown up: ReLUs of a step that differs in the seventh digit
    # flip, and at 0.02 the losses part by 1e-3 after eight steps.
    loop_config.optim.learning_rate, loop_config.partitioner = 0.001, "shard_map"
    loop_config.model.fused_norm = False
    plain, _ = curve(loop_config)
    loop_config.model.fused_norm = True
    fused, _ = curve(loop_config)
    np.testing.assert_allclose(fused, plain, atol=1e-4)
    assert np.ptp(plain) > 0.01
