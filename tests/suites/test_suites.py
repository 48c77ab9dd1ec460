"""`evaluate --suite` on miniatures of the published sets, compared with NumPy."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from miniatures import CLASSES, synsets, write_by_folder, write_one_each

import launch
from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.suites.results import suite_result
from imagenet_jax.suites.table import find_suites

NUMBERS = {synset: number for number, synset in enumerate(SYNSETS)}
# Hendrycks and Dietterich's code.
ALEXNET = {
    **{"gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640},
    **{"defocus_blur": 0.819880, "glass_blur": 0.826268, "motion_blur": 0.785948},
    **{"zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572, "fog": 0.819324},
    **{"brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056},
    **{"pixelate": 0.717840, "jpeg_compression": 0.606500},
}


def evaluate(classifier, tmp_path, suites, data_dir, *more):
    out = tmp_path / "out.json"
    flags = (*classifier.flags, f"--suite={suites}", f"--config.data.dir={data_dir}")
    assert launch.main(["evaluate", *flags, f"--json={out}", *more]) == 0
    return json.loads(out.read_text())["suites"]


def by_numpy(logits, right, compared=range(1000)):
    """num_examples, correct_top1, correct_top5 and loss, for the right classes of each image."""
    hidden = np.full_like(logits, -np.inf)
    hidden[:, list(compared)] = logits[:, list(compared)]
    order = np.argsort(-hidden, 1, kind="stable")
    share = np.exp(hidden.astype(np.float64))
    share /= share.sum(1, keepdims=True)
    loss = [-np.log(row[list(one)].sum()) for row, one in zip(share, right, strict=True)]
    return {
        "num_examples": len(logits),
        "correct_top1": sum(row[0] in one for row, one in zip(order, right, strict=True)),
        "correct_top5": sum(
            bool(set(row[:5]) & set(one)) for row, one in zip(order, right, strict=True)
        ),
        "loss": pytest.approx(np.mean(loss), rel=1e-4),
    }


def said(result):
    return {name: result[name] for name in ("num_examples", "correct_top1", "correct_top5", "loss")}


def in_folders(classifier, root, compared=range(1000)):
    """What NumPy says of a set with folders of classes."""
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() == ".png")
    folders = [file.parent.name for file in files]
    right = [(NUMBERS[name] if name in NUMBERS else int(name),) for name in folders]
    return by_numpy(classifier.logits_of(files), right, compared)


def real_labels(classifier, sets):
    """ReaL's labels of its images, and their logits."""
    labels = json.loads((sets / "imagenet-real/real.json").read_text())
    return labels, classifier.logits_of(sorted((sets / "imagenet-real/val").iterdir()))


def of_lists(labels, logits):
    """What NumPy says of those that have a label."""
    counted = [k for k, of_image in enumerate(labels) if of_image]
    return by_numpy(logits[counted], [labels[k] for k in counted])


def tells_apart(expected):
    """Whether there is something that could be counted wrongly."""
    return 0 < expected["correct_top1"] < expected["correct_top5"] < expected["num_examples"]


