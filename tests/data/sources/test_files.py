import os
import shutil
import zipfile

import numpy as np
import pytest
from pixel_oracles import encode, noise, pil_pixels

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.sources.files import open_files
from imagenet_jax.errors import DataError

# Neither sorted by name nor by class; the bytes stand for images and are not decoded here.
FILES = {
    "train/dog/2.JPEG": b"dog 2",
    "train/cat/b.png": b"cat b",
    "train/dog/10.jpg": b"dog 10",
    "train/cat/a.jpg": b"cat a",
    "val/ant/1.jpg": b"ant 1",
    "val/dog/1.jpg": b"dog 1",
}
NO_IMAGES = {
    "README.txt": b"",
    "train/list.jpg": b"",
    "train/cat/Thumbs.db": b"",
    "train/cat/._a.jpg": b"\x00\x05\x16\x07",  # macOS puts these beside the images
    "train/notes/read.me": b"",
}


def store(path, files, kind):
    """Writes a folder or an archive of these files."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


@pytest.fixture(params=["folder", "zip"])
def kind(request):
    return request.param


@pytest.fixture
def open_source(tmp_path, kind):
    """A function of (files, split) that stores them and opens the split."""

    def open_stored(files, split):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        store(tmp_path / "data", files, kind)
        return open_files(kind, str(tmp_path / "data"), split)

    return open_stored


def test_examples_are_in_the_order_of_their_names(open_source):
    source = open_source(FILES, "train")
    encoded, fields = source.read(np.arange(len(source)))
    assert encoded == [b"cat a", b"cat b", b"dog 10", b"dog 2"]
    assert fields["label"].tolist() == [1, 1, 2, 2]


def test_class_names_are_those_of_all_splits_in_alphabetical_order(open_source):
    assert open_source(FILES, "train").class_names == ("ant", "cat", "dog")


def test_the_splits_of_a_data_set_agree_about_labels(open_source):
    source = open_source(FILES, "val")
    encoded, fields = source.read(np.array([1, 0]))
    assert encoded == [b"dog 1", b"ant 1"] and fields["label"].tolist() == [2, 0]


def test_files_that_are_no_images_are_ignored(open_source):
    source = open_source(NO_IMAGES | FILES, "train")
    assert source.read(np.arange(len(source)))[0] == [b"cat a", b"cat b", b"dog 10", b"dog 2"]
    assert source.class_names == ("ant", "cat", "dog")


def test_an_example_is_described_by_its_path(open_source, tmp_path):
    assert open_source(FILES, "train").describe(3) == f"{tmp_path}/data/train/dog/2.JPEG"


def test_a_missing_split_is_named_with_those_that_are_there(open_source):
    with pytest.raises(DataError, match=r"test/CLASS/IMAGE \(splits found: train, val\)\."):
        open_source(FILES, "test")


def test_a_data_set_without_images_is_refused(open_source):
    with pytest.raises(DataError, match="splits found: none"):
        open_source({"train/cat/notes.txt": b""}, "train")


def test_a_missing_data_set_is_named(kind, tmp_path):
    config = base_config()
    config.data.name = f"{kind}:{tmp_path}/nowhere"
    with pytest.raises(DataError, match=f"{kind}:{tmp_path}/nowhere': there is no such"):
        open_split(config, train=True)
    other = {"folder": "photos.zip", "zip": "photos"}[kind]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.zip").touch()
    config.data.name = f"{kind}:{tmp_path}/{other}"
    with pytest.raises(DataError, match=rf"is no (folder|file); write \w+:{tmp_path}/{other}"):
        open_split(config, train=True)


IMAGES = {"JPEG": "a.jfif", "PNG": "noname", "BMP": "b.unknown", "PPM": "c.pgm", "GIF": "d.GIF"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # Classes are the first level, with all that lies below them.
        (["cat/1.jpg", "dog/1.jpg", "dog/old/x.jpg"], {"train": "cat dog dog"}),
        (
            ["train/cat/1.jpg", "train/dog/a/b/2.jpg", "val/cat/3.jpg"],
            {"train": "cat dog", "val": "cat"},
        ),
        # Splits by any name, where no image lies directly in them.
        (["one/cat/1.jpg", "one/dog/2.jpg", "two/cat/3.jpg"], {"one": "cat dog", "two": "cat"}),
        # What surrounds everything does not matter.
        (["set/train/cat/1.jpg", "set/test/cat/2.jpg"], {"train": "cat", "test": "cat"}),
        (["a/b/Train/cat/1.jpg", "a/b/Test/cat/2.jpg"], {"Train": "cat", "Test": "cat"}),
        (["n01440764_1.JPEG", "n01440764_2.JPEG"], {"train": "n01440764 n01440764"}),
        (["set/n01440764_1.JPEG", "set/n01443537_2.JPEG"], {"train": "n01440764 n01443537"}),
        # A class may be called as a split is.
        (["car/1.jpg", "train/2.jpg"], {"train": "car train"}),
    ],
)
def test_splits_and_classes_are_found_by_the_layout(open_source, files, expected):
    for split, classes in expected.items():
        source = open_source(dict.fromkeys(files, b"x"), split)
        labels = source.read(np.arange(len(source)))[1]["label"]
        assert " ".join(source.class_names[label] for label in labels) == classes
        assert not source.left_out


def test_images_in_no_class_are_told(open_source):
    files = dict.fromkeys(["train/cat/1.jpg", "train/2.jpg", "train/dog/3.jpg", "misc/4.jpg"], b"x")
    with pytest.raises(DataError, match="the folder train has images and folders of images, and m"):
        open_source(files, "train")
    del files["misc/4.jpg"]
    source = open_source(files, "train")
    assert len(source) == 2 and source.left_out == {"in no folder of a class": ["train/2.jpg"]}


@pytest.mark.parametrize(
    ("files", "expected", "left_out"),
    [
        (["1.jpg", "2.jpg"], {"train": 2}, []),
        (["1.jpg", "more/2.jpg", "more/deep/3.jpg"], {"train": 3}, []),
        (["photos/1.jpg", "photos/2.jpg"], {"train": 2}, []),
        (["n01440764_1.JPEG", "2.JPEG"], {"train": 2}, []),
        (["train/1.jpg", "train/a/2.jpg", "val/3.jpg"], {"train": 2, "val": 1}, []),
        (["set/train/1.jpg", "set/test/2.jpg"], {"train": 1, "test": 1}, []),
        (["train/1.jpg", "test/2.jpg", "cover.jpg"], {"train": 1, "test": 1}, ["cover.jpg"]),
        # As where classes are asked for.
        (["one/cat/1.jpg", "two/cat/3.jpg"], {"one": 1, "two": 1}, []),
    ],
)
def test_images_need_no_classes_where_nobody_asks(tmp_path, kind, files, expected, left_out):
    store(tmp_path / "data", dict.fromkeys(files, b"x"), kind)
    for split, count in expected.items():
        source = open_files(kind, str(tmp_path / "data"), split, ())
        assert (len(source), source.fields) == (count, {})
        assert [name for names in source.left_out.values() for name in names] == left_out


def test_a_list_needs_no_labels_where_nobody_asks(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path,split\na.png,val\n")
    assert len(open_files("csv", str(tmp_path / "list.csv"), "val", ())) == 1
    with pytest.raises(DataError, match="no column label"):
        open_files("csv", str(tmp_path / "list.csv"), "val")


def test_photos_without_classes_are_for_tasks_without_labels(open_source):
    with pytest.raises(DataError, match=r"2 in no folder of a class .*config\.eval\.knn = 0"):
        open_source({"1.jpg": b"x", "2.jpg": b"x"}, "train")


def test_what_is_an_image_is_told_by_its_contents_where_the_name_is_silent(open_source):
    files = {f"cat/{name}": encode(noise(8, 8), kind) for kind, name in IMAGES.items()}
    source = open_source(
        files | {"cat/x.dat": b"data", "dog/1.png": b"", "dog/.2.png": b""}, "train"
    )
    assert len(source) == len(IMAGES) + 1
    assert source.left_out == {"no image": ["cat/x.dat"], "hidden by a dot": ["dog/.2.png"]}


@pytest.mark.parametrize(
    "files",
    [
        ["train/cat.1.jpg", "train/dog.1.jpg", "test/1.jpg"],  # flat, as Kaggle's cats and dogs
        ["train/train/cat/1.jpg", "val/val/cat/1.jpg"],
        ["seg_train/seg_train/sea/1.jpg", "seg_test/seg_test/sea/1.jpg"],
        ["cover.jpg", "set/train/cat/1.jpg", "set/val/cat/1.jpg"],
        ["cat/train/1.jpg", "cat/test/1.jpg", "dog/train/1.jpg"],
    ],
)
def test_splits_are_not_taken_for_classes(open_source, files):
    with pytest.raises(DataError, match=r"would be classes are .*names of splits\. Images"):
        open_source(dict.fromkeys(files, b"x"), "train")


def test_what_programs_keep_beside_images_is_no_class(open_source):
    of_programs = ["@eaDir/1.jpg/THUMB.jpg", "cat/@eaDir/1.jpg/THUMB.jpg", "__MACOSX/cat/1.jpg"]
    files = dict.fromkeys(["cat/1.jpg", ".net/1.jpg", *of_programs], b"x")
    source = open_source(files, "train")
    assert source.class_names == ("cat",) and len(source) == 1
    assert source.left_out["hidden by a dot"] == [".net/1.jpg"]


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    store(tmp_path / "elsewhere", {"1.jpg": b"x", "2.jpg": b"x"}, "folder")
    store(tmp_path / "data", {"train/dog/1.jpg": b"x"}, "folder")
    (tmp_path / "data/train/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/train/dog/again").symlink_to(tmp_path / "data")
    (tmp_path / "data/val").symlink_to(tmp_path / "data/train")
    (tmp_path / "data/train/dog/lost.jpg").symlink_to(tmp_path / "nothing")
    source = open_files("folder", f"{tmp_path}/data", "train")
    assert source.class_names == ("cat", "dog") and source.class_counts()[0] == 2
    assert len(open_files("folder", f"{tmp_path}/data", "val")) >= 3


def test_names_that_are_no_text_are_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / "data" / os.fsdecode(b"caf\xe9") / "1.jpg").touch()
    with pytest.raises(DataError, match=r"the name b'caf\\xe9/1\.jpg' is not UTF-8"):
        open_files("folder", f"{tmp_path}/data", "train")


def test_class_names_may_be_anything(open_source):
    names = ["①", "10", "9", "ü", "a b"]
    source = open_source({f"{name}/1.jpg": b"x" for name in names}, "train")
    assert source.class_names == ("a b", "ü", "①", "9", "10")


def zipped(path, change, compression=zipfile.ZIP_STORED):
    """An archive one of whose members is changed."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return str(path)


