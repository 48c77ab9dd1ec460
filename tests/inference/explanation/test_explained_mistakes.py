"""`evaluate --explain`: the most wrong images with what their answers depend on."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from test_explain import random_model, task_config

from imagenet_jax import Predictor
from imagenet_jax.cli import main
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.evaluate import evaluate_pretrained
from imagenet_jax.inference.explanation import mistakes
from imagenet_jax.inference.explanation.pictures import heat
from imagenet_jax.tasks import make_task, task_split


def test_a_run_explains_its_mistakes(trained, one_block, tmp_path, capsys):
    """A later evaluation without leaves no old picture."""
    argv = ["evaluate", f"--workdir={trained()}", f"--json={tmp_path}/e.json"]
    assert main([*argv, "--explain"]) == 0
    report = json.loads((tmp_path / "e.json").read_text())["report"]
    file = tmp_path / "trained/evaluation/explained.png"
    assert report["files"][-1] == "explained.png" in capsys.readouterr().out
    with Image.open(file) as picture:
        assert min(picture.size) > 300
    assert main(argv) == 0
    assert "explained.png" not in json.loads((tmp_path / "e.json").read_text())["report"]["files"]
    assert not file.exists()
    assert main([*argv, "--explain", "--probe=train"]) == 1
    assert "--explain does not go with --probe" in capsys.readouterr().err


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: pixels, captions and title."""
    found = []
    monkeypatch.setattr(mistakes, "draw_images", lambda *parts: found.extend(parts[:3]))
    return found


def few(task, name, head="", **fields):
    config = task_config(task, name, head, **{"data.fake_eval_examples": 4} | fields)
    task = make_task(config, task_split(config, train=False))
    return dataclasses.replace(random_model(config), task=task)


def test_of_a_classifier_both_classes_are_shown(drawn, tmp_path):
    made = few("classification", "lenet", **{"data.image_size": 32, "data.eval_crop": "none"})
    evaluate_pretrained(made, tmp_path, explain=True)
    pixels, captions, title = drawn
    split = task_split(made.config, train=False)
    label, images = (split.examples(np.arange(4))[name] for name in ("label", "image"))
    predictor = Predictor(made)
    logits = predictor.outputs_of(images)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares = shares.max(1) / shares.sum(1)
    wrong = np.flatnonzero(logits.argmax(1) != label)
    assert len(wrong) and len(pixels) == 3 * len(wrong) and "Grad-CAM" in title
    first = wrong[shares[wrong].argmax()]
    assert (pixels[0] == images[first]).all()
    for place, k in ((1, logits[first].argmax()), (2, label[first])):
        expected = predictor.explain(images[first], of_class=int(k)).maps["grad_cam"]
        assert np.abs(pixels[place] - heat(images[first], expected).astype(int)).max() <= 1
        assert captions[place][0] == (f"class {k}", ("firebrick", "darkgreen")[place - 1])


@pytest.mark.parametrize(
    ("task", "name", "head"),
    [
        ("multilabel", "lenet", ""),
        pytest.param("segmentation", "resnet8", "unet", marks=pytest.mark.slow),
        pytest.param("detection", "resnet8", "fcos", marks=pytest.mark.slow),
    ],
)
def test_of_other_tasks_a_mistake_of_each_image_is_shown(task, name, head, drawn, tmp_path):
    size = 32 if name == "lenet" else 64
    fields = {"data.image_size": size}
    if head == "fcos":
        fields |= {"model.fpn_width": 32, "model.fpn_strides": (2, 4), "eval.score_threshold": 0.0}
    fields |= {"model.width": 8} if head else {}
    evaluate_pretrained(few(task, name, head, **fields), tmp_path, explain=True)
    pixels, captions, _ = drawn
    assert len(pixels) == len(captions) >= 2 and len(pixels) % 2 == 0
    assert all(len(lines) == 2 for lines in captions)


def test_what_cannot_be_explained_is_said_before_the_evaluation(tmp_path):
    several = task_config("multi_task", "resnet8", **{"model.width": 8})
    several.multi_task.tasks = ("classification", "segmentation:unet")
    with pytest.raises(ConfigError, match="--explain is for one task"):
        evaluate_pretrained(random_model(several), tmp_path, explain=True)
    views = {"model.width": 8, "model.fpn_width": 32, "model.fpn_strides": (2, 4)}
    made = few("detection", "resnet8", "fcos", **views, **{"eval.tta": "mirror"})
    with pytest.raises(ConfigError, match="--explain explains boxes of the images themselves"):
        evaluate_pretrained(made, tmp_path, explain=True)