def test_each_suite_is_what_numpy_makes_of_it(classifier, sets, tmp_path, capsys):
    folder = "imagenetv2-matched-frequency-format-val"
    archive = shutil.make_archive(tmp_path / "v2", "zip", sets, folder)
    names = f"v2=zip:{archive},a=folder:{sets}/imagenet-a,real,objectnet,c/saturate/2"
    found = evaluate(classifier, tmp_path, names, sets)
    for name, place in (("v2", folder), ("c/saturate/2", "imagenet-c/extra/saturate/2")):
        expected = in_folders(classifier, sets / place)
        assert tells_apart(expected) and said(found[name]) == expected
        assert found[name]["left_out"] == found[name]["unreadable"] == 0
    folder, compared = sets / "imagenet-a", [NUMBERS[one] for one in synsets("a")]
    expected = in_folders(classifier, folder, compared)
    assert tells_apart(expected) and said(found["a"]) == expected
    assert found["a"]["num_examples"] == 230 and found["a"]["classes"] == 200
    assert expected["correct_top1"] > in_folders(classifier, folder)["correct_top1"]

    expected = of_lists(*real_labels(classifier, sets))
    assert said(found["real"]) == expected and found["real"]["left_out"] == 10
    assert expected["correct_top1"] == 20  # 10 of one label, 10 that are the second of two

    classes = {}
    for row in CLASSES:
        classes.setdefault(row["objectnet"], []).append(NUMBERS[row["synset"]])
    files = sorted((sets / "objectnet-1.0").rglob("*.png"))
    counted = [file for file in files if file.parent.name != "squeegee"]
    right = [classes[file.parent.name] for file in counted]
    expected = by_numpy(classifier.logits_of(counted, border=2), right)
    assert tells_apart(expected) and said(found["objectnet"]) == expected
    assert found["objectnet"]["left_out"] == len(files) - len(counted) > 0

    table = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "among 200 classes" in table["a"] and "7,500 were published" in table["a"]
    assert "10 left out that have none of the classes" in table["real"]
    assert f"{found['v2']['top1']:.2%}" in table["v2"]


def write_tfds(folder, name, features, split, examples):
    """A data set as TFDS's own builder of this name stores it."""
    with tfds.core.registered.skip_registration():

        class Made(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                made = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=made)

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(examples)

    Made.name = name
    Made(data_dir=folder, file_format="array_record").download_and_prepare()


def test_data_sets_of_tfds_are_found_by_their_names(classifier, sets, tmp_path):
    """ReaL's has lists of labels, the others one of the 1000 for each image."""
    one = tfds.features.ClassLabel(names=SYNSETS)
    image = tfds.features.Image(encoding_format="png")
    files = sorted((sets / "sketch").rglob("*.png"))
    rows = [{"image": file, "label": file.parent.name} for file in files]
    write_tfds(tmp_path, "imagenet_sketch", {"image": image, "label": one}, "test", rows)
    shutil.copytree(sets / "imagenet-a", tmp_path / "sketch")  # comes second
    labels, logits = real_labels(classifier, sets)
    photos = sorted((sets / "imagenet-real/val").iterdir())
    rows = [{"image": f, "real_label": of} for f, of in zip(photos, labels, strict=True)]
    features = {"image": image, "real_label": tfds.features.Sequence(one)}
    write_tfds(tmp_path, "imagenet2012_real", features, "validation", rows)
    found = evaluate(classifier, tmp_path, "real,sketch", tmp_path)
    assert said(found["sketch"]) == in_folders(classifier, sets / "sketch")
    assert said(found["real"]) == of_lists(labels, logits) and found["real"]["left_out"] == 10
    assert found["real"]["unreadable"] == 0 and found["real"]["data"] == "imagenet2012_real"


def test_mce_is_that_of_hendrycks_and_dietterich(sets, tmp_path):
    for name in ALEXNET:
        for severity in range(1, 6):
            (tmp_path / "imagenet-c" / name / str(severity)).mkdir(parents=True)
    (parts,) = find_suites(["c"], str(tmp_path)).values()
    assert len(parts) == 75
    top1 = np.random.default_rng(0).uniform(0, 1, 75)
    counts = dict.fromkeys(("left_out", "unreadable", "correct_top1", "correct_top5"), 0)
    found = [
        {"num_examples": 1 + k, "top1": top1[k], "top5": 1.0, "loss": 0.0, **counts}
        for k in range(75)
    ]
    result = suite_result(parts, found)
    errors = {}
    for part, share in zip(parts, top1, strict=True):
        errors.setdefault(part.name.split("/")[1], []).append(100 - 100 * share)
    expected = np.mean([np.mean(errors[name]) / (ALEXNET[name] * 100) for name in ALEXNET])
    assert result["mce"] == pytest.approx(expected)
    assert result["error"] == pytest.approx(1 - top1.mean())
    assert result["data"] == f"{tmp_path}/imagenet-c" and result["published"] == 3_750_000
    fog = result["corruptions"]["fog"]
    assert fog["ce"] == pytest.approx(np.mean(errors["fog"]) / 100 / ALEXNET["fog"])
    found = [
        one | {"top1": 1 - ALEXNET[part.name.split("/")[1]]}
        for part, one in zip(parts, found, strict=True)
    ]
    assert suite_result(parts, found)["mce"] == pytest.approx(1)  # AlexNet itself


