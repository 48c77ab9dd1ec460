"""What `prepare` refuses, notices and leaves out."""

import json
from pathlib import Path

import pytest
from files import write
from pixel_oracles import encode, noise
from test_prepare import stored

from imagenet_jax.data.preparation import build
from imagenet_jax.data.preparation.prepare import _alone, prepare
from imagenet_jax.data.preparation.shards import Encoding, open_source
from imagenet_jax.data.preparation.verification import report_text
from imagenet_jax.errors import ConfigError, DataError


def test_a_source_that_has_changed_is_noticed_and_made_anew_when_asked(source, images, tmp_path):
    first = prepare(source, data_dir=str(tmp_path / "ds"), workers=1)
    write(tmp_path / "source", {"train/cat/new.jpg": encode(noise(9, 9), "JPEG")})
    open_source.cache_clear()  # a new process would look again
    with pytest.raises(DataError, match=r"train 20, validation 6 then, train 21, .* --rebuild"):
        prepare(source, data_dir=str(tmp_path / "ds"), workers=1)
    assert json.loads((Path(first["path"]) / "verification.json").read_text()) == first
    again = prepare(source, data_dir=str(tmp_path / "ds"), workers=1, rebuild=True)
    assert again["path"] == first["path"]
    assert len(stored(again["path"], "train")) == again["splits"]["train"]["num_examples"] == 21
    assert [path.name for path in Path(again["path"]).parent.iterdir()] == ["1.0.0"]


def test_two_at_once_are_not_mixed(source, tmp_path):
    build_of_it = build.Build(source, (), str(tmp_path), "source", "array_record", Encoding(), 0.0)
    with _alone(build_of_it), pytest.raises(DataError, match="another process is preparing"):
        prepare(source, data_dir=str(tmp_path), workers=1)
    assert prepare(source, data_dir=str(tmp_path), workers=1)["name"] == "source"


@pytest.mark.parametrize("name", ["cat ", "a\nb", "\x85"])
def test_class_names_that_tfds_would_change_are_refused(tmp_path, images, name):
    write(tmp_path / "source", {f"{name}/1.jpg": images["train/cat/2.jpg"], "b/1.jpg": b""})
    with pytest.raises(DataError, match="TFDS cannot keep the class"):
        prepare(f"folder:{tmp_path}/source", data_dir=str(tmp_path), workers=1)


def test_what_is_left_out_is_in_the_report(tmp_path, images):
    files = {"cat/1.jpg": images["train/cat/2.jpg"], "dog/1.jpg": images["train/dog/1.jpg"]}
    write(tmp_path / "Ünï 2", files | {"cat/list.txt": b"", "stray.png": b""})
    report = prepare(f"folder:{tmp_path}/Ünï 2", data_dir=str(tmp_path), workers=1)
    assert report["name"] == "uni_2"
    assert report["left_out"] == {
        "no image": ["cat/list.txt"],
        "in no folder of a class": ["stray.png"],
    }
    assert "left out, in no folder of a class: 1" in report_text(report)


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("cifar10", "", "--name=cifar10 is a data set of TFDS's own.*--name=cifar10_files"),
        ("x", "digits", "--name=digits is a data set of TFDS's own"),
        ("фото", "", "no name can be made of 'фото'; give --name"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path, folder, name, message):
    (tmp_path / folder).mkdir()
    with pytest.raises(ConfigError, match=message):
        prepare(f"folder:{tmp_path}/{folder}", data_dir=str(tmp_path), name=name)
