"""Which pixels are of an object: COCO's run lengths, polygons, maps; and what a batch has of it."""

import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.sources import scenes
from imagenet_jax.data.sources.box_files import open_boxes
from imagenet_jax.data.sources.joined import joined
from imagenet_jax.data.sources.objects import as_they_are, make_objects, placed, run_lengths_of
from imagenet_jax.data.sources.outlines import SIDE, box_mask, packed, polygons, run_lengths
from imagenet_jax.errors import DataError

READS = ("boxes", "masks")


def ellipse(shape, centre, axes):
    mask = np.zeros(shape, np.uint8)
    cv2.ellipse(mask, centre, axes, 20, 0, 360, 1, -1)
    return mask


def test_run_lengths_are_read_in_both_forms():
    mask = ellipse((60, 90), (40, 30), (20, 9))
    text = coco_masks.encode(np.asfortranarray(mask))
    flat = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(order="F"), [2]])))
    counts = np.diff(np.concatenate([[0], flat])).tolist()
    for form in (text, {**text, "counts": text["counts"].decode()}):
        found = run_lengths(form, (60, 90))
        assert np.array_equal(coco_masks.decode(found), mask)
    found = run_lengths({"size": [60, 90], "counts": counts}, (60, 90))
    assert np.array_equal(coco_masks.decode(found), mask)


@pytest.mark.parametrize(
    "lengths",
    [
        None,
        {},
        {"size": [60, 90]},
        {"size": [60, 90], "counts": []},
        {"size": [90, 60], "counts": [5400]},
        {"size": [60, 90], "counts": [5401]},
        {"size": [60, 90], "counts": [5401, -1]},
        {"size": [60, 90], "counts": "oooooooooooo"},
        {"size": [60, 90], "counts": "\u1234"},
        {"size": [60, 90], "counts": ["x"]},
        {"size": 3, "counts": [5400]},
        {"size": [10**12, 10**12], "counts": [10**24]},
    ],
)
def test_run_lengths_of_no_such_image_are_none(lengths):
    assert run_lengths(lengths, (60, 90)) is None


def test_polygons_far_outside_cost_no_memory():
    assert (
        polygons([[0, 0, 1]]) is polygons([[0, 0, 1, 1]]) is polygons("x") is polygons([]) is None
    )
    assert polygons([[0, 0, 1, 1, 2, float("nan")]]) is polygons(5) is polygons([["x"] * 6]) is None
    assert polygons([[10**400, 0, 1, 1, 2, 2]]) is None
    (kept,) = polygons([[0, 0, 4, 0, 4, 4], [1, 1, 2, 2]])  # of the other part nothing is left
    assert kept.tolist() == [[0, 0], [4, 0], [4, 4]]
    far = polygons([[-1e12, 10, 1e12, 10, 1e12, 20, -1e12, 20]])
    (found,) = packed([far], (30, 40))
    assert coco_masks.decode(found)[10:20].all() and coco_masks.area(found) == 400


def test_the_share_of_each_part_of_a_box():
    mask = (np.random.default_rng(0).random((80, 90)) < 0.5).astype(np.uint8)
    lengths = coco_masks.encode(np.asfortranarray(mask))
    found = box_mask(lengths, np.array([7.0, 9.0, 7 + SIDE, 9 + SIDE]))
    assert np.array_equal(found, 255 * mask[9 : 9 + SIDE, 7 : 7 + SIDE])  # a part for each pixel
    large = ellipse((500, 600), (300, 250), (200, 90))
    x, y, wide, high = cv2.boundingRect(large)
    box = np.array([x, y, x + wide, y + high], float)
    found = box_mask(coco_masks.encode(np.asfortranarray(large)), box)
    crop = large[y : y + high, x : x + wide].astype(np.float32)
    expected = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    assert np.abs(found / 255 - expected).mean() < 0.02


