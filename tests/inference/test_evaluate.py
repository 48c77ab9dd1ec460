import json

import jax
import numpy as np
import pytest
from PIL import Image

from imagenet_jax import augment
from imagenet_jax.data import Split, open_split
from imagenet_jax.data.catalog import evaluation_split
from imagenet_jax.data.sources.imagenet import NAMES, SYNSETS
from imagenet_jax.errors import CheckpointError, DataError, WeightsError
from imagenet_jax.inference.evaluate import evaluate_pretrained, evaluate_run
from imagenet_jax.inference.pretrained import pretrained_model
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.tasks import Classification
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.verbs.flags import parse
from imagenet_jax.verbs.model_flags import load, which_checkpoint
from imagenet_jax.weights.class_names import read_class_names
from imagenet_jax.weights.files import write_safetensors
from imagenet_jax.weights.pretrained import pretrained_config


@pytest.fixture
def trained_eval(finished_run, loop_config):
    """What the finished run said of itself; `loop_config` is its config."""
    return json.loads((finished_run / "summary.json").read_text())["eval"]


# Of 30 examples on 8 devices: batches of even size, and no larger ones than examples need.
@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, [8] * 4), (7, [8] * 4), (24, [16] * 2), (64, [32])]
)
def test_every_batch_size_counts_the_same(
    loop_config, finished_run, trained_eval, monkeypatch, batch_size, expected
):
    sizes, eval_batches = [], Split.eval_batches

    def recorded(split, rows, batch_size):
        for batch in eval_batches(split, rows, batch_size):
            sizes.append(len(batch["mask"]))
            yield batch

    monkeypatch.setattr(Split, "eval_batches", recorded)
    loop_config.eval.batch_size = batch_size
    found = evaluate_run(loop_config, finished_run, which="latest")["eval"]
    assert sizes == expected
    for name in ("num_examples", "correct_top1", "correct_top5"):
        assert found[name] == trained_eval[name]
    assert found["loss"] == pytest.approx(trained_eval["loss"], rel=1e-5)


@pytest.mark.parametrize(("partitioner", "batch_size"), [("shard_map", 7), ("pmap", 16)])
def test_partitioners_count_the_same(
    loop_config, finished_run, trained_eval, partitioner, batch_size
):
    loop_config.partitioner, loop_config.eval.batch_size = partitioner, batch_size
    found = evaluate_run(loop_config, finished_run, which="latest")["eval"]
    assert found["correct_top1"] == trained_eval["correct_top1"]


def test_evaluation_needs_neither_training_data_nor_its_batch_size(
    loop_config, finished_run, trained_eval
):
    loop_config.batch_size, loop_config.data.fake_train_examples = 3, 1
    found = evaluate_run(loop_config, finished_run, which="latest")["eval"]
    assert found["correct_top1"] == trained_eval["correct_top1"]


def test_other_classes_than_those_trained_on_are_refused(loop_config, finished_run):
    loop_config.data.fake_classes = 11
    with pytest.raises(CheckpointError, match="trained on other classes"):
        evaluate_run(loop_config, finished_run, which="latest")


def test_workdir_without_a_run_is_refused(loop_config, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoints in"):
        evaluate_run(loop_config, tmp_path, which="latest")


def test_one_step_can_be_asked_for(loop_config, finished_run):
    assert evaluate_run(loop_config, finished_run, which="15")["step"] == 15
    with pytest.raises(CheckpointError, match="expected latest, best or one of the steps"):
        evaluate_run(loop_config, finished_run, which="first")


def test_the_checkpoint_that_was_reported_is_taken(loop_config, tmp_path):
    for report, expected in (("best", "best"), ("last", "latest")):
        loop_config.eval.report = report
        (tmp_path / "config.json").write_text(json.dumps(loop_config.to_dict()))
        for verb in (["predict", "a.jpg"], ["evaluate"]):
            args = parse([*verb, f"--workdir={tmp_path}", "--config.eval.report=last"])
            assert which_checkpoint(args, load(args)) == expected
            args.checkpoint = "15"
            assert which_checkpoint(args, load(args)) == "15"


def write_photos(folder, names):
    rng = np.random.default_rng(0)
    for name in names:
        folder.joinpath(name).mkdir(parents=True)
        for k in range(2):
            pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")


@pytest.fixture(scope="module")
def imagenet_classifier():
    """A LeNet of 1000 classes with random weights."""
    config = pretrained_config("lenet")
    config.data.image_size, config.data.eval_crop, config.eval.batch_size = 32, "none", 8
    task = Classification(config, SYNSETS)
    model = task.model()
    return TrainedModel("random LeNet", model, lenet_variables(model), task)


def lenet_variables(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), variable_shapes(model, 32)
    )


