"""Photos and maps of classes in folders and archives."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.sources.masks import mask_splits, open_masks
from imagenet_jax.errors import ConfigError, DataError


def write(folder, *names, level=1, size=(6, 5)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.fromarray(np.full(size[::-1], level, np.uint8)).save(path)
        elif path.suffix == ".jpg":
            Image.new("RGB", size).save(path)
        else:
            path.write_text("")
    return folder


LAYOUTS = {
    "split outside": [
        "train/images/a.jpg",
        "train/masks/a.png",
        "val/images/b.jpg",
        "val/masks/b.png",
    ],
    "split inside": [
        "images/train/a.jpg",
        "masks/train/a.png",
        "images/val/b.jpg",
        "masks/val/b.png",
    ],
    "beside each other": [
        "d/train/Image/a.jpg",
        "d/train/Mask/a_mask.png",
        "d/val/Image/b.jpg",
        "d/val/Mask/b_mask.png",
    ],
    "cityscapes": [
        "leftImg8bit/train/x/a_leftImg8bit.jpg",
        "gtFine/train/x/a_gtFine_labelIds.png",
        "leftImg8bit/val/y/b_leftImg8bit.jpg",
        "gtFine/val/y/b_gtFine_labelIds.png",
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_find_their_maps(tmp_path, layout):
    write(tmp_path, *LAYOUTS[layout])
    for split, letter in (("train", "a"), ("val", "b")):
        source = open_masks(str(tmp_path), split)
        assert len(source) == 1 and letter in source.name(0).rpartition("/")[2]
        files, values = source.read(np.array([0]))
        assert len(files) == 1 and list(values) == ["segmentation"]
        assert source.class_names == ("0", "1") and not source.left_out


def test_pascal_vocs_lists_are_splits(tmp_path):
    names = [f"VOC/JPEGImages/{n}.jpg" for n in "abcd"] + [
        f"VOC/SegmentationClass/{n}.png" for n in "abc"
    ]
    write(tmp_path, *names)
    lists = tmp_path / "VOC/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\nx\n")
    source = open_masks(str(tmp_path), "validation")
    assert [source.name(i) for i in range(len(source))] == ["VOC/JPEGImages/b.jpg"]
    assert source.split == "val" and mask_splits(str(tmp_path)) == ["train", "val"]
    reasons = {reason: len(names) for reason, names in source.left_out.items()}
    assert reasons == {
        "no image": 2,
        "without a map": 1,
        "in no list": 1,
        "listed and not there": 1,
    }


def test_without_splits_a_tenth_is_held_out(tmp_path, capsys):
    write(
        tmp_path,
        *(
            f"{kind}/{n}.{suffix}"
            for n in range(20)
            for kind, suffix in (("images", "jpg"), ("masks", "png"))
        ),
    )
    config = base_config()
    config.data.name = f"masks:{tmp_path}"
    splits = [open_split(config, train, ("segmentation",)) for train in (True, False)]
    assert [split.num_examples for split in splits] == [18, 2]
    config.data.update(train_split="train[:50%]", eval_split="train[50%:]")
    assert open_split(config, False, ("segmentation",)).num_examples == 10


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classes.txt", "sky\nsea\n", ("sky", "sea")),
        ("masks/classes.json", '["sky", "sea"]', ("sky", "sea")),
        ("classes.json", '{"0": "sky", "2": "sea"}', ("sky", "1", "sea")),
        ("classes.json", '{"sea": 1, "sky": 0}', ("sky", "sea")),
        ("data.yaml", "names: [sky, sea]", ("sky", "sea")),
        ("other.txt", "sky", ("0", "1", "2", "3", "4")),
    ],
)
def test_classes_are_named_by_a_file_or_their_numbers(tmp_path, name, text, expected):
    write(tmp_path, "images/a.jpg", "masks/a.png", "images/b.jpg")
    write(tmp_path, "masks/b.png", level=4)
    (tmp_path / name).write_text(text)
    assert open_masks(str(tmp_path), "train").class_names == expected


def test_the_file_among_the_maps_names_their_classes(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / "names.txt").write_text("of boxes\n")
    (tmp_path / "masks/classes.txt").write_text("sky\nsea\n")
    assert open_masks(str(tmp_path), "train").class_names == ("sky", "sea")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.json", '{"0": "a", "300": "b"}', "the numbers are not of 0 to 254"),
        ("classes.json", "[[[[", "expected a list of names"),
        ("classes.json", "[" * 100_000, "expected a list of names"),
        ("classes.json", '{"a": "b"}', "expected a list of names"),
        ("classes.txt", "a\na\n", "has the class 'a' twice"),
        ("Classes.JSON", '["a"]', "has 1 classes; expected 2 to 255"),
        ("classes.txt", "", "has 0 classes"),
        ("data.yaml", "names: 3", "expected names"),
    ],
)
def test_a_file_that_does_not_name_classes_is_refused(tmp_path, name, text, message):
    write(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        open_masks(str(tmp_path), "train")


def test_maps_of_0_and_255_have_no_classes(tmp_path):
    write(tmp_path, "images/a.jpg")
    write(tmp_path, "masks/a.png", level=255)
    with pytest.raises(DataError, match="the level 0 alone, and maybe 255, which is no class"):
        open_masks(str(tmp_path), "train")


def test_maps_of_one_class_are_told(tmp_path, caplog):
    write(tmp_path, "images/a.jpg", "images/b.jpg")
    write(tmp_path, "masks/a.png")
    write(tmp_path, "masks/b.png", level=255)
    (tmp_path / "classes.txt").write_text("ground\nthing\n")
    open_masks(str(tmp_path), "train")
    assert "2 maps were looked at, and all their pixels are of class 1 or 255, which" in caplog.text
    caplog.clear()
    write(tmp_path, "masks/b.png", level=0)
    open_masks(str(tmp_path), "train")
    assert not caplog.text


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no such f"):
        open_masks(str(tmp_path / "x"), "train")
    write(tmp_path, "images/a.jpg")
    with pytest.raises(DataError, match=r"no image has a map of classes.*1 without a map"):
        open_masks(str(tmp_path), "train")
    write(tmp_path, "masks/a.png", "classes.txt", "masks/names.txt", "masks/labels.txt")
    with pytest.raises(DataError, match="several files that name its classes"):
        open_masks(str(tmp_path), "train")
    write(tmp_path / "y", "train/images/a.jpg", "train/masks/a.png")
    with pytest.raises(DataError, match=r"no images with maps in 'best' \(splits found: train\)"):
        open_masks(str(tmp_path / "y"), "best")
    with pytest.raises(DataError, match="task needs label; set config"):
        open_masks(str(tmp_path / "y"), "train", ("label",))


def test_files_of_one_name_are_counted(tmp_path):
    write(tmp_path, "images/a.jpg", "images/a.png", "images/A.jpg", "masks/a.png", "masks/A.png")
    source = open_masks(str(tmp_path), "train")
    assert [source.name(i) for i in range(len(source))] == ["images/A.jpg", "images/a.jpg"]
    assert source.left_out == {"named as another but for the suffix": ["images/a.png"]}
    write(tmp_path / "v", "images/x/a.jpg", "masks/x/a.png", "images/y/a.jpg", "masks/y/a.png")
    (tmp_path / "v/train.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"images/x/a.jpg and images/y/a.jpg have one name"):
        open_masks(str(tmp_path / "v"), "train")


def test_a_cache_of_jittered_images_is_refused():
    config = base_config()
    config.data.update(name="scenes", cache=True, train_crop="scale_jitter")
    with pytest.raises(ConfigError, match="= 'scale_jitter' decodes another"):
        open_split(config, True, ("segmentation",))


def test_a_damaged_map_is_named_where_the_levels_are_looked_for(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / "masks/a.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    with pytest.raises(DataError, match=r"masks/a.png: .*is (no image|damaged)"):
        open_masks(str(tmp_path), "train")


def test_a_level_that_is_no_class_is_named_with_its_image(tmp_path):
    write(tmp_path, "images/a.jpg", "masks/a.png", level=3)
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    config = base_config()
    config.data.update(name=f"masks:{tmp_path}", train_split="train[:100%]", eval_split="train")
    split = open_split(config, True, ("segmentation",))
    message = r"images/a.jpg: level 3 of its segmentation is none of 0 to 1, nor 255 for none"
    with pytest.raises(DataError, match=message):
        next(split.train_batches(np.arange(2), 0, 1))


def test_real_photos_with_maps(test_data):
    file = test_data / "coco_photos.zip"
    source = open_masks(str(file), "train")
    with zipfile.ZipFile(file) as archive:
        names = json.loads(archive.read("semantic/classes.json"))
        maps = [
            name
            for name in archive.namelist()
            if name.startswith("semantic/") and name.endswith(".png")
        ]
    assert len(source) == len(maps) == 100
    assert source.class_names[1] == names["1"] == "person"
    assert len(source.left_out["without a map"]) == 28
