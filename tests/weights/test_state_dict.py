import collections
import datetime
import pathlib
import types

import numpy as np
import pytest

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.class_names import read_class_names
from imagenet_jax.weights.state_dict import read_torch_file

torch = pytest.importorskip("torch")

_HYPER_PARAMETERS = {
    "started": datetime.datetime(2024, 1, 1),
    "limit": datetime.timedelta(days=1),
    "class_weights": np.ones(3),
    "folder": pathlib.PureWindowsPath("D:/photos"),
    "counts": collections.Counter("aab"),
    "options": types.SimpleNamespace(lr=0.1),
}


def saved(path, tree):
    torch.save(tree, path)
    return path


def tensors(value, prefix=""):
    return {f"{prefix}fc.weight": torch.full((2, 3), value), f"{prefix}fc.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    ("name", "tree", "value"),
    [
        ("model_best.pth.tar", {"epoch": 9, "best_acc1": torch.tensor(7.0), "state_dict": 1}, 1),
        ("lightning.ckpt", {"state_dict": (1, "model."), "callbacks": {}, "epoch": 3}, 1),
        ("compiled.pt", {"model": (1, "module._orig_mod.")}, 1),
        ("timm.pth.tar", {"state_dict": 1, "state_dict_ema": 2, "arch": "resnet18"}, 2),
        ("torchvision.pth", {"model": 1, "model_ema": (2, "module.")}, 2),
        ("swav.bin", (1, "module.backbone."), 1),
        ("cifar.pth", {"net": 1, "acc": 93.1, "epoch": 200}, 1),
        ("hydra.ckpt", {"state_dict": (1, "model."), "hyper_parameters": _HYPER_PARAMETERS}, 1),
        ("within.pth", {"model": {"state_dict": (1, "encoder.")}}, 1),
    ],
)
def test_the_weights_are_found_among_what_scripts_save(name, tree, value, tmp_path, caplog):
    def filled(part):
        if isinstance(part, dict):
            return {key: filled(inner) for key, inner in part.items()}
        if isinstance(part, tuple):
            return tensors(float(part[0]), part[1])
        return tensors(float(part)) if type(part) is int and part in (1, 2) else part

    tree = filled(tree)
    if "model_ema" in tree:
        tree["model_ema"]["n_averaged"] = torch.tensor(5)
    with caplog.at_level("INFO"):
        arrays = read_torch_file(saved(tmp_path / name, tree)).arrays
    assert arrays.keys() == {"fc.weight", "fc.bias"}
    assert (arrays["fc.weight"] == value).all()
    if value == 2:
        assert caplog.text.count("the weights are those in") == 1
        assert "_ema'" in caplog.text


def test_several_sets_of_weights_are_told(tmp_path):
    path = saved(tmp_path / "dino.pth", {"student": tensors(1.0), "teacher": tensors(2.0)})
    with pytest.raises(WeightsError, match="several sets of tensors, student, teacher; save the o"):
        read_torch_file(path)


def test_a_prefix_that_not_all_names_have_stays(tmp_path):
    tree = tensors(1.0, "model.") | {"scale": torch.ones(())}
    arrays = read_torch_file(saved(tmp_path / "w.pth", tree)).arrays
    assert arrays.keys() == {"model.fc.weight", "model.fc.bias", "scale"}


@pytest.mark.parametrize(
    "classes",
    [
        {"classes": ["cat", "dog"]},
        {"class_to_idx": {"dog": 1, "cat": 0}},
        {"names": {0: "cat", 1: "dog"}},
        {"classes": 2, "class_names": ["cat", "dog"]},
    ],
)
def test_names_of_classes_beside_the_weights_are_read(classes, tmp_path):
    path = saved(tmp_path / "w.pth", {"state_dict": tensors(1.0), **classes})
    assert read_torch_file(path).class_names == ("cat", "dog")


def test_what_is_no_list_of_names_is_passed_over(tmp_path):
    for classes in ({"a": 0, "b": 2}, [1, 2], {"a": "b"}, [["x"]]):
        path = saved(tmp_path / "w.pth", {"state_dict": tensors(1.0), "classes": classes})
        assert read_torch_file(path).class_names == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n\ndog\n", "line 2: expected the name"),
        (b"cat\ndog\ncat\n", "line 3: 'cat' stands in line 1, too"),
        (b"", "is empty"),
        (b"caf\xe9\n", "cannot be read"),
        (None, "cannot be read"),
        (b"{0: 'cat',\n 1: 'dog'}", "looks like JSON, and is not of the kinds"),
        (b'{"1": "cat", "2": "dog"}', "from 0 on"),
        (b'["cat", "cat"]', "name 2: 'cat' stands in name 1, too"),
    ],
)
def test_a_file_of_names_that_cannot_be_is_refused(content, message, tmp_path):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"names\.txt.*{message}"):
        read_class_names(path)
    path.write_text("cat\n big dog \n\n", "utf-8")
    assert read_class_names(path) == ("cat", "big dog")


@pytest.mark.parametrize(
    "content",
    [
        '["cat", "big dog"]',
        '{"1": "big dog", "0": "cat"}',
        '{"big dog": 1, "cat": 0}',
        '{"0": ["cat", "Katze"], "1": ["big dog", "Hund"]}',
    ],
)
def test_names_of_classes_may_be_json(content, tmp_path):
    (tmp_path / "names.json").write_text(content)
    assert read_class_names(tmp_path / "names.json") == ("cat", "big dog")
