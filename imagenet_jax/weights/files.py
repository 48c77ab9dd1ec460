"""Weights in files: torch's .pth, .safetensors, .npz and Orbax's checkpoints."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.pretrained import check_file
from imagenet_jax.weights.torch_file import read_torch_file
from imagenet_jax.weights.torch_layout import export_arrays


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a .pth (also .pt, .bin), .safetensors or .npz file.

    Raises:
      WeightsError: if the file is missing, damaged, unsafe or of another kind.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    return read_torch_file(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{path} is damaged or no npz file: {error}") from error


def write_safetensors(
    path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Exports the variables of a model as a state_dict in torch's layout; atomic."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        safetensors.numpy.save_file(export_arrays(variables), partial, dict(metadata or {}) or None)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
