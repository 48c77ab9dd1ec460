"""Weights that are pruned: which, when, that they stay zero, and in every place that has them."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import read_lines
from test_step import compiled, curve, largest_difference

from imagenet_jax.config import base_config
from imagenet_jax.config.optim_fields import OPTIMIZERS
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.guard import guarded
from imagenet_jax.training.loop import train
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.optimizers.prune import masked, prune_state
from imagenet_jax.training.optimizers.schedule_free import averaged
from imagenet_jax.training.position import Course
from imagenet_jax.training.pruning import prune_while_training
from imagenet_jax.training.rules import Layers
from imagenet_jax.training.state import TrainState
from imagenet_jax.training.trained import trained_model


def tree(seed=0):
    draw = np.random.default_rng(seed).normal
    return {
        "stem": {"kernel": draw(size=(3, 3, 3, 8)), "bias": draw(size=8)},
        "norm": {"scale": draw(size=8), "bias": draw(size=8)},
        "conv": {"kernel": 3 * draw(size=(3, 3, 8, 8))},
        "head": {"kernel": 0.01 * draw(size=(8, 4)), "bias": draw(size=4)},
    }


def trained(steps, total=20, seed=0, **fields):
    """The parameters and states before and after each of some steps of random gradients."""
    config = base_config()
    config.optim.weight_decay = 0.01
    config.update_from_flattened_dict(fields)
    config.duration = f"{total} steps"
    params = jax.tree.map(jnp.float32, tree())
    made = make_optimizer(config.optim, lambda step: 0.1, LAYERS)
    how = {"course": Course(1), "num_examples": 5, "total_steps": total}
    made = prune_while_training(made, config, LAYERS, **how)
    state, update = made.init(params), jax.jit(made.update)
    random = np.random.default_rng(seed + 1)
    found = [(params, state)]
    for _ in range(steps):
        gradient = jax.tree.map(lambda p: np.float32(random.normal(size=p.shape)), params)
        updates, state = update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        found.append((params, state))
    return found


LAYERS = Layers(heads=(("head",),), stem=("stem",))
AT_ONCE = {"prune.begin": "0 steps", "prune.end": "0 steps"}
PRUNED = ("stem", "conv")


def kernels(params):
    return {name: np.asarray(params[name]["kernel"]) for name in (*PRUNED, "head")}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_smallest_weights_of_all_or_of_each_kernel_go(scope):
    """The choice by sorting, of the parameters before the update."""
    (before, _), (after, state) = trained(1, **{"prune.share": 0.7, "prune.scope": scope} | AT_ONCE)
    old, new = kernels(before), kernels(after)
    magnitudes = {name: np.abs(old[name]).ravel() for name in PRUNED}
    together = np.sort(np.concatenate(list(magnitudes.values())))
    for name in PRUNED:
        ordered = together if scope == "global" else np.sort(magnitudes[name])
        threshold = ordered[round(0.7 * len(ordered)) - 1]
        np.testing.assert_array_equal(new[name] == 0, np.abs(old[name]) <= threshold)
    assert (new["head"] != 0).all() and state.masks["head"]["kernel"] is None
    for name in ("norm", "stem", "head"):
        assert (np.asarray(after[name]["bias"]) != 0).all() and state.masks[name]["bias"] is None
    zeros = sum((new[name] == 0).sum() for name in PRUNED)
    size = sum(new[name].size for name in PRUNED)
    assert abs(zeros - 0.7 * size) <= len(PRUNED) / 2


def test_what_is_skipped_is_named_by_patterns():
    fields = {"prune.share": 0.5, "prune.skip": ("@stem", "^norm")} | AT_ONCE
    new = kernels(trained(1, **fields)[1][0])
    assert (new["stem"] != 0).all() and (new["head"] == 0).all() and (new["conv"] == 0).any()


def test_the_share_rises_by_the_cubic_curve_and_what_is_pruned_stays_so():
    """Zhu & Gupta 2017, equation 1, with a rise at every second step from the fourth on."""
    fields = {"prune.share": 0.8, "prune.begin": "4 steps", "prune.end": "14 steps"}
    found = trained(18, **fields, **{"prune.every": "2 steps"})
    size = sum(kernels(found[0][0])[name].size for name in PRUNED)
    gone = {name: np.zeros(shape.shape, bool) for name, shape in kernels(found[0][0]).items()}
    for step, (params, state) in enumerate(found):
        update = step - 1  # the one before these parameters
        rises = min(max((update - 4) // 2, 0), 5)
        share = 0.8 * (1 - (1 - rises / 5) ** 3)
        zeros = sum((kernels(params)[name] == 0).sum() for name in PRUNED)
        assert abs(zeros - share * size) <= 1, step
        np.testing.assert_allclose(state.share, share, rtol=1e-5)
        for name, kernel in kernels(params).items():
            assert (kernel[gone[name]] == 0).all()
            gone[name] |= kernel == 0
    assert sum(gone[name].sum() for name in PRUNED) == round(0.8 * size)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:8"])
def test_of_each_group_along_the_input_channels_the_largest_stay(pattern):
    """The stem's three channels are no whole group."""
    kept, group = map(int, pattern.split(":"))
    (before, _), (after, state) = trained(1, **{"prune.pattern": pattern} | AT_ONCE)
    old, new = kernels(before)["conv"], kernels(after)["conv"]
    for place in np.ndindex(3, 3, 8 // group, 8):
        row, column, number, output = place
        part = np.s_[row, column, number * group : (number + 1) * group, output]
        largest = np.argsort(-np.abs(old[part]))[:kept]
        assert {*np.flatnonzero(new[part])} == {*largest}
    assert state.masks["stem"]["kernel"] is None


def test_groups_lose_one_weight_after_the_other():
    fields = {"prune.pattern": "1:4", "prune.end": "10 steps", "prune.every": "1 steps"}
    counts = [
        {*(kernels(params)["conv"].reshape(9, 2, 4, 8) != 0).sum(2).ravel().tolist()}
        for params, _ in trained(12, **fields)
    ]
    assert all(len(count) == 1 for count in counts)
    left = [count.pop() for count in counts]
    assert sorted(left, reverse=True) == left and {*left} == {4, 3, 2, 1}


@pytest.mark.parametrize(("name", "lookahead"), [*((n, 0.0) for n in OPTIMIZERS), ("adamw", 0.5)])
def test_with_every_optimizer_pruned_weights_are_zero(name, lookahead):
    """Also where schedule-free's average is, whose other point goes on without the masks."""
    fields = {"optim.name": name, "prune.share": 0.6, "prune.end": "3 steps", "optim.agc": 0.1}
    fields |= {"optim.lookahead": lookahead, "optim.lookahead_every": 2, "prune.every": "1 steps"}
    found = trained(8, **fields)
    params, state = found[-1]
    evaluated = averaged(state, params)
    size = sum(kernels(params)[name].size for name in PRUNED)
    for one in (params, evaluated):
        assert sum((kernels(one)[name] == 0).sum() for name in PRUNED) == round(0.6 * size)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one))
    before = found[-2][0]
    left = kernels(params)["conv"] != 0
    assert (kernels(params)["conv"][left] != kernels(before)["conv"][left]).any()


