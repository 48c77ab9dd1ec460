"""Reads the arrays of torch.save's files without torch, and without running what is in them.

The formats are those of torch/serialization.py: a zip archive since torch 1.6, before that
five pickles and the raw storages one after the other. See `pickle_data` for why no file can do
anything here but describe tensors.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.archive import DAMAGE, open_archive
from imagenet_jax.weights.pickle_data import UNREAD, Name, dict_of, read_pickle, refused_call, shown

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Storage(NamedTuple):
    """Memory that tensors are views of."""

    key: str
    dtype: np.dtype


class Tensor(NamedTuple):
    """A view of a storage; offset and strides in values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile(NamedTuple):
    """What torch.save wrote: `tree` of dicts, lists and `Tensor`s, whose `view` has the values."""

    tree: Any
    storages: Mapping[str, np.ndarray]

    def view(self, tensor: Tensor) -> np.ndarray:
        """The values of a tensor, not to be written to; checked to lie within its storage."""
        values = self.storages[tensor.storage.key]
        _, offset, shape, strides = tensor
        if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
            raise WeightsError(shown(f"impossible shape {shape}, strides {strides}"))
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        # One value can be shown as a tensor of terabytes: that is refused, too.
        if math.prod(shape) and max(last + 1, math.prod(shape)) > len(values):
            raise WeightsError(
                shown(f"a tensor of shape {shape} reaches over the end of its storage")
            )
        bytes_apart = [stride * values.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, bytes_apart, writeable=False)


def open_torch_file(path: Path) -> TorchFile:
    """Reads a file that torch.save wrote.

    Raises:
      WeightsError: if the file is damaged, wants to call anything but what makes tensors, is a
        TorchScript, or takes far more memory than its size.
    """
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise WeightsError(
            f"{path} is damaged or no file of torch.save: {type(error).__name__}: "
            f"{shown(str(error))}"
        ) from error


def _read_zip(path: Path) -> TorchFile:
    with open_archive(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise WeightsError("this is a TorchScript program, not a state_dict")
        (pickled,) = [name for name in names if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise WeightsError("big-endian files are not read")
        tree, found = _read_tree(io.BytesIO(archive.read(pickled)))
        storages = {
            key: np.frombuffer(archive.read(f"{folder}data/{key}"), storage.dtype)
            for key, storage in found.items()
        }
    return TorchFile(tree, storages)


def _read_legacy(path: Path) -> TorchFile:
    file = io.BytesIO(path.read_bytes())
    if read_pickle(file, {}, _no_storage) != _LEGACY_MAGIC:
        raise WeightsError("no file of torch.save")
    read_pickle(file, {}, _no_storage)  # the version of the protocol
    if not read_pickle(file, {}, _no_storage).get("little_endian"):
        raise WeightsError("big-endian files are not read")
    tree, found = _read_tree(file)
    storages = {}
    for key in read_pickle(file, {}, _no_storage):
        storage = found[key]
        count = int.from_bytes(file.read(8), "little")
        data = file.read(count * storage.dtype.itemsize)
        storages[key] = np.frombuffer(data, storage.dtype, count)
    return TorchFile(tree, storages)


def _read_tree(file: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """The objects of a pickle, and the storages that its tensors are views of."""
    found: dict[str, _Storage] = {}

    def find(saved: Any) -> _Storage:
        if saved[0] == "module" and type(saved[1]) is Name:
            raise refused_call(saved[1])
        kind, dtype, key, _, _, *of_another = saved
        known = kind == "storage" and type(key) is str and type(dtype) is Name
        if not known or of_another not in ([], [None]):
            raise WeightsError("it has an unknown kind of storage")
        if dtype.module not in ("torch", "torch.cuda") or dtype.name not in _DTYPES:
            known = ", ".join(name.removesuffix("Storage") for name in _DTYPES)
            raise WeightsError(
                f"it has tensors in a {dtype}; read are {known}. Convert them where they were made "
                "(tensor.float())"
            )
        storage = _Storage(key, _DTYPES[dtype.name])
        if found.setdefault(key, storage).dtype != storage.dtype:
            raise WeightsError("it has a storage of two dtypes")
        return storage

    return read_pickle(file, _CALLS, find), found


def _no_storage(saved: Any) -> None:
    raise WeightsError("it has a storage where none can be")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if type(storage) is not _Storage or not all(type(number) is int for number in numbers):
        raise WeightsError("it has a tensor of something else than a storage and whole numbers")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """Python 2 wrote the items into the call."""
    made = dict_of(pairs)
    if pairs:
        pairs.clear()  # a list that is referred to a million times is copied once
    return made


def _unread(*_: Any) -> Any:
    return UNREAD


# What training scripts keep beside the weights.
_BESIDE = {
    "argparse": "Namespace",
    "collections": "defaultdict Counter",
    "types": "SimpleNamespace",
    "datetime": "datetime date timedelta",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy": "dtype",
    "pathlib": "PosixPath PurePosixPath WindowsPath PureWindowsPath",
    "pathlib._local": "PosixPath PurePosixPath WindowsPath PureWindowsPath",  # of Python 3.13
    "lightning_fabric.utilities.data": "AttributeDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "torch": "Size device",
    "_codecs": "encode",
}
_CALLS = {
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{Name(module, name): _unread for module, names in _BESIDE.items() for name in names.split()},
}
