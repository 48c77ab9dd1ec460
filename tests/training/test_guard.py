"""What the step does beside one pass and one update: further passes, norms, updates skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_step import compiled

from imagenet_jax.config import base_config
from imagenet_jax.devices import parallel
from imagenet_jax.errors import DivergenceError
from imagenet_jax.tasks.table import task_split
from imagenet_jax.training.guard import SkippedUpdates, facts_of, guarded
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.state import TrainState


def put(program, params):
    """Parameters in place of those of a fresh state."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, program.state_shapes().params)
    return program.init_state().replace(params=jax.device_put(params, shardings))


def one_step(config, params=None):
    """The state before and after a step on the first batch, and its sums, in NumPy."""
    program, train_step = compiled(config)
    state = program.init_state() if params is None else put(program, params)
    before = jax.device_get(state)
    rows = parallel.local_rows(program.mesh, config.batch_size)
    batch = next(task_split(config, train=True).train_batches(rows, 0, 1))
    after, sums = train_step(state, parallel.put_batch(batch, program.mesh))
    return before, jax.device_get(after), jax.device_get(sums)


def assert_close(found, expected, tolerance=1e-5):
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, atol=tolerance), found, expected)


@pytest.fixture
def plain_config(loop_config):
    """Updates that are the gradient."""
    loop_config.optim.update(momentum=0.0, weight_decay=0.0, learning_rate=1.0)
    loop_config.schedule.name = "constant"
    return loop_config


def minus(one, other):
    return jax.tree.map(np.subtract, one, other)


@pytest.mark.xdist_group("guard")
@pytest.mark.parametrize("partitioner", ["jit", "shard_map"])
def test_sam_is_the_gradient_of_the_worst_point_and_nothing_else_of_it(plain_config, partitioner):
    before, after, sums = one_step(plain_config)
    gradient = minus(before.params, after.params)
    length = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    worst = jax.tree.map(lambda p, g: p + 0.5 / length * g, before.params, gradient)
    there, moved, _ = one_step(plain_config, worst)
    expected = minus(before.params, minus(there.params, moved.params))
    plain_config.optim.sam, plain_config.partitioner = 0.5, partitioner
    _, found, sam_sums = one_step(plain_config)
    assert_close(found.params, expected)
    assert_close((found.batch_stats, found.step), (after.batch_stats, 1))
    assert_close((sam_sums["loss"], found.opt_state), (sums["loss"], after.opt_state), 1e-4)
    assert max(map(np.max, jax.tree.leaves(minus(expected, after.params)))) > 1e-2


@pytest.mark.xdist_group("guard")
def test_schedule_free_has_the_statistics_of_the_point_that_is_evaluated(plain_config):
    optim = plain_config.optim
    optim.update(name="schedule_free_sgd", momentum=0.6)
    _, after, _ = one_step(plain_config)
    program, _ = compiled(plain_config)
    # The average of one point is that point, whose gradient was that of the parameters.
    evaluated = jax.device_get(after.eval_variables())["params"]
    assert_close(evaluated, after.opt_state[1].z)
    optim.update(name="sgd", momentum=0.0)
    _, plain, _ = one_step(plain_config)
    assert_close(evaluated, plain.params)
    _, there, _ = one_step(plain_config, evaluated)
    assert_close(after.batch_stats, there.batch_stats)
    assert max(map(np.max, jax.tree.leaves(minus(there.batch_stats, plain.batch_stats)))) > 1e-4
    shapes = program.state_shapes()
    assert shapes.eval_variables()["params"] is shapes.params


def states(update):
    """Before and after a step that moved a parameter by `update`."""
    made = optax.adamw(lambda step: 0.1)
    params = {"kernel": jnp.ones(2)}
    before = TrainState(jnp.int32(3), params, {}, made.init(params), None, jnp.zeros(2, jnp.uint32))
    _, opt_state = made.update(params, before.opt_state, params)
    return before, before.replace(params={"kernel": params["kernel"] + update}, opt_state=opt_state)


