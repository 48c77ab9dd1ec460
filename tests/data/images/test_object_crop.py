"""SSD's crop: nothing is lost uncounted, boxes go with their pixels, shares as torchvision's."""

import importlib
import io

import cv2
import numpy as np
import pytest
from oracles import torchvision
from PIL import Image

from imagenet_jax.config import base_config, validate
from imagenet_jax.data.chunk import ChunkMaker
from imagenet_jax.data.images.object_crop import ssd_crop
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.order import Rows
from imagenet_jax.data.sources.objects import make_objects, object_fields
from imagenet_jax.errors import ConfigError

SIZE = 64


def random_objects(random, shape, count):
    low = random.uniform(0, 0.9, (count, 2))
    high = low + random.uniform(0.02, 1, (count, 2)) * (1 - low)
    return np.concatenate([low, high], 1) * np.array([shape[1], shape[0]] * 2)


def test_crops_have_a_centre_and_depend_on_the_example_alone():
    random = np.random.default_rng(0)
    cut = on_ground = 0
    for number in range(500):
        shape = tuple(random.integers(20, 300, 2).tolist())
        boxes = random_objects(random, shape, int(random.integers(0, 6)))
        one = ssd_crop(shape, boxes, SIZE, 3, 1, number)
        top, left, height, width = one.box
        assert top >= 0 and left >= 0 and height > 0 and width > 0
        assert top + height <= shape[0] and left + width <= shape[1]
        assert not len(boxes) or one.seen.any()
        again = ssd_crop(shape, boxes, SIZE, 3, 1, number)
        assert one[:2] == again[:2]
        cut += (height, width) != shape
        on_ground += one.place[2] < SIZE - 1 or one.place[3] < SIZE - 1
    assert 150 < cut < 450 and 100 < on_ground < 300
    boxes = random_objects(random, (50, 60), 4)
    assert len({ssd_crop((50, 60), boxes, SIZE, 3, epoch, 7)[:2] for epoch in range(20)}) > 5


@pytest.mark.slow
def test_crops_are_distributed_as_torchvisions():
    """The share of the image that is left, and of the objects, over 400 draws."""
    torch = pytest.importorskip("torch")
    torchvision()
    transforms = importlib.import_module("torchvision.transforms.v2")
    points = importlib.import_module("torchvision.tv_tensors")
    torch.manual_seed(0)
    shape, boxes = (100, 140), np.array([[20.0, 30, 60, 80], [90, 10, 130, 50], [5, 5, 20, 20]])
    theirs, mine = [], []
    steps = transforms.Compose([transforms.RandomZoomOut(), transforms.RandomIoUCrop(trials=40)])
    clean = transforms.SanitizeBoundingBoxes()
    for number in range(400):
        target = {
            "boxes": points.BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=shape),
            "labels": torch.arange(3),
        }
        image, found = clean(*steps(points.Image(torch.ones(1, *shape)), target))
        share = (image > 0).float().mean().item()
        theirs.append((share, len(found["boxes"])))
        one = ssd_crop(shape, boxes, 200, 0, 0, number)
        top, left, height, width = one.place
        rows = min(top + height, 200) - max(top, 0)
        columns = min(left + width, 200) - max(left, 0)
        mine.append((rows * columns / 200**2, one.seen.sum()))
    apart = np.abs(np.mean(theirs, 0) - np.mean(mine, 0))
    spread = np.std(theirs, 0) / 20 + np.std(mine, 0) / 20
    assert (apart < 3 * spread).all()


class Squares:
    """Images with one white box each."""

    def __init__(self, random, count):
        self.class_names, self.fields = ("a",), object_fields(4)
        self.images, self.objects = [], []
        for _ in range(count):
            shape = tuple(random.integers(80, 200, 2).tolist())
            left, top = (int(random.integers(5, side - 45)) for side in shape[::-1])
            wide, high = random.integers(15, 40, 2).tolist()
            pixels = np.zeros((*shape, 3), np.uint8)
            cv2.rectangle(pixels, (left, top), (left + wide - 1, top + high - 1), (255,) * 3, -1)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            self.images.append(file.getvalue())
            box = (left, top, left + wide, top + high)
            self.objects.append(make_objects([box], [0], shape))

    def __len__(self):
        return len(self.images)

    def read(self, index):
        return [self.images[k] for k in index], {"boxes": [self.objects[k] for k in index]}


def test_a_box_goes_where_its_pixels_go():
    data = base_config().data
    data.update(image_size=SIZE, train_crop="ssd_crop", pad_fill=(0, 0, 0))
    source = Squares(np.random.default_rng(0), 60)
    maker = ChunkMaker(source, Preprocess(data, 3, train=True))
    compared = 0
    for number in range(60):
        index = np.array([number])
        chunk = maker.one(Rows(index, np.zeros(1, int), np.ones(1, bool)))
        assert (chunk["classes"][0] >= 0).sum() + chunk["left_out"][0].sum() == 1
        if chunk["classes"][0, 0] < 0:
            continue
        rows, columns = np.nonzero(chunk["image"][0, ..., 0] > 127)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        scale = max(1.0, *(SIZE / np.array(chunk["size"][0])))
        assert np.abs(seen - chunk["boxes"][0, 0]).max() <= 1 + 2 * scale
        compared += 1
    assert compared > 50


def test_an_image_that_cannot_be_read_leaves_its_row_empty():
    data = base_config().data
    data.update(image_size=SIZE, train_crop="ssd_crop")
    maker = ChunkMaker(Squares(np.random.default_rng(0), 2), Preprocess(data, 3, train=True))
    chunk = maker.one(Rows(np.array([-1]), np.zeros(1, int), np.zeros(1, bool)))
    assert chunk["classes"][0].tolist() == [-1] * 4 and not chunk["image"].any()


def test_it_is_for_objects_alone():
    config = base_config()
    config.data.train_crop = "ssd_crop"
    with pytest.raises(ConfigError, match=r"'ssd_crop' goes by objects, which .* 'classification'"):
        validate(config)
    config.task, config.multi_task.tasks = "multi_task", ("segmentation:fcn", "classification")
    with pytest.raises(ConfigError, match=r"'ssd_crop' goes by objects, which .* 'multi_task'"):
        validate(config)
    config.multi_task.tasks = ("segmentation:fcn", "detection:fcos")
    validate(config)