@pytest.mark.parametrize("by", ["synset", "name"])
def test_a_part_of_imagenet_in_another_order_is_evaluated(imagenet_classifier, tmp_path, by):
    labels = [7, 3, 999]  # alphabetical order is another one by name than by synset
    names = {"synset": SYNSETS, "name": NAMES}[by]
    write_photos(tmp_path / "photos", [names[label] for label in labels])
    config = imagenet_classifier.config
    config.data.name = f"folder:{tmp_path}/photos"
    config.data.eval_split = evaluation_split(config.data.name)
    result = evaluate_pretrained(imagenet_classifier)["eval"]
    assert result["num_examples"] == 6 and result["split"] == "train"
    split = open_split(config, train=False)
    (batch,) = split.eval_batches(np.arange(6), 6)
    true = [names.index(split.source.class_names[label]) for label in batch["label"]]
    assert sorted(set(true)) == sorted(labels)
    inputs = augment.eval_image(batch, config.augment)
    logits = imagenet_classifier.model.apply(imagenet_classifier.variables, inputs, train=False)
    expected = -np.asarray(jax.nn.log_softmax(logits))[np.arange(6), true].mean()
    assert result["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_of_ones_own_classes_are_evaluated(tmp_path):
    """The same classes in another order, in the data set a part of them."""
    names = ["zebra", "cat", "dog"]
    write_photos(tmp_path / "photos", ["cat", "zebra"])
    (tmp_path / "names.txt").write_text("\n".join(names))
    config = pretrained_config("lenet")
    config.data.update(image_size=32, eval_crop="none", eval_split="train")
    config.data.name, config.eval.batch_size = f"folder:{tmp_path}/photos", 8
    variables = lenet_variables(create_model("lenet", num_classes=3))
    path = tmp_path / "w.safetensors"
    write_safetensors(path, variables)
    with pytest.raises(WeightsError, match=r"has 3 classes.*--classes=FILE"):
        pretrained_model("lenet", config, str(path))
    with pytest.raises(WeightsError, match="has 3 classes, and 2 names are given"):
        pretrained_model("lenet", config, str(path), names[:2])
    trained = pretrained_model("lenet", config, str(path), read_class_names(tmp_path / "names.txt"))
    result = evaluate_pretrained(trained)["eval"]
    (batch,) = open_split(config, train=False).eval_batches(np.arange(4), 4)
    inputs = augment.eval_image(batch, config.augment)
    logits = trained.model.apply({"params": variables["params"]}, inputs, train=False)
    true = [{0: 1, 1: 0}[label] for label in batch["label"].tolist()]  # cat, zebra
    expected = -np.asarray(jax.nn.log_softmax(logits))[np.arange(4), true].mean()
    assert result["loss"] == pytest.approx(expected, rel=1e-5)
    write_photos(tmp_path / "photos", ["cats"])
    with pytest.raises(DataError, match=r"'cats' of the data set is none of the 3.*mean 'cat'"):
        evaluate_pretrained(trained)


def test_classes_that_imagenet_lacks_are_refused(imagenet_classifier, tmp_path):
    write_photos(tmp_path / "photos", ["tench", "unicorn"])
    imagenet_classifier.config.data.name = f"folder:{tmp_path}/photos"
    imagenet_classifier.config.data.eval_split = "train"
    with pytest.raises(DataError, match=r"none of ImageNet's, e\.g\. unicorn"):
        evaluate_pretrained(imagenet_classifier)


def test_the_split_that_is_evaluated_is_chosen_or_asked_for(tmp_path):
    for split in ("train", "val"):
        write_photos(tmp_path / "a" / split, ["cat"])
    assert evaluation_split(f"folder:{tmp_path}/a") == "val"
    for split in ("one", "two"):
        write_photos(tmp_path / "b" / split, ["cat"])
    with pytest.raises(DataError, match="has the splits one, two; choose one with --split"):
        evaluation_split(f"folder:{tmp_path}/b")