def test_a_sparse_network_that_is_trained_on_keeps_its_zeros():
    """Even where more weights are zero than the share."""
    sparse = trained(2, **{"prune.share": 0.8} | AT_ONCE)[-1][0]
    config = base_config()
    config.update_from_flattened_dict({"prune.share": 0.5} | AT_ONCE)
    made = make_optimizer(config.optim, lambda step: 0.1)
    how = {"course": Course(1), "num_examples": 5, "total_steps": 9}
    made = prune_while_training(made, config, LAYERS, **how)
    updates, _ = made.update(jax.tree.map(jnp.ones_like, sparse), made.init(sparse), sparse)
    after = jax.tree.map(jnp.add, sparse, updates)
    for name in PRUNED:
        np.testing.assert_array_equal(kernels(after)[name] == 0, kernels(sparse)[name] == 0)


def prune(config, **fields):
    config.prune.update({"share": 0.75, "end": "6 steps", "every": "2 steps"} | fields)
    return config


def zeros(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf) == 0
        for path, leaf in leaves
        if path[-1].key == "kernel" and path[0].key != "fc"
    }


SLOW = (pytest.mark.slow, pytest.mark.exhaustive)


@pytest.mark.parametrize(
    "partitioner",
    [
        pytest.param("shard_map", marks=pytest.mark.slow),
        *(pytest.param(name, marks=SLOW) for name in ("jit", "pmap")),
    ],
)
def test_eight_devices_prune_as_one_does(loop_config, partitioner):
    """With an average, micro-batches and SAM."""
    prune(loop_config).update(ema_decay=0.5, accumulate=2, partitioner=partitioner)
    loop_config.update(batch_size=32)
    loop_config.optim.sam = 0.05
    losses, state = curve(loop_config, steps=9)
    alone = loop_config.copy_and_resolve_references()
    alone.partitioner = "jit"
    expected_losses, expected = curve(alone, devices=1, steps=9)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert largest_difference(state, expected) < 1e-3
    found = zeros(state.params)
    size, count = (sum(of(mask) for mask in found.values()) for of in (np.size, np.sum))
    assert count == round(0.75 * size)
    for other in (expected.params, state.ema["params"], state.eval_variables()["params"]):
        assert all((mask == zeros(other)[name]).all() for name, mask in found.items())
    assert float(prune_state(state.opt_state).share) == 0.75


