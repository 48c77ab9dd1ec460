import io
import json
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from imagenet_jax.errors import WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.weights.files import read_weights, write_safetensors
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays


@pytest.fixture(scope="module")
def variables():
    model = create_model("resnet8", num_classes=10)
    image = jnp.zeros((1, 8, 8, 3))
    return jax.device_get(model.init(jax.random.key(0), image, train=False))


@pytest.fixture
def shapes():
    return variable_shapes(create_model("resnet8", num_classes=10), 8)


def test_names_and_axes_are_torchs(variables):
    arrays = export_arrays(variables)
    assert arrays["layer2.0.conv1.weight"].shape == (32, 16, 3, 3)
    assert arrays["fc.weight"].shape == (10, 64)
    assert {name.rpartition(".")[2] for name in arrays} == {
        *("weight", "bias", "running_mean", "running_var")
    }
    kernel = variables["params"]["layer2.0"]["conv1"]["kernel"]
    assert arrays["layer2.0.conv1.weight"][5, 7, 0, 2] == kernel[0, 2, 7, 5]


def test_export_and_import_are_exact(variables, shapes, tmp_path):
    write_safetensors(tmp_path / "w.safetensors", variables, {"model": "resnet8"})
    arrays = read_weights(tmp_path / "w.safetensors").arrays
    again = import_arrays(shapes, arrays)
    assert jax.tree.structure(again) == jax.tree.structure(dict(variables))
    for new, old in zip(jax.tree.leaves(again), jax.tree.leaves(dict(variables)), strict=True):
        np.testing.assert_array_equal(new, old)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_export_loads_into_torchs_own_model(tmp_path):
    torch = pytest.importorskip("torch")
    from oracles import reference_model

    model = create_model("resnet18", num_classes=1000)
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    variables = jax.jit(lambda i: model.init(jax.random.key(0), i, train=False))(image)
    write_safetensors(tmp_path / "w.safetensors", variables)
    theirs = reference_model("torchvision resnet18").eval()
    arrays = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    lacking = theirs.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()}, strict=False)
    assert not lacking.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in lacking.missing_keys)
    with torch.no_grad():
        expected = theirs(torch.tensor(image.transpose(0, 3, 1, 2))).numpy()
    found = jax.jit(lambda v, i: model.apply(v, i, train=False))(variables, image)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_what_does_not_fit_is_listed(variables, shapes):
    arrays = export_arrays(variables)
    del arrays["conv1.weight"]
    arrays["bn9.weight"] = np.zeros(3, np.float32)
    arrays["fc.bias"] = np.zeros(11, np.float32)
    arrays["layer1.0.bn1.num_batches_tracked"] = np.zeros((), np.int64)
    arrays["fc.weight"] = np.zeros((10, 64, 1, 1), np.float32)
    with pytest.raises(WeightsError) as error:
        import_arrays(shapes, arrays)
    text = str(error.value)
    assert "missing conv1.weight" in text and "unexpected bn9.weight (3,)" in text
    assert "fc.bias has the shape (11,), expected (10,)" in text
    assert "fc.weight has the shape (10, 64, 1, 1) of another kind of layer" in text
    assert "num_batches_tracked" not in text


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "w.pth"])
def test_damaged_and_missing_files_are_named(name, tmp_path):
    with pytest.raises(WeightsError, match=f"there is no file .*{name}"):
        read_weights(tmp_path / name)
    for content in (b"", b"nonsense", b"PK\x03\x04"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            read_weights(tmp_path / name)


def test_other_suffixes_are_refused(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"ends with \.pth, "):
        read_weights(tmp_path / "w.h5")


def npy(descr, shape, data=bytes(8)):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("<f4", (10**13,)), "cannot reshape"),
        (npy("<f4", (2**40, 2**40)), "cannot reshape"),
        (npy("<f4", (-1, 2)), "impossible shape"),
        (npy("|O", (1,)), "an array of object"),
        (npy("<U2", (1,)), "an array of <U2"),
        (npy([("a", "<f4"), ("b", "<f4")], (1,)), "expected numbers"),
        (b"no array at all", "magic string"),
    ],
)
def test_an_npz_that_claims_more_than_it_has_or_something_else(content, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", content)
    with pytest.raises(WeightsError, match=rf"w\.npz is damaged or no npz file.*{message}"):
        read_weights(tmp_path / "w.npz")


def test_archives_that_cannot_be_read_or_grow_out_of_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr("imagenet_jax.weights.archive._SMALL", 2**20)
    path = tmp_path / "w.npz"
    for method, message in ((zipfile.ZIP_DEFLATED, "than weights can be"), (14, "unknown method")):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("w.npy", npy("<f4", (2**19,), bytes(2**21)))
        with pytest.raises(WeightsError, match=message):
            read_weights(path)
    whole = bytearray(path.read_bytes())
    claimed = bytearray(whole)
    place = claimed.rindex(b"PK\x01\x02")
    claimed[place + 10 : place + 12] = bytes(2)  # stored
    claimed[place + 20 : place + 24] = bytes([255, 255, 255, 127])
    path.write_bytes(claimed)
    with pytest.raises(WeightsError, match="is said to be larger than the file"):
        read_weights(path)
    whole[whole.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(whole)
    with pytest.raises(WeightsError, match="is encrypted"):
        read_weights(path)


def test_numbers_of_npz_files_are_read_as_they_are(tmp_path):
    import ml_dtypes

    base = np.arange(6.0).reshape(2, 3)
    arrays = {"half": base.astype(ml_dtypes.bfloat16), "columns": np.asfortranarray(base)}
    arrays |= {"scalar": np.array(3), "big": base.astype(">f4"), "empty": base[:0]}
    np.savez_compressed(tmp_path / "w.npz", **arrays)
    found = read_weights(tmp_path / "w.npz").arrays
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "bool"),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float8_{form}" for form in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz")),
)


