"""Meshes, and steps whose state is spread over 8 virtual devices."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from test_step import EXHAUSTIVE, curve

from imagenet_jax.devices import sharding
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.table import MODELS
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.program import make_program
from imagenet_jax.training.program_checks import check_config


@pytest.mark.parametrize(
    ("text", "devices", "slices", "shape"),
    [
        ("data_parallel", 8, 1, (8, 1, 1)),
        ("fsdp", 8, 1, (1, 8, 1)),
        ("fsdp=4", 8, 1, (2, 4, 1)),
        ("tensor_parallel=2", 8, 1, (4, 1, 2)),
        ("fsdp,tensor_parallel=2", 8, 1, (1, 4, 2)),
        ("data_parallel=2,fsdp", 8, 1, (2, 4, 1)),
        ("data_parallel=2,fsdp=2,tensor_parallel=2", 8, 1, (2, 2, 2)),
        ("data_parallel", 512, 2, (512, 1, 1)),
        ("fsdp", 512, 2, (2, 256, 1)),
        ("fsdp=64", 512, 2, (8, 64, 1)),
        ("fsdp=16", 16, 2, (1, 16, 1)),
        ("data_parallel=2,fsdp", 16, 4, (2, 8, 1)),
    ],
)
def test_mesh_shape(text, devices, slices, shape):
    assert sharding.mesh_shape(text, devices, slices) == shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fsdp=3", "'fsdp=3' does not divide the 8 devices"),
        ("data_parallel=2,fsdp=2", "does not divide the 8 devices"),
        ("fsdp=16", "does not divide the 8 devices"),
        ("zero", "'zero'; expected data_parallel, fsdp, tensor_parallel"),
        ("fsdp=0", "'fsdp=0'; expected"),
        ("fsdp,tensor_parallel", "only one part can be without a number"),
    ],
)
def test_impossible_sharding_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        sharding.mesh_shape(text, 8)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("data_parallel", 8), ("fsdp", 8), ("tensor_parallel=2", 4), ("fsdp=2,tensor_parallel=2", 4)],
)
def test_the_batch_is_spread_over_all_but_the_axis_tensor(text, parts):
    mesh = sharding.make_mesh(text)
    assert sharding.batch_shards(mesh) == parts
    assert sharding.batch_sharding(mesh).shard_shape((16, 3)) == (16 // parts, 3)


@dataclasses.dataclass(frozen=True)
class _Chip:
    """A chip of a slice, as far as the mesh asks."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "described"
    device_kind: str = "described"


def test_slices_are_joined_along_the_axis_data_only():
    chips = [_Chip(number, number // 4) for number in range(8)]
    mesh = sharding.make_mesh("fsdp", chips)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    for row in mesh.devices[:, :, 0]:
        assert len({chip.slice_index for chip in row}) == 1
    over_both = sharding.make_mesh("fsdp=8", chips)
    assert dict(over_both.shape) == {"data": 1, "fsdp": 8, "tensor": 1}
    slices = [chip.slice_index for chip in over_both.devices.flat]
    assert slices == sorted(slices)


TWO_BLOCKS = functools.partial(MODELS["vit_s16"], depth=2)


@pytest.fixture
def vit_config(tiny_config, monkeypatch):
    """A ViT of two blocks, width 96 and six heads, on images of four patches."""
    monkeypatch.setitem(MODELS, "vit_s16", TWO_BLOCKS)
    tiny_config.model.name, tiny_config.model.stem, tiny_config.model.width = "vit_s16", "", 96
    tiny_config.model.bn_group_size = 0
    tiny_config.data.image_size = 32
    tiny_config.optim.name, tiny_config.optim.learning_rate = "adamw", 1e-3
    return tiny_config


@pytest.mark.xdist_group("spread_state")
@pytest.mark.parametrize("text", ["fsdp", "fsdp=4"])
def test_spread_state_gives_the_losses_of_one_device(loop_config, text):
    loop_config.model.width, loop_config.ema_decay = 32, 0.9
    alone, state = curve(loop_config, devices=1)
    loop_config.sharding = text
    spread, spread_state = curve(loop_config)
    np.testing.assert_allclose(spread, alone, atol=1e-4)
    kernels = [s.params["fc"]["kernel"] for s in (state, spread_state)]
    np.testing.assert_allclose(*kernels, atol=1e-4)


@pytest.mark.xdist_group("spread_transformer")
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("tensor_parallel=4", marks=pytest.mark.slow),
        "data_parallel=2,fsdp=2,tensor_parallel=2",
        pytest.param("fsdp", marks=EXHAUSTIVE),
        pytest.param("fsdp,tensor_parallel=2", marks=EXHAUSTIVE),
    ],
)
def test_spread_transformer_gives_the_losses_of_one_device(vit_config, text):
    alone, _ = curve(vit_config, devices=1)
    vit_config.sharding = text
    spread, _ = curve(vit_config)
    np.testing.assert_allclose(spread, alone, atol=1e-4)


