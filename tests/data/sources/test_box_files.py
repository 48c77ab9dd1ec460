"""Photos with boxes in COCO's, Pascal VOC's and YOLO's layouts."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.sources.box_files import box_splits, open_boxes
from imagenet_jax.errors import DataError


def photo(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def coco(folder, split="train", count=2, **changes):
    """A folder in COCO's layout with an object in each image."""
    rows = [{"id": 7 + k, "file_name": f"{k}.jpg", "width": 40, "height": 30} for k in range(count)]
    things = [
        {"id": k, "image_id": 7 + k, "category_id": 3, "bbox": [4, 5, 10, 20], "area": 99.5}
        for k in range(count)
    ]
    content = {
        "images": rows,
        "annotations": things,
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
    } | changes
    for row in rows:
        photo(folder / f"{split}2017" / row["file_name"])
    file = folder / f"annotations/instances_{split}2017.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return folder


def read(source):
    """Names and objects of all examples."""
    index = np.arange(len(source))
    return [source.name(k) for k in index], source.read(index)[1]["boxes"]


def test_cocos_layout(tmp_path):
    coco(coco(tmp_path), "val", count=1)
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": [], "info": 1}')
    source = open_boxes("coco", str(tmp_path), "train")
    assert box_splits("coco", str(tmp_path)) == ["train", "val"]
    assert source.class_names == ("cat", "dog") and len(source) == 2
    names, objects = read(source)
    assert names == ["train2017/0.jpg", "train2017/1.jpg"]
    assert objects[0].boxes.tolist() == [[4, 5, 14, 25]] and objects[0].labels.tolist() == [1]
    assert objects[0].area.tolist() == [99.5] and objects[0].sides == (30, 40)
    assert not source.left_out and source.class_counts().tolist() == [0, 2]
    alone = open_boxes("coco", str(tmp_path / "annotations/instances_val2017.json"), "val")
    assert len(alone) == 1


