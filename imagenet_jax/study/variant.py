"""Compiles the very step that `train` runs, for one way to run it, and takes down what it costs."""

import dataclasses
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import ml_collections

from imagenet_jax.config import validate_batch
from imagenet_jax.models.cost import count_macs
from imagenet_jax.program import Program, check_config, make_program
from imagenet_jax.study.chips import all_reduce_seconds
from imagenet_jax.study.hlo import Module, read_hlo
from imagenet_jax.study.measure import measure
from imagenet_jax.study.operations import (
    Operation,
    by_layer,
    by_phase,
    collectives,
    list_operations,
)
from imagenet_jax.study.topology import Hardware

# Classes and training examples of data sets that need not be opened to be studied.
_SIZES = {"digits": (10, 1437), "cifar10": (10, 50_000), "cifar100": (100, 50_000)}
_IMAGENET = (1000, 1_281_167)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A compiled step and its costs.

    Attributes:
      facts: what --json shows of it.
      operations: see `operations.Operation`.
      module: the compiled program.
      text: its scheduled HLO.
    """

    facts: dict[str, Any]
    operations: list[Operation]
    module: Module
    text: str


def study_variant(
    config: ml_collections.ConfigDict,
    hardware: Hardware,
    *,
    partitioner: str,
    batch_per_device: int,
    trace: Path | None = None,
) -> Variant:
    """Compiles and reckons; on attached devices it also runs the step, see `measure.measure`.

    Args:
      config: of the training run; batch_size and partitioner are replaced.
      hardware: see `topology.find_hardware`.
      partitioner: "jit", "shard_map" or "pmap".
      batch_per_device: images a step on each device.
      trace: folder for a profile, on attached devices.

    Raises:
      ConfigError: for a config that `train` refuses.
    """
    config = ml_collections.ConfigDict(config.to_dict())
    devices = hardware.mesh.size
    config.partitioner, config.batch_size = partitioner, batch_per_device * devices
    check_config(config, hardware.mesh)
    validate_batch(config, devices)
    classes, examples = _sizes(config)
    program = make_program(
        config,
        hardware.mesh,
        num_classes=classes,
        num_examples=max(examples, config.batch_size),
        platform=hardware.platform,
    )
    start = time.perf_counter()
    compiled = program.compile_train_step()
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    module = read_hlo(text)
    operations = list_operations(module, hardware.chip)
    facts = {
        "topology": hardware.name,
        "partitioner": partitioner,
        "batch_per_device": batch_per_device,
        "num_devices": devices,
        "model": config.model.name,
        "num_classes": classes,
        "chip": hardware.chip.name,
        "compile_seconds": seconds,
        **_memory(compiled, hardware),
        **_costs(program, compiled, module, operations, hardware, batch_per_device),
    }
    if hardware.platform is None:
        facts["measured"] = measure(program, compiled, trace)
    return Variant(facts, operations, module, text)


def _sizes(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """Classes and examples, without opening the data."""
    if config.data.name == "fake":
        return config.data.fake_classes, config.data.fake_train_examples
    return _SIZES.get(config.data.name, _IMAGENET)


def _memory(compiled: Any, hardware: Hardware) -> dict[str, Any]:
    """Bytes of one device: of the state, while the step runs, and of the program."""
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes
    peak += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    peak += memory.generated_code_size_in_bytes
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "generated_code_bytes": memory.generated_code_size_in_bytes,
        "peak_bytes": peak,
        "capacity_bytes": hardware.chip.hbm_bytes,
        "fits": peak <= hardware.chip.hbm_bytes,
    }


def _costs(
    program: Program,
    compiled: Any,
    module: Module,
    operations: list[Operation],
    hardware: Hardware,
    batch: int,
) -> dict[str, Any]:
    chip, devices = hardware.chip, hardware.mesh.size
    analysis = compiled.cost_analysis() or {}
    flops = analysis.get("flops") or sum(operation.flops for operation in operations)
    traffic = sum(op.bytes for op in operations if op.kind not in ("copy", "slice"))
    num_bytes = analysis.get("bytes accessed") or sum(op.bytes for op in operations)
    shared = collectives(operations, module)
    compute = sum(operation.seconds for operation in operations)
    size = shared.get("all-reduce", {"bytes": 0})["bytes"]
    communication = all_reduce_seconds(chip, size, devices)
    step = compute + communication
    model_flops = 6 * count_macs(program.model, program.config.data.image_size)
    return {
        "flops": flops,
        "flops_per_image": flops / batch,
        "model_flops_per_image": model_flops,
        "bytes_accessed": num_bytes,
        "operation_bytes": traffic,
        "arithmetic_intensity": flops / num_bytes if num_bytes else 0.0,
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
