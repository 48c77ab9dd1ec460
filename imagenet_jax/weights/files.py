"""Weights in files: torch's .pth, .safetensors and .npz."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging

from imagenet_jax.atomic import replacing
from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.archive import DAMAGE, open_archive
from imagenet_jax.weights.pickle_data import shown
from imagenet_jax.weights.pretrained import check_file
from imagenet_jax.weights.state_dict import StateDict, read_torch_file, without_prefixes
from imagenet_jax.weights.torch_layout import export_arrays

# Of safetensors. NumPy does not know those of 8 bits; of fewer, values share a byte.
_FLOATS8 = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}
_DTYPES = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (64, 32, 16)},
    "BF16": ml_dtypes.bfloat16,
    **{f"I{bits}": f"<i{bits // 8}" for bits in (64, 32, 16, 8)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (64, 32, 16, 8)},
    "BOOL": "?",
    **_FLOATS8,
}
_SCALE = re.compile(r"[._]scale(_inv)?$|scale_weight$")  # of an array of 8 bits, to be applied


def read_weights(path: Path) -> StateDict:
    """The named arrays of a file of torch.save, .safetensors or .npz.

    Raises:
      WeightsError: if the file is missing, damaged, unsafe or of another kind.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        return StateDict(without_prefixes(path, _read_safetensors(path)), _named_classes(path))
    if path.suffix == ".npz":
        return StateDict(_read_npz(path))
    return read_torch_file(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            _check_dtypes(path, dtypes)
            if not _FLOATS8.keys() & set(dtypes.values()):
                return {name: file.get_tensor(name) for name in dtypes}
        return {
            name: np.frombuffer(array["data"], _DTYPES[array["dtype"]]).reshape(array["shape"])
            for name, array in safetensors.deserialize(path.read_bytes())
        }
    except (safetensors.SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged or no safetensors file: {shown(str(error))}"
        ) from error


def _named_classes(path: Path) -> tuple[str, ...]:
    """What `launch.py average` wrote of the classes into a file's metadata; () without it."""
    with safetensors.safe_open(path, "numpy") as file:
        text = (file.metadata() or {}).get("class_names", "[]")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    good = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if good else ()


def _check_dtypes(path: Path, dtypes: Mapping[str, str]) -> None:
    """Raises WeightsError for a dtype that is not read, or that needs scales beside it."""
    for name, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise WeightsError(
                f"{path}: {shown(name)} is of the dtype {dtype}; read are "
                f"{', '.join(_DTYPES)}. Convert it where it was made"
            )
    small = [name for name, dtype in dtypes.items() if dtype in _FLOATS8]
    scale = next((name for name in dtypes if small and _SCALE.search(name)), "")
    if scale:
        raise WeightsError(
            f"{path}: {shown(small[0])} is of the dtype {dtypes[small[0]]}, with scales in "
            f"{shown(scale)}, which are not applied here. Convert it to F32 where it was made"
        )
    if small:
        logging.warning("%s: %d arrays are floats of 8 bits, read as they are", path, len(small))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with open_archive(path) as archive:
            return {
                name.removesuffix(".npy"): _read_npy(name, archive.read(name))
                for name in archive.namelist()
            }
    except (WeightsError, *DAMAGE) as error:
        raise WeightsError(
            f"{path} is damaged or no npz file of arrays: {shown(str(error))}"
        ) from error


def _read_npy(name: str, data: bytes) -> np.ndarray:
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
        raise WeightsError(
            f"{name!r} is an array of {dtype}; expected numbers. Convert it to float32 where it "
            "was made: the format does not keep what NumPy does not know"
        )
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
