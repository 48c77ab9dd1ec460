"""Weights in files: torch's .pth, .safetensors and .npz."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from imagenet_jax.atomic import replacing
from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.archive import DAMAGE, open_archive
from imagenet_jax.weights.pickle_data import shown
from imagenet_jax.weights.pretrained import check_file
from imagenet_jax.weights.state_dict import StateDict, read_torch_file, without_prefixes
from imagenet_jax.weights.torch_layout import export_arrays

# Of safetensors; others, of 8 bits and less, need scales that a file names in its own way.
_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
)


def read_weights(path: Path) -> StateDict:
    """The named arrays of a file of torch.save, .safetensors or .npz.

    Raises:
      WeightsError: if the file is missing, damaged, unsafe or of another kind.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        return StateDict(without_prefixes(path, _read_safetensors(path)))
    if path.suffix == ".npz":
        return StateDict(_read_npz(path))
    return read_torch_file(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118, it is no dict
                dtype = file.get_slice(name).get_dtype()
                if dtype not in _DTYPES:
                    raise WeightsError(
                        f"{path}: {shown(name)} is of the dtype {dtype}; read are "
                        f"{', '.join(_DTYPES)}. Convert it where it was made"
                    )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged or no safetensors file: {shown(str(error))}"
        ) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with open_archive(path) as archive:
            return {
                name.removesuffix(".npy"): _read_npy(archive.read(name))
                for name in archive.namelist()
            }
    except (WeightsError, *DAMAGE) as error:
        raise WeightsError(
            f"{path} is damaged or no npz file of arrays: {shown(str(error))}"
        ) from error


def _read_npy(data: bytes) -> np.ndarray:
    """An array of a .npy file, a view of its bytes: a header cannot ask for more than they are."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise WeightsError(f"it is of the version {version} of the npy format")
    shape, by_columns, dtype = readers[version](file)
    if dtype == np.dtype("V2"):  # what NumPy writes for JAX's bfloat16
        dtype = np.dtype(ml_dtypes.bfloat16)
    elif dtype.kind not in "fiub":
        raise WeightsError(f"it has an array of {dtype}; expected numbers")
    if min(shape, default=0) < 0:
        raise WeightsError(f"it has an array of the impossible shape {shape}")
    array = np.frombuffer(data, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if by_columns else "C")


def write_safetensors(
    path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Exports the variables of a model as a state_dict in torch's layout; atomic."""
    with replacing(path) as partial:
        safetensors.numpy.save_file(export_arrays(variables), partial, dict(metadata or {}) or None)