@pytest.mark.parametrize("wrong", ["loss", "gradient", "update"])
def test_an_update_that_is_not_finite_leaves_all_but_the_schedule(wrong):
    config = base_config()
    config.optim.nonfinite = 2
    values = {"loss": 1.0, "gradient": 2.0, "update": 3.0}
    before, after = states(3.0)
    found, facts = guarded(config, before, after, *arguments(values))
    assert not facts["skipped"] and found.params["kernel"][0] == 4
    assert found.opt_state[0].count == 1
    before, after = states(values[wrong] * jnp.inf)
    found, facts = guarded(config, before, after, *arguments(values | {wrong: jnp.nan}))
    assert facts["skipped"] and found.params["kernel"][0] == 1
    assert found.opt_state[0].count == 0 and found.opt_state[2].count == 1
    config.optim.nonfinite = 0
    found, facts = guarded(config, before, after, *arguments(values | {wrong: jnp.nan}))
    assert found is after and not facts


@pytest.mark.parametrize(
    "fields",
    [
        {"lookahead": 0.5, "lookahead_every": 5},
        {"name": "prodigy", "learning_rate": 1.0},
        {"name": "larc"},
        {"name": "adamw", "weight_decay_end": 0.1},
    ],
)
def test_every_count_by_which_something_goes_is_that_of_all_steps(fields):
    """One behind, the last return of lookahead to its average would not come."""
    config = base_config()
    config.optim.update(fields)
    config.optim.nonfinite = 2
    made = make_optimizer(config.optim, lambda step: 0.1 + 0 * step)
    params = {"kernel": jnp.ones((2, 2))}
    before = TrainState(jnp.int32(3), params, {}, made.init(params), None, jnp.zeros(2, jnp.uint32))
    _, opt_state = made.update(params, before.opt_state, params)
    after = before.replace(opt_state=opt_state)
    values = {"loss": jnp.nan, "gradient": 2.0, "update": 3.0}
    found, facts = guarded(config, before, after, *arguments(values))
    counts = jax.tree_util.tree_leaves_with_path(found.opt_state)
    steps = [int(leaf) for path, leaf in counts if leaf.dtype == jnp.int32]
    assert facts["skipped"] and 1 in steps
    assert len(steps) == steps.count(1) + (fields.get("name") == "adamw")  # of its moments


def arguments(values):
    gradient, update = ({"kernel": jnp.full(2, values[n])} for n in ("gradient", "update"))
    return gradient, update, jnp.float32(values["loss"])


def test_norms_are_of_all_that_is_trained():
    config = base_config()
    config.log.norms = True
    _, facts = guarded(config, *states(0.0), *arguments({"loss": 1, "gradient": 3, "update": 4}))
    assert facts["gradient_norm"] == pytest.approx(18**0.5)
    assert facts["update_norm"] == pytest.approx(32**0.5)
    lines = [{"loss": 1.0, **facts}, {"loss": 1.0, "gradient_norm": 0.0, "update_norm": 0.0}]
    found = facts_of(lines, lines)
    assert found == {
        "train/gradient_norm": pytest.approx(18**0.5 / 2),
        "train/update_norm": pytest.approx(32**0.5 / 2),
    }


def test_more_than_the_limit_in_a_row_end_the_run():
    good, bad = {"loss": 1.0, "skipped": False}, {"loss": np.nan, "skipped": True}
    skipped = SkippedUpdates(2)
    assert skipped.kept([good, bad, bad, good, bad], first=5) == [good, good]
    assert facts_of([good, bad], [good]) == {"train/skipped_updates": 1}
    assert skipped.kept([bad, good, bad], first=10) == [good]
    with pytest.raises(DivergenceError, match="3 steps up to step 14 are not finite"):
        skipped.kept([bad, bad], first=13)
    with pytest.raises(DivergenceError, match="training loss is nan at step 8"):
        SkippedUpdates(0).kept([{"loss": 1.0}, {"loss": np.nan}], first=7)
