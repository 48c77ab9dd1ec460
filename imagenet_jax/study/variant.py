"""Compiles the very step that `train` runs, for one way to run it, and takes down what it costs."""

import dataclasses
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import ml_collections

from imagenet_jax.config import network_name
from imagenet_jax.data import Split
from imagenet_jax.data.names import known_size, train_size
from imagenet_jax.devices.parallel import compiler_options
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.models.cost import count_macs
from imagenet_jax.study.chips import collective_seconds
from imagenet_jax.study.hlo import Module, read_hlo, shape_bytes
from imagenet_jax.study.measure import measure
from imagenet_jax.study.memory import fit_step, largest_batch, memory_facts
from imagenet_jax.study.operations import (
    Operation,
    by_layer,
    by_phase,
    collectives,
    list_operations,
)
from imagenet_jax.study.passes import passes_of_views
from imagenet_jax.study.topology import Hardware
from imagenet_jax.tasks.table import make_task, task_split
from imagenet_jax.terminal import say
from imagenet_jax.training.checks import batch_unit
from imagenet_jax.training.program import Program, make_program
from imagenet_jax.training.program_checks import check_config

# What is reported of a step that compiles, besides its memory and how it was to be run.
FIGURES = (
    *("argument_bytes", "temporary_bytes", "aliased_bytes", "generated_code_bytes"),
    *("flops", "flops_per_image", "model_flops_per_image", "bytes_accessed", "hbm_bytes"),
    *("arithmetic_intensity", "roofline_seconds", "bound", "estimated_cycles", "collectives"),
    *("all_reduces", "collective_seconds", "fusions", "copies", "aliased_outputs"),
    *("predicted_step_seconds", "predicted_images_per_second_per_chip"),
    *("predicted_images_per_second", "mfu", "phases", "layers"),
)


