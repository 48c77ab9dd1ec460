"""Which suites there are, where they lie, and what is said of those that cannot be."""

import importlib.util
from pathlib import Path

import pytest

import launch
from imagenet_jax.data.sources.imagenet import TITLES
from imagenet_jax.suites.table import objectnet_classes, subset


@pytest.mark.parametrize("column", "ar")
def test_the_classes_of_a_and_r_are_those_of_timm(column):
    timm = importlib.util.find_spec("timm") or pytest.skip("timm is not installed")
    lists = Path(timm.origin).parent / "data/_info"
    text = (lists / f"imagenet_{column}_synsets.txt").read_text()
    assert sorted(text.split()) == list(subset(column)) and len(subset(column)) == 200


def test_125_classes_are_113_of_objectnet():
    shared = objectnet_classes()
    assert len(shared) == 113 and sum(map(len, shared.values())) == 125
    assert shared["chair"] == ("n02791124", "n03376595", "n04099969")
    assert {TITLES[synset] for synset in shared["tie"]} == {"bow tie", "Windsor tie"}


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (",", "--suite=, names none; expected e.g. v2,a"),
        ("v3", "no evaluation suite 'v3'; there are real, v2, "),
        ("c/fogg", "did you mean 'c/fog'"),
        ("c/fog/6", "there is no evaluation suite 'c/fog/6'"),
        ("v2,v2", "the evaluation suite v2 is asked for 2 times"),
        ("a=/data", "suite 'a=/data': expected a or a=folder:PATH or a=zip:PATH"),
        ("c=zip:c.zip", "expected c or c=folder:PATH"),
        ("a=folder:/nowhere", "suite a: there is no folder /nowhere; unpack the archive from"),
        ("r", "{} (data.dir) has neither the folder imagenet-r nor the TFDS data set imagenet_r"),
        ("c/snow/3", "the folder imagenet-c or ImageNet-C with snow/3 nor the TFDS data set "
         "imagenet2012_corrupted/snow_3; unpack the tar files"),
        ("objectnet", "(data.dir) lacks the folder objectnet-1.0; unpack the archive from https://objectnet"),
    ],
)  # fmt: skip
def test_a_suite_that_cannot_be_is_told_before_anything_starts(
    classifier, tmp_path, capsys, suite, message
):
    flags = (*classifier.flags, f"--suite={suite}", f"--config.data.dir={tmp_path}")
    assert launch.main(["evaluate", *flags]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message.format(tmp_path) in error


def test_published_and_generated_corruptions_do_not_mix(classifier, tmp_path, capsys):
    for severity in range(2, 6):
        (tmp_path / f"imagenet-c/fog/{severity}").mkdir(parents=True)
    made = tmp_path / "imagenet2012_corrupted/fog_1/3.1.0"
    made.mkdir(parents=True)
    (made / "dataset_info.json").write_text("{}")
    flags = (*classifier.flags, "--suite=c/fog", f"--config.data.dir={tmp_path}")
    assert launch.main(["evaluate", *flags]) == 1
    message = "imagenet2012_corrupted/fog_1 is a tfds and"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--probe=train", "--per_image=a.csv", "--dataset=fake"])
def test_what_does_not_go_with_a_suite(classifier, capsys, flag):
    assert launch.main(["evaluate", *classifier.flags, "--suite=v2", flag]) == 1
    assert f"--suite=v2 does not go with {flag.partition('=')[0]}" in capsys.readouterr().err
