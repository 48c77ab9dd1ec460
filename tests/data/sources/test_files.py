import zipfile

import numpy as np
import pytest
from pixel_oracles import pil_pixels

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
    with pytest.raises(DataError, match=r"validation/CLASS/IMAGE \(splits found: train, val;"):
        open_source(FILES, "validation")


def test_a_data_set_without_images_is_refused(open_source):
    with pytest.raises(DataError, match="splits found: none"):
        open_source({"train/cat/notes.txt": b""}, "train")


def test_a_missing_data_set_is_named(kind, tmp_path):
    config = base_config()
    config.data.name = f"{kind}:{tmp_path}/nowhere"
    with pytest.raises(DataError, match=f"{kind}:{tmp_path}/nowhere': there is no such"):
        open_split(config, train=True)


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
