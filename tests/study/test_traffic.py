"""Bytes of memory traffic: by hand for a TPU program's lines, and for a loop over slices."""

import jax
import jax.numpy as jnp

from imagenet_jax.study.hlo import read_hlo
from imagenet_jax.study.traffic import memory_traffic

TPU = """HloModule step, is_scheduled=true

%fused (p0: f32[8,128], p1: f32[8,128]) -> f32[8,128] {
  %p0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %p1 = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
  ROOT %add = f32[8,128]{1,0:T(8,128)} add(%p0, %p1)
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %copy-start = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %slice-start = ((f32[8,128]{1,0:T(8,128)}), f32[2,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:128]}
  %slice-done = f32[2,128]{1,0:T(8,128)S(1)} slice-done(%slice-start)
  ROOT %fusion = f32[8,128]{1,0:T(8,128)} fusion(%a, %copy-done), kind=kLoop, calls=%fused
}
"""  # noqa: E501


def test_scratch_memory_is_no_traffic():
    module = read_hlo(TPU)
    found = {i.name: memory_traffic(module, i) for i, _ in module.main()}
    assert found["copy-start"] == 4 * 8 * 128  # read from HBM, written to scratch memory
    assert found["slice-start"] == 4 * 2 * 128
    assert found["fusion"] == 2 * 4 * 8 * 128  # one operand and the result


def test_loops_read_and_write_slices():
    """A scan reads and writes one row a turn, not the whole array."""
    rows, width = 50, 4096

    def program(x):
        return jax.lax.scan(lambda carry, row: (carry, jnp.sin(row)), 0.0, x)[1]

    shape = jax.ShapeDtypeStruct((rows, width), jnp.float32)
    module = read_hlo(jax.jit(program).lower(shape).compile().as_text())
    moves = ("parameter", "tuple", "get-tuple-element", "constant", "bitcast", "copy")
    total = sum(
        memory_traffic(module, i) * times for i, times in module.main() if i.opcode not in moves
    )
    assert 2 * 4 * rows * width <= total < 4 * 4 * rows * width