# What XLA says of products in transformers whose Triton kernels it cannot try on a GPU.
_NO_TILES = "Couldn't find output tile sizes"
_WITHOUT_TRITON = "xla_gpu_enable_triton_gemm=false"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A compiled step and its costs.

    Attributes:
      facts: what --json shows of it; None for what is not known of a step that does not fit.
      operations: see `operations.Operation`.
      module: the compiled program; None if it does not fit.
      text: its scheduled HLO.
    """

    facts: dict[str, Any]
    operations: list[Operation]
    module: Module | None
    text: str


def study_variant(
    config: ml_collections.ConfigDict,
    hardware: Hardware,
    *,
    partitioner: str,
    batch_per_device: int,
    trace: Path | None = None,
    with_input: bool = False,
    search: bool = False,
) -> Variant:
    """Compiles and reckons; on attached devices it also runs the step, see `measure.measure`.

    Args:
      config: of the training run; batch_size and partitioner are replaced.
      hardware: see `topology.find_hardware`.
      partitioner: "jit", "shard_map" or "pmap".
      batch_per_device: images a step on each device.
      trace: folder for a profile, on attached devices.
      with_input: run on the training data as well, on attached devices.
      search: compile further batches for the largest that fits, see `memory.largest_batch`.

    Raises:
      ConfigError: for a config that `train` refuses.
      DataError: with_input, if the data set is not there.
    """
    how = {"partitioner": partitioner, "batch_per_device": batch_per_device, "trace": trace}
    how |= {"with_input": with_input, "search": search}
    try:
        return _study(config, hardware, **how)
    except jax.errors.JaxRuntimeError as error:
        if hardware.platform != "cuda" or _NO_TILES not in str(error):
            raise
        say(f"without a GPU XLA finds no tiles for a product of matrices: {_WITHOUT_TRITON} now")
        config = config.copy_and_resolve_references()
        config.compiler_options = (*config.compiler_options, _WITHOUT_TRITON)
        return _study(config, hardware, **how)


def _study(
    config: ml_collections.ConfigDict,
    hardware: Hardware,
    *,
    partitioner: str,
    batch_per_device: int,
    trace: Path | None,
    with_input: bool,
    search: bool,
) -> Variant:
    split = task_split(config, train=True) if with_input else None
    make = partial(_program, config, hardware, partitioner, split)
    program = make(batch_per_device)
    facts = {
        "topology": hardware.name,
        "partitioner": partitioner,
        "batch_per_device": batch_per_device,
        "num_devices": hardware.mesh.size,
        "model": network_name(config),
        "chip": hardware.chip.name,
        "capacity_bytes": hardware.chip.hbm_bytes,
        "compiler_options": compiler_options(
            config.compiler_options, hardware.mesh.devices.flat[0]
        ),
    }
    start = time.perf_counter()
    fit = fit_step(program, hardware)
    facts["compile_seconds"] = time.perf_counter() - start
    facts |= dict.fromkeys(FIGURES) | memory_facts(fit)
    if search:
        unit = batch_unit(config)
        found = largest_batch(
            fit, batch_per_device, unit, lambda batch: fit_step(make(batch), hardware)
        )
        facts |= {"largest_batch_per_device": found, "largest_batch_compiled": True}
    compiled = fit.compiled
    if compiled is None:
        return Variant(facts, [], None, "")
    text = compiled.as_text()
    module = read_hlo(text)
    operations = list_operations(module, hardware.chip)
    facts |= _costs(program, compiled, module, operations, hardware)
    if hardware.platform is None:
        facts["measured"] = measure(program, compiled, trace, split)
    return Variant(facts, operations, module, text)


def _program(
    config: ml_collections.ConfigDict,
    hardware: Hardware,
    partitioner: str,
    split: Split | None,
    batch: int,
) -> Program:
    """What `train` would compile there, if need be without opening the data."""
    examples = split.num_examples if split else known_size(config.data)[1]
    mesh = make_mesh(config.sharding, list(hardware.mesh.devices.flat))
    batch_size = batch * hardware.mesh.size
    # As many steps as the run has: a warmup given in steps need not fit into fewer.
    examples = max(batch_size, examples * batch_size // config.batch_size)
    config = ml_collections.ConfigDict(config.to_dict())
    config.partitioner, config.batch_size = partitioner, batch_size
    check_config(config, mesh)
    task = make_task(config, split)
    return make_program(task, mesh, num_examples=examples, platform=hardware.platform)


def _costs(
    program: Program,
    compiled: Any,
    module: Module,
    operations: list[Operation],
    hardware: Hardware,
) -> dict[str, Any]:
    chip, devices = hardware.chip, hardware.mesh.size
    batch = program.config.batch_size // devices
    flops, num_bytes = _analysis(compiled, module, operations)
    traffic = sum(operation.bytes for operation in operations)
    shared = collectives(operations, module)
    compute = sum(operation.seconds for operation in operations)
    communication = sum(
        collective_seconds(chip, kind, sums["bytes"], devices) for kind, sums in shared.items()
    )
    step = compute + communication
    passes = passes_of_views(program.config)
    model_flops = 6 * passes * count_macs(program.model, train_size(program.config.data))
    if teacher := program.teacher:  # forward alone
        model_flops += 2 * count_macs(teacher.model, teacher.image_size)
    if program.config.augment.mix_per == "half":  # the network sees one of two that are read
        model_flops /= 2
    return {
        "flops": flops,
        "flops_per_image": flops / batch,
        "model_flops_per_image": model_flops,
        "bytes_accessed": num_bytes,
        "hbm_bytes": traffic,
        "arithmetic_intensity": flops / traffic if traffic else 0.0,
        "roofline_seconds": chip.roofline_seconds(flops, traffic),
        "bound": "memory" if traffic / chip.hbm_bandwidth > flops / chip.flops else "compute",
        "estimated_cycles": sum(i.cycles * n for i, n in module.main()),
        "collectives": shared,
        "all_reduces": shared.get("all-reduce", {"count": 0})["count"],
        "collective_seconds": communication,
        "fusions": sum(i.opcode == "fusion" for i, _ in module.main()),
        "copies": sum(i.opcode == "copy" for i, _ in module.main()),
        "aliased_outputs": module.aliased_outputs,
        "predicted_step_seconds": step,
        "predicted_images_per_second_per_chip": batch / step,
        "predicted_images_per_second": batch * devices / step,
        "mfu": model_flops * batch / (step * chip.flops),
        "phases": by_phase(operations),
        "layers": by_layer(operations),
    }


def _analysis(compiled: Any, module: Module, operations: list[Operation]) -> tuple[float, float]:
    """FLOPs and bytes accessed, in scratch memory too, by XLA's cost analysis.

    It goes through a loop once; what the other trips cost is added, for bytes in proportion to
    what the shapes of the operations say.
    """
    analysis = compiled.cost_analysis() or {}
    flops = analysis.get("flops") or sum(
        operation.flops / operation.count for operation in operations
    )
    num_bytes = analysis.get("bytes accessed") or sum(op.bytes / op.count for op in operations)
    named = {op.name: op for op in operations}
    once = again = 0
    for instruction, times in module.main():
        if instruction.name in named:
            shapes = [module.shapes.get(name, "") for name in instruction.operands]
            size = sum(shape_bytes(s, only_hbm=False) for s in (*shapes, instruction.shape))
            once, again = once + size, again + (times - 1) * size
            flops += (times - 1) / times * named[instruction.name].flops
    return flops, num_bytes * (1 + again / once if once else 1)


def jax_versions() -> dict[str, str]:
    """Of what decides on the compiled program."""
    names = ("jax", "jaxlib", "flax", "optax", "libtpu", "jax-cuda13-plugin")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"backend": jax.default_backend()}