@pytest.mark.parametrize("side", [2 * SIDE + 6, 3 * SIDE, 4 * SIDE])
def test_the_mask_of_a_large_box_lies_in_its_middle(side):
    """What is the same mirrored is so in its mask, too."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side - side // 4, side // 4 : side - side // 4] = 1
    lengths = coco_masks.encode(np.asfortranarray(mask))
    found = box_mask(lengths, np.array([0.0, 0.0, side, side])).astype(int)
    assert np.abs(found - found[::-1, ::-1]).max() <= 2 and found.max() == 255


@pytest.mark.parametrize("rule", ["letterbox", "scale_jitter", "random_resized_crop"])
def test_a_mask_goes_where_its_image_goes(rule):
    """The field, put back into its box, is the map that is cropped as the image."""
    random, data = np.random.default_rng(1), base_config().data
    data.update(image_size=64, train_crop=rule, jitter=(0.3, 2.0))
    how, compared = Preprocess(data, 3, train=True), 0
    for number in range(40):
        shape = tuple(random.integers(60, 200, 2).tolist())
        centre = [int(random.integers(20, side - 20)) for side in shape[::-1]]
        mask = ellipse(shape, centre, random.integers(8, 30, 2).tolist())
        x, y, wide, high = cv2.boundingRect(mask)
        corners = np.nonzero(mask)
        assert len(corners[0]) > 0
        objects = make_objects([(x, y, x + wide, y + high)], [0], shape, outlines=[1])
        file = cv2.imencode(".png", mask)[1].tobytes()
        objects = objects._replace(instances=file)
        (box,) = how.boxes(np.array([shape]), np.array([number]), np.zeros(1, int))
        place = how.place(box[2:], number, 0)
        found = placed(objects, shape, box, place, 64, 5)
        out = np.zeros((64, 64), np.uint8)
        top, left, height, width = box
        how.finish_map(mask[top : top + height, left : left + width], out, number, 0)
        if not len(found["masks"]):
            assert out.sum() < 30 and found["left_out"][0] == 1
            continue
        left, top, right, bottom = found["boxes"][0]
        step = (right - left) / SIDE, (bottom - top) / SIDE
        back = np.array([[1 / step[0], 0, -left / step[0]], [0, 1 / step[1], -top / step[1]]])
        back[:, 2] += 0.5 / np.array(step) - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        again = cv2.warpAffine(found["masks"][0], back, (64, 64), flags=flags) > 127
        common, union = (again & (out > 0)).sum(), (again | (out > 0)).sum()
        if out.sum() > 100:
            compared += 1
            assert common / union > 0.8
    assert compared > 15


def test_real_polygons(test_data):
    """The masks have the areas that COCO's file says, and fill the boxes."""
    file = test_data / "coco_photos.zip"
    with zipfile.ZipFile(file) as archive:
        content = json.loads(archive.read("annotations/instances.json"))
    source = open_boxes("coco", f"{file}", "train", READS, default=True)
    whole = source.source if hasattr(source, "source") else source
    objects = [whole.objects(index) for index in range(len(whole))]
    assert sum(len(one.labels) for one in objects) == len(content["annotations"]) == 746
    apart = []
    for one in objects:
        for lengths, box in zip(run_lengths_of(one, one.sides), one.boxes, strict=True):
            left, top, wide, high = coco_masks.toBbox(lengths)
            apart.append(np.abs(np.array([left, top, left + wide, top + high]) - box).max())
    assert np.percentile(apart, 95) <= 2  # of a few the file has another box


def test_scenes_have_their_masks(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "_COUNTS", {"train": 4, "test": 2})
    config = base_config()
    config.data.update(name="scenes", dir=str(tmp_path), eval_split="test", image_size=128)
    config.data.update(train_crop="none", eval_crop="none", max_objects=9)
    split = open_split(config, True, READS)
    (batch,) = split.eval_batches(np.arange(4), 4)
    expected = [scenes.make_scene("train", number) for number in range(4)]
    for row in range(4):
        count = int((batch["classes"][row] >= 0).sum())
        objects = split.source.objects(int(batch["index"][row]))
        masks = [coco_masks.decode(one) for one in run_lengths_of(objects, (128, 128))]
        numbers = np.arange(1, count + 1)[:, None, None]
        same = [one for one in expected if np.array_equal(masks, one.instances == numbers)]
        assert len(same) == 1 and not batch["masks"][row, count:].any()
        for box, mask, field in zip(batch["boxes"][row], masks, batch["masks"][row], strict=False):
            area = np.prod(box[2:] - box[:2])
            assert field.mean() / 255 == pytest.approx(mask.sum() / area, abs=0.03)


