"""The folder of an export: what can be in it, and that nothing else is lost for it."""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imagenet_jax.errors import ConfigError

INPUTS = ("uint8", "float32")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that a StableHLO file can be for
FACTS, STABLEHLO, WEIGHTS = "export.json", "program.stablehlo", "weights.safetensors"


class FormatFacts(NamedTuple):
    """A format in which a model can be exported.

    Attributes:
      file: its name in the folder.
      modules: what has to be installed to write and to check it, beside this program's own needs.
      calibrated: whether it is of integers, the ranges of which are found on images.
    """

    file: str
    modules: tuple[str, ...] = ()
    calibrated: bool = False


_ONNX = ("jax2onnx", "onnx", "onnxruntime")
FORMATS = {
    "stablehlo": FormatFacts(STABLEHLO),
    "safetensors": FormatFacts(WEIGHTS),
    "savedmodel": FormatFacts("savedmodel"),
    "onnx": FormatFacts("model.onnx", _ONNX),
    "onnx_int8": FormatFacts("model_int8.onnx", _ONNX, calibrated=True),
    "litert": FormatFacts("model.tflite", ("ai_edge_litert",)),
    "litert_float16": FormatFacts("model_float16.tflite", ("ai_edge_litert",)),
    "litert_int8": FormatFacts("model_int8.tflite", ("ai_edge_litert",), calibrated=True),
}
DEFAULT_FORMATS = ("stablehlo", "safetensors")


def check_formats(names: Sequence[str]) -> None:
    """Raises ConfigError for a format of which a package is not installed."""
    for name in names:
        absent = [module for module in FORMATS[name].modules if not _is_there(module)]
        if absent:
            packages = " ".join(module.replace("_", "-") for module in absent)
            raise ConfigError(f"--format={name} needs packages: pip install {packages}")


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def check_out(out: Path) -> None:
    """Raises ConfigError for a file, or a folder with anything else than an export in it."""
    if not out.exists():
        return
    there = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    own = {FACTS, *(facts.file for facts in FORMATS.values())}
    if others := sorted(there - own):
        raise ConfigError(f"--out={out} is there, with {others[0]}, and is no export; give another")


def files_of(path: Path) -> list[Path]:
    """The files of a format: itself, or all below a folder, in their order."""
    return sorted(Path(at, name) for at, _, names in os.walk(path) for name in names) or [path]


def publish(partial: Path, out: Path) -> None:
    """Gives a folder its name, in the place of an older export.

    Raises:
      OSError: if that is not possible; then the older one is there as before.
    """
    old = partial.with_name(f"{partial.name}.old")
    if out.exists():
        out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
