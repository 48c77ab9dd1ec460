"""Hardware that is described, not attached: XLA's compilers for TPU and GPU run without it."""

import dataclasses
import os

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import UserError
from imagenet_jax.study.chips import CHIPS, Chip
from imagenet_jax.study.described import EXAMPLES, GPUS, check_compiler, check_topology
from imagenet_jax.study.local import local_chip


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Devices to compile for.

    Attributes:
      name: the topology, e.g. "v5e:16x16"; "attached" for the devices of this process.
      mesh: over all of them.
      chip: what is known of one, see `chips.Chip`.
      platform: for the lowering, "tpu" or "cuda"; None for attached devices.
    """

    name: str
    mesh: Mesh
    chip: Chip
    platform: str | None


def find_hardware(name: str) -> Hardware:
    """The hardware of a topology's name, KIND:SHAPE; "" for the attached devices.

    Raises:
      UserError: for a kind or shape that does not exist, with those that do, or if the
        compiler is not installed, with the command that installs it.
    """
    if not name:
        mesh = make_mesh()
        return Hardware("attached", mesh, local_chip(mesh.devices.flat[0]), None)
    check_topology(name)
    check_compiler(name)
    kind, _, shape = name.partition(":")
    chip = CHIPS[kind]
    describe = _describe_tpu if chip.platform == "tpu" else _describe_gpu
    mesh = make_mesh(devices=describe(kind, shape))
    return Hardware(name, mesh, chip, "tpu" if chip.platform == "tpu" else "cuda")


def _describe_tpu(kind: str, shape: str) -> list[jax.Device]:
    # Without a TPU: no metadata server to ask, and several processes may compile side by side.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{shape}").devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"XLA knows no topology {kind}:{shape} ({str(error).splitlines()[0]}); there are for "
            f"instance {EXAMPLES}"
        ) from error


def _describe_gpu(kind: str, shape: str) -> list[jax.Device]:
    return topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=_target(kind), topology=f"1x1x{shape}"
    ).devices


def _target(kind: str) -> str:
    """XLA's GpuTargetConfigProto of a GPU as text."""
    chip = CHIPS[kind]
    cores, shared, cache, major, minor = GPUS[kind]
    facts = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "shared_memory_per_core": shared,
        "threads_per_core_limit": 1536 if minor else 2048,
        "core_count": cores,
        "fpus_per_core": 128 if minor or major > 8 else 64,
        "block_dim_limit_x": 2147483647,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": int(chip.hbm_bandwidth),
        "l2_cache_size": cache,
        "clock_rate_ghz": chip.clock / 1e9,
        "device_memory_size": int(chip.hbm_bytes),
        "shared_memory_per_block_optin": shared - 1024,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
    }
    listed = " ".join(f"{name}: {value}" for name, value in facts.items())
    capability = f"major: {major} minor: {minor}"
    return (
        f"gpu_device_info {{ {listed} cuda_compute_capability {{ {capability} }} }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } '
        f'runtime_version {{ major: 13 minor: 0 }} device_description_str: "{kind}"'
    )
