import jax
import jax.numpy as jnp
import pytest

from imagenet_jax.study.chips import CHIPS, collective_seconds
from imagenet_jax.study.hlo import read_hlo, shape_bytes
from imagenet_jax.study.operations import list_operations, place

STEP = "jit(train_step)/shard_map/"
RESNET, VIT = "transpose(jvp(ResNet))/", "transpose(jvp(ViT))/"


@pytest.mark.parametrize(
    ("path", "layer", "phase"),
    [
        ("jvp(ResNet)/layer1.0/conv1/conv_general_dilated", "layer1.0/conv1", "forward"),
        (
            "transpose(jvp(ResNet))/layer1.0/conv1/conv_general_dilated",
            "layer1.0/conv1",
            "backward",
        ),
        (
            "transpose(jvp(ViT))/blocks.0/attn/vmap(BNTS,BSNH->BTNH)/dot",
            "blocks.0/attn",
            "backward",
        ),
        ("jvp(ResNet)/jit(relu)/max", "", "forward"),
        ("jvp()/augment/mul", "", "input"),
        ("optimizer/add", "", "optimizer"),
        ("psum", "", "other"),
    ],
)
def test_place(path, layer, phase):
    assert place(STEP + path) == (layer, phase)


def test_collectives_have_their_own_phase():
    assert place(STEP + "optimizer/add", "all-reduce") == ("", "collectives")


def test_shape_bytes():
    assert shape_bytes("bf16[128,56,56,256]{3,0,2,1:T(8,128)(2,1)}") == 205520896
    scratch = "bf16[128,56,56,256]{3,0,2,1:T(8,128)(2,1)S(1)}"
    assert (shape_bytes(scratch), shape_bytes(scratch, only_hbm=False)) == (0, 205520896)
    assert shape_bytes("(f32[3]{0}, u8[2,2]{1,0}, pred[], token[])") == 12 + 4 + 1 + 4


def test_flops_and_bytes_of_a_program():
    """A convolution and its two gradients, and a loop around a product."""

    def program(x, kernel, matrix):
        def conv(x, kernel):
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        out, vjp = jax.vjp(conv, x, kernel)
        loop = jax.lax.fori_loop(0, 5, lambda _, m: jnp.sin(m @ m), matrix)
        return out, vjp(out), loop

    shapes = [(8, 10, 10, 16), (1, 1, 16, 32), (64, 64)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    module = read_hlo(jax.jit(program).lower(*arguments).compile().as_text())
    operations = list_operations(module, CHIPS["h100"])
    convolution = 2 * 8 * 10 * 10 * 16 * 32
    assert sum(op.flops for op in operations) == 3 * convolution + 5 * 2 * 64**3
    assert max(op.count for op in operations) == 5
    source = {op.source.rpartition("/")[2].partition(":")[0] for op in operations}
    assert "test_operations.py" in source


@pytest.mark.parametrize("stride", [1, 2])
def test_padding_does_not_count(stride):
    """A 3x3 kernel over 5x5 pixels and their padding, and its two gradients."""
    shapes = [(2, 5, 5, 4), (3, 3, 4, 8)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def program(x, kernel):
        def conv(x, kernel):
            return jax.lax.conv_general_dilated(
                x, kernel, (stride,) * 2, [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        out, vjp = jax.vjp(conv, x, kernel)
        return out, vjp(out)

    lowered = jax.jit(program).lower(*arguments)
    module = read_hlo(lowered.compile().as_text())
    along = sum(0 <= o * stride + k - 1 < 5 for o in range(-(-5 // stride)) for k in range(3))
    flops = [op.flops for op in list_operations(module, CHIPS["h100"]) if op.flops]
    assert flops == 3 * [2 * 2 * 4 * 8 * along**2]


def test_ring_all_reduce():
    chip = CHIPS["v5e"]
    assert collective_seconds(chip, "all-reduce", 1e9, 1) == 0
    assert collective_seconds(chip, "all-reduce", 1e9, 4) == pytest.approx(1.5e9 / 200e9)
    # An all-reduce is a reduce-scatter and an all-gather of the parts.
    scattered = collective_seconds(chip, "reduce-scatter", 1e9, 4)
    assert scattered + collective_seconds(chip, "all-gather", 0.25e9, 4) == pytest.approx(
        collective_seconds(chip, "all-reduce", 1e9, 4)
    )


def test_every_chip_has_facts_and_a_source():
    for chip in CHIPS.values():
        assert 1e13 < chip.flops < 1e16
        assert 1e11 < chip.hbm_bandwidth < 1e13
        assert chip.source