def test_maps_of_objects_in_vocs_layout(tmp_path):
    xml = "<annotation><size><width>40</width><height>30</height></size>{}</annotation>"
    thing = (
        "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax>"
        "<ymax>20</ymax></bndbox></object>"
    )
    levels = np.zeros((30, 40), np.uint8)
    levels[1:20, 4:10], levels[1:20, 20:30] = 1, 3
    for folder in ("JPEGImages", "Annotations", "SegmentationObject", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (40, 30)).save(tmp_path / f"JPEGImages/{name}.jpg")
        things = [("cat", 5, 10), ("", 1, 3), ("dog", 21, 30)]
        text = xml.format("".join(thing.format(*one) for one in things))
        (tmp_path / f"Annotations/{name}.xml").write_text(text)
    Image.fromarray(levels).save(tmp_path / "SegmentationObject/a.png")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a")
    source = open_boxes("voc", str(tmp_path), "train", READS)
    assert len(source) == 1
    assert source.left_out["images without a map of objects"] == ["JPEGImages/b.jpg"]
    objects = source.objects(0)
    masks = [coco_masks.decode(one) for one in run_lengths_of(objects, (30, 40))]
    assert np.array_equal(masks, [levels == 1, levels == 3])  # the second of the three has no name
    (tmp_path / "SegmentationObject/a.png").unlink()
    with pytest.raises(DataError, match=r"no images in 'train'.*images without a map of objects"):
        open_boxes("voc", str(tmp_path), "train", READS)


@pytest.mark.parametrize("first", [READS, READS[:1]])
def test_objects_of_two_tasks_have_their_outlines(tmp_path, first):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    (tmp_path / "names.txt").write_text("cat")
    second = READS[:1] if first == READS else READS
    parts = {reads: open_boxes("yolo", str(tmp_path), "train", reads) for reads in (first, second)}
    source = joined(parts)
    (objects,) = source.read(np.array([0]))[1]["boxes"]
    assert objects.outlines and source.objects(0).outlines and source.fields.keys() >= {"masks"}


def test_polygons_in_yolos_layout(tmp_path):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "images/train/a.jpg")
    rows = ["0 .25 .5 .5 .5 .5 1 .25 1", "1 .5 .5 .2 .2"]
    (tmp_path / "labels/train/a.txt").write_text("\n".join(rows))
    (tmp_path / "classes.txt").write_text("cat\ndog")
    source = open_boxes("yolo", str(tmp_path), "train", READS)
    assert source.left_out["objects without an outline"] == ["labels/train/a.txt, line 2"]
    (lengths,) = run_lengths_of(source.objects(0), (20, 40))
    expected = np.zeros((20, 40), np.uint8)
    expected[10:, 10:20] = 1
    assert np.array_equal(coco_masks.decode(lengths), expected)
    (tmp_path / "labels/train/a.txt").write_text(rows[1])
    with pytest.raises(DataError, match=r"boxes alone, and no polygons, which masks need"):
        open_boxes("yolo", str(tmp_path), "train", READS)


def test_an_evaluation_needs_each_object_in_its_map():
    levels = np.zeros((10, 20), np.uint8)
    levels[2:5, 2:5] = 1
    file = cv2.imencode(".png", levels)[1].tobytes()
    objects = make_objects([(2, 2, 5, 5), (0, 0, 1, 1)], [0, 0], (10, 20), outlines=[1, 2])
    with pytest.raises(ValueError, match=r"its map of objects has no pixel of the number 2"):
        as_they_are(objects._replace(instances=file), (10, 20), 5)
    with pytest.raises(ValueError, match=r"its map of objects"):
        as_they_are(objects._replace(instances=b"no image"), (10, 20), 5)
