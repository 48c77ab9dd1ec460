"""What the compiled step needs of a chip's memory, and the largest batch that fits into it."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax

from imagenet_jax.devices.parallel import peak_bytes
from imagenet_jax.devices.sharding import bytes_per_device
from imagenet_jax.study.topology import Hardware
from imagenet_jax.training.program import Program


@dataclasses.dataclass(frozen=True)
class Fit:
    """A step that was compiled, or that XLA would not compile for lack of memory.

    Attributes:
      compiled: None if XLA refused.
      peak_bytes: of one device while the step runs; of a refused one what XLA says it needs, inf
        if it does not say.
      capacity_bytes: of the chip.
      estimated_batch: images per device that fill it, if all but the state, a gradient and the
        program grows with the batch. Rough: few images leave much in scratch memory, and for
        many XLA computes activations again rather than keep them.
    """

    compiled: jax.stages.Compiled | None
    peak_bytes: float
    capacity_bytes: int
    estimated_batch: int

    @property
    def fits(self) -> bool:
        return self.compiled is not None and self.peak_bytes <= self.capacity_bytes


def fit_step(program: Program, hardware: Hardware) -> Fit:
    """Compiles the train step. Raises what XLA raises for other reasons than memory."""
    code = 0
    try:
        compiled = program.compile_train_step()
        peak, code = peak_bytes(compiled), compiled.memory_analysis().generated_code_size_in_bytes
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        compiled, peak = None, _required_bytes(str(error))
    state, capacity = program.state_shapes(), hardware.chip.hbm_bytes
    teacher = program.teacher.shapes(program.mesh) if program.teacher else ()
    fixed = code + bytes_per_device((state, state.params, teacher))
    batch = program.config.batch_size // hardware.mesh.size
    estimate = max(0, int((capacity - fixed) * batch // max(peak - fixed, 1)))
    return Fit(compiled, peak, capacity, estimate)


def _required_bytes(error: str) -> float:
    found = re.search(r"\(([\d.]+)([KMG])\) exceeds", error)
    return float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30}[found[2]] if found else math.inf


def memory_facts(fit: Fit) -> dict[str, Any]:
    """Bytes of one device: of the state, while the step runs, and of the program."""
    known = math.isfinite(fit.peak_bytes)
    facts = {
        "peak_bytes": fit.peak_bytes if known else None,
        "fits": fit.fits,
        "largest_batch_per_device": fit.estimated_batch if known else None,
        "largest_batch_compiled": False,
    }
    if fit.compiled is None:
        return facts
    memory = fit.compiled.memory_analysis()
    return facts | {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "generated_code_bytes": memory.generated_code_size_in_bytes,
    }


def largest_batch(fit: Fit, batch: int, unit: int, fit_of: Callable[[int], Fit]) -> int:
    """The largest batch per device that compiles within memory, found by compiling.

    Args:
      fit: of the batch to start from.
      batch: that batch, a multiple of `unit`.
      unit: images; batches are multiples of it.
      fit_of: compiles the step for a batch per device.

    Returns:
      Images that fit, where an eighth more, or one unit, do not; 0 if not even one unit fits.
    """
    fitting, failing, tried, stride = 0, math.inf, batch // unit, 1
    while True:
        if fit.fits:
            fitting = tried
        else:
            failing = tried
        step = max(1, fitting // 8)
        if failing - fitting <= step:
            return fitting * unit
        tried = fit.estimated_batch // unit
        if not fitting + step <= tried <= failing - step:
            if failing < math.inf:
                tried = (fitting + failing) // 2
            else:  # first a step further, which ends it unless XLA computes more again
                tried, stride = fitting + stride * step, 2 * stride
        fit = fit_of(tried * unit)
