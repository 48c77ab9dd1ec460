"""Boxes and their classes: metrics of other implementations, the same numbers everywhere."""

import json
import runpy
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax import Predictor
from imagenet_jax.config import base_config, load_config, validate
from imagenet_jax.devices import make_mesh, parallel
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.detection.detections import Detections
from imagenet_jax.tasks import make_task, task_split
from imagenet_jax.tasks.box_meter import METRICS, BoxMeter
from imagenet_jax.tasks.detection import Detection
from imagenet_jax.training import evaluate_split, make_program
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.loop import train
from imagenet_jax.training.program_checks import check_config

CLASSES = tuple("abc")
ROOT = Path(__file__).resolve().parents[2]
VARIANTS = runpy.run_path(str(ROOT / "configs/detect_coco.py"))["VARIANTS"]


@pytest.fixture
def config(loop_config):
    """`loop_config` with FCOS on 3 classes of noise."""
    loop_config.task = "detection"
    loop_config.model.update(head="fcos", fpn_strides=(2, 4), fpn_width=32, stem="cifar_half")
    loop_config.data.update(image_size=16, fake_classes=3, fake_eval_examples=37, max_objects=8)
    loop_config.data.update(eval_crop="resize", train_crop="resize")
    loop_config.eval.update(candidates=40, max_detections=20, score_threshold=0.0)
    loop_config.augment.pad = 0
    loop_config.optim.learning_rate = 0.002
    return loop_config


class AsItIs:
    """Stands for a `Preprocess` that leaves boxes where they are."""

    @staticmethod
    def restore_boxes(boxes, shape):
        return boxes


def observed(images=30, seed=0):
    """Objects of three sizes, some ignored, and detections near some of them."""
    random, room = np.random.default_rng(seed), 12
    shape = (images, room)
    low = random.uniform(0, 300, (*shape, 2))
    boxes = np.concatenate([low, low + random.uniform(4, 180, (*shape, 2))], -1)
    count = random.integers(0, room, images)[:, None]
    classes = np.where(np.arange(room) < count, random.integers(0, 3, shape), -1)
    sides = boxes[..., 2:] - boxes[..., :2]
    moved = boxes + random.normal(0, 0.12, boxes.shape) * np.concatenate([sides, sides], -1)
    moved[..., 2:] = np.maximum(moved[..., 2:], moved[..., :2] + 1)
    told = np.concatenate([moved, moved + random.normal(0, 30, moved.shape)], 1)
    told[..., 2:] = np.maximum(told[..., 2:], told[..., :2] + 1)
    labels = np.where(
        random.random(shape) < 0.8, np.maximum(classes, 0), random.integers(0, 3, shape)
    )
    scores = np.where(
        random.random((images, 2 * room)) < 0.7, random.random((images, 2 * room)), -1
    )
    return {
        "index": np.arange(images),
        "boxes": boxes.astype(np.float32),
        "classes": classes.astype(np.int32),
        "ignored": (random.random(shape) < 0.1) & (classes >= 0),
        "area": sides.prod(-1).astype(np.float32),
        "size": np.full((images, 2), 500),
        "predicted_boxes": told.astype(np.float32),
        "predicted_scores": scores.astype(np.float32),
        "predicted_classes": np.concatenate([labels, labels], 1).astype(np.int32),
    }


def metered(rows, parts=1):
    meter = BoxMeter(CLASSES, AsItIs())
    for part in np.array_split(np.random.default_rng(1).permutation(len(rows["index"])), parts):
        meter.add({name: array[part] for name, array in rows.items()})
    return meter


