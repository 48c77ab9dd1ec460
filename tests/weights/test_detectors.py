"""Weights of whole detectors in files."""

import copy
import functools

import jax
import numpy as np
import pytest
from torch_detectors import arrays_of, torch_detector

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError, WeightsError
from imagenet_jax.models import create_detector, create_model, create_segmenter
from imagenet_jax.models.cost import count_params, variable_shapes
from imagenet_jax.weights.adapt import as_backbone
from imagenet_jax.weights.detectors import coco_classes, load_detector
from imagenet_jax.weights.networks import NETWORKS, check_network


def saved(tmp_path, state):
    torch = pytest.importorskip("torch")
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def trimmed(model):
    """Without the classifier of the backbone, which torchvision's own files do not have."""
    return {k: v for k, v in model.state_dict().items() if ".body.fc." not in k}


@pytest.mark.parametrize("kind", ["fcos", pytest.param("retinanet", marks=pytest.mark.slow)])
def test_of_torchvisions_91_outputs_the_80_classes_are_kept(tmp_path, kind):
    torch = pytest.importorskip("torch")
    theirs = torch_detector(kind, classes=91)
    model = create_detector("resnet18", kind, num_classes=3, features=32)
    found = load_detector(saved(tmp_path, trimmed(theirs)), model)
    names = tuple(coco_classes().values())
    assert found.class_names == names and len(names) == found.model.num_classes == 80
    assert (names[0], names[11], names[79]) == ("person", "stop sign", "toothbrush")
    image = np.random.default_rng(0).normal(size=(2, 128, 128, 3)).astype(np.float32)
    with torch.no_grad():
        maps = theirs.backbone(torch.tensor(image.transpose(0, 3, 1, 2)))
        expected = theirs.head(list(maps.values()))["cls_logits"].numpy()
    logits = jax.jit(functools.partial(found.model.apply, train=False))(found.variables, image)
    expected = expected[..., list(coco_classes())]
    assert np.abs(logits["cls_logits"] - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_classifier_becomes_the_backbone():
    shapes = variable_shapes(create_model("resnet18", num_classes=5), 64)
    random = np.random.default_rng(0)
    theirs = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)
    model = create_detector("resnet18", "fcos", num_classes=3, features=32)
    found = as_backbone(theirs, model, 64)
    assert list(found["params"]) == ["backbone"] and list(found["params"]["backbone"]) == ["body"]
    body = found["params"]["backbone"]["body"]
    assert np.array_equal(body["conv1"]["kernel"], theirs["params"]["conv1"]["kernel"])
    assert "fc" not in body and "layer4.1" in body
    mean = found["batch_stats"]["backbone"]["body"]["bn1"]["mean"]
    assert np.array_equal(mean, theirs["batch_stats"]["bn1"]["mean"])


@pytest.mark.slow
def test_files_of_torchvisions_first_versions_are_read(tmp_path):
    theirs = torch_detector("retinanet")
    old = {}
    for name, array in trimmed(theirs).items():
        for number in range(4):
            name = name.replace(f"_head.conv.{number}.0.", f"_head.conv.{2 * number}@")
        name = name.replace("@", ".")
        for number in range(3):
            name = name.replace(f"_blocks.{number}.0.", f"_blocks.{number}.")
        old[name] = array
    assert old.keys() != arrays_of(theirs).keys()
    model = create_detector("resnet18", "retinanet", num_classes=7, features=32)
    found = load_detector(saved(tmp_path, old), model)
    kernel = found.variables["params"]["head"]["regression_head"]["conv.3.0"]["kernel"]
    expected = arrays_of(theirs)["head.regression_head.conv.3.0.weight"]
    assert np.array_equal(kernel.transpose(3, 2, 0, 1), expected)
    other = create_detector("resnet18", "fcos", num_classes=7, features=32)
    with pytest.raises(WeightsError, match=r"weights.pth: .*do not fit"):
        load_detector(tmp_path / "weights.pth", other)


@pytest.mark.slow
def test_norms_without_epsilon_are_torchvisions(tmp_path):
    """Which it takes away where it loads the weights of its first versions."""
    torch = pytest.importorskip("torch")
    theirs = copy.deepcopy(torch_detector("retinanet"))
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var *= 1e-4
            module.weight.data *= 1e-2
            module.eps = 0.0
    model = create_detector("resnet18", "retinanet", num_classes=7, features=32)
    found = load_detector(saved(tmp_path, trimmed(theirs)), model).variables
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        maps = theirs.backbone(torch.tensor(image.transpose(0, 3, 1, 2)))
        expected = theirs.head(list(maps.values()))["cls_logits"].numpy()
    logits = jax.jit(lambda variables: model.apply(variables, image, train=False)["cls_logits"])
    moved = NETWORKS["retinanet_resnet50_fpn"].variances(found, 1e-5)
    bound = 1e-4 * np.abs(expected).max()
    assert np.abs(logits(moved) - expected).max() <= bound < np.abs(logits(found) - expected).max()
    assert NETWORKS["retinanet_resnet50_fpn_v2"].variances(found, 1e-5) is found


@pytest.mark.slow
@pytest.mark.exhaustive  # tests/models/detection has most of them
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_known_by_name_have_torchvisions_parameters(name):
    one = NETWORKS[name]
    make = create_segmenter if one.task == "segmentation" else create_detector
    options = {"auxiliary": "resnet" in one.model or "deeplab" in one.head}
    options = options if one.task == "segmentation" else {}
    if one.head == "ssdlite":
        options = {"reduced_tail": True}
    # The classes of the ground are counted with others in torchvision's pages.
    grounded = one.head.startswith(("faster", "mask", "ssd"))
    classes = 21 if one.task == "segmentation" else 91 - grounded
    model = make(one.model, one.head, num_classes=classes, **options)
    params = count_params(variable_shapes(model, 320))
    frozen = {"resnet50": 53_120, "mobilenet_v3_large": 24_400}.get(one.model, 0)
    if one.task == "segmentation" or one.head in ("ssd", "ssdlite") or one.head.endswith("_v2"):
        frozen = 0
    assert params - frozen == one.params


def test_weights_of_another_network_are_refused():
    config = base_config()
    config.task, config.model.head = "detection", "fcos"
    with pytest.raises(ConfigError, match=r"are of retinanet on resnet50; .* is 'fcos'"):
        check_network("retinanet_resnet50_fpn", config)
    config.model.head = "retinanet"
    check_network("retinanet_resnet50_fpn", config)
    config.model.update(head="ssdlite", name="mobilenet_v3_large")
    with pytest.raises(ConfigError, match=r"need config.model.reduced_tail=true"):
        check_network("ssdlite320_mobilenet_v3_large", config)
