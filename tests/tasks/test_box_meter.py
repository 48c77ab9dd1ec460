"""Average precision of boxes: that of another implementation, of known cases, and by hand."""

import json

import numpy as np
import pytest

from imagenet_jax.tasks.box_meter import METRICS, BoxMeter

CLASSES = tuple("abc")


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
