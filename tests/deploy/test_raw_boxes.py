"""Detectors in ONNX and LiteRT: what is before suppression, and that what is left is told."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_export import DENSE, random_model, task_config

from imagenet_jax import Predictor
from imagenet_jax.deploy import litert, onnx
from imagenet_jax.deploy.comparison import compared
from imagenet_jax.deploy.export import export, export_text
from imagenet_jax.deploy.program import plain_form, program_of
from imagenet_jax.errors import ExportError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.tasks import make_task
from imagenet_jax.training.trained import TrainedModel

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_detector.py"
suppressed = runpy.run_path(str(EXAMPLE))["suppressed"]
# What an environment with these alone does not have.
ALONE = """
import runpy, sys
for name in ("jax", "flax", "tensorflow", "torch", "scipy", "PIL", "imagenet_jax"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Names and shapes of what networks say of an image, of A anchors and K classes.
SAID = {
    "fcos": lambda a, k: {"cls_logits": (a, k), "bbox_regression": (a, 4), "bbox_ctrness": (a, 1)},
    "ssd": lambda a, k: {"cls_logits": (a, k + 1), "bbox_regression": (a, 4)},
    "yolox": lambda a, k: {"cls_logits": (a, k), "bbox_regression": (a, 4), "objectness": (a, 1)},
    "detr": lambda a, k: {"cls_logits": (1, a, k + 1), "boxes": (1, a, 4)},
}
SMALLEST = {"model.name": "resnet8", "model.width": 0, "model.fpn_strides": (2, 4)}
SMALLEST["data.image_size"] = 16


def small_detector(head="fcos", **fields):
    size = 320 if head.startswith("ssd") else 64
    own = {"model.dtype": "float32", "data.fake_eval_examples": 3, "data.image_size": size}
    if DENSE[head][1] == "resnet18":
        own["model.width"] = 16
    if head in ("fcos", "retinanet", "retinanet_v2", "detr"):
        own["model.fpn_width"] = 32
    return random_model(task_config("detection", DENSE[head][1], head, **{**own, **fields}))


def check_same(found, told):
    """What the example says of an image is what the program says of it."""
    boxes, classes, scores = found
    count = (told.scores > -1).sum()
    assert len(boxes) == count > 1
    np.testing.assert_allclose(scores, told.scores[:count], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(classes, told.classes[:count])
    np.testing.assert_allclose(boxes, told.boxes[:count], rtol=1e-4, atol=1e-3)


def row(told, number):
    return jax.tree.map(lambda array: np.asarray(array)[number], told)


@pytest.mark.parametrize(
    ("head", "tta", "iou"),
    [
        ("fcos", "mirror", -1.0),
        ("ssd", "", -1.0),
        ("ssd", "", 1.0),
        ("yolox", "", -1.0),
        ("detr", "", 0.5),
    ],
)
def test_what_is_left_to_do_is_told(head, tta, iou):
    """The rule in export.json, followed by the example, gives the boxes that the detector tells:
    with few candidates of a map, one or all classes of a box, one or more views."""
    size = 320 if head == "ssd" else 128
    fields = {"eval.tta": tta, "eval.candidates": 8, "eval.max_detections": 12}
    fields["eval.nms_threshold"] = iou
    fields["data.image_size"] = size
    task = make_task(task_config("detection", DENSE[head][1], head, **fields))
    anchors = sum(map(len, task.method.anchors(size)))
    random = np.random.default_rng(0)
    of_views = [
        {
            name: abs(random.normal(0, 2, (2, *shape)).astype("f4"))
            for name, shape in SAID[head](anchors, len(task.class_names)).items()
        }
        for _ in range(1 + bool(tta))
    ]

    def found_by(task):
        def run(of_views, images):
            ahead = iter(of_views)
            return task.predict(lambda _: next(ahead), images)

        return jax.jit(run)(of_views, jnp.zeros((2, size, size, 3)))

    told, raw = found_by(task), found_by(task.without_suppression())
    assert raw.raw_boxes.shape == (2, anchors * (1 + bool(tta)), 4)
    rule = json.loads(json.dumps(task.suppressions()[""].facts()))
    for number in range(2):
        check_same(suppressed(*row(raw, number), rule), row(told, number))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("jax2onnx", reason="an extra")
    pytest.importorskip("ai_edge_litert", reason="an extra")
    made = small_detector(**SMALLEST)
    out = tmp_path_factory.mktemp("detector") / "out"
    return made, out, export(made, out, formats=("onnx", "litert"))


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.xdist_group("detectors")  # they share what takes long
def test_an_onnx_file_and_numpy_find_what_the_program_finds(exported, pixels, tmp_path):
    made, out, facts = exported
    np.save(tmp_path / "images.npy", pixels)
    command = [sys.executable, "-c", ALONE, EXAMPLE, out, tmp_path / "images.npy"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, names = Predictor(made).shown(pixels), facts["class_names"]
    for number, line in enumerate(done.stdout.splitlines()):
        found = json.loads(line)
        arrays = [np.array([one[key] for one in found]) for key in ("box", "class", "score")]
        arrays[1] = [names.index(name) for name in arrays[1]]
        check_same(arrays, row(told, number))
    assert number == 2


@pytest.mark.slow
@pytest.mark.xdist_group("detectors")
def test_a_litert_file_too(exported, pixels):
    made, out, facts = exported
    raw = litert.read_litert(out / "model.tflite")(pixels)
    told, rule = Predictor(made).shown(pixels), facts["formats"]["litert"]["suppression"]
    for number in range(3):
        of_image = suppressed(raw["raw_boxes"][number], raw["raw_scores"][number], rule)
        check_same(of_image, row(told, number))


@pytest.mark.slow
@pytest.mark.xdist_group("detectors")
def test_what_a_format_holds_is_stated(exported):
    """And weights of a head that all maps share are there once."""
    made, out, result = exported
    model = pytest.importorskip("onnx").load(out / "model.onnx")
    assert set(result["outputs"]) == {"boxes", "scores", "classes"}
    for facts in result["formats"].values():
        count = sum(facts["suppression"]["boxes_of_groups"])
        assert count == 8**2 + 4**2
        assert facts["outputs"]["raw_boxes"]["shape"] == [None, count, 4]
        assert facts["outputs"]["raw_scores"]["shape"] == [None, count, 3]
        assert facts["suppression"]["score_threshold"] == 0.2
        assert facts["suppression"]["iou_threshold"] == 0.6
        assert facts["changed_decisions"] == 0 and facts["largest_difference"] < 1e-4
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(made.variables))
    assert sum(len(one.raw_data) for one in model.graph.initializer) < 1.1 * weights
    assert re.search("before suppression.*model.onnx, model.tflite", export_text(result))


@pytest.mark.parametrize("head", ["faster_rcnn", "mask_rcnn"])
def test_two_stages_are_refused_at_once(head, tmp_path):
    config = task_config("instances" if head == "mask_rcnn" else "detection", "resnet18", head)
    task = make_task(config)
    made = TrainedModel("", task.model(), {}, task)
    for name in ("onnx", "litert_int8"):
        with pytest.raises(ExportError, match=r"of proposals.* --format=stablehlo and savedmodel"):
            export(made, tmp_path / "out", formats=(name,))
    assert not list(tmp_path.iterdir())


def test_boxes_before_suppression_are_compared():
    """By what is told of each: it has its like in the other, whichever box suppresses which."""
    config = task_config("detection", "resnet18", "fcos", **{"model.fpn_strides": (32,)})
    rules = make_task(config).suppressions()
    boxes = np.array([[[0, 0, 30, 30], [0, 0, 31, 31], [40, 40, 60, 60], [1, 1, 2, 2]]], "f4")
    scores = np.zeros((1, 4, 3), np.float32)
    scores[0, :3, 1] = 0.7, 0.6999, 0.5
    ours = {"raw_boxes": boxes, "raw_scores": scores}

    def changed(boxes=boxes, **others):
        other = scores.copy()
        for at, value in others.items():
            other[0, int(at[1]), int(at[2])] = value
        theirs = {"raw_boxes": boxes, "raw_scores": other}
        assert (
            compared(ours, theirs, rules=rules).changed
            == compared(theirs, ours, rules=rules).changed
        )
        return compared(ours, theirs, rules=rules).changed

    assert changed() == changed(s01=0.6998) == changed(s21=0.3) == changed(s30=0.19) == 0
    assert changed(s21=0.2) == changed(s30=0.3) == changed(s21=0.0, s22=0.5) == 1
    assert changed(boxes + 1) == 0 and changed(boxes + 5) == 1
    far = {"raw_boxes": boxes + np.float32(6), "raw_scores": scores - np.float32(0.25)}
    assert compared(ours, far, rules=rules).largest == pytest.approx(0.25)


def test_of_several_tasks_each_has_its_own_rule():
    """And every head computes in float32, as `computes_in` says."""
    config = task_config("multi_task", "resnet8", **{**SMALLEST, "model.dtype": "bfloat16"})
    config.multi_task.tasks = ("detection:fcos", "segmentation:fcn")
    task = make_task(config)
    made = plain_form(TrainedModel("", task.model(), {}, task))
    shapes = variable_shapes(made.model, 16)
    pixels = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.uint8)
    traced, found = jax.make_jaxpr(program_of(made), return_shape=True)(shapes, pixels)
    assert set(found) == {"detection/raw_boxes", "detection/raw_scores", "segmentation"}
    assert list(task.suppressions()) == ["detection"] and "bf16" not in str(traced)


@pytest.mark.slow
def test_boxes_are_decoded_in_float_from_integers(tmp_path):
    """Integers have no more than 256 values."""
    made = small_detector(**{"model.fpn_strides": (8, 16)})
    pixels = np.random.default_rng(1).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    litert.write_litert(made, tmp_path / "a.tflite", "uint8", pixels, numbers="int8")
    onnx.write_onnx_int8(made, tmp_path / "a.onnx", "uint8", pixels)
    run = program_of(TrainedModel("", made.model, {}, made.task.without_suppression()))
    expected = jax.device_get(jax.jit(run)(made.variables, pixels))
    files = (litert.read_litert, tmp_path / "a.tflite"), (onnx.read_onnx, tmp_path / "a.onnx")
    for read, path in files:
        found = read(path)(pixels)
        assert len(np.unique(found["raw_boxes"])) > 256
        assert np.abs(found["raw_boxes"] - expected["raw_boxes"]).mean() < 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (name == "retinanet_v2"))
        for name in ("retinanet", "retinanet_v2", "ssd", "ssdlite", "yolox")
    ],
)
def test_other_methods_of_one_stage(head, tmp_path):
    found = export(small_detector(head), tmp_path / "out", formats=("onnx", "litert"))["formats"]
    assert all(facts["changed_decisions"] == 0 for facts in found.values())
    assert all(RawBoxes._fields == tuple(facts["outputs"]) for facts in found.values())


@pytest.mark.slow
def test_detr_has_nothing_to_suppress(tmp_path):
    made = small_detector("detr")
    found = export(made, tmp_path / "out", formats=("onnx", "litert"))["formats"]
    for facts in found.values():
        assert facts["changed_decisions"] == 0 and "suppression" not in facts