def test_metrics_are_those_of_another_implementation():
    faster = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    meter = metered(observed())
    found = meter.metrics()
    truth, told = faster.COCO(), faster.COCO()
    truth.dataset, told.dataset = (
        json.loads(json.dumps(x.dataset)) for x in (meter.coco.cocoGt, meter.coco.cocoDt)
    )
    truth.createIndex()
    told.createIndex()
    other = faster.COCOeval_faster(truth, told, "bbox", print_function=lambda *_: None)
    other.run()
    np.testing.assert_allclose([found[name] for name in METRICS[:12]], other.stats[:12], rtol=1e-9)
    assert 0.05 < found["map"] < 0.6


def test_classes_have_precisions_of_their_own():
    """Of all classes and sizes together they are COCO's numbers, where each class has some."""
    meter = metered(observed(200))
    found, whole = meter.class_precisions(), meter.metrics()
    assert found.shape == (3, 5)
    names = ("map", "map50", "map_small", "map_medium", "map_large")
    np.testing.assert_allclose(found.mean(0), [whole[name] for name in names], rtol=1e-9)


def test_metrics_do_not_depend_on_the_order_in_which_examples_come():
    rows = observed()
    assert metered(rows).metrics() == metered(rows, 7).metrics()


def perfect(rows):
    """With the objects as detections."""
    scores = np.where((rows["classes"] >= 0) & ~rows["ignored"], 0.9, -1)
    return rows | {
        "predicted_boxes": rows["boxes"],
        "predicted_scores": scores,
        "predicted_classes": np.maximum(rows["classes"], 0),
    }


def test_the_objects_themselves_have_an_average_precision_of_one():
    found = metered(perfect(observed())).metrics()
    for name in ("map", "map50", "map_small", "mar100", "voc_map50", "voc07_map50"):
        assert found[name] == pytest.approx(1)
    nothing = observed()
    nothing["predicted_scores"][:] = -1
    found = metered(nothing).metrics()
    assert found["map"] == found["voc_map50"] == found["mar100"] == 0
    nothing["classes"][:] = -1
    assert np.isnan(list(metered(nothing).metrics().values())).all()


def test_pascal_vocs_precision_by_hand():
    """Of four objects three are found, by the 1st, 3rd and 4th of five detections; a second box of
    an object, and one of an ignored one, are wrong and nothing."""
    box = np.array([0.0, 0, 10, 10])
    boxes = np.stack([box + 20 * k for k in range(5)])
    told = np.stack([boxes[0], boxes[0] + 1, boxes[1], boxes[2] + 2, boxes[4], box + 500])
    rows = {
        "index": np.array([3]),
        "boxes": boxes[None],
        "classes": np.zeros((1, 5), int),
        "ignored": np.array([[False] * 4 + [True]]),
        "area": np.full((1, 5), 100.0),
        "size": np.array([[600, 600]]),
        "predicted_boxes": told[None],
        "predicted_scores": np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]]),
        "predicted_classes": np.zeros((1, 6), int),
    }
    found = metered(rows).metrics()
    # The box moved by 2 pixels has an IoU of 64 / 136, and is wrong.
    right = [1, 0, 1, 0, 0]
    precisions = np.cumsum(right) / np.arange(1, 6)
    assert found["voc_map50"] == pytest.approx((precisions[0] + precisions[2]) / 4)
    eleven = [1] * 3 + [2 / 3] * 3 + [0] * 5
    assert found["voc07_map50"] == pytest.approx(np.mean(eleven))


def losses_of(config, devices, steps=10):
    mesh = make_mesh(config.sharding, jax.devices()[:devices])
    split = task_split(config, train=True)
    program = make_program(make_task(config, split), mesh, num_examples=split.num_examples)
    step, state, losses = program.compile_train_step(), program.init_state(), []
    rows = parallel.local_rows(mesh, config.batch_size)
    for batch in split.train_batches(rows, 0, steps):
        state, sums = step(state, parallel.put_batch(batch, mesh))
        losses.append(
            [program.task.summarize([jax.device_get(sums)])[k] for k in program.task.train_metrics]
        )
    return np.array(losses)


