"""Reads the arrays of torch.save's files without torch, and without running what is in them.

A .pth file holds a pickle, and a pickle may call any function. Here it may name only the few
functions that build tensors, and those are our own.

The formats are those of torch/serialization.py: a zip archive since torch 1.6, before that
five pickles and the raw storages one after the other.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from imagenet_jax.errors import WeightsError

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
_WRAPPERS = ("state_dict", "model_state_dict", "model")


class _Storage(NamedTuple):
    """Memory that tensors are views of; `values` is there when the file was read."""

    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The named tensors of a state_dict that torch.save wrote.

    A dictionary around it ("state_dict", "model_state_dict" or "model") is opened.

    Raises:
      WeightsError: if the file is damaged, holds anything but tensors, or is a TorchScript.
    """
    try:
        if zipfile.is_zipfile(path):
            tree, storages = _read_zip(path)
        else:
            tree, storages = _read_legacy(path)
        return _arrays(tree, storages)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, IndexError),
        *(TypeError, ValueError, AttributeError, UnicodeDecodeError, OverflowError, MemoryError),
    ) as error:
        raise WeightsError(
            f"{path} is damaged or no file of torch.save: {type(error).__name__}: {error}"
        ) from error


def _read_zip(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise WeightsError("this is a TorchScript program, not a state_dict")
        (pickled,) = [name for name in names if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise WeightsError("big-endian files are not read")
        with archive.open(pickled) as file:
            unpickler = _Unpickler(file)
            tree = unpickler.load()
        storages = {
            key: np.frombuffer(archive.read(f"{folder}data/{key}"), storage.dtype)
            for key, storage in unpickler.storages.items()
        }
    return tree, storages


def _read_legacy(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    with path.open("rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC:
            raise WeightsError("no file of torch.save")
        _Unpickler(file).load()  # the version of the protocol
        if not _Unpickler(file).load().get("little_endian"):
            raise WeightsError("big-endian files are not read")
        unpickler = _Unpickler(file)
        tree = unpickler.load()
        storages = {}
        for key in _Unpickler(file).load():
            storage = unpickler.storages[key]
            count = int.from_bytes(file.read(8), "little")
            data = file.read(count * storage.dtype.itemsize)
            storages[key] = np.frombuffer(data, storage.dtype, count)
    return tree, storages


class _Unpickler(pickle.Unpickler):
    """Knows the functions of a state_dict, and nothing else."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if (module, name) in known:
            return known[module, name]
        if module in ("torch", "torch.cuda") and name in _DTYPES:
            return _DTYPES[name]
        raise WeightsError(
            f"it wants to call {module}.{name}, which a state_dict of tensors does not; refused. "
            "If you trust it, load it with torch and save model.state_dict()"
        )

    def persistent_load(self, saved: tuple) -> _Storage:
        kind, dtype, key, _, count, *_ = saved
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise WeightsError(f"unknown storage {kind!r}")
        return self.storages.setdefault(key, _Storage(key, dtype, count))


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _arrays(tree: Any, storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(tree, Mapping):
        raise WeightsError(f"it holds a {type(tree).__name__}, not a state_dict")
    for wrapper in _WRAPPERS:
        if isinstance(tree.get(wrapper), Mapping):
            tree = tree[wrapper]
    others = [name for name, value in tree.items() if not isinstance(value, _Tensor)]
    if others or not tree:
        raise WeightsError(f"not only tensors: {', '.join(map(str, others[:5])) or 'it is empty'}")
    return {name: _view(tensor, storages) for name, tensor in tree.items()}


def _view(tensor: _Tensor, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values of a tensor, copied; checked not to reach out of its storage."""
    values = storages[tensor.storage.key]
    _, offset, shape, strides = tensor
    if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
        raise WeightsError(f"impossible shape {shape}, strides {strides}")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= len(values):
        raise WeightsError(f"a tensor of shape {shape} reaches over the end of its storage")
    size = values.itemsize
    view = np.lib.stride_tricks.as_strided(
        values[offset:], shape, [stride * size for stride in strides], writeable=False
    )
    return view.copy()
