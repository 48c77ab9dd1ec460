"""Initial values without their program: the bits of the compiled function, from little work."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.models import create_model
from imagenet_jax.models.facts import FACTS
from imagenet_jax.models.table import MODELS
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training import initial
from imagenet_jax.training.program import make_program
from imagenet_jax.training.state import init_state, init_variables

SLOW = ("densenet121", "swin_t", "mobilenet_v3_small")  # of others in CI
QUICK = ("lenet", "resnet8", "squeezenet1_0")
# The smallest model of each family.
BY_SIZE = sorted(MODELS, key=lambda name: -FACTS[name].params)
FAMILIES = sorted({re.match("[a-z]+", name)[0]: name for name in BY_SIZE}.values())
FAMILIES.remove("airbench94")  # has an identity in each kernel
INIT = jax.nn.initializers


def several(key, given):
    """Arrays of all kinds, beside work that none of them needs."""
    keys = iter(jax.random.split(jax.random.fold_in(key, 3), 16))
    kaiming = INIT.variance_scaling(2.0, "fan_out", "normal")
    wide = kaiming(next(keys), (3, 3, 40, 30))  # more than two rows
    hidden = jax.checkpoint(lambda key: INIT.normal(0.02)(key, (7, 5)))(next(keys))
    return {
        "normal": [wide, kaiming(next(keys), (1, 1, 1, 1)), kaiming(next(keys), (5, 3))],
        "plain": jax.random.normal(next(keys), (33,)),
        "truncated": INIT.lecun_normal()(next(keys), (17, 9)),
        "uniform": INIT.variance_scaling(1 / 3, "fan_out", "uniform")(next(keys), (4, 6)),
        "divided": jax.random.normal(next(keys), (5, 8)) / 5**0.5,
        "hidden": hidden,
        "copies": [jnp.copy(wide), jnp.copy(given)],
        "constants": [jnp.zeros((3, 2)), jnp.full((), 0.1), jnp.ones(4, jnp.int32)],
        "key": jax.random.key_data(next(keys)),
        "whole numbers": jax.random.randint(next(keys), (6,), 0, 9),
        "its own program": jnp.sort(jax.random.normal(next(keys), (50,))),
        "with an array": jnp.where(jnp.eye(5) > 0, 1, jax.random.normal(next(keys), (5, 5))),
    }


def same_bits(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_values_have_the_bits_of_the_compiled_function():
    key, given = jax.random.key(2**31), np.arange(6, dtype=np.float32)
    found = initial.initial_values(initial.trace(several, key, given), key, given)
    same_bits(found, jax.jit(several)(key, given))
    assert np.unique(found["normal"][0]).size > 10_000  # no row is drawn twice


def test_a_state_has_the_bits_of_the_compiled_one_wherever_its_parts_are(tiny_config, monkeypatch):
    small = functools.partial(MODELS["vit_s16"], depth=2)
    monkeypatch.setitem(MODELS, "vit_s16", small)
    tiny_config.model.update(name="vit_s16", stem="", width=96, bn_group_size=0)
    tiny_config.data.image_size, tiny_config.ema_decay = 32, 0.9
    tiny_config.finetune.mode = "lora"
    expected = None
    for sharding in ("data_parallel", "fsdp,tensor_parallel=2"):
        tiny_config.sharding = sharding
        program = make_program(
            Classification.of_size(tiny_config, 10), make_mesh(sharding), num_examples=40
        )
        if expected is None:
            expected = jax.jit(functools.partial(whole, program=program))(jax.random.key(0))
        state = program.init_state()
        same_bits(state, expected)
        for leaf, shape in zip(*map(jax.tree.leaves, (state, program.state_shapes())), strict=True):
            assert leaf.sharding == shape.sharding
    pointers = [
        shard.data.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(state)
        for shard in leaf.addressable_shards
    ]
    assert len(set(pointers)) == len(pointers)  # all of them may be donated


def whole(key, program):
    size = program.config.data.image_size
    variables = init_variables(key, model=program.model, image_size=size)
    return init_state(key, variables, optimizer=program.optimizer, ema=True, tuning=program.tuning)


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(
            pytest.param(
                name, marks=[pytest.mark.slow, *[pytest.mark.exhaustive] * (name not in SLOW)]
            )
            for name in FAMILIES
            if name not in QUICK
        ),
    ],
)
def test_no_array_needs_a_program_of_its_own(name, monkeypatch):
    monkeypatch.setattr(initial, "_compiled", lambda wanted, keys: pytest.fail(str(wanted.aval)))
    model = create_model(name, num_classes=7)
    init = functools.partial(init_variables, model=model, image_size=96)
    variables = initial.initial_values(initial.trace(init, jax.random.key(0)), jax.random.key(0))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))