def test_what_is_wrong_in_cocos_annotations_is_counted_and_named(tmp_path):
    thing = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
    wrong = [
        thing,
        thing | {"bbox": [10, 10, 0, 5]},
        thing | {"bbox": [90, 90, 5, 5]},
        thing | {"bbox": [30, 20, 30, 30]},
        thing | {"bbox": [1, 2, 3]},
        thing | {"bbox": [1, 2, "x", 4]},
        thing | {"bbox": [1, 2, float("nan"), 4]},
        thing | {"category_id": 9},
        thing | {"image_id": 99},
        thing | {"iscrowd": 1},
        5,
    ]
    images = [
        {"id": 7, "file_name": "0.jpg", "width": 40, "height": 30},
        {"id": 8, "file_name": "1.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "gone.jpg", "width": 40, "height": 30},
        {"id": 10, "file_name": "1.jpg", "width": -1, "height": 30},
        "x",
    ]
    source = open_boxes("coco", str(coco(tmp_path, annotations=wrong, images=images)), "train")
    counts = {what: len(places) for what, places in source.left_out.items()}
    assert counts == {
        "boxes of no area": 1,
        "boxes outside their image": 1,
        "boxes cut at the edge of their image (kept)": 1,
        "annotations that are no boxes": 3,
        "boxes that are not four numbers": 1,
        "annotations of unknown categories": 1,
        "annotations of images that are not there": 1,
        "images that are not there": 1,
        "images that are described wrongly": 2,
        "images without objects (kept)": 1,
    }
    _, objects = read(source)
    assert [len(one.labels) for one in objects] == [3, 0]
    assert objects[0].boxes[1].tolist() == [30, 20, 40, 30]
    assert objects[0].crowd.tolist() == objects[0].ignored.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged or no JSON"),
        ("[" * 10_000, "is damaged or no JSON"),
        ('{"images": 1}', "no JSON file has images, annotations and categories"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
            "the categories cannot be read",
        ),
        (
            '{"images": [], "annotations": [], "categories": '
            '[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "the categories cannot be read: 'a' is there twice; rename one",
        ),
    ],
)
def test_annotations_that_cannot_be_read_are_named(tmp_path, content, message):
    coco(tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_boxes("coco", str(tmp_path), "train")


def test_images_of_one_name_are_told_by_the_split(tmp_path):
    """COCO's own names differ; those of others need not."""
    coco(coco(tmp_path), "val")
    for split in ("train", "val"):
        names, _ = read(open_boxes("coco", str(tmp_path), split))
        assert names == [f"{split}2017/0.jpg", f"{split}2017/1.jpg"]
    photo(tmp_path / "train2017/more/train/0.jpg")
    with pytest.raises(DataError, match=r"both end with 0.jpg"):
        open_boxes("coco", str(tmp_path), "train")


def test_an_image_of_another_split_is_another_image(tmp_path):
    coco(coco(tmp_path), "val")
    (tmp_path / "val2017/1.jpg").unlink()
    source = open_boxes("coco", str(tmp_path), "val")
    assert read(source)[0] == ["val2017/0.jpg"]
    assert len(source.left_out["images that are not there"]) == 1
    (tmp_path / "val2017/0.jpg").unlink()
    (tmp_path / "val2017").rmdir()  # then those of train are meant
    assert read(open_boxes("coco", str(tmp_path), "val"))[0] == [
        "train2017/0.jpg",
        "train2017/1.jpg",
    ]


def test_numbers_may_be_texts(tmp_path):
    thing = {"image_id": 7, "category_id": 3, "bbox": ["1", "2", "3", "4"], "area": "12"}
    crowds = [thing | {"iscrowd": crowd} for crowd in ("0", "1", None, "no")]
    source = open_boxes("coco", str(coco(tmp_path, annotations=crowds)), "train")
    assert read(source)[1][0].crowd.tolist() == [False, True, False]
    assert len(source.left_out["annotations whose iscrowd is no number"]) == 1


def test_photos_without_any_object_are_refused(tmp_path):
    coco(tmp_path / "a", categories=[{"id": "3", "name": "dog"}])  # the objects have the number 3
    with pytest.raises(DataError, match=r"no image has an object; .*2 annotations of unknown cat"):
        open_boxes("coco", str(tmp_path / "a"), "train")
    voc(tmp_path / "b", {"a": [], "b": []})
    with pytest.raises(DataError, match=r"no image has an object; .*2 images without objects"):
        open_boxes("voc", str(tmp_path / "b"), "train")


XML = """<annotation><filename>{name}.jpg</filename><size><width>40</width><height>30</height>
</size>{objects}</annotation>"""
THING = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def voc(folder, things, lists=True):
    """A folder in VOC's layout; things: {name: [(class, box, difficult)]}."""
    for name, objects in things.items():
        photo(folder / f"JPEGImages/{name}.jpg")
        text = "".join(THING.format(name=n, box=b, difficult=d) for n, b, d in objects)
        file = folder / f"Annotations/{name}.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(XML.format(name=name, objects=text))
    if lists:
        names = sorted(things)
        main = folder / "ImageSets/Main"
        main.mkdir(parents=True, exist_ok=True)
        for split, part in (("train", names[:-1]), ("val", names[-1:]), ("trainval", names)):
            (main / f"{split}.txt").write_text("\n".join(part))
        (main / "cat_train.txt").write_text("a 1")
    return folder


def test_vocs_layout(tmp_path):
    things = {
        "a": [("cat", (1, 1, 40, 30), 0), ("dog", (5, 6, 7, 8), 1)],
        "b": [],
        "c": [("dog", (3, 3, 9, 9), 0)],
    }
    voc(tmp_path, things)
    photo(tmp_path / "JPEGImages/alone.jpg")
    photo(tmp_path / "SegmentationClass/a.png")
    source = open_boxes("voc", str(tmp_path), "train")
    assert box_splits("voc", str(tmp_path)) == ["train", "val"]
    assert len(source.class_names) == 20 and source.class_names[7] == "cat"
    names, objects = read(source)
    assert names == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    # Pixels are numbered from 1, and the last one is inside.
    assert objects[0].boxes.tolist() == [[0, 0, 40, 30], [4, 5, 7, 8]]
    assert objects[0].ignored.tolist() == [False, True] and not objects[0].crowd.any()
    assert source.left_out.keys() == {
        "images without annotations",
        "images without objects (kept)",
    }
    own = voc(tmp_path / "own", {"a": [("red cell", (1, 2, 3, 4), 0)]})
    others = open_boxes("voc", str(own), "val")
    assert others.class_names == ("red cell",)


def test_an_image_of_voc_says_its_size_where_its_annotations_do_not(tmp_path):
    voc(tmp_path, {"a b.0": [("cat", (1, 1, 50, 20), 0)], "c": [("cat", (1, 1, 9, 9), 0)]})
    for name, size in (("a b.0", "<width>0</width><height>0</height>"), ("c", "")):
        file = tmp_path / f"Annotations/{name}.xml"
        file.write_text(file.read_text().replace("<width>40</width><height>30</height>", size))
    names, objects = read(open_boxes("voc", str(tmp_path), "train"))
    assert names == ["JPEGImages/a b.0.jpg"]  # which the list has as a whole line
    assert objects[0].sides == (30, 40) and objects[0].boxes.tolist() == [[0, 0, 40, 20]]
    (tmp_path / "JPEGImages/c.jpg").write_bytes(b"x")
    found = open_boxes("voc", str(tmp_path), "train").left_out
    assert found["annotations of images whose size nobody says"] == ["Annotations/c.xml"]


def test_damaged_annotations_of_voc_are_named(tmp_path):
    voc(
        tmp_path,
        {"a": [("cat", ("x", 1, 2, 3), 0), ("", (1, 1, 2, 2), 0)], "b": [("cat", (1, 1, 2, 2), 0)]},
    )
    source = open_boxes("voc", str(tmp_path), "train")
    assert source.left_out["boxes that are not four numbers"] == ["Annotations/a.xml: object 1"]
    assert source.left_out["objects without a name or a box"] == ["Annotations/a.xml: object 2"]
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>&b;</annotation>'
    for text, message in (
        (b"<annotation>", "no element found"),
        (bomb.encode(), "it defines entities"),
        (bomb.encode("utf-16"), "it defines entities"),
        (b'<?xml version="1.0" encoding="utf-9"?><annotation/>', "unknown encoding"),
    ):
        (tmp_path / "Annotations/a.xml").write_bytes(text)
        with pytest.raises(DataError, match=rf"a.xml cannot be read: {message}"):
            open_boxes("voc", str(tmp_path), "train")


def test_yolos_layout(tmp_path):
    for split in ("train", "val"):
        photo(tmp_path / f"images/{split}/a.jpg")
        photo(tmp_path / f"images/{split}/b.jpg")
        (tmp_path / f"labels/{split}").mkdir(parents=True)
    lines = ["1 0.5 0.5 0.5 0.2", "0 0.1 0.1 0.3 0.1 0.3 0.4", "0 0.1 0.2", "1 2 2 0.1 0.1"]
    (tmp_path / "labels/train/a.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\n")
    source = open_boxes("yolo", str(tmp_path), "train")
    names, objects = read(source)
    assert names == ["images/train/a.jpg", "images/train/b.jpg"]
    np.testing.assert_allclose(objects[0].boxes, [[0.25, 0.4, 0.75, 0.6], [0.1, 0.1, 0.3, 0.4]])
    assert objects[0].labels.tolist() == [1, 0] and objects[0].sides is None
    assert {what: len(places) for what, places in source.left_out.items()} == {
        "lines that are no box": 1,
        "boxes outside their image": 1,
        "images without a file of labels (kept)": 3,
    }
    (tmp_path / "labels/train/a.txt").write_text("2 0.5 0.5 0.1 0.1")
    with pytest.raises(DataError, match=r"a.txt, line 1: '2' is no number of a class, 0 to 1"):
        open_boxes("yolo", str(tmp_path), "train")


def test_points_of_poses_are_no_polygons(tmp_path):
    photo(tmp_path / "images/a.jpg")
    (tmp_path / "data.yaml").write_text("names: [cat]\nkpt_shape: [4, 3]\n")
    (tmp_path / "labels").mkdir()
    line = "0 0.5 0.5 0.5 0.2 " + " ".join(["0.9"] * 12)
    (tmp_path / "labels/a.TXT").write_text(line)
    (objects,) = read(open_boxes("yolo", str(tmp_path), "train"))[1]
    np.testing.assert_allclose(objects.boxes, [[0.25, 0.4, 0.75, 0.6]])


def test_a_task_that_does_not_fit_and_splits_that_are_not_there_are_named(tmp_path):
    config = base_config()
    config.data.name = f"coco:{coco(tmp_path)}"
    with pytest.raises(DataError, match="has boxes, and config"):
        open_split(config, train=True)
    with pytest.raises(DataError, match=r"'coco:.*/none.json': there is no such file"):
        open_boxes("coco", f"{tmp_path}/none.json", "train")
    config.data.train_split = "nowhere"
    with pytest.raises(DataError, match=r"no images in 'nowhere' \(splits found: train\)"):
        open_split(config, True, ("boxes",))


def test_three_forms_of_the_same_photos_have_the_same_boxes(tmp_path, test_data):
    """Of real photos: COCO's and YOLO's files of one set, of a folder and of an archive."""
    file = test_data / "coco_photos.zip"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "annotations/instances.json").unlink()
    found = {}
    for name in (f"coco:{tmp_path}", f"yolo:{tmp_path}", f"yolo:{file}"):
        kind, _, path = name.partition(":")
        source = open_boxes(kind, path, "train", default=kind == "coco")
        parts = [source]
        if kind == "coco":
            parts.append(open_boxes(kind, path, "validation", default=True))
        found[name] = {}
        for part in parts:
            for image, objects in zip(*read(part), strict=True):
                height, width = Image.open(tmp_path / image).size[::-1]
                scale = 1 if objects.sides else np.array([width, height] * 2)
                assert objects.sides in (None, (height, width))
                rows = np.column_stack([objects.labels, objects.boxes * scale])
                found[name][image] = rows[np.lexsort(rows.T)]
        assert len(found[name]) == 128
        assert sum(map(len, found[name].values())) == 929
    one, *others = found.values()
    for other in others:
        assert one.keys() == other.keys()
        # Sorted by their boxes, which agree to a pixel, they may change places.
        for image, rows in one.items():
            apart = np.sort(rows, 0) - np.sort(other[image], 0)
            assert not apart[:, 0].any() and np.abs(apart).max(initial=0) < 1.01


def test_real_photos_in_vocs_layout(test_data):
    source = open_boxes("voc", str(test_data / "blood_cells.zip"), "train")
    assert (len(source), source.class_names) == (205, ("Platelets", "RBC", "WBC"))
    assert len(open_boxes("voc", str(test_data / "blood_cells.zip"), "validation")) == 87
    _, objects = read(source)
    assert all(one.sides == (480, 640) for one in objects)
    assert sum(len(one.labels) for one in objects) > 2000
