import os
import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from torch_files import FOLDER, expected

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights import torch_file
from imagenet_jax.weights.state_dict import read_torch_file


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    """Saves with torch in one of its formats; gives the path."""
    torch = pytest.importorskip("torch")

    def save(value, name="w.pth"):
        path = tmp_path / name
        torch.save(value, path, _use_new_zipfile_serialization=request.param)
        return path

    return save


def test_arrays_are_what_torch_saved(save):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "plain": base,
        "transposed": base.T,
        "part": base[1:3, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(dtype): base.to(dtype) for dtype in (torch.float16, torch.float64, torch.uint8)},
        "bool": base > 3,
    }
    found = read_torch_file(save(state)).arrays
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
    half = read_torch_file(save({"w": base.to(torch.bfloat16)})).arrays["w"]
    np.testing.assert_array_equal(half.astype(np.float32), base.numpy())


def test_a_state_dict_of_a_module_and_wrapped_ones(save):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    expected = {key: value.numpy() for key, value in module.state_dict().items()}
    for value in (
        module.state_dict(),
        {"epoch": 3, "state_dict": module.state_dict()},
        {"model": module.state_dict(), "args": "x"},
    ):
        found = read_torch_file(save(value)).arrays
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_no_state_dict_is_refused(save):
    torch = pytest.importorskip("torch")
    with pytest.raises(WeightsError, match=r"not only tensors: epoch"):
        read_torch_file(save({"epoch": 3, "w": torch.ones(1)}))
    with pytest.raises(WeightsError, match=r"wants to call torch\.nn\.modules"):
        read_torch_file(save(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_files_that_torch_wrote_are_read_without_it(kind):
    found = read_torch_file(FOLDER / f"tensors_{kind}.pth").arrays
    arrays = expected()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == ("bfloat16" if name == "half" else array.dtype), name
        np.testing.assert_array_equal(found[name].astype(array.dtype), array, err_msg=name)
    module = read_torch_file(FOLDER / f"module_{kind}.pth").arrays
    layers = {"0": ("weight", "bias"), "1": ("weight", "bias", "running_mean", "running_var")}
    names = [f"{layer}.{name}" for layer in layers for name in layers[layer]]
    assert [*module] == [*names, "1.num_batches_tracked"]
    assert [float(array.max()) for array in module.values()] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_files_that_torch_wrote_of_something_else_are_refused(kind, tmp_path):
    with pytest.raises(WeightsError, match=r"not only tensors: epoch"):
        read_torch_file(FOLDER / f"numbers_{kind}.pth")
    with pytest.raises(WeightsError, match=r"wants to call torch\.nn\.modules"):
        read_torch_file(FOLDER / f"code_{kind}.pth")
    whole, cut = (FOLDER / f"tensors_{kind}.pth").read_bytes(), tmp_path / "w.pth"
    for size in (0, 10, 100, len(whole) // 2, len(whole) - 100):
        cut.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read_torch_file(cut)


def test_a_tensor_of_torchs_file_that_reaches_out_of_its_storage_is_refused(tmp_path):
    cut = tmp_path / "cut.pth"
    with zipfile.ZipFile(FOLDER / "tensors_zip.pth") as whole, zipfile.ZipFile(cut, "w") as archive:
        for name in whole.namelist():
            data = whole.read(name)
            archive.writestr(name, data[:8] if name.endswith("data/0") else data)
    with pytest.raises(WeightsError, match=r"shape \(4, 6\) reaches over the end of its storage"):
        read_torch_file(cut)


class Evil:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "within"])
def test_code_in_a_file_is_not_run(kind, tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "evil.pth"
    evil = pickle.dumps({"w": Evil(proof)} if kind == "within" else Evil(proof))
    if kind == "legacy":
        header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(part) for part in header) + evil)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("evil/data.pkl", evil)
    with pytest.raises(WeightsError, match=r"wants to call (posix|nt)\.mkdir.* refused"):
        read_torch_file(path)
    assert not proof.exists()
    pickle.loads(evil)  # it would have worked
    assert proof.exists()