def test_a_block_of_a_cut_transformer_sums_twice_over_the_devices(vit_config):
    """After the attention and after the MLP, in the program; a wrong cut gives the same numbers."""
    vit_config.sharding = "tensor_parallel=2"
    mesh = sharding.make_mesh(vit_config.sharding, jax.devices()[:2])
    program = (
        make_program(Classification.of_size(vit_config, 10), mesh).compile_eval_step(30).as_text()
    )
    moves = re.findall(r" (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", program)
    blocks = 2
    assert moves.count("all-reduce") == 2 * blocks
    # Beside them XLA gathers the qkv's kernel, whose columns are not cut between the heads.
    assert moves.count("all-gather") <= blocks and len(moves) <= 3 * blocks


def spread_program(config, text):
    config.sharding = text
    return make_program(
        Classification.of_size(config, 10), sharding.make_mesh(text), num_examples=40
    )


def test_a_device_holds_its_share_of_the_state(vit_config):
    vit_config.model.width = 768  # so that the blocks are nearly all of it
    whole = sharding.bytes_per_device(spread_program(vit_config, "data_parallel").state_shapes())
    shares = {"fsdp=2": 0.51, "fsdp": 0.14, "tensor_parallel=2": 0.53}
    for text, share in {**shares, "fsdp,tensor_parallel=2": 0.14}.items():
        held = sharding.bytes_per_device(spread_program(vit_config, text).state_shapes())
        assert held < share * whole, text


@pytest.mark.slow
def test_a_step_of_a_spread_state_holds_no_whole_one(vit_config):
    """By the compiled programs: what goes into them, and what they need meanwhile."""
    vit_config.model.width = 768
    memory = {}
    for text in ("data_parallel", "fsdp", "fsdp,tensor_parallel=2"):
        program = spread_program(vit_config, text)
        memory[text] = program.compile_train_step().memory_analysis()
        held = sharding.bytes_per_device(program.state_shapes())
        assert held <= memory[text].argument_size_in_bytes < 1.02 * held, text
        whole = memory["data_parallel"].temp_size_in_bytes
        assert memory[text].temp_size_in_bytes < 1.1 * whole, text


@pytest.mark.parametrize(
    ("field", "value", "sharding_text", "message"),
    [
        ("partitioner", "shard_map", "fsdp", "needs config.partitioner = 'jit'"),
        ("model.name", "resnet8", "tensor_parallel=2", "is for transformers"),
        ("model.name", "vit_s16", "tensor_parallel=4", "does not divide the 6 heads"),
    ],
)
def test_what_cannot_be_spread_is_refused(tiny_config, field, value, sharding_text, message):
    section, _, name = field.rpartition(".")
    (tiny_config[section] if section else tiny_config)[name] = value
    if value == "vit_s16":
        tiny_config.model.stem, tiny_config.model.width = "", 96
        tiny_config.data.image_size, tiny_config.model.bn_group_size = 32, 0
    tiny_config.sharding = sharding_text
    with pytest.raises(ConfigError, match=message):
        check_config(tiny_config, sharding.make_mesh(sharding_text))


def test_heads_that_the_devices_divide_are_spread(vit_config):
    vit_config.sharding = "tensor_parallel=2"
    check_config(vit_config, sharding.make_mesh(vit_config.sharding))  # six heads: no error
