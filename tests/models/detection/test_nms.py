"""Non-maximum suppression: one box after another, as torchvision does it."""

import jax
import numpy as np
import pytest

from imagenet_jax.models.detection.nms import suppress


def one_after_another(boxes, classes, valid, threshold):
    kept = np.zeros(len(boxes), bool)
    for number, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
        common = np.maximum(sides, 0).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        iou = common / (areas + areas[number] - common)
        kept[number] = valid[number] and not (kept & (classes == label) & (iou > threshold)).any()
    return kept


def random_boxes(seed, count=300):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + random.uniform(5, 40, (count, 2))], 1).astype(np.float32)
    return boxes, random.integers(0, 3, count), random.random(count) < 0.9


@pytest.fixture(scope="module")
def suppressed():
    return jax.jit(suppress)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_it_keeps_what_one_after_another_keeps(suppressed, threshold):
    for seed in range(5):
        boxes, classes, valid = random_boxes(seed)
        expected = one_after_another(boxes, classes, valid, threshold)
        assert 5 < expected.sum() < valid.sum()
        assert np.array_equal(suppressed(boxes, classes, valid, threshold), expected)


def test_a_chain_is_followed_to_its_end(suppressed):
    """Each box suppresses the next one, so that every other one is kept."""
    start = np.arange(300, dtype=np.float32)[:, None]
    boxes = np.concatenate([start, 0 * start, start + 3, 0 * start + 3], 1)
    kept = suppressed(boxes, np.zeros(300, int), np.ones(300, bool), 0.4)
    assert np.array_equal(kept, np.arange(300) % 2 == 0)