def test_masks_are_spread_like_their_parameters(loop_config):
    prune(loop_config).sharding = "fsdp"
    loop_config.model.width = 64
    _, state = curve(loop_config, steps=8)
    masks = prune_state(state.opt_state).masks
    mask, kernel = (of["layer1.0"]["conv1"]["kernel"] for of in (masks, state.params))
    assert mask.sharding == kernel.sharding and not mask.sharding.is_fully_replicated
    np.testing.assert_array_equal(np.asarray(mask), np.asarray(kernel) != 0)
    assert sum(map(np.sum, zeros(state.params).values())) == round(
        0.75 * sum(map(np.size, zeros(state.params).values()))
    )


def test_the_gradient_of_what_is_left():
    """Along which SAM looks for the worst point, as if pruned weights were not there."""
    gradient = {"conv": {"kernel": jnp.ones((1, 1, 8, 8))}}
    _, (_, state) = trained(1, **{"prune.share": 0.5} | AT_ONCE)
    whole = jax.tree.map(jnp.ones_like, tree())
    found = masked(state, jax.tree.map(jnp.float32, whole))
    np.testing.assert_array_equal(found["conv"]["kernel"], state.masks["conv"]["kernel"])
    assert (found["head"]["kernel"] == 1).all()
    assert masked((), gradient) is gradient


@pytest.mark.slow
def test_a_run_goes_on_with_its_masks(loop_config, tmp_path, capsys):
    """From a checkpoint between two rises of the share, to the bits; its log tells the share."""
    prune(loop_config, end="12 steps", skip=("@head", "conv2")).ema_decay = 0.9
    loop_config.checkpoint.update(keep=9, every="7 steps")
    whole = train(loop_config, tmp_path)
    told = capsys.readouterr().err
    assert "prune    0.75 of all, 792 weights in 2 kernels, by 12 steps; " in told
    assert "left whole: fc, layer1.0/conv2" in told
    for step in ("14", "20"):
        shutil.rmtree(tmp_path / "checkpoints" / step)
    (tmp_path / "metrics.jsonl").unlink()
    assert train(loop_config, tmp_path)["state_sha256"] == whole["state_sha256"]
    lines = [line["train/pruned"] for line in read_lines(tmp_path) if "train/pruned" in line]
    assert 0 < lines[0] < 0.75 and lines[-1] == 0.75
    found = zeros(trained_model(tmp_path, "latest").variables["params"])
    assert sum(mask.sum() for mask in found.values()) == round(0.75 * 792)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"end": "100 percent"}, r"prune\.end = '100 percent' .* step 20, .* ends at step 20"),
        ({"begin": "2 epochs"}, r"begin = '2 epochs' are step"),
        ({"skip": ("@all",)}, r"skip = \('@all',\) leave no kernel of resnet8 to prune"),
    ],
)
def test_what_would_prune_nothing_or_not_all_is_said(loop_config, fields, message):
    loop_config.prune.update(share=0.5, **fields)
    loop_config.duration = "2 epochs" if "begin" in fields else "20 steps"
    with pytest.raises(ConfigError, match=message):
        compiled(loop_config)


def test_what_a_skipped_update_would_have_pruned_the_next_one_does():
    config = base_config()
    config.update_from_flattened_dict({"prune.share": 0.5, "optim.nonfinite": 3} | AT_ONCE)
    params = jax.tree.map(jnp.float32, tree())
    made = make_optimizer(config.optim, lambda step: 0.1)
    how = {"course": Course(1), "num_examples": 5, "total_steps": 9}
    made = prune_while_training(made, config, LAYERS, **how)
    state = TrainState(jnp.int32(0), params, {}, made.init(params), None, jnp.zeros(2, jnp.uint32))
    shares = []
    for loss in (jnp.nan, 1.0):
        updates, opt_state = made.update(params, state.opt_state, state.params)
        new = jax.tree.map(jnp.add, state.params, updates)
        after = state.replace(params=new, opt_state=opt_state)
        state, facts = guarded(config, state, after, params, updates, jnp.float32(loss))
        shares.append(float(facts["pruned"]))
        found = kernels(state.params)
        zero = sum((found[name] == 0).sum() for name in PRUNED)
        assert zero == round(shares[-1] * sum(found[name].size for name in PRUNED))
    assert shares == [0.0, 0.5] and state.opt_state.count.count == 2
