"""Mosaics and pasted objects: what is told of objects is what is seen in the image."""

import io

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config, validate
from imagenet_jax.data.images.boxes import uniforms
from imagenet_jax.data.images.object_rows import pixels_of
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.order import TrainOrder
from imagenet_jax.data.pipeline import Pipeline
from imagenet_jax.data.sources.masks import FIELD
from imagenet_jax.data.sources.objects import make_objects, object_fields
from imagenet_jax.errors import ConfigError, DataError

SIZE, COUNT, EACH = 48, 12, 3
FILL = np.array([9, 9, 9], np.uint8)


def colour(label):
    return np.array([40 + 5 * label, 250 - 5 * label, label], np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Rectangles:
    """Images of three rectangles, each of a class and a colour of its own; nothing lies over it."""

    class_names = tuple(map(str, range(COUNT * EACH)))

    def __init__(self, most=30, broken=()):
        self.fields = {**object_fields(most, masks=True), "segmentation": FIELD}
        random = np.random.default_rng(0)
        self.images, self.objects, self.maps = [], [], []
        for number in range(COUNT):
            pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
            levels, boxes, outlines = np.zeros((SIZE, SIZE), np.uint8), [], []
            labels = list(range(EACH * number, EACH * (number + 1)))
            for place, label in enumerate(labels):
                left, top = random.integers(1, 30), 16 * place + random.integers(0, 6)
                right, bottom = left + random.integers(4, 18), top + random.integers(3, 10)
                pixels[top:bottom, left:right] = colour(label)
                levels[top:bottom, left:right] = label
                boxes.append((left, top, right, bottom))
                corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
                outlines.append((np.array(corners, np.float64),))
            self.images.append(b"no image" if number in broken else png(pixels))
            self.maps.append(png(levels))
            self.objects.append(make_objects(boxes, labels, (SIZE, SIZE), outlines=outlines))

    def __len__(self):
        return COUNT

    def read(self, index):
        boxes, maps = [self.objects[k] for k in index], [self.maps[k] for k in index]
        return [self.images[k] for k in index], {"boxes": boxes, "segmentation": maps}

    def describe(self, index):
        return f"image {index}"


def pipeline(source, **fields):
    data = base_config().data
    data.update(image_size=SIZE, train_crop="none", pad_fill=tuple(FILL.tolist()), **fields)
    return Pipeline(source, Preprocess(data, 3, train=True), FILL)


def batches(made, rows=8, start=0, stop=6, size=8):
    order = TrainOrder(3, COUNT, size, np.arange(rows))
    return list(made.batches(order, start, stop))


def check_objects(batch, row):
    """Masks, boxes, classes and the map against the colours of the pixels; how many objects."""
    image, labels = batch["image"][row], batch["classes"][row]
    labels = labels[labels >= 0]
    assert (batch["classes"][row, len(labels) :] == -1).all()
    claimed = {}
    for k, label in enumerate(labels.tolist()):
        box = batch["boxes"][row, k]
        filled = np.zeros((SIZE, SIZE), bool)
        where, part = pixels_of(batch["masks"][row, k], box, SIZE)
        filled[where] = part
        assert filled.any() and (image[filled] == colour(label)).all()
        rows, columns = np.nonzero(filled)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(seen - box).max() <= 1
        claimed[label] = claimed.get(label, 0) | filled
    for label in range(COUNT * EACH):
        there = (image == colour(label)).all(-1)
        assert (batch["segmentation"][row][there] == label).all()
        lost = there & ~claimed.get(label, np.zeros_like(there))
        assert lost.sum() <= 12  # slivers of less than a pixel's share in a mask
    return len(labels)


def test_a_mosaic_has_the_objects_of_its_parts():
    made = pipeline(Rectangles(), mosaic=1.0)
    order = TrainOrder(3, COUNT, 8, np.arange(8))
    counts = []
    for step, batch in enumerate(batches(made)):
        parts = made.several.with_others(order(step))
        assert parts.mask.all() and len(parts.index) == 32
        for row in range(8):
            found = check_objects(batch, row)
            assert found + batch["left_out"][row].sum() == 4 * EACH
            # Nothing is of another image than the four that were drawn.
            labels = batch["classes"][row][:found]
            assert {*(labels // EACH).tolist()} <= {*parts.index[4 * row : 4 * row + 4].tolist()}
            counts.append(found)
    assert 4 < np.mean(counts) < 11 and len({*counts}) > 3


def test_pasted_objects_lie_over_the_others():
    """And those that are hidden count as cut off; on mosaics, too."""
    for mosaic in (0.0, 1.0):
        made = pipeline(Rectangles(), copy_paste=1.0, mosaic=mosaic)
        own = EACH * (4 if mosaic else 1)
        pasted = hidden = 0
        for batch in batches(made):
            for row in range(8):
                found = check_objects(batch, row)
                assert found <= own + EACH
                lost = batch["left_out"][row, 0]
                pasted += max(0, found + lost - own)
                hidden += lost
        assert 0.35 < pasted / (48 * EACH) < 0.65 and hidden > 0


def test_an_image_depends_on_its_example_alone():
    """Not on the size of batches, on where the run began, nor on which rows a process has."""
    made = pipeline(Rectangles(), mosaic=0.5, copy_paste=0.5)
    first = batches(made)
    for others in (batches(made, rows=8, start=3), batches(made, rows=3, start=3)):
        for one, other in zip(first[3:], others, strict=True):
            for name in one:
                count = len(other[name])
                np.testing.assert_array_equal(one[name][:count], other[name])
    small = batches(made, rows=4, size=4, stop=12)
    for step in range(12):
        whole = first[step // 2]["image"][4 * (step % 2) : 4 * (step % 2) + 4]
        np.testing.assert_array_equal(whole, small[step]["image"])


def test_half_of_the_images_are_mosaics_and_others_stay_as_they_are():
    plain, made = (pipeline(Rectangles(), mosaic=share) for share in (0.0, 0.5))
    same = [
        (one["image"][row] == other["image"][row]).all()
        for one, other in zip(batches(plain, stop=20), batches(made, stop=20), strict=True)
        for row in range(8)
    ]
    assert 0.35 < np.mean(same) < 0.65


def test_the_images_of_a_mosaic_are_drawn_apart_from_its_crops():
    """All images as often, each epoch others, and none of it goes with the numbers of a crop."""
    several = pipeline(Rectangles(), mosaic=1.0, copy_paste=1.0).several
    order = TrainOrder(3, COUNT, 240, np.arange(240))
    rows = several.with_others(order(0))
    index, epoch = rows.index.reshape(-1, 5), rows.epoch.reshape(-1, 5)
    others = np.bincount(index[:, 1:].ravel(), minlength=COUNT)
    assert (np.abs(others - 80) < 4 * 80**0.5).all()
    assert (epoch[:, 1:] != epoch[:, :1]).all()
    half = pipeline(Rectangles(), mosaic=0.5).several.with_others(order(0))
    made = half.mask.reshape(-1, 4)[:, 1]  # whether there is a mosaic
    crops = uniforms(3, epoch[:, 0], index[:, 0], 41)
    both = np.corrcoef(np.column_stack([crops, index[:, 1:], made]).T)
    assert np.abs(both[:41, 41:]).max() < 4 / 240**0.5


def test_of_more_objects_than_fit_the_largest_are_kept():
    made = pipeline(Rectangles(most=4), mosaic=1.0, max_objects=4)
    for batch in batches(made, stop=2):
        assert (batch["left_out"][:, 1] > 0).any()
        for row in range(8):
            found = (batch["classes"][row] >= 0).sum()
            assert found + batch["left_out"][row].sum() == 4 * EACH


def test_an_unreadable_part_is_skipped_and_named():
    with pytest.raises(DataError, match="unreadable image: image 5"):
        batches(pipeline(Rectangles(broken=(5,)), mosaic=1.0), stop=12)
    made = pipeline(Rectangles(broken=(5,)), mosaic=1.0, bad_images="skip", max_bad_fraction=0.5)
    filled = 0
    for batch in batches(made, stop=12):
        for row in np.flatnonzero(batch["mask"]):
            check_objects(batch, row)
            filled += (batch["image"][row] == FILL).all(-1).any()
        assert (batch["mask"] == (batch["index"] != 5)).all()
    assert filled > 0 and list(made.unreadable) == [5]


def test_tasks_without_places_have_neither():
    config = base_config()
    config.data.mosaic = 0.5
    with pytest.raises(ConfigError, match=r"data.mosaic = 0.5 .* not config.task = 'classif"):
        validate(config)
    config.task = "detection"
    validate(config)
    config.data.copy_paste = 1.0
    with pytest.raises(ConfigError, match=r"data.copy_paste = 1 needs the outlines .* 'detection'"):
        validate(config)
    config.task = "instances"
    validate(config)
