"""Maps of classes and outlines of objects, stored and read again."""

import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from imagenet_jax.cli import main
from imagenet_jax.config import base_config
from imagenet_jax.data.catalog import open_split
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.data.preparation.shards import Encoding, open_source
from imagenet_jax.data.preparation.verification import report_text
from imagenet_jax.data.sources.objects import run_lengths_of
from imagenet_jax.errors import DataError

SHAPE = (60, 90)


def read(tmp_path, name, reads):
    config = base_config()
    config.data.update(name=name, dir=str(tmp_path), train_split="train")
    return open_split(config, True, reads).source


def write_photos(folder, count, random):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = random.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_maps_are_stored_as_the_images_are(tmp_path):
    random, files = np.random.default_rng(0), tmp_path / "files"
    write_photos(files / "images/train", 4, random)
    (files / "masks/train").mkdir(parents=True)
    maps = {}
    for number in range(4):
        levels = np.kron(random.choice([0, 1, 2, 255], (6, 9)), np.ones((10, 10))).astype(np.uint8)
        Image.fromarray(levels).save(files / f"masks/train/{number}.png")
        maps[f"images/train/{number}.png"] = levels
    (files / "classes.txt").write_text("sky\nsea\nland\n")
    for resize, size in ((0, SHAPE), (30, (30, 45))):
        how = {"encoding": Encoding(resize), "reads": ("segmentation",), "workers": 1}
        report = prepare(f"masks:{files}", data_dir=str(tmp_path), name=f"maps_{resize}", **how)
        counts = {
            name: sum((levels == number).any() for levels in maps.values())
            for number, name in enumerate(("sky", "sea", "land"))
        }
        assert report["splits"]["train"]["images_per_class"] == counts
        source = read(tmp_path, f"maps_{resize}", ("segmentation",))
        assert source.class_names == ("sky", "sea", "land") and len(source) == 4
        for index in range(4):
            (image,), values = source.read(np.array([index]))
            assert Image.open(io.BytesIO(image)).size == size[::-1]
            levels = np.array(Image.open(io.BytesIO(values["segmentation"][0])))
            whole = maps[source.name(index)]
            every = SHAPE[0] // size[0]  # squares of 10 x 10 pixels have a middle
            np.testing.assert_array_equal(levels, whole[every // 2 :: every, every // 2 :: every])


def test_outlines_are_stored_with_their_objects(tmp_path):
    """A triangle and two squares in one; at half the size they fill a quarter of the pixels."""
    random, files = np.random.default_rng(0), tmp_path / "files"
    write_photos(files / "images/train", 2, random)
    (files / "labels/train").mkdir(parents=True)
    (files / "labels/train/0.txt").write_text("1 0.1 0.1 0.9 0.1 0.5 0.8\n0 0 0 0.3 0 0.3 0.5 0 .5")
    (files / "labels/train/1.txt").write_text("")
    (files / "data.yaml").write_text("names: [a, b]\n")
    name = f"yolo:{files}"
    expected = read(tmp_path, name, ("boxes", "masks")).objects(0)
    lengths = run_lengths_of(expected, SHAPE)
    for resize, size in ((0, SHAPE), (30, (30, 45))):
        how = {"encoding": Encoding(resize), "reads": ("boxes", "masks"), "workers": 1}
        prepare(name, data_dir=str(tmp_path), name=f"outlines_{resize}", **how)
        source = read(tmp_path, f"outlines_{resize}", ("boxes", "masks"))
        counts = [len(source.objects(index).labels) for index in range(2)]
        assert sorted(counts) == [0, 2]
        found = source.objects(int(np.argmax(counts)))
        assert found.labels.tolist() == [1, 0] and np.isnan(found.area).all()
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-6)
        for one, other in zip(run_lengths_of(found, size), lengths, strict=True):
            mask, whole = coco_masks.decode(one), coco_masks.decode(other)
            if not resize:
                np.testing.assert_array_equal(mask, whole)
            share = whole.reshape(size[0], SHAPE[0] // size[0], size[1], -1).mean((1, 3))
            assert ((share > 0.75) <= mask).all() and ((share < 0.25) <= (mask == 0)).all()
        # They are also boxes alone.
        assert len(read(tmp_path, f"outlines_{resize}", ("boxes",))) == 2


def test_thin_outlines_stay_and_changed_ones_are_noticed(tmp_path):
    """A line of a pixel's width is less than half of any pixel at a third of the size."""
    write_photos(tmp_path / "files/images/train", 1, np.random.default_rng(0))
    (tmp_path / "files/labels/train").mkdir(parents=True)
    labels = tmp_path / "files/labels/train/0.txt"
    (tmp_path / "files/data.yaml").write_text("names: [a]\n")
    line = "0 0.5 0.1 {0} 0.1 {0} 0.9 0.5 0.9"
    labels.write_text(line.format(0.5 + 1 / SHAPE[1]))
    how = {"encoding": Encoding(20), "reads": ("boxes", "masks"), "workers": 1}
    prepare(f"yolo:{tmp_path}/files", data_dir=str(tmp_path), name="lines", **how)
    (found,) = [read(tmp_path, "lines", ("boxes", "masks")).objects(0)]
    (mask,) = run_lengths_of(found, (20, 30))
    assert 14 <= coco_masks.decode(mask).sum() <= 20
    labels.write_text(labels.read_text() + " 0.505 0.6")  # the box stays as it is
    open_source.cache_clear()  # as in another process
    with pytest.raises(DataError, match="has changed since"):
        prepare(f"yolo:{tmp_path}/files", data_dir=str(tmp_path), name="lines", **how)


def test_what_a_source_does_not_have_is_named(tmp_path):
    write_photos(tmp_path / "files/images/train", 1, np.random.default_rng(0))
    (tmp_path / "files/labels/train").mkdir(parents=True)
    (tmp_path / "files/labels/train/0.txt").write_text("0 0.5 0.5 0.2 0.2")
    (tmp_path / "files/data.yaml").write_text("names: [a]\n")
    name = f"yolo:{tmp_path}/files"
    with pytest.raises(DataError, match=r"has boxes, and config.task needs segmentation"):
        prepare(name, data_dir=str(tmp_path), reads=("segmentation",), workers=1)
    how = {"data_dir": str(tmp_path), "workers": 1}
    prepare(name, name="boxes_alone", reads=("boxes",), **how)
    with pytest.raises(DataError, match=r"masks need instances, .* or objects with an outline"):
        read(tmp_path, "boxes_alone", ("boxes", "masks"))


@pytest.mark.parametrize("task", ["instances", "segmentation"])
def test_some_examples_are_drawn(tmp_path, task, capsys):
    write_photos(tmp_path / "files/images/train", 3, np.random.default_rng(0))
    (tmp_path / "files/data.yaml").write_text("names: [a, b]\n")
    kind, folder = ("yolo", "labels") if task == "instances" else ("masks", "masks")
    (tmp_path / "files" / folder / "train").mkdir(parents=True)
    for number in range(3):
        name = tmp_path / "files" / folder / f"train/{number}"
        if kind == "yolo":
            name.with_suffix(".txt").write_text("1 0.1 0.1 0.9 0.1 0.5 0.8")
        else:
            Image.fromarray(np.full(SHAPE, number % 2, np.uint8)).save(name.with_suffix(".png"))
    how = [f"--dataset={kind}:{tmp_path}/files", f"--task={task}", f"--dir={tmp_path}"]
    assert main(["prepare", *how, "--workers=1"]) == 0
    told = capsys.readouterr().out
    picture = tmp_path / "files/1.0.0/examples.png"
    assert f"drawn: {picture}" in told and Image.open(picture).size[0] > 3 * 112
    config = "detect_coco:mask_rcnn_resnet50" if task == "instances" else "segment_voc"
    assert f"--config={config} --config.data.name=files --config.data.dir={tmp_path}" in told


@pytest.mark.slow
def test_boxes_are_stored_and_read_again(tmp_path, test_data):
    """Pascal VOC's photos; once as they are, once smaller."""
    archive = f"voc:{test_data}/blood_cells.zip"
    config = base_config()
    config.data.update(dir=str(tmp_path), train_crop="letterbox", image_size=64)
    config.data.name = archive
    expected = open_split(config, True, ("boxes",)).source
    for resize in (0, 120):
        how = {"encoding": Encoding(resize), "reads": ("boxes",), "workers": 1}
        report = prepare(archive, data_dir=str(tmp_path), name=f"cells_{resize}", **how)
        assert {k: v["num_examples"] for k, v in report["splits"].items()} == {
            "train": 205,
            "val": 87,
        }
        counts = report["splits"]["train"]["objects_per_class"]
        assert sum(counts.values()) == sum(
            len(expected.objects(k).labels) for k in range(len(expected))
        )
        sizes = report["splits"]["train"]["objects_of_sizes"]
        assert sum(sizes.values()) == sum(counts.values())
        assert "objects: RBC" in report_text(report)
        config.data.name = f"cells_{resize}"
        stored = open_split(config, True, ("boxes",)).source
        assert stored.class_names == expected.class_names
        both = []
        for source in (expected, stored):
            boxes = []
            for k in range(len(source)):
                one = source.objects(k)
                scale = np.array(one.sides[::-1] * 2) if one.sides else 1.0
                boxes += np.column_stack([one.labels, one.boxes / scale, one.ignored]).tolist()
            both.append(np.array(sorted(boxes)))
        np.testing.assert_allclose(both[0], both[1], atol=1e-5)