@pytest.mark.slow
@pytest.mark.exhaustive  # test_instances.py has it of Mask R-CNN
@pytest.mark.xdist_group("eight_devices")
@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_devices_and_micro_batches_give_the_same_losses(config, head):
    config.model.update(head=head, bn_group_size=1)
    alone = losses_of(config, 1)
    assert alone[-1, 0] < alone[0, 0]
    for partitioner in ("jit", "shard_map"):
        config.partitioner = partitioner
        np.testing.assert_allclose(losses_of(config, 8), alone, rtol=1e-4)
    config.accumulate = 2
    np.testing.assert_allclose(losses_of(config, 8), alone, rtol=1e-4)


@pytest.mark.xdist_group("eight_devices")
def test_an_evaluation_is_the_same_in_any_batches(config):
    results = []
    for devices, batch_size in ((1, 7), (8, 32), (1, 37)):
        config.eval.batch_size = batch_size
        mesh = make_mesh(config.sharding, jax.devices()[:devices])
        split = task_split(config, train=False)
        program = make_program(make_task(config, split), mesh, num_examples=40)
        step = program.compile_eval_step(split.num_examples)
        variables = program.init_state().eval_variables()
        results.append(evaluate_split(program, step, variables, split))
    assert repr(results[0]) == repr(results[1]) == repr(results[2])  # some are nan
    assert results[0]["num_examples"] == 37 and results[0]["detections"] == 37 * 20
    assert set(METRICS) <= results[0].keys()


@pytest.mark.slow
def test_a_run_resumes_by_bits_tells_what_it_found_and_becomes_another_detector(config, tmp_path):
    config.duration, config.checkpoint.every, config.checkpoint.keep = "4 steps", "2 steps", 5
    whole = train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/4")
    again = train(config, tmp_path / "run")
    assert again["step"] == 4 and whole["state_sha256"] == again["state_sha256"]
    assert repr(whole["eval"]) == repr(again["eval"]) and "map" in whole["eval"]
    files = {path.name for path in (tmp_path / "run/evaluation").iterdir()}
    assert files == {"per_class.csv", "most_wrong.png", "precision_recall.png"}
    predictor = Predictor.from_run(tmp_path / "run")
    photo = np.random.default_rng(0).integers(0, 256, (50, 90, 3)).astype(np.uint8)
    found = predictor(photo)
    assert len(found["objects"]) == 20 and found["size"] == [50, 90]
    for one in found["objects"]:
        left, top, right, bottom = one["box"]
        assert 0 <= left <= right <= 90 and 0 <= top <= bottom <= 50 and 0 < one["score"] < 1
        assert one["class_name"] == f"class {one['label']}"
    scores = [one["score"] for one in found["objects"]]
    assert scores == sorted(scores, reverse=True) and len(predictor(photo, top=3)["objects"]) == 3
    config.finetune.weights, config.data.fake_classes = str(tmp_path / "run"), 4
    start = starting_variables(make_program(make_task(config), make_mesh(), num_examples=40))
    head = start["params"]["head"]["classification_head"]
    assert "cls_logits" not in head and "conv.0" in head  # of other classes it is new