@pytest.mark.exhaustive
@pytest.mark.slow
def test_all_corruptions_are_evaluated(classifier, tmp_path, capsys):
    by_synset = dict(enumerate(SYNSETS))
    for k, name in enumerate(ALEXNET):
        for severity in range(1, 6):
            folder = tmp_path / "imagenet-c" / name / str(severity)
            write_by_folder(classifier, folder, 3 + k % 4 + severity, 100 * k + severity, by_synset)
    crop = "--config.data.eval_crop=center_crop"  # is not for them
    found = evaluate(classifier, tmp_path, "c", tmp_path, crop)["c"]
    expected, images = [], 0
    for name, alexnet in ALEXNET.items():
        errors = []
        for severity in range(1, 6):
            one = in_folders(classifier, tmp_path / "imagenet-c" / name / str(severity))
            assert said(found["severities"][f"{name}/{severity}"]) == one
            errors.append(1 - one["correct_top1"] / one["num_examples"])
            images += one["num_examples"]
        expected.append(np.mean(errors) / alexnet)
    assert found["mce"] == pytest.approx(np.mean(expected)) and found["num_examples"] == images
    out = capsys.readouterr().out
    assert f"mCE {found['mce']:.2%}" in out and "  pixelate" in out


@pytest.mark.slow
def test_renditions_are_told_from_the_classes_that_they_have(classifier, tmp_path):
    known = synsets("r")
    write_one_each(tmp_path / "imagenet-r", known, 50)
    mine = {NUMBERS[synset]: synset for synset in known}
    write_by_folder(classifier, tmp_path / "imagenet-r", 30, 51, mine)
    found = evaluate(classifier, tmp_path, "r", tmp_path)["r"]
    expected = in_folders(classifier, tmp_path / "imagenet-r", [*mine])
    assert tells_apart(expected) and said(found) == expected


def test_sets_that_are_laid_out_otherwise_are_refused(classifier, sets, tmp_path, capsys):
    wrong = {
        "a": (f"a=folder:{sets}/sketch", "which is none of the 200 classes, n0"),
        "v2": (f"v2=folder:{sets}/imagenet-a", "which is none of the 1000 classes, 0 to 999"),
        "real": (f"real=folder:{sets}/imagenet-a", "has 0 files real.json"),
        "objectnet": (f"objectnet=folder:{sets}/imagenet-a", "has no image that counts, of 230"),
    }
    for name, (suite, message) in wrong.items():
        assert launch.main(["evaluate", *classifier.flags, f"--suite={suite}"]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: suite {name}: ") and message in error


def test_a_classifier_of_other_classes_is_refused(classifier, sets, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(1000))))
    flags = (*classifier.flags, f"--classes={tmp_path}/names.txt", f"--config.data.dir={sets}")
    assert launch.main(["evaluate", *flags, "--suite=a"]) == 1
    message = "evaluation suites are for ImageNet's 1000 classes; this lenet has 1000 classes, '0'"
    assert message in capsys.readouterr().err


def test_classes_in_another_order_give_the_same(classifier, sets, tmp_path):
    order = np.random.default_rng(0).permutation(1000)
    (tmp_path / "names.txt").write_text("\n".join(SYNSETS[k] for k in order))
    other = classifier.reordered(order, tmp_path / "other.safetensors")
    found = evaluate(other, tmp_path, "a", sets, f"--classes={tmp_path}/names.txt")["a"]
    compared = [NUMBERS[one] for one in synsets("a")]
    assert said(found) == in_folders(classifier, sets / "imagenet-a", compared)
