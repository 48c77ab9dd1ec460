"""Images with several labels, from lists, folders of label files, archives and TFDS."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pixel_oracles import encode, noise
from test_files import store

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.data.sources.files import file_splits, open_files
from imagenet_jax.errors import ConfigError, DataError

SEVERAL = ("labels",)
IMAGE = encode(noise(8, 8), "PNG")

# {layout: {file: content}}, each of three training images and one to evaluate on.
LAYOUTS = {
    "beside": {
        "train/a.png": IMAGE,
        "train/a.txt": b"dog\ncat\n",
        "train/b.png": IMAGE,
        "train/b.txt": b"",
        "train/c.png": IMAGE,
        "train/c.txt": b"\xef\xbb\xbfcat; ant\r\ncat\r\n",
        "val/d.png": IMAGE,
        "val/d.txt": b"bee",
    },
    "images and labels": {
        "set/images/train/a.png": IMAGE,
        "set/labels/train/a.txt": b"2\n1\n",
        "set/images/train/b.png": IMAGE,
        "set/labels/train/b.txt": b"",
        "set/images/train/c.png": IMAGE,
        "set/labels/train/c.txt": b"cat\n0",
        "set/images/val/d.png": IMAGE,
        "set/labels/val/d.txt": b"3",
        "set/classes.txt": b"ant\ncat\ndog\nbee\n",
    },
    "YOLO's": {
        "train/images/a.png": IMAGE,
        "train/labels/a.txt": b"2 0.5 0.5 0.1 0.1\n1 0.479492 0.688771 1e-1 .5\n2 0 0 1 1\n",
        "train/images/b.png": IMAGE,
        "train/labels/b.txt": b"",
        "train/images/c.png": IMAGE,
        "train/labels/c.txt": b"1 0.1 0.1 0.2 0.1 0.2 0.2\n0 0.5 0.5 1 1",
        "val/images/d.png": IMAGE,
        "val/labels/d.txt": b"3 0.5 0.5 0.5 0.5",
        "data.yaml": b"nc: 4\nnames:\n  0: ant\n  1: cat\n  2: dog\n  3: bee\n",
    },
    "in each split": {
        "train/images/a.png": IMAGE,
        "train/labels/a.txt": b"dog\ncat\n",
        "train/images/b.png": IMAGE,
        "train/labels/b.txt": b"\n",
        "train/images/c.png": IMAGE,
        "train/labels/c.txt": b"cat\nant",
        "val/images/d.png": IMAGE,
        "val/labels/d.txt": b"bee",
    },
}
LABELS = [{"dog", "cat"}, set(), {"cat", "ant"}]


def names_of(source, numbers):
    """The names of the classes that these examples have."""
    files, fields = source.read(np.asarray(numbers))
    assert all(bytes(file) == IMAGE for file in files)
    assert fields["labels"].dtype == np.uint8 and set(np.unique(fields["labels"])) <= {0, 1}
    return [{source.class_names[k] for k in np.flatnonzero(row)} for row in fields["labels"]]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_stand_in_files(tmp_path, layout, kind):
    store(tmp_path / "data", LAYOUTS[layout], kind)
    source = open_files(kind, f"{tmp_path}/data", "train", SEVERAL)
    assert names_of(source, [0, 1, 2]) == LABELS
    ordered = layout in ("images and labels", "YOLO's")
    assert source.class_names == (
        ("ant", "cat", "dog", "bee") if ordered else ("ant", "bee", "cat", "dog")
    )
    assert names_of(open_files(kind, f"{tmp_path}/data", "val", SEVERAL), [0]) == [{"bee"}]
    assert file_splits(kind, f"{tmp_path}/data", SEVERAL) == ["train", "val"]


@pytest.fixture
def listed(tmp_path):
    """A list of the examples of LAYOUTS."""
    store(tmp_path, {name: IMAGE for name in ("a.png", "b.png", "c.png", "d.png")}, "folder")
    lines = ["path,label,split", "a.png,dog;cat,train", "b.png,,train", "c.png, cat ; ant;,train"]
    (tmp_path / "list.csv").write_text("\n".join([*lines, "d.png,bee,val"]))
    return f"{tmp_path}/list.csv"


def test_a_list_has_several_labels_in_a_cell(listed):
    source = open_files("csv", listed, "train", SEVERAL)
    assert names_of(source, [2, 0, 1]) == [LABELS[2], LABELS[0], LABELS[1]]
    assert source.class_names == ("ant", "bee", "cat", "dog")


def test_a_box_has_the_number_of_its_class_whatever_classes_are_called(tmp_path):
    files = {
        "images/a.png": IMAGE,
        "labels/a.txt": b"1 0.5 0.5 1 1\n",  # the second, as on a die
        "images/b.png": IMAGE,
        "labels/b.txt": b"1",
        "classes.txt": b"1\n2\n3\n",
    }
    store(tmp_path / "data", files, "folder")
    source = open_files("folder", f"{tmp_path}/data", "train", SEVERAL)
    assert names_of(source, [0, 1]) == [{"2"}, {"1"}]


@pytest.mark.parametrize("form", ["[no, on, 1e3, 010, 2024-01-01]", "{FORM}"])
def test_classes_of_a_yaml_are_what_stands_there(tmp_path, form):
    words = ("no", "on", "1e3", "010", "2024-01-01")
    form = form.replace("{FORM}", "".join(f"\n  {n}: {word}" for n, word in enumerate(words)))
    files = {"images/a.png": IMAGE, "labels/a.txt": b"0 0 0 1 1\n2 0 0 1 1"}
    store(tmp_path / "data", {**files, "data.yaml": f"names: {form}\n".encode()}, "folder")
    source = open_files("folder", f"{tmp_path}/data", "train", SEVERAL)
    assert source.class_names == words and names_of(source, [0]) == [{"no", "1e3"}]


@pytest.mark.parametrize("names", ["cat", "3", "[[cat]]", "{a: b}", "", "[" * 5000])
def test_a_yaml_without_a_list_of_names_is_named(tmp_path, names):
    files = {"images/a.png": IMAGE, "labels/a.txt": b"0"}
    store(tmp_path / "data", {**files, "data.yaml": f"names: {names}\n".encode()}, "folder")
    with pytest.raises(DataError, match=r"data\.yaml: expected names, a list"):
        open_files("folder", f"{tmp_path}/data", "train", SEVERAL)


def test_a_long_line_that_is_no_box_is_read_at_once(tmp_path):
    """The polygon's numbers could be read in as many ways as they have digits, each."""
    line = " ".join(["0", *["12345678"] * 40, "end"])
    files = {"images/a.png": IMAGE, "labels/a.txt": line.encode()}
    store(tmp_path / "data", files, "folder")
    assert open_files("folder", f"{tmp_path}/data", "train", SEVERAL).class_names == (line,)