def archive(path, pickled, storages=(), method=zipfile.ZIP_STORED):
    """A .pth file of torch's present format, of these bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("w/data.pkl", pickled)
        for key, content in dict(storages).items():
            file.writestr(f"w/data/{key}", content)
    return path


def tensor(storage=b"ctorch\nFloatStorage\n", count=2, offset=0, shape=(2,), strides=(1,)):
    """The instructions that make a tensor."""

    def plain(value):
        return pickle.dumps(value, 2)[2:-1]

    key = plain("storage") + storage + plain("0") + plain("cpu") + plain(count)
    sizes = plain(offset) + plain(shape) + plain(strides)
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return rebuild + b"((" + key + b"tQ" + sizes + b"\x89c" + b"collections\nOrderedDict\n)RtR"


def state(value):
    """The pickle of {"w": VALUE}."""
    return b"\x80\x02}U\x01w" + value + b"s."


DTYPE, CALL = b"ctorch\nBFloat16Storage\n", b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "target", [DTYPE, CALL, b"ccollections\nOrderedDict\n", tensor(), b"K\x01"]
)
@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (b"}U\x07__doc__U\x03badsb", "change the state"),
        (b"(K\x03U\x01<NNNK\x80K\x01K\x00tb", "change the state"),  # a dtype of 128 bytes
        (b"N}U\x07__doc__U\x03bads\x86b", "change the state"),  # slots
        (b"U\x01aK\x01s", "set an item"),
        (b"K\x01a", "append"),
        (b"(K\x01K\x02e", "append"),
    ],
)
def test_nothing_that_a_file_names_can_be_changed(target, instructions, message, tmp_path):
    size, calls = np.dtype(ml_dtypes.bfloat16).itemsize, dict(torch_file._CALLS)
    path = archive(tmp_path / "w.pth", state(target + instructions), {"0": bytes(8)})
    with pytest.raises(WeightsError, match=rf"w\.pth: it wants to {message}"):
        read_torch_file(path)
    assert np.dtype(ml_dtypes.bfloat16).itemsize == size == 2 and calls == torch_file._CALLS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"cbuiltins\neval\n(U\x011tR", r"call builtins\.eval"),
        (b"cos\nsystem\n)\x81", r"call os\.system"),
        (b"ctorch\nFloatStorage\n)R", r"call torch\.FloatStorage"),
        (b"(ios\nsystem\n", "instruction INST"),
        (b"(cos\nsystem\no", "instruction OBJ"),
        (b"\x82\x01", "instruction EXT1"),
        (b"K\x01K\x02\x86K\x03s", "set an item"),
        (b"}K\x01\x85K\x03s", "a tuple for a key"),
        (tensor(b"ctorch\nComplexFloatStorage\n"), r"torch\.ComplexFloatStorage; read are Float"),
        (tensor(shape=(2, "x")), "whole numbers"),
        (tensor(shape=(3,)), "over the end"),
        (tensor(shape=(2**40, 2**40), strides=(0, 0)), "over the end"),
        (tensor(offset=1), "over the end"),
        (tensor(strides=(2**62,)), "over the end"),
        (tensor(strides=(-1,)), "impossible"),
        (tensor(shape=(0, 2**80), strides=(1, 1)), "too large"),
        (b"N\x85" * 1000, "longer than"),
    ],
)
def test_what_no_state_dict_has_is_refused_at_once(value, message, tmp_path, monkeypatch):
    monkeypatch.setattr("imagenet_jax.weights.pickle_data.MOST_BYTES", 1000)
    path = archive(tmp_path / "w.pth", state(value), {"0": bytes(8)})
    with pytest.raises(WeightsError, match=rf"w\.pth.*{message}"):
        read_torch_file(path)


def test_damage_that_would_take_all_memory_or_time(tmp_path, monkeypatch):
    monkeypatch.setattr("imagenet_jax.weights.archive._SMALL", 2**20)
    huge = (2**40).to_bytes(8, "little")
    twice = b"q\x00" + b"h\x00h\x00\x86q\x00" * 60  # a tuple of 2^60 numbers
    bombs = {
        "number": b"K\x01r\xff\xff\xff\xff",  # object 4,294,967,295 of those to come back to
        "text": b"\x8d" + huge,
        "bytes": b"\x8e" + huge,
        "key": b"}K\x01" + twice + b"K\x01s",
        "shape": tensor(shape=()).replace(b")", b"K\x01" + twice, 1),
    }
    zipped = archive(tmp_path / "w.pth", state(tensor()), {"0": bytes(2**22)}, zipfile.ZIP_DEFLATED)
    assert zipped.stat().st_size < 2**20
    tracemalloc.start()
    for name, bomb in bombs.items():
        path = archive(tmp_path / f"{name}.pth", state(bomb), {"0": bytes(8)})
        with pytest.raises(WeightsError, match=name):
            read_torch_file(path)
    with pytest.raises(WeightsError, match="more than weights can be compressed"):
        read_torch_file(zipped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_what_training_scripts_keep_beside_the_weights_is_passed_over(tmp_path):
    import argparse

    args = pickle.dumps(argparse.Namespace(lr=0.1, path="x"), 2)[2:-1]
    scalar = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8tRU\x081234567"
    scalar += b"8tR"
    pickled = b"\x80\x02}(U\x04args" + args + b"U\x04best" + scalar
    pickled += b"U\nstate_dict" + state(tensor())[2:-1] + b"u."
    content = np.arange(2, dtype="<f4").tobytes()
    found = read_torch_file(archive(tmp_path / "w.pth", pickled, {"0": content})).arrays
    np.testing.assert_array_equal(found["w"], [0, 1])


def test_files_that_are_damaged_or_something_else(save, tmp_path):
    torch = pytest.importorskip("torch")
    path = save({"w": torch.arange(1000.0)})
    whole = path.read_bytes()
    for size in (0, 10, 100, len(whole) // 2, len(whole) - 1000):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read_torch_file(path)
    path.write_bytes(b"hello, this is no pickle")
    with pytest.raises(WeightsError, match=r"damaged or no file of torch\.save"):
        read_torch_file(path)


def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save({"w": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(cut, "w") as archive:
        for name in whole.namelist():
            data = whole.read(name)
            archive.writestr(name, data[:8] if name.endswith("data/0") else data)
    with pytest.raises(WeightsError, match=r"shape \(4,\) reaches over the end of its storage"):
        read_torch_file(cut)