def test_an_image_and_its_boxes_are_mirrored_together():
    config = base_config()
    config.augment.update(flip=True, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    config.model.update(head="fcos", fpn_strides=(4,))
    task = Detection(config, CLASSES)
    random = np.random.default_rng(0)
    images, boxes = np.zeros((16, 32, 32, 3), np.uint8), np.zeros((16, 2, 4), np.float32)
    for image, box in zip(images, boxes, strict=True):
        left, top = random.integers(0, 20, 2)
        right, bottom = left + random.integers(3, 11), top + random.integers(3, 11)
        image[top:bottom, left:right], box[0] = 255, (left, top, right, bottom)
    batch = {
        name: field.filled(16)[:, :2] if field.shape else field.filled(16)
        for name, field in task.fields().items()
    }
    batch |= {
        "image": images,
        "boxes": boxes,
        "classes": np.tile([0, -1], (16, 1)),
        "index": np.arange(16),
        "epoch": np.zeros(16, np.int32),
    }
    batch = jax.tree.map(jnp.asarray, batch)
    image, targets = task.inputs(batch, jax.random.key(0), jnp.zeros((), jnp.int32), train=True)
    for pixels, box in zip(
        np.asarray(image[..., 0]), np.asarray(targets["boxes"][:, 0]), strict=True
    ):
        rows, columns = np.nonzero(pixels)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    mirrored = (np.asarray(targets["boxes"][:, 0]) != boxes[:, 0]).any(1)
    assert 2 < mirrored.sum() < 14


def test_what_is_found_in_mirror_images_is_mirrored_back(config):
    """A network that sees one bright square tells the same box of either image."""
    config.eval.update(tta="mirror", score_threshold=0.5)
    check_config(config, make_mesh())
    config.model.fpn_strides = (4, 8)
    task = make_task(config)
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[0, 8, 4] = 1  # the place (4, 8) of the first map; its mirror image has it at 27

    def apply(x):
        there = x[:, ::4, ::4, :1] + x[:, ::4, 3::4, :1]
        fine = {"cls_logits": 20 * there - 10, "bbox_ctrness": 20 * there[..., :1] - 10}
        fine["bbox_regression"] = jnp.ones((1, 8, 8, 4))
        coarse = {name: jnp.full((1, 4, 4, part.shape[-1]), -10.0) for name, part in fine.items()}
        coarse["bbox_regression"] = jnp.ones((1, 4, 4, 4))
        fine["cls_logits"], coarse["cls_logits"] = (
            jnp.repeat(x["cls_logits"], 3, -1) for x in (fine, coarse)
        )
        return {
            name: jnp.concatenate(
                [x.reshape(1, -1, x.shape[-1]) for x in (fine[name], coarse[name])], 1
            )
            for name in fine
        }

    found = jax.jit(lambda x: task.predict(apply, x))(image)
    assert isinstance(found, Detections)
    there = np.asarray(found.scores[0]) > 0
    # At (4, 8) and, mirrored back, at 32 - 24 = (8, 8): squares of 8 pixels around these.
    boxes = {tuple(box) for box in np.asarray(found.boxes[0])[there].tolist()}
    assert boxes == {(0.0, 4.0, 8.0, 12.0), (4.0, 4.0, 12.0, 12.0)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("augment.mixup", 0.2, "augment.mixup"),
        ("augment.pad", 2, "augment.pad"),
        ("augment.erase", 0.5, "augment.erase"),
        ("data.policy", "randaugment", "data.policy"),
        ("data.sampling", "balanced", "data.sampling"),
        ("data.eval_crop", "center_crop", "'center_crop' leaves out a part of the image"),
        ("loss.label_smoothing", 0.2, "loss.label_smoothing"),
        ("eval.tta", "mirror_shift", "eval.tta = 'mirror_shift'"),
        ("model.head", "unet", r"model.head = 'unet'; expected retinanet"),
        ("model.head", "", r"model.head = ''; expected retinanet"),
    ],
)
def test_what_does_not_go_with_boxes_is_refused(config, field, value, message):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        make_task(config).model()


@pytest.mark.parametrize(
    ("field", "value"), [("model.proposals", 9), ("eval.candidates", 9), ("data.max_objects", 9)]
)
def test_fields_of_detection_are_refused_for_other_tasks(field, value):
    config = base_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=rf"{field} = 9 is for config.task = 'detection' and"):
        validate(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_recipes_of_coco_are_valid(variant):
    config = load_config(f"detect_coco:{variant}")
    validate(config)
    config.data.update(name="fake", fake_classes=80)
    task = make_task(config)
    assert task.method.num_classes == 80 and task.method.map_sides(config.data.image_size)[-1] > 0
