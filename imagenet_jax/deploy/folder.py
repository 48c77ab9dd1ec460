"""The folder of an export: what can be in it, and that nothing else is lost for it."""

import shutil
from pathlib import Path

from imagenet_jax.errors import ConfigError

FORMATS = ("stablehlo", "safetensors")
INPUTS = ("uint8", "float32")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that a StableHLO file can be for
FACTS, STABLEHLO, WEIGHTS = "export.json", "program.stablehlo", "weights.safetensors"


def check_out(out: Path) -> None:
    """Raises ConfigError for a file, or a folder with anything else than an export in it."""
    if not out.exists():
        return
    there = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
    if others := sorted(there - {FACTS, STABLEHLO, WEIGHTS}):
        raise ConfigError(f"--out={out} is there, with {others[0]}, and is no export; give another")


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