def test_what_has_no_label_is_counted(listed, tmp_path, caplog):
    with caplog.at_level("INFO", logger="absl"):
        open_files("csv", listed, "train", SEVERAL)
    assert "split train: 1 of 3 images have no label" in caplog.text
    files = LAYOUTS["YOLO's"] | {"masks/a.png": IMAGE}
    del files["train/labels/b.txt"]
    store(tmp_path / "yolo", files, "folder")
    with caplog.at_level("INFO", logger="absl"):
        source = open_files("folder", f"{tmp_path}/yolo", "train", SEVERAL)
    assert names_of(source, [0, 1, 2]) == LABELS
    assert source.left_out["in no folder images"] == ["masks/a.png"]
    assert "1 of 4 images have no file of labels and count as without" in caplog.text
    assert "e.g. train/images/b.png" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict.fromkeys(("train/a.txt", "train/b.txt", "train/c.txt", "val/d.txt")),
            r"no image has a file of labels; train/a\.png would have train/a\.txt",
        ),
        ({"classes.txt": b"ant\nbee\ncat\n"}, r"train/a\.txt: 'dog' is none of the 3 classes that"),
        ({"classes.txt": b"ant\nant\n"}, r"classes\.txt has the class 'ant' twice"),
        (
            {"x/classes.txt": b"ant", "classes.txt": b"ant"},
            r"several files that name its classes: classes\.txt, x/classes",
        ),
        ({"train/a.txt": b"\xff\xfe"}, r"train/a\.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, changes, message):
    files = {k: v for k, v in (LAYOUTS["beside"] | changes).items() if v is not None}
    store(tmp_path / "data", files, "folder")
    with pytest.raises(DataError, match=message):
        open_files("folder", f"{tmp_path}/data", "train", SEVERAL)


def test_a_batch_pads_labels_as_it_pads_images(listed):
    config = base_config()
    config.data.update(name=f"csv:{listed}", eval_split="train", image_size=8, eval_crop="none")
    config.data.train_crop = "none"
    split = open_split(config, False, SEVERAL)
    (batch,) = split.eval_batches(np.arange(4), 4)
    assert batch["labels"].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    config.data.cache = True
    (cached,) = open_split(config, False, SEVERAL).eval_batches(np.arange(4), 4)
    np.testing.assert_array_equal(cached["labels"], batch["labels"])


def test_prepare_keeps_them_in_a_set_that_tfds_reads(listed, tmp_path):
    report = prepare(f"csv:{listed}", data_dir=f"{tmp_path}/ds", workers=1, reads=SEVERAL)
    assert report["splits"]["train"]["images_per_class"] == {"ant": 1, "bee": 0, "cat": 2, "dog": 1}
    assert report["splits"]["train"]["without_label"] == 1
    config = base_config()
    config.data.update(name="list", dir=f"{tmp_path}/ds")
    source = open_split(config, True, SEVERAL).source
    found = {source.name(k): names_of(source, [k])[0] for k in range(3)}
    assert found == dict(zip(("a.png", "b.png", "c.png"), LABELS, strict=True))
    builder = tfds.builder_from_directory(report["path"])
    names = builder.info.features["labels"].feature.names
    for example in builder.as_data_source(split="train"):
        labels = {names[k] for k in example["labels"]}
        assert labels == found[example["file_name"].decode()]
    assert prepare(f"csv:{listed}", data_dir=f"{tmp_path}/ds", reads=SEVERAL) == report
    with pytest.raises(ConfigError, match=r"reads \['labels'\], not \['label'\]"):
        prepare(f"csv:{listed}", data_dir=f"{tmp_path}/ds")


def test_one_label_is_one_of_several_but_not_the_other_way_round(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    config = base_config()
    config.data.update(name="digits", eval_split="test", image_size=8, eval_crop="none")
    (one,) = open_split(config, False).eval_batches(np.arange(360), 360)
    (several,) = open_split(config, False, SEVERAL).eval_batches(np.arange(360), 360)
    np.testing.assert_array_equal(several["labels"], np.eye(10)[one["label"]])
    config.data.name = "digit_pairs"
    with pytest.raises(DataError, match=r"has the features image, labels; image and label \(cla"):
        open_split(config, False)


def test_pairs_of_digits_are_made_of_the_digits_of_their_split(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    config = base_config()
    config.data.update(name="digits", eval_split="test", image_size=8, eval_crop="none")
    (digits,) = open_split(config, False).eval_batches(np.arange(360), 360)
    known = {
        image.tobytes(): label
        for image, label in zip(digits["image"], digits["label"], strict=True)
    }
    config.data.update(name="digit_pairs", image_size=16)
    (pairs,) = open_split(config, False, SEVERAL).eval_batches(np.arange(500), 500)
    assert pairs["mask"].all() and set(pairs["labels"].sum(1)) == {1, 2}
    for image, labels in zip(pairs["image"], pairs["labels"], strict=True):
        found = set()
        for half in (image[:, :8], image[:, 8:]):
            windows = (half[top : top + 8].tobytes() for top in range(9))
            found |= {int(known[window]) for window in windows if window in known}
        assert found == set(np.flatnonzero(labels))
