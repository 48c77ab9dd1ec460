"""Which hardware can be described, and which of XLA's compilers that takes."""

import importlib.util
import re
from collections.abc import Sequence
from importlib import metadata

from imagenet_jax.errors import ConfigError, UserError
from imagenet_jax.study.chips import CHIPS

EXAMPLES = (
    "v2:2x2, v3:4x4, v4:2x2x1, v4:4x4x4, v5e:2x2, v5e:16x16, v5p:2x2x1, v5p:8x8x8, v6e:16x16, "
    "tpu7x:2x2x1; a100:8, h100:8, h200:8, b200:8, rtx3090:1, rtx4090:2; '' for the "
    "attached devices"
)
# Multiprocessors, their shared memory and L2 in bytes, compute capability; whitepapers as in chips.
GPUS = {
    "a100": (108, 167936, 40 << 20, 8, 0),
    "h100": (132, 233472, 50 << 20, 9, 0),
    "h200": (132, 233472, 50 << 20, 9, 0),
    "b200": (148, 233472, 126 << 20, 10, 0),
    "rtx3090": (82, 102400, 6 << 20, 8, 6),
    "rtx4090": (128, 102400, 72 << 20, 8, 9),
}


def check_topology(name: str) -> None:
    """Raises UserError for a kind or shape of hardware that does not exist, KIND:SHAPE."""
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch("[0-9]{1,6}(x[0-9]{1,6}){0,3}", shape):
        raise UserError(f"there is no topology {name!r}; there are for instance {EXAMPLES}")
    if CHIPS[kind].platform == "tpu":
        return
    if not shape.isdigit() or not int(shape):
        raise UserError(f"--topology={name}: a GPU topology is KIND:COUNT, as in {kind}:8")
    if kind not in GPUS:
        raise UserError(
            f"--topology={name}: XLA's GPU compiler has ended its support of {kind}; it "
            f"knows {', '.join(GPUS)}"
        )


def check_compiler(name: str) -> None:
    """Raises UserError, with the command that installs it, if a topology's compiler is missing."""
    if CHIPS[name.partition(":")[0]].platform == "tpu":
        if not _installed("libtpu"):
            raise UserError(
                f"--topology={name} needs XLA's TPU compiler, which runs without a TPU: "
                "pip install libtpu"
            )
    elif not (_installed("jax_plugins.xla_cuda13") or _installed("jax_plugins.xla_cuda12")):
        version = metadata.version("jax")
        raise UserError(
            f"--topology={name} needs XLA's GPU compiler, which runs without a GPU: pip "
            f"install --no-deps jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}"
        )


def check_described(partitioners: Sequence[str], with_input: bool) -> None:
    """Raises ConfigError for what described devices cannot do."""
    if with_input:
        raise ConfigError("--with_input needs attached devices: described ones cannot run")
    if "pmap" in partitioners:
        raise ConfigError(
            "--partitioner=pmap needs attached devices: jax.pmap does not take described ones; "
            "shard_map compiles the same program"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False