def test_archives_that_cannot_be_unpacked_are_refused_when_opened(tmp_path):
    def at(content, signature, offset):
        return content.index(signature) + offset

    def encrypt(content):
        content[at(content, b"PK\1\2", 8)] |= 1

    def compress(content):
        content[at(content, b"PK\1\2", 10)] = 97

    with pytest.raises(DataError, match=r"2\.JPEG is encrypted; unpack the archive"):
        open_files("zip", zipped(tmp_path / "a.zip", encrypt), "train")
    with pytest.raises(DataError, match=r"2\.JPEG is compressed by method 97"):
        open_files("zip", zipped(tmp_path / "b.zip", compress), "train")


def test_an_archive_of_windows(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name.replace("/", "\\"), content)
    source = open_files("zip", f"{tmp_path}/w.zip", "train")
    assert source.read(np.arange(4))[0] == [b"cat a", b"cat b", b"dog 10", b"dog 2"]


def test_a_file_that_is_too_large_for_an_image_is_not_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", bytes(2**21))
    monkeypatch.setattr("imagenet_jax.data.sources.files.MOST_BYTES", 2**20)
    with pytest.raises(ValueError, match="it has 2 MiB, more than 1"):
        open_files("zip", f"{tmp_path}/a.zip", "train").read(np.array([0]))


