"""Objects where they are in the network's input: nothing is lost without being counted."""

import cv2
import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.sources.objects import as_they_are, make_objects, placed

CROPS = ("letterbox", "scale_jitter", "resize", "random_resized_crop", "resize_random_crop")


def preprocess(rule, size=64, train=True, **fields):
    data = base_config().data
    data.image_size, data.train_crop, data.train_resize = size, rule, size + 20
    data.eval_crop = rule if not train else "letterbox"
    data.update(fields)
    return Preprocess(data, 3, train=train)


def random_objects(random, shape, count):
    """Some of them tiny, some at the edge, some crowds."""
    height, width = shape
    low = random.uniform(0, 0.95, (count, 2))
    high = low + random.uniform(0.002, 1, (count, 2)) * (1 - low)
    boxes = np.concatenate([low, high], 1) * [width, height, width, height]
    return make_objects(boxes, random.integers(0, 5, count), shape, random.random(count) < 0.05)


def test_ten_thousand_images_lose_no_object_without_counting_it():
    random, most = np.random.default_rng(0), 6
    rules = [preprocess(rule, jitter=(0.1, 2.0)) for rule in CROPS]
    total = np.zeros(4, int)
    for number in range(10_000):
        rule = rules[number % len(rules)]
        shape = tuple(random.integers(5, 300, 2).tolist())
        objects = random_objects(random, shape, int(random.integers(0, 12)))
        index, epoch = np.array([number]), np.array([number % 7])
        (box,) = rule.boxes(np.array([shape]), index, epoch)
        place = rule.place(box[2:], number, number % 7)
        found = placed(objects, shape, box, place, 64, most)
        boxes, labels = found["boxes"], found["classes"]
        assert len(boxes) == len(labels) <= most
        assert (boxes >= 0).all() and (boxes <= 64).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
        kept, cut_off, too_many = len(boxes), *found["left_out"]
        assert kept + cut_off + too_many == (~objects.crowd).sum()
        assert not too_many or kept == most
        total += [kept, cut_off, too_many, int(objects.crowd.sum())]
    assert (total > 1000).all()


@pytest.mark.parametrize("rule", CROPS)
def test_a_box_goes_where_its_mask_goes(rule):
    """The box of the warped mask is the warped box, within a pixel."""
    random, how = np.random.default_rng(1), preprocess(rule)
    compared = 0
    for number in range(60):
        shape = tuple(random.integers(60, 200, 2).tolist())
        x, y = (int(random.integers(5, side - 40)) for side in shape[::-1])
        wide, high = random.integers(15, 35, 2).tolist()
        mask = np.zeros(shape, np.uint8)
        cv2.ellipse(mask, (x + wide // 2, y + high // 2), (wide // 2, high // 2), 0, 0, 360, 1, -1)
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        index, epoch = np.array([number]), np.zeros(1, int)
        (box,) = how.boxes(np.array([shape]), index, epoch)
        place = how.place(box[2:], number, 0)
        out = np.zeros((64, 64), np.uint8)
        top, left, height, width = box
        how.finish_map(mask[top : top + height, left : left + width], out, number, 0)
        found = placed(make_objects([tight], [0], shape), shape, box, place, 64, 5)
        if not len(found["boxes"]) or out.sum() < 30 or (found["boxes"] % 64 == 0).any():
            continue  # an ellipse that is cut need not reach the corners of its box
        rows, columns = np.nonzero(out)
        warped = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        scale = max(1.0, place[2] / box[2], place[3] / box[3])  # of a pixel of the mask
        assert np.abs(warped - found["boxes"][0]).max() <= scale
        compared += 1
    assert compared > 8


@pytest.mark.parametrize("rule", ["letterbox", "resize"])
def test_boxes_come_back_to_the_photo(rule):
    random, how = np.random.default_rng(2), preprocess(rule, train=False)
    for _ in range(50):
        shape = tuple(random.integers(10, 900, 2).tolist())
        boxes = in_photo = random_objects(random, shape, 5).boxes
        boxes = how.place_boxes(in_photo, shape)
        assert (boxes >= 0).all() and (boxes <= 64 + 1e-9).all()
        np.testing.assert_allclose(how.restore_boxes(boxes, shape), in_photo, atol=1e-9)


def test_an_evaluation_leaves_nothing_out():
    objects = make_objects([(0, 0, 2, 3)] * 3, [0, 1, 2], (10, 20), [False, True, False])
    found = as_they_are(objects, (10, 20), 3)
    assert found["ignored"].tolist() == [False, True, False] and found["area"].tolist() == [6] * 3
    with pytest.raises(ValueError, match=r"it has 3 objects, more than data.max_objects = 2"):
        as_they_are(objects, (10, 20), 2)
    with pytest.raises(ValueError, match=r"20 x 10 pixels .* of 10 x 20; data.exif_orientation"):
        as_they_are(objects, (20, 10), 3)
