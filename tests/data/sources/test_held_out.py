"""What is evaluated on where a data set has no splits, or none to validate on."""

import collections
import shutil

import numpy as np
import pytest
from pixel_oracles import encode, noise

from imagenet_jax.config import base_config
from imagenet_jax.data import check_splits, open_split
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.errors import DataError

SIZES = {"ant": 1, "bee": 2, "cat": 14, "dog": 37}


@pytest.fixture
def photos(tmp_path):
    """Makes a folder, an archive or a list of CLASS/K.png, SIZES of each; a config of it."""

    def make(kind, sizes=SIZES):
        folder, config = tmp_path / "photos", base_config()
        for k, (name, count) in enumerate(sizes.items()):
            for number in range(count):
                file = folder / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encode(noise(4, 4, seed=k)))
        config.data.name = f"folder:{folder}"
        if kind == "zip":
            config.data.name = f"zip:{shutil.make_archive(str(tmp_path / 'a'), 'zip', folder)}"
        elif kind == "csv":
            lines = (f"{f.relative_to(folder)},{f.parent.name}" for f in folder.rglob("*.png"))
            (folder / "a.csv").write_text("\n".join(["path,label", *lines]))
            config.data.name = f"csv:{folder}/a.csv"
        return config

    return make


def names_of(split):
    return [split.source.name(k) for k in range(split.num_examples)]


@pytest.mark.parametrize("kind", ["folder", "zip", "csv"])
def test_a_tenth_of_each_class_is_held_out_of_files_without_splits(photos, kind, caplog):
    config = photos(kind)
    train, held_out = (open_split(config, part) for part in (True, False))
    assert (train.name, held_out.name) == ("train, all but the held-out tenth", "held-out tenth")
    assert caplog.text.count("no splits: 1 to 4 images of each class are held out") == 1
    names = names_of(train) + names_of(held_out)
    assert len(set(names)) == len(names) == sum(SIZES.values())
    counts = collections.Counter(name.split("/")[0] for name in names_of(held_out))
    assert counts == {"bee": 1, "cat": 1, "dog": 4}
    labels = held_out.source.read(np.arange(6))[1]["label"]
    assert [held_out.source.class_names[k] for k in labels] == [
        name.split("/")[0] for name in names_of(held_out)
    ]
    config.seed = 7  # of another run of the same study
    assert names_of(open_split(config, train=False)) == names_of(held_out)
    check_splits(train, held_out)
    assert "1 classes have no images in held-out tenth: ant" in caplog.text


def test_what_is_held_out_stays_so_where_an_image_is_added(photos):
    before = names_of(open_split(photos("folder"), train=False))
    after = names_of(open_split(photos("folder", SIZES | {"dog": 38, "elk": 5}), train=False))
    assert len(set(before) - set(after)) <= 1 and len(after) == len(before) + 1


def test_slices_folds_and_other_splits_keep_their_meaning(photos):
    config = photos("folder")
    for fields, count in (
        ({"train_split": "train[:50%]"}, 27),
        ({"eval_split": "train"}, 54),
        ({"folds": 2, "fold": 0}, 27),
    ):
        config.data.update(train_split="train", eval_split="validation", folds=0)
        config.data.update(fields)
        assert open_split(config, train=True).num_examples == count
    assert prepare(config.data.name, data_dir=config.data.name[7:] + "_", name="n", workers=1)[
        "splits"
    ].keys() == {"train"}


def test_a_folder_around_the_classes_does_not_matter(photos, tmp_path):
    config = photos("folder")
    plain = names_of(open_split(config, train=False))
    archive = shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "photos")
    config.data.name = f"zip:{archive}"
    held_out = open_split(config, train=False)
    assert names_of(held_out) == [f"photos/{name}" for name in plain]
    assert held_out.source.class_names == tuple(SIZES)
    (tmp_path / "photos").rename(tmp_path / "test")
    config.data.name = f"zip:{shutil.make_archive(str(tmp_path / 'c'), 'zip', tmp_path, 'test')}"
    with pytest.raises(DataError, match=r"no images in train/CLASS/IMAGE \(splits found: test\)"):
        open_split(config, train=True)


def test_single_images_cannot_be_held_out(photos):
    with pytest.raises(DataError, match=r"ant/0\.png: neither its class nor another has two"):
        open_split(photos("folder", {"ant": 1, "bee": 1}), train=True)


def test_several_labels_have_a_tenth_too(photos, caplog):
    config = photos("csv")
    for train, count in ((True, 49), (False, 5)):
        assert open_split(config, train, ("labels",)).num_examples == count
    assert "no splits: 5 images are held out" in caplog.text