@pytest.mark.parametrize("small", [False, True])
def test_safetensors_of_every_dtype_are_read_to_the_bit(small, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    exact = torch.tensor([[0.0, 1.0, 1.75], [2.0, 3.5, 96.0]])  # in 8 bits, too
    tensors = {
        name: exact.to(getattr(torch, name)) for name in DTYPES if small or "float8" not in name
    }
    save_file(tensors, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors").arrays
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].astype("f8"), tensor.to(torch.float64).numpy())


@pytest.mark.parametrize(
    ("arrays", "size", "message"),
    [
        ({"w": ("F4", [4], [0, 2])}, 2, "w is of the dtype F4; read are F64, "),
        ({"w": ("F8_E8M0", [2], [0, 2])}, 2, "w is of the dtype F8_E8M0; read are F64, "),
        (
            {"w": ("F8_E4M3", [2], [0, 2]), "w_scale_inv": ("F32", [], [2, 6])},
            6,
            "w is of the dtype F8_E4M3, with scales in w_scale_inv, which are not applied",
        ),
        ({"w": ("C64", [1], [0, 8])}, 8, "of the dtype C64"),
        ({"w": ("F32", [2], [0, 8]), "v": ("F32", [2], [4, 12])}, 12, "damaged"),
        ({"w": ("F32", [2**40], [0, 8])}, 8, "damaged"),
        ({"w": ("F32", [2**10], [0, 2**12])}, 8, "damaged"),
    ],
)
def test_safetensors_whose_header_lies_or_has_other_dtypes(arrays, size, message, tmp_path):
    keys = ("dtype", "shape", "data_offsets")
    header = {name: dict(zip(keys, facts, strict=True)) for name, facts in arrays.items()}
    text = json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    with pytest.raises(WeightsError, match=rf"w\.safetensors.*{message}"):
        read_weights(path)
