import io
import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imagenet_jax.data.sources.tfrecord import TFRecords, record_offsets
from imagenet_jax.errors import DataError

RECORDS = [bytes([k]) * (k * 37 % 200) for k in range(100)]


def written(path, records=RECORDS):
    """A TFRecord file by TensorFlow's own writer."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "a.tfrecord-00000-of-00001")


def test_every_record_is_what_tensorflow_wrote(file):
    records = TFRecords([(file, 0, -1)])
    order = np.random.default_rng(0).permutation(len(RECORDS))
    assert len(records) == len(RECORDS)
    assert records.get(order) == [RECORDS[k] for k in order]
    assert records.get([]) == []


def test_parts_of_several_files_are_numbered_through(tmp_path):
    files = [written(tmp_path / f"{k}", RECORDS[10 * k : 10 * k + 10]) for k in range(3)]
    records = TFRecords([(files[0], 7, -1), (files[1], 0, 0), (files[2], 2, 5)])
    assert records.get(range(8)) == RECORDS[7:10] + RECORDS[22:27]
    offset = sum(len(record) + 16 for record in RECORDS[20:23])
    assert records.where(4) == f"{files[2]}, byte {offset}"


def test_the_index_is_kept_and_made_anew_when_the_file_changes(file):
    index = f"{file}.offsets.npy"
    first = record_offsets(file)
    made = os.stat(index).st_mtime_ns
    np.testing.assert_array_equal(record_offsets(file), first)
    assert os.stat(index).st_mtime_ns == made
    written(file, RECORDS[:50])
    assert len(record_offsets(file)) == 51


def index_of(changed):
    """An index with some of its numbers changed."""

    def content(whole):
        numbers = np.load(io.BytesIO(whole))
        for place, number in changed.items():
            numbers[place] = number
        made = io.BytesIO()
        np.save(made, numbers)
        return made.getvalue()

    return content


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda whole: b"", lambda whole: b"nonsense", lambda whole: b"\x93NUMPY"),
        lambda whole: whole.replace(b"(", b"(1" + b"0" * 13, 1),  # 40 TB
        lambda whole: whole.replace(b"}", b"(", 1),  # no expression of Python
        lambda whole: whole[:-9],
        *(index_of({2: 1}), index_of({3: -1}), index_of({5: 2**62}), index_of({-1: 3})),
    ],
)
def test_a_damaged_index_is_made_anew(file, damage):
    first = record_offsets(file)
    index = Path(f"{file}.offsets.npy")
    whole = index.read_bytes()
    index.write_bytes(damage(whole))
    np.testing.assert_array_equal(record_offsets(file), first)
    assert index.read_bytes() == whole


def test_where_nothing_can_be_written_beside_the_file_the_index_is_in_the_cache(
    file, tmp_path, monkeypatch
):
    (tmp_path / "a.tfrecord-00000-of-00001.offsets.npy").mkdir()  # in the way of the index
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(record_offsets(file)) == len(RECORDS) + 1
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1


def test_a_remote_file_is_read_through_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = "ram://bucket/imagenet/train-00000-of-00001"
    tf.io.gfile.makedirs("ram://bucket/imagenet")
    records = TFRecords([(written(path), 3, 20)])
    assert records.get([19, 0]) == [RECORDS[22], RECORDS[3]]
    with tf.io.TFRecordWriter(f"{path}.gz", "GZIP") as writer:
        writer.write(b"1")
    with pytest.raises(
        DataError, match=r"copy them to a FOLDER here and run\n  gunzip FOLDER/\*-of"
    ):
        TFRecords([(f"{path}.gz", 0, -1)])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/none"):
        TFRecords([(f"{tmp_path}/none", 0, -1)])


@pytest.mark.parametrize("place", ["length", "checksum of the length"])
def test_a_damaged_header_is_named_with_its_byte(file, place):
    offset = sum(len(record) + 16 for record in RECORDS[:7])
    damage(file, offset + (1 if place == "length" else 9))
    with pytest.raises(DataError, match=rf"{file}, byte {offset}: damaged"):
        TFRecords([(file, 0, -1)])


@pytest.mark.parametrize("place", [12, 30, -1])
def test_damaged_data_and_its_checksum_are_found_when_read(file, place):
    records = TFRecords([(file, 0, -1)])
    begin, end = record_offsets(file)[7:9].tolist()
    damage(file, begin + place if place > 0 else end + place, keep_time=True)
    with pytest.raises(DataError, match="checksum"):
        records.get([7])
    assert records.get([6, 8]) == [RECORDS[6], RECORDS[8]]
    assert records.where(7) == f"{file}, byte {begin}"


def test_a_file_cut_short_is_named_with_the_record_it_ends_in(file):
    offsets = record_offsets(file)
    os.truncate(file, int(offsets[-1]) - 3)
    with pytest.raises(DataError, match=rf"{file}, byte {offsets[-2]}: the file ends within"):
        TFRecords([(file, 0, -1)])
    os.truncate(file, int(offsets[60]))
    with pytest.raises(DataError, match=f"{file} has 60 records, 100 are needed"):
        TFRecords([(file, 0, 100)])


def test_an_empty_file_has_no_records(tmp_path):
    files = [written(tmp_path / f"{k}", RECORDS[: 3 * (k % 2)]) for k in range(4)]
    for _ in range(2):  # with and without an index
        records = TFRecords([(file, 0, -1) for file in files])
        assert records.get(range(6)) == 2 * RECORDS[:3]
        assert records.empty == files[::2]
    with pytest.raises(DataError, match=f"{files[0]} has 0 records, 3 are needed"):
        TFRecords([(files[0], 0, 3)])


@pytest.mark.parametrize("content", [b"x", b"not a record file at all", b"xa" * 20])
def test_what_is_no_tfrecord_file_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=f"{tmp_path}/a, byte 0: damaged or no TFRecord file"):
        TFRecords([(f"{tmp_path}/a", 0, -1)])


def test_open_files_stay_few_and_threads_may_share_them(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (200, 200))
    files = [written(tmp_path / f"{k:03}", [b"%d" % k]) for k in range(300)]
    records = TFRecords([(file, 0, -1) for file in files])
    wrong = []

    def read_all(seed):
        for k in np.random.default_rng(seed).permutation(300):
            if records.get([k]) != [b"%d" % k]:
                wrong.append(k)

    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    assert len(os.listdir("/proc/self/fd")) - before <= 110


def damage(path, offset, keep_time=False):
    """Flips a bit of a byte; with `keep_time` as a disk does, unnoticed."""
    times = os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
    if keep_time:
        os.utime(path, ns=times)
