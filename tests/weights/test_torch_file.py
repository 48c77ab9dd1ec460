import os
import pickle
import zipfile

import numpy as np
import pytest
from torch_files import FOLDER, expected

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.torch_file import read_torch_file


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
    found = read_torch_file(save(state))
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
    half = read_torch_file(save({"w": base.to(torch.bfloat16)}))["w"]
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
        found = read_torch_file(save(value))
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
    found = read_torch_file(FOLDER / f"tensors_{kind}.pth")
    arrays = expected()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == ("bfloat16" if name == "half" else array.dtype), name
        np.testing.assert_array_equal(found[name].astype(array.dtype), array, err_msg=name)
    module = read_torch_file(FOLDER / f"module_{kind}.pth")
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
