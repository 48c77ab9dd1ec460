import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import launch
from imagenet_jax.data.sources.imagenet import NAMES, SYNSETS, imagenet_labels
from imagenet_jax.errors import DataError
from imagenet_jax.models.facts import FACTS

BRIGHT = "bright_$5_$7"


@pytest.fixture
def photos(tmp_path):
    """Dark and bright noise of two classes; matplotlib would read one's name as a formula."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), (BRIGHT, 215)):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        for k in range(16):
            pixels = rng.normal(level, 15, (12, 10, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / "train" / name / f"{k}.png")
    return tmp_path / "set"


def test_a_trained_run_predicts_its_own_classes(photos, tmp_path, capsys, one_block):
    workdir = tmp_path / "run"
    fields = {
        **{"data.name": f"folder:{photos}", "data.eval_split": "train", "data.image_size": 8},
        **{"data.train_crop": "resize", "data.eval_crop": "resize", "model.bn_group_size": 2},
        **{"model.name": "resnet8", "model.width": 4, "model.dtype": "float32"},
        **{"batch_size": 16, "duration": "40 steps", "eval.every": "", "log.tensorboard": False},
        "optim.learning_rate": 0.05,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    assert launch.main(["train", f"--workdir={workdir}", *flags]) == 0
    asked = [str(photos / "train" / BRIGHT / "3.png"), str(photos / "train/dark/5.png")]
    out = tmp_path / "p.json"
    assert launch.main(["predict", *asked, f"--workdir={workdir}", f"--json={out}"]) == 0
    result = json.loads(out.read_text())
    assert [photo["path"] for photo in result["predictions"]] == asked
    first = [photo["classes"][0] for photo in result["predictions"]]
    assert [found["class_name"] for found in first] == [BRIGHT, "dark"]
    for photo in result["predictions"]:
        assert sum(found["probability"] for found in photo["classes"]) == pytest.approx(1)
    # One more than fits at once: two even batches, and a row to fill the second up.
    many = sorted(map(str, photos.rglob("*.png"))) + asked[:1]
    assert launch.main(["predict", *many, f"--workdir={workdir}", f"--json={out}"]) == 0
    again = json.loads(out.read_text())["predictions"]
    assert [photo["path"] for photo in again] == many
    for photo in result["predictions"]:
        (same, *_) = (other for other in again if other["path"] == photo["path"])
        for one, other in zip(photo["classes"], same["classes"], strict=True):
            assert one["class_name"] == other["class_name"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
    printed = capsys.readouterr().out
    assert "3.png" in printed and "bright" in printed
    assert "predictions.png, the first 24 of 33 photos" in printed
    with Image.open(workdir / "predictions.png") as picture:
        assert picture.width > 300
    check_odd_files(photos, tmp_path, workdir, out, capsys)


def check_odd_files(photos, tmp_path, workdir, out, capsys):
    """Folders, patterns, names that matplotlib or a terminal stumble over, files that are bad."""
    folder = tmp_path / "odd"
    (folder / "below").mkdir(parents=True)
    names = ["cost_$5_$7.png", "\u6570\u5b57 ü.png", "x" * 200 + ".png", "a\nb.png", "[1].png"]
    names.append(os.fsdecode(b"\xff$.png"))
    for name in names:
        shutil.copyfile(photos / "train/dark/5.png", folder / name)
    (folder / "below" / "bad.jfif").write_bytes(b"\xff\xd8 broken")
    (folder / "notes.txt").write_text("no photo")
    asked = [str(folder), str(photos / "train" / BRIGHT / "1*.png"), str(folder / "gone.png")]
    argv = ["predict", *asked, f"--workdir={workdir}", f"--json={out}", "--picture=/dev/null/p.png"]
    assert launch.main([*argv, f"--csv={tmp_path}/new/p.csv"]) == 1
    result, told = json.loads(out.read_text()), capsys.readouterr()
    found = {Path(photo["path"]).name: photo for photo in result["predictions"]}
    assert found.keys() == {*names, "1.png", *(f"1{k}.png" for k in range(6))}
    for name, photo in found.items():
        assert photo["classes"][0]["class_name"] == ("dark" if name in names else BRIGHT)
    assert [Path(error["path"]).name for error in result["errors"]] == [
        *("bad.jfif", "gone.png", "p.png")
    ]
    with (tmp_path / "new/p.csv").open(newline="", encoding="utf-8") as table:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(table)}
    assert rows.keys() == {*found, "bad.jfif", "gone.png", r"\udcff$.png"} - {names[-1]}
    for name in found.keys() & rows.keys():
        assert rows[name]["error"] == "" and [rows[name][f"class {k}"] for k in (1, 2)] == [
            of_class["title"] for of_class in found[name]["classes"]
        ]
        best = found[name]["classes"][0]["probability"]
        assert float(rows[name]["probability 1"]) == pytest.approx(best, abs=1e-6)
    assert (
        "bad.jfif cannot be read" in rows["bad.jfif"]["error"] and not rows["gone.png"]["class 1"]
    )
    assert "picture" not in result and "cost_$5_$7.png" in told.out
    assert "bad.jfif cannot be read" in told.err and "p.png cannot be drawn" in told.err
    assert "gone.png cannot be read: No such file" in told.err
    # The picture is made of the same photos, with all those names in it.
    assert launch.main([*argv[:-3], str(folder / "c*.png"), f"--workdir={workdir}"]) == 1
    assert "drawn in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("nothing.jpg", "nothing.jpg cannot be read"),
        ("nothing*.jpg", "no image files there"),
        ("", "no image"),
    ],
)
def test_what_is_no_photo_is_named(photo, message, tmp_path, capsys, monkeypatch):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    import imagenet_jax.inference.predictor  # noqa: F401  # before: it keeps what it imports

    monkeypatch.setattr("imagenet_jax.inference.pretrained.pretrained_model", fake_model)
    argv = ["predict", "--model=efficientnet_lite0", photo or str(text), f"--workdir={tmp_path}/w"]
    assert launch.main(argv) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def fake_model(name, config, file, class_names):
    from imagenet_jax.tasks import Classification
    from imagenet_jax.training.trained import TrainedModel

    return TrainedModel(name, None, {}, Classification(config, SYNSETS))


def test_models_lists_what_matches(tmp_path, capsys):
    out = tmp_path / "m.json"
    assert launch.main(["models", "--filter=efficientnet_lite*", f"--json={out}"]) == 0
    rows = json.loads(out.read_text())["models"]
    assert [row["name"] for row in rows] == [f"efficientnet_lite{k}" for k in range(5)]
    assert rows[0]["params"] == FACTS["efficientnet_lite0"].params == 4_652_008
    assert rows[0]["weights"] == ["efficientnet_lite0.tf_in1k", "efficientnet_lite0.in1k"]
    assert {"gmacs", "image_size", "top1", "source"} < rows[0].keys()
    assert "efficientnet_lite4" in capsys.readouterr().out
    assert launch.main(["models", "--filter=nothing"]) == 1
    assert "no model matches" in capsys.readouterr().err


def test_classes_are_known_by_synset_or_name():
    for names in (("n01440764", "Great White Shark"), ("tench, Tinca tinca", "great_white_shark")):
        np.testing.assert_array_equal(imagenet_labels(names), [0, 2])
    dogs = ["n02085620-Chihuahua", "N02123045_tabby", "n02510455 giant panda"]
    np.testing.assert_array_equal(imagenet_labels(dogs), [151, 281, 388])
    with pytest.raises(DataError, match=r"1 of 2 classes are none of ImageNet's, e\.g\. unicorn"):
        imagenet_labels(["tench", "unicorn"])


def test_names_of_two_classes_are_told_apart_or_refused():
    labels = [264, 474]  # a dog and a garment
    np.testing.assert_array_equal(imagenet_labels(["Cardigan", "cardigan"]), labels)
    np.testing.assert_array_equal(imagenet_labels(["n02113186", "n02963159"]), labels)
    np.testing.assert_array_equal(imagenet_labels(["crane_bird", "crane"]), [134, 517])
    np.testing.assert_array_equal(imagenet_labels(["maillot, tank suit"]), [639])
    both = r"n02113186 \(Cardigan\) or n02963159 \(cardigan\)"
    cranes = r"n02012849 \(crane bird\) or n03126707 \(crane\)"
    for names, expected in (
        (["tench", "CARDIGAN"], both),
        (["cardigan", "pembroke"], both),  # the dogs, in small letters
        (["Cardigan", "Sweatshirt"], both),  # clothes, with capitals
        (["flamingo", "crane"], cranes),
        (["crane", "maillot"], cranes),
        (["maillot"], r"n03710637 \(maillot\) or n03710721 \(maillot tank suit\)"),
    ):
        with pytest.raises(DataError, match=expected):
            imagenet_labels(names)
    with pytest.raises(DataError, match=r"'tench' and 'n01440764' are both n01440764 \(tench\)"):
        imagenet_labels(["tench", "goldfish", "n01440764"])
    np.testing.assert_array_equal(imagenet_labels(NAMES), range(1000))
