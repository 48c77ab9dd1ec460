"""Files that are whole or not there, and the texts that users put into them."""

import json
import math
import os
import threading

import pytest

from imagenet_jax.atomic import replace_text, replacing
from imagenet_jax.config import base_config
from imagenet_jax.printable import printable, printable_lines
from imagenet_jax.reports.curves import plot_curves
from imagenet_jax.reports.writers import MetricsFile, read_metrics, write_summary


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as other:
        assert one != other and one.parent == other.parent == tmp_path
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() in "12" and os.listdir(tmp_path) == ["a"]


def test_nothing_is_left_of_what_failed(tmp_path):
    replace_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_links_stay_and_names_may_be_as_long_as_can_be(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / ("é" * 127))
    replace_text(tmp_path / "link", "ü")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / ("é" * 127)).read_bytes() == "ü".encode()


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_summary(tmp_path / "pipe", {"a": 1})
    reader.join()
    assert json.loads(read[0]) == {"a": 1} and (tmp_path / "pipe").is_fifo()
    with pytest.raises(IsADirectoryError):
        replace_text(tmp_path, "x")


def test_numbers_that_json_does_not_know_are_null(tmp_path):
    def strict(path):
        return json.loads(path.read_text(), parse_constant=pytest.fail)

    write_summary(tmp_path / "a", {"x": [{"y": (math.nan, 1)}], "z": math.inf, "name": "\udce9"})
    assert strict(tmp_path / "a") == {"x": [{"y": [None, 1]}], "z": None, "name": "\udce9"}
    metrics = MetricsFile(tmp_path / "m", resume_step=0)
    metrics.write_scalars(1, {"eval/map": math.nan})
    metrics.close()
    assert strict(tmp_path / "m") == {"step": 1, "eval/map": None}
    (line,) = read_metrics(tmp_path / "m")
    assert math.isnan(line["eval/map"])


def test_metrics_that_a_bad_disk_left_are_passed_over_and_drawn(tmp_path):
    workdir = tmp_path / "$a^$_{ \x1b"
    workdir.mkdir()
    lines = [b'{"step": 1, "eval/map": null, "train/loss": 2.0}', b"\xff\x00\x00", b"3", b"[]"]
    lines += [b"{}", b'{"step": "x"}', b"[" * 10**5, b'{"step": 2, "eval/map": 0.5}', b'{"st']
    (workdir / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert [line["step"] for line in read_metrics(workdir / "metrics.jsonl")] == [1, 2]
    plot_curves(workdir, base_config(), "map", "$a^$_{")
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_what_steers_a_terminal_is_not_printed():
    odd = "a\x1b[2J\r\x9b\u202e\udce9\n\té名"
    mark = "\N{REPLACEMENT CHARACTER}"
    assert printable(odd) == f"a{mark}[2J{mark * 6}é名"
    assert printable_lines(odd) == f"a{mark}[2J{mark * 4}\n\té名"
