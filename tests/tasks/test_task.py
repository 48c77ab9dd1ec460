"""What holds for every task: its numbers do not depend on how a batch is spread."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax import tasks
from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.devices import make_mesh, parallel
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.table import find_task, task_names
from imagenet_jax.tasks.task import Term
from imagenet_jax.training.position import Course
from imagenet_jax.training.program import make_program


class Weighted(Classification):
    """Examples count by their numbers; beside them a term that is divided by something else."""

    def inputs(self, batch, key, step, *, train):
        image, targets = super().inputs(batch, key, step, train=train)
        return image, (targets, 1.0 + batch["index"] % 3)

    def terms(self):
        return {"loss": Term(1.0, over="weights"), "small": Term(0.5, over="examples")}

    def denominators(self, batch, key):
        weights = jnp.where(batch["mask"], 1.0 + batch["index"] % 3, 0)
        return {"weights": weights.sum(), "examples": batch["mask"].sum()}

    def losses(self, apply, inputs, targets):
        outcome = super().losses(apply, inputs, targets[0])
        numerators = {
            "loss": outcome.numerators["loss"] * targets[1],
            "small": jnp.square(outcome.outputs).sum(-1),
        }
        return outcome._replace(numerators=numerators)

    def sums(self, outcome, targets, mask):
        return super().sums(outcome, targets[0], mask)


def after_three_steps(config, devices):
    split, mesh = (
        open_split(config, train=True),
        make_mesh("data_parallel", jax.devices()[:devices]),
    )
    program = make_program(Weighted.of_split(config, split), mesh, num_examples=split.num_examples)
    state, step = program.init_state(), program.compile_train_step()
    for batch in split.train_batches(parallel.local_rows(mesh, config.batch_size), 0, 3):
        batch["mask"][:3] = False  # so that devices and micro-batches have other weights
        state, _ = step(state, parallel.put_batch(batch, mesh))
    return jax.device_get(state.params)


def test_terms_are_divided_by_global_sums(loop_config):
    loop_config.model.bn_group_size, loop_config.batch_size = 1, 32
    alone = after_three_steps(loop_config, devices=1)
    loop_config.partitioner, loop_config.accumulate = "shard_map", 2
    spread = after_three_steps(loop_config, devices=8)
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)


class Clocked(Classification):
    """Tells the step that `inputs` is given."""

    def inputs(self, batch, key, step, *, train):
        image, targets = super().inputs(batch, key, step, train=train)
        return image, (targets, step)

    def losses(self, apply, inputs, targets):
        return super().losses(apply, inputs, targets[0])

    def zero_sums(self):
        return super().zero_sums() | {"step": jnp.int32(0)}

    def sums(self, outcome, targets, mask):
        return super().sums(outcome, targets[0], mask) | {"step": targets[1]}


def test_steps_are_counted_as_if_all_had_been_of_todays_size(loop_config):
    """By which a task knows how long a run has lasted, where the batch size was another before."""
    split, mesh = open_split(loop_config, train=True), make_mesh("data_parallel", jax.devices()[:1])
    course = Course(loop_config.batch_size, offset=3 * loop_config.batch_size)
    task = Clocked.of_split(loop_config, split)
    program = make_program(task, mesh, num_examples=split.num_examples, course=course)
    state, step = program.init_state(), program.compile_train_step()
    found = []
    for batch in split.train_batches(parallel.local_rows(mesh, loop_config.batch_size), 0, 2):
        state, sums = step(state, parallel.put_batch(batch, mesh))
        found.append(int(sums["step"]))
    assert found == [3, 4]


def test_the_better_result_has_the_higher_score():
    assert Classification.score({"top1": 0.7}) > Classification.score({"top1": 0.6})
    assert tasks.Task.score({"loss": 1.0}) > tasks.Task.score({"loss": 2.0})


def test_tasks_are_found_by_their_files():
    assert "classification" in task_names() and not {"task", "table"} & set(task_names())
    for name in task_names():
        assert issubclass(find_task(name), tasks.Task) and dataclasses.is_dataclass(find_task(name))
    with pytest.raises(ConfigError, match=r"config\.task = 'clasification'.*'classification'\?"):
        find_task("clasification")


@pytest.mark.parametrize("name", task_names())
def test_a_checkpoint_says_what_its_task_needs(name):
    config = base_config()
    config.task, config.multi_task.tasks = name, ("detection:fcos", "segmentation:unet")
    made = find_task(name).described(config)
    again = find_task(name).of_facts(config, json.loads(json.dumps(made.facts())))
    assert again.facts() == made.facts()
