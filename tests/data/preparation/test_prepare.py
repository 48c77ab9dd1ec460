"""launch.py prepare: what it stores is read with TFDS, Pillow and the pipeline."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from files import write
from PIL import Image
from pixel_oracles import encode, noise, pil_pixels

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.preparation import build
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.data.preparation.shards import Encoding, open_source
from imagenet_jax.errors import ConfigError, DataError

ROOT = Path(__file__).parents[3]
BAD = {"train/cat/bad.jpg": b"no image", "train/dog/empty.jpg": b""}


def stored(path, split):
    """{file name: (stored bytes, label)} of a prepared split, read by TFDS."""
    builder = tfds.builder_from_directory(path)
    decoders = {"image": tfds.decode.SkipDecoding()}
    data = builder.as_data_source(split=split, decoders=decoders)
    names = builder.info.features["label"].names
    return {x["file_name"].decode(): (x["image"], names[int(x["label"])]) for x in iter(data)}


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_files_are_stored_as_they_are(source, images, tmp_path, file_format):
    report = prepare(source, data_dir=str(tmp_path / "ds"), file_format=file_format, workers=1)
    assert report["name"] == "source" and report["file_format"] == file_format
    for split, count in (("train", 20), ("validation", 6)):
        config = base_config()
        config.data.name, config.data.dir = "source", str(tmp_path / "ds")
        config.data.train_split = split
        opened = open_split(config, train=True).source
        assert len(opened) == report["splits"][split]["num_examples"] == count
        files, fields = opened.read(np.arange(count))
        found = {opened.name(k): (bytes(file), fields["label"][k]) for k, file in enumerate(files)}
        expected = {
            name: (content, int("dog" in name))
            for name, content in images.items()
            if name.startswith(split)
        }
        assert found == expected and opened.class_names == ("cat", "dog")
    load = tfds.load if file_format == "tfrecord" else tfds.data_source
    assert len(list(load("source", data_dir=str(tmp_path / "ds"), split="train"))) == 20


def test_resized_jpegs_are_pillows(source, images, tmp_path):
    options = {"encoding": Encoding(16, "jpeg", 95), "workers": 1}
    report = prepare(source, data_dir=str(tmp_path), **options)
    assert report["name"] == "source_16"
    found = stored(report["path"], "train")
    assert len(found) == 20
    for name, (content, _) in found.items():
        whole = Image.open(io.BytesIO(images[name])).convert("RGB")
        scale = 16 / min(whole.size)
        size = [max(16, round(side * scale)) for side in whole.size]
        file = io.BytesIO()
        whole.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        assert bytes(content) == file.getvalue()


def test_raw_images_are_ppms_and_small_ones_stay_as_they_are(source, images, tmp_path):
    report = prepare(source, data_dir=str(tmp_path), encoding=Encoding(30, "raw"), workers=1)
    assert (report["name"], report["file_format"]) == ("source_30_raw", "tfrecord")
    config = base_config()
    config.data.name, config.data.dir = "source_30_raw", str(tmp_path)
    opened = open_split(config, train=True).source
    for k, file in enumerate(opened.read(np.arange(20))[0]):
        pixels, original = pil_pixels(bytes(file)), pil_pixels(images[opened.name(k)])
        if min(original.shape[:2]) <= 30:
            np.testing.assert_array_equal(pixels, original)
        else:
            assert min(pixels.shape[:2]) == 30


def test_bad_and_duplicate_files_are_reported_by_name(source, images, tmp_path):
    write(tmp_path / "source", BAD)
    twin = "validation/cat/twin.jpg"
    write(tmp_path / "source", {twin: images["train/dog/1.jpg"]})
    report = prepare(source, data_dir=str(tmp_path / "ds"), workers=1)
    train = report["splits"]["train"]
    assert train["num_examples"] == 20
    assert train["unreadable"] == [
        "train/cat/bad.jpg: no image, or of an unknown format",
        "train/dog/empty.jpg: the file is empty",
    ]
    assert train["images_per_class"] == {"cat": 10, "dog": 10}
    assert report["duplicates"] == [["train/train/dog/1.jpg", f"validation/{twin}"]]
    assert report["duplicates_across_splits"] == 1
    short = sorted(min(pil_pixels(content).shape[:2]) for content in images.values())
    assert report["image_sizes"]["short_side"]["min"] == short[0]
    assert report["image_sizes"]["short_side"]["max"] == short[-1]
    path = Path(report["path"])
    assert json.loads((path / "verification.json").read_text()) == report
    assert Image.open(path / "image_sizes.png").size[0] > 500
    assert not set(BAD) & set(stored(path, "train"))


def test_a_prepared_data_set_is_not_made_again_and_not_overwritten(source, tmp_path):
    options = {"data_dir": str(tmp_path / "ds"), "workers": 1}
    report = prepare(source, **options)
    files = {f: f.stat().st_mtime_ns for f in Path(report["path"]).iterdir()}
    assert prepare(source, **options) == report
    assert {f: f.stat().st_mtime_ns for f in Path(report["path"]).iterdir()} == files
    with pytest.raises(ConfigError, match="was prepared otherwise: file_format 'array_record'"):
        prepare(source, file_format="tfrecord", **options)
    for damage in ("{", "[]", "{}"):
        (Path(report["path"]) / "verification.json").write_text(damage)
        with pytest.raises(ConfigError, match=r"verification\.json is damaged; --rebuild"):
            prepare(source, **options)


def test_a_split_that_tfds_cannot_keep_is_refused_at_once(tmp_path):
    write(tmp_path / "a", {f"{s}/cat/1.png": encode(noise(8, 8)) for s in ("train", "test [1]")})
    with pytest.raises(DataError, match=r"cannot keep the split 'test \[1\]'; rename it"):
        prepare(f"folder:{tmp_path}/a", data_dir=str(tmp_path / "ds"), workers=1)
    assert not list(tmp_path.glob("ds/**/*.array_record*"))


def test_images_without_splits_are_held_out_by_name(tmp_path):
    files = {f"cat/{k}.png": encode(noise(8, 8, seed=k)) for k in range(200)}
    write(tmp_path / "all", files)
    options = {"eval_fraction": 0.25, "workers": 1}
    report = prepare(f"folder:{tmp_path}/all", data_dir=str(tmp_path / "a"), **options)
    held_out = set(stored(report["path"], "validation"))
    train = set(stored(report["path"], "train"))
    assert held_out | train == set(files) and not held_out & train
    assert 30 <= len(held_out) <= 70
    write(tmp_path / "all", {"cat/new.png": encode(noise(8, 8, seed=999))})
    report = prepare(f"folder:{tmp_path}/all", data_dir=str(tmp_path / "b"), **options)
    assert held_out - {"cat/new.png"} == set(stored(report["path"], "validation")) - {"cat/new.png"}


def test_a_list_of_files_is_prepared(tmp_path, images):
    write(tmp_path, images)
    lines = ["path,label,split", *(f"{n},{n.split('/')[1]},{n.split('/')[0]}" for n in images)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    report = prepare(f"csv:{tmp_path}/list.csv", data_dir=str(tmp_path / "ds"), workers=1)
    assert {s: f["num_examples"] for s, f in report["splits"].items()} == {
        "train": 20,
        "validation": 6,
    }
    assert set(stored(report["path"], "validation")) == {n for n in images if "valid" in n}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["photo,label", "a.png,cat"], "line 1: no column path; the first line must be path,label"),
        (["path,image,label", "a.png,a.png,c"], "line 1: the columns path and image mean the same"),
        (["path,label", "a.png,0", "c.png,1", "d.png,01"], "label 01 is out of range"),
        (["path,label", "a.png,cat", "b.png,dog"], r"line 3: there is no file .*b\.png"),
        (["path,label", "a.png,"], "line 2: no label"),
        (["path,label", "a.png,0", "c.png,7"], "label 7 is out of range; .* must be 0 to 1"),
        (["path,label", "a.png,-1", "c.png,0"], "label -1 is out of range"),
    ],
)
def test_mistakes_in_a_list_are_named_with_their_line(tmp_path, lines, message):
    for name in "acd":
        (tmp_path / f"{name}.png").write_bytes(encode(noise(8, 8)))
    (tmp_path / "list.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"list\.csv.*{message}"):
        prepare(f"csv:{tmp_path}/list.csv", data_dir=str(tmp_path / "ds"), workers=1)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_tfds_data_sets_are_built_and_verified(tmp_path, file_format):
    report = prepare("digits", data_dir=str(tmp_path), file_format=file_format, workers=1)
    assert report["file_format"] == file_format
    counts = {split: facts["num_examples"] for split, facts in report["splits"].items()}
    assert counts == {"train": 1437, "test": 360}
    assert prepare("digits", data_dir=str(tmp_path), workers=1) == report
    other = {"array_record": "tfrecord", "tfrecord": "array_record"}[file_format]
    with pytest.raises(ConfigError, match=f"is stored as {file_format} already"):
        prepare("digits", data_dir=str(tmp_path), file_format=other, workers=1)
    small = prepare("digits", data_dir=str(tmp_path), encoding=Encoding(4), workers=1)
    assert small["name"] == "digits_4" and small["splits"]["test"]["num_examples"] == 360


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    source, tmp_path, monkeypatch, capsys
):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"GB are needed and 0\.000 GB are free"):
        prepare(source, data_dir=str(tmp_path / "ds"), workers=1)
    assert not (tmp_path / "ds").exists()
    assert "needs about 0.000 GB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": Encoding(0, "raw")}, "--encoding=raw needs --resize"),
        ({"encoding": Encoding(-1)}, "--resize=-1"),
        ({"encoding": Encoding(8, "jpeg", 96)}, "--quality=96"),
        ({"eval_fraction": 1.0}, "--eval_fraction=1.0"),
        ({"name": "Mixed-Case"}, "--name=Mixed-Case"),
    ],
)
def test_impossible_requests_are_refused(source, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare(source, data_dir=str(tmp_path / "ds"), workers=1, **options)


def test_a_fraction_that_leaves_a_split_empty_is_refused(tmp_path):
    write(tmp_path / "few", {"cat/1.png": encode(noise(8, 8))})
    with pytest.raises(DataError, match=r"--eval_fraction=0\.5 .* leaves the split \w+ without"):
        prepare(f"folder:{tmp_path}/few", data_dir=str(tmp_path), eval_fraction=0.5, workers=1)


def test_parts_of_files_that_changed_since_are_not_used(source, images, tmp_path, monkeypatch):
    """Stopped after the first split; then an image comes in."""
    options = {"data_dir": str(tmp_path / "ds"), "workers": 1}
    monkeypatch.setattr(build, "run_shards", lambda shards, *_: [*map(build.do_shard, shards[:1])])
    with pytest.raises(FileNotFoundError):  # the second shard's facts
        prepare(source, **options)
    monkeypatch.undo()
    assert list((tmp_path / "ds/source").rglob("*train*.facts.json"))
    write(tmp_path / "source", {"train/cat/new.png": encode(noise(8, 8))})
    open_source.cache_clear()  # a new process would look again
    report = prepare(source, **options)
    assert report["splits"]["train"]["num_examples"] == 21
    assert "train/cat/new.png" in stored(report["path"], "train")


def test_a_moved_data_set_is_still_the_one_asked_for(source, tmp_path):
    report = prepare(source, data_dir=str(tmp_path / "a"), workers=1)
    (tmp_path / "a").rename(tmp_path / "b")
    there = {**report, "path": str(tmp_path / "b/source/1.0.0")}
    assert prepare(source, data_dir=str(tmp_path / "b"), workers=1) == there


def test_a_split_without_a_readable_image_is_refused(tmp_path):
    write(tmp_path / "source", BAD)
    with pytest.raises(DataError, match="split train has no readable image"):
        prepare(f"folder:{tmp_path}/source", data_dir=str(tmp_path / "ds"), workers=1)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_missing_shards(tmp_path):
    """Real processes; killed once the first shards are there."""
    files = {f"train/c{k % 5}/{k}.png": encode(noise(64, 64, seed=k)) for k in range(3000)}
    write(tmp_path / "source", files)
    command = [sys.executable, "launch.py", "prepare", f"--dataset=folder:{tmp_path}/source"]
    command += [f"--dir={tmp_path}/ds", "--resize=48", "--workers=2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    first = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.PIPE
    )
    staging = tmp_path / "ds/source_48/incomplete.1.0.0"
    deadline = time.monotonic() + 120
    while not list(staging.glob("*.facts.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = {f: f.stat().st_mtime_ns for f in staging.glob("*.facts.json")}
    assert 0 < len(kept) < 6 and not (tmp_path / "ds/source_48/1.0.0").exists()
    shards = {Path(str(f).removesuffix(".facts.json")).name: time for f, time in kept.items()}
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert f"going on: {len(kept)} of 6 shards are there" in second.stderr
    assert not re.search(r"[\r\x1b]|absl|tensorflow|[EWI]0000", second.stderr)
    assert f"--config.data.name=source_48 --config.data.dir={tmp_path}/ds" in second.stdout
    done = tmp_path / "ds/source_48/1.0.0"
    assert not staging.exists() and not list(done.glob("*partial*"))
    assert all((done / name).stat().st_mtime_ns <= time for name, time in shards.items())
    assert set(stored(done, "train")) == set(files)
