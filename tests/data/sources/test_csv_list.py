import numpy as np
import pytest

from imagenet_jax.data.sources.files import open_files
from imagenet_jax.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,b\n{},a\n",
        "\ufeffFile;Class\r\na.png;b\r\n{};a\r\n",
        "label\tfilename\nb\ta.png\na\t{}\n",
    ],
)
def test_lists_have_columns_by_several_names(tmp_path, text):
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "ü.png").write_bytes(b"2")
    (tmp_path / "list.csv").write_text(text.format("ü.png"), newline="")
    files, fields = open_files("csv", f"{tmp_path}/list.csv", "train").read(np.arange(2))
    assert files == [b"1", b"2"] and fields["label"].tolist() == [1, 0]


@pytest.mark.parametrize("labels", [("1", "2", "3"), ("0", "1", "2"), ("00", "01", "02")])
def test_lists_have_numbers_from_0_or_1_on(tmp_path, labels):
    for k in range(3):
        (tmp_path / f"{k}.png").touch()
    lines = [f"{k}.png,{label}" for k, label in enumerate(labels)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    source = open_files("csv", f"{tmp_path}/list.csv", "train")
    assert source.class_names == labels
    assert source.read(np.arange(3))[1]["label"].tolist() == [0, 1, 2]


def test_a_number_longer_than_python_reads_is_a_name(tmp_path):
    for k in range(2):
        (tmp_path / f"{k}.png").touch()
    for other in ("1", "cat"):
        (tmp_path / "list.csv").write_text(f"path,label\n0.png,{'9' * 5000}\n1.png,{other}\n")
        source = open_files("csv", f"{tmp_path}/list.csv", "train")
        assert set(source.class_names) == {"9" * 5000, other}


def test_a_list_that_is_no_utf8_is_named(tmp_path):
    (tmp_path / "list.csv").write_bytes("path,label\na.png,café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"list\.csv, line 2 is not UTF-8; save the list as UTF-8"):
        open_files("csv", f"{tmp_path}/list.csv", "train")


def listed(folder, text, split="train", reads=("label",)):
    """The names of a split's images and their classes, of a list beside three images."""
    for name in ("1.jpg", "2.jpg", "a, b.jpg"):
        (folder / name).write_bytes(b"x")
    (folder / "list.csv").write_text(text)
    source = open_files("csv", str(folder / "list.csv"), split, reads)
    return {source.name(k): source.class_names[label] for k, label in enumerate(source._labels)}


def test_a_comma_may_stand_in_quotes_but_not_without(tmp_path):
    quoted = 'path,label\n"a, b.jpg","tench, Tinca tinca"\n'
    assert listed(tmp_path, quoted) == {"a, b.jpg": "tench, Tinca tinca"}
    with pytest.raises(DataError, match="line 2 has more columns than line 1; write quotes"):
        listed(tmp_path, "path,label\n1.jpg,tench, Tinca tinca\n2.jpg,dog\n")
    with pytest.raises(DataError, match=r"line 3: the label 'cat.*is a quote not closed"):
        listed(tmp_path, 'path,label\n1.jpg,"cat\n2.jpg,dog\n')


@pytest.mark.parametrize("reads", [("label",), ("labels",)])
def test_an_image_has_its_labels_in_one_line(tmp_path, reads):
    with pytest.raises(DataError, match=r"line 3: 1\.jpg has 'dog' here and 'cat' in a line"):
        listed(tmp_path, "path,label\n1.jpg,cat\n1.jpg,dog\n2.jpg,dog\n", reads=reads)
    listed(tmp_path, "path,label\n1.jpg,cat\n1.jpg,cat\n2.jpg,dog\n", reads=reads)  # counts twice


def test_fastais_column_says_what_is_for_validation(tmp_path):
    text = "image,label,is_valid\n1.jpg,cat,False\n2.jpg,dog,True\n"
    assert listed(tmp_path, text) == {"1.jpg": "cat"}
    assert listed(tmp_path, text, "validation") == {"2.jpg": "dog"}
    with pytest.raises(DataError, match="line 3: is_valid = 'test'; expected true or false"):
        listed(tmp_path, text.replace("True", "test"))


def test_splits_that_differ_in_capitals_alone_are_refused(tmp_path):
    text = "path,label,split\n1.jpg,cat,train\n2.jpg,dog,Train\n"
    with pytest.raises(DataError, match="has the splits 'Train' and 'train'"):
        listed(tmp_path, text)
