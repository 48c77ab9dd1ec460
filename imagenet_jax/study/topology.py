"""Hardware that is described, not attached: XLA's compilers for TPU and GPU run without it."""

import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from imagenet_jax.errors import UserError
from imagenet_jax.sharding import make_mesh
from imagenet_jax.study.chips import CHIPS, Chip
from imagenet_jax.study.local import local_chip

EXAMPLES = (
    "v2:2x2, v3:4x4, v4:2x2x1, v4:4x4x4, v5e:2x2, v5e:16x16, v5p:2x2x1, v5p:8x8x8, v6e:16x16, "
    "tpu7x:2x2x1; a100:8, h100:8, h200:8, b200:8, rtx3090:1, rtx4090:2; '' for the "
    "attached devices"
)
# Multiprocessors, their shared memory and L2 in bytes, compute capability; whitepapers as in chips.
_GPUS = {
    "a100": (108, 167936, 40 << 20, 8, 0),
    "h100": (132, 233472, 50 << 20, 9, 0),
    "h200": (132, 233472, 50 << 20, 9, 0),
    "b200": (148, 233472, 126 << 20, 10, 0),
    "rtx3090": (82, 102400, 6 << 20, 8, 6),
    "rtx4090": (128, 102400, 72 << 20, 8, 9),
}


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
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+)*", shape):
        raise UserError(f"there is no topology {name!r}; there are for instance {EXAMPLES}")
    chip = CHIPS[kind]
    describe = _describe_tpu if chip.platform == "tpu" else _describe_gpu
    mesh = make_mesh(devices=describe(kind, shape))
    return Hardware(name, mesh, chip, "tpu" if chip.platform == "tpu" else "cuda")


def _describe_tpu(kind: str, shape: str) -> list[jax.Device]:
    if not _installed("libtpu"):
        raise UserError(
            f"--topology={kind}:{shape} needs XLA's TPU compiler, which runs without a TPU: "
            "pip install libtpu"
        )
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
    if not shape.isdigit() or not int(shape):
        raise UserError(f"--topology={kind}:{shape}: a GPU topology is KIND:COUNT, as in {kind}:8")
    if kind not in _GPUS:
        raise UserError(
            f"--topology={kind}:{shape}: XLA's GPU compiler has ended its support of {kind}; it "
            f"knows {', '.join(_GPUS)}"
        )
    if not (_installed("jax_plugins.xla_cuda13") or _installed("jax_plugins.xla_cuda12")):
        raise UserError(
            f"--topology={kind}:{shape} needs XLA's GPU compiler, which runs without a GPU: pip "
            f"install --no-deps jax-cuda13-plugin=={jax.__version__} "
            f"jax-cuda13-pjrt=={jax.__version__}"
        )
    return topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=_target(kind), topology=f"1x1x{shape}"
    ).devices


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def _target(kind: str) -> str:
    """XLA's GpuTargetConfigProto of a GPU as text."""
    chip = CHIPS[kind]
    cores, shared, cache, major, minor = _GPUS[kind]
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
