import json

import numpy as np
import pytest
from PIL import Image

import launch
from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.inference.probe import features, probe
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.tasks import Classification
from imagenet_jax.training.trained import TrainedModel


@pytest.fixture
def classifier(tmp_path):
    """A LeNet with random weights, and a data set of three colours."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for label, name in enumerate(("blue", "green", "red")):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.normal(90, 40, (32, 32, 3))
                pixels[..., 2 - label] += 60
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    config = base_config()
    config.data.update(name=f"folder:{tmp_path}/set", eval_split="val", image_size=32)
    config.data.eval_crop, config.eval.batch_size, config.model.name = "none", 16, "lenet"
    task = Classification.of_size(config, 10)
    model = task.model()
    variables = {
        name: {
            key: (rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape)).astype("f4")
            for key, leaf in layer.items()
        }
        for name, layer in variable_shapes(model, 32)["params"].items()
    }
    return TrainedModel("random LeNet", model, {"params": variables}, task)


def test_features_are_what_the_last_layer_sees(classifier):
    split = open_split(classifier.config, train=False)
    x, y = features(classifier, split)
    assert x.shape == (18, 84) and list(y) == [0] * 6 + [1] * 6 + [2] * 6
    head = classifier.variables["params"]["fc3"]
    (batch,) = split.eval_batches(np.arange(18), 18)
    from imagenet_jax import augment

    inputs = augment.eval_image(batch, classifier.config.augment)
    logits = classifier.model.apply(classifier.variables, inputs, train=False)
    np.testing.assert_allclose(x @ head["kernel"] + head["bias"], logits, atol=1e-4)


def test_more_examples_are_better(classifier):
    result = probe(classifier, "train", shots=(1, 10, 100))
    assert [row["shots"] for row in result["few_shot"]] == [1, 10]
    assert result["linear_probe"]["num_examples"] == 18
    assert result["linear_probe"]["top1"] > 0.8
    assert result["few_shot"][1]["top1"] >= result["few_shot"][0]["top1"]


def test_the_verb_writes_it_as_json(classifier, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "imagenet_jax.inference.pretrained.pretrained_model", lambda *args: classifier
    )
    name = classifier.config.data.name
    argv = ["evaluate", "--model=resnet18", f"--dataset={name}", "--probe=train"]
    assert launch.main([*argv, f"--json={tmp_path}/p.json"]) == 0
    assert json.loads((tmp_path / "p.json").read_text())["features"] == 84
    assert "linear probe" in capsys.readouterr().out