@pytest.mark.parametrize("damage", ["noise", "truncation"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = tmp_path / "data.zip"
    store(path, FILES, "zip")
    path.write_bytes(path.read_bytes()[:-40] if damage == "truncation" else b"no archive" * 20)
    with pytest.raises(DataError, match=f"zip:{path}"):
        open_files("zip", str(path), "train")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_image_of_an_archive_is_named(tmp_path, noise_folder, noise_config, compression):
    path, name = tmp_path / "data.zip", "train/cat/4.jpg"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in noise_folder.rglob("*.jpg"):
            archive.write(file, file.relative_to(noise_folder))
        begin = archive.getinfo(name).header_offset + len(name) + 30
    content = bytearray(path.read_bytes())
    content[begin + 50 : begin + 100] = bytes(50)
    path.write_bytes(content)
    noise_config.data.name = f"zip:{path}"
    split = open_split(noise_config, train=False)
    with pytest.raises(DataError, match=f"{path}/{name}"):
        list(split.eval_batches(np.arange(4), 4))


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HOME", str(tmp_path))
    store(tmp_path / "data", FILES, kind)
    assert len(open_files(kind, "~/data", "train")) == 4


def test_cifar10_as_an_archive_of_jpegs(test_data):
    archive = test_data / "cifar10_images.zip"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    config = base_config()
    config.data.name = f"zip:{archive}"
    config.data.train_split, config.data.eval_split = "train", "test"
    config.data.image_size, config.data.eval_crop = 32, "none"
    assert open_split(config, train=True).num_examples == 50000
    split = open_split(config, train=False)
    assert split.num_examples == 10000 and split.num_classes == 10
    batch = next(split.eval_batches(np.array([0, 1000, 9999]), 10000))
    assert batch["label"].tolist() == [0, 1, 9]
    names = ("test/airplane/0000.jpg", "test/automobile/0000.jpg", "test/truck/0999.jpg")
    with zipfile.ZipFile(archive) as opened:
        expected = np.stack([pil_pixels(opened.read(name)) for name in names])
    # TensorFlow's general decoder takes libjpeg's faster transform, which rounds otherwise.
    assert np.abs(batch["image"].astype(int) - expected).max() <= 4
