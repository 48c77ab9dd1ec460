"""`launch.py study`: compiles the step of a config for one or several ways to run it."""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import jax
import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.writers import write_summary
from imagenet_jax.study.chips import Chip
from imagenet_jax.study.described import check_described
from imagenet_jax.study.operations import Operation
from imagenet_jax.study.pictures import plot_layers, plot_roofline, plot_scaling
from imagenet_jax.study.topology import Hardware, find_hardware
from imagenet_jax.study.variant import Variant, jax_versions, study_variant
from imagenet_jax.terminal import working

TOP = 15


def study(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    topologies: Sequence[str] = ("",),
    partitioners: Sequence[str] = (),
    batches: Sequence[int] = (),
    strong: int = 0,
    trace: bool = False,
    with_input: bool = False,
    largest_batch: bool = False,
) -> dict[str, Any]:
    """Studies every combination; saves what it finds in workdir/study.

    Each variant leaves the compiled program (NAME.hlo), its operations (NAME.json), and two
    pictures (NAME_roofline.png, NAME_layers.png).

    Args:
      config, workdir: of the training run; the folder need not exist.
      topologies: see `topology.find_hardware`; "" for the attached devices.
      partitioners: "jit", "shard_map", "pmap"; none: the config's.
      batches: images per device; none: the config's batch spread over the devices.
      strong: if not 0, a global batch to be divided among the devices of each topology; then
        and where several topologies of one kind are given, scaling.png is drawn.
      trace: on attached devices, also keep a profile of a few steps in NAME_trace.
      with_input: on attached devices, also run on the config's data, for the wait for input.
      largest_batch: find it by compiling further batches, see `memory.largest_batch`.

    Returns:
      "variants": list of the facts of each, see `variant.Variant`; "versions"; "folder".

    Raises:
      UserError: for a topology that does not exist or a compiler that is not installed.
      ConfigError: for a config that `train` refuses, or pmap or input on described devices.
      DataError: with_input, if the data set is not there.
    """
    if any(topologies):
        check_described(partitioners or [config.partitioner], with_input)
    prepare_compilers(topologies)
    folder = workdir / "study"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for topology in topologies:
        hardware = find_hardware(topology)
        sizes = batches or [_batch_per_device(strong, config.batch_size, hardware)]
        for partitioner, batch in product(partitioners or [config.partitioner], sizes):
            name = variant_name(topology, partitioner, batch)
            with working(f"studying {name}"):
                variant = study_variant(
                    config,
                    hardware,
                    partitioner=partitioner,
                    batch_per_device=batch,
                    trace=folder / f"{name}_trace" if trace else None,
                    with_input=with_input,
                    search=largest_batch,
                )
            _save(variant, folder / name, hardware.chip)
            found.append(variant.facts)
    _draw_scaling(found, folder / "scaling.png")
    return {"variants": found, "versions": jax_versions(), "folder": str(folder)}


def _batch_per_device(strong: int, batch_size: int, hardware: Hardware) -> int:
    """Images of the global batch `strong`, if it is not 0, or of the config's."""
    count = hardware.mesh.size
    if strong % count:
        raise ConfigError(
            f"--strong={strong} does not divide by the {count} devices of {hardware.name}"
        )
    return max(1, (strong or batch_size) // count)


def _draw_scaling(variants: Sequence[dict[str, Any]], path: Path) -> None:
    """Of those that fit, if their numbers of devices differ."""
    fitting = [facts for facts in variants if facts["predicted_step_seconds"] is not None]
    if len({facts["num_devices"] for facts in fitting}) > 1:
        plot_scaling(fitting, path)


def prepare_compilers(topologies: Sequence[str]) -> None:
    """Settings that XLA's compilers read once, before the first use of JAX."""
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are results here
    if all(topologies):  # nothing runs, so a TPU or GPU of this machine can stay free
        jax.config.update("jax_platforms", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    # There is no GPU to time candidates on. XLA of jax 0.11 wants to be asked all the same.
    asked = "xla_gpu_autotune_level" in flags or jax.__version_info__[:2] == (0, 11)
    if all(topologies) and not asked:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0"


def variant_name(topology: str, partitioner: str, batch_per_device: int) -> str:
    """A file name, e.g. "v5e_2x2_shard_map_128"."""
    return f"{topology.replace(':', '_') or 'attached'}_{partitioner}_{batch_per_device}"


def _save(variant: Variant, stem: Path, chip: Chip) -> None:
    """Writes what a variant leaves, to STEM.hlo and so on; nothing of one that does not fit."""
    if variant.module is None:
        return
    facts = variant.facts
    facts["operations"] = [_listed(op) for op in costliest(variant.operations, TOP)]
    Path(f"{stem}.hlo").write_text(variant.text)
    listed = [_listed(operation) for operation in variant.operations]
    write_summary(Path(f"{stem}.json"), facts | {"operations": listed})
    plot_roofline(variant.operations, chip, facts, Path(f"{stem}_roofline.png"))
    plot_layers(facts, Path(f"{stem}_layers.png"))


def costliest(operations: list[Operation], count: int) -> list[Operation]:
    """By predicted time, the longest first."""
    return sorted(operations, key=lambda operation: -operation.seconds)[:count]


def _listed(operation: Operation) -> dict[str, Any]:
    return vars(operation).copy()
