"""Test-time augmentation, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.predictor import Predictor
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.multilabel import Multilabel
from imagenet_jax.training.checks import check_fields

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 5, 5, 3)).astype(np.float32)
KERNEL = RNG.normal(size=(75, 4)).astype(np.float32)


def logits(images, library=np):
    """Of a network for which each pixel is another."""
    return library.tanh(images.reshape(len(images), -1) @ KERNEL)


def mirrored(images):
    return (logits(images) + logits(images[:, :, ::-1])) / 2


def shifted(images):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    corners = mirrored(padded[:, :5, :5]) + mirrored(padded[:, 2:, 2:])
    return mirrored(images) / 2 + corners / 4


@pytest.mark.parametrize("task", [Classification, Multilabel])
@pytest.mark.parametrize(
    ("views", "expected"), [("", logits), ("mirror", mirrored), ("mirror_shift", shifted)]
)
def test_the_logits_of_all_views_are_averaged(task, views, expected):
    config = base_config()
    config.eval.tta = views
    found = task.of_size(config, 4).predict(lambda images: logits(images, jnp), IMAGES)
    np.testing.assert_allclose(found, expected(IMAGES), rtol=1e-5, atol=1e-6)


def test_a_predictor_averages_as_the_evaluation_does(finished_run, loop_config):
    """What a run is evaluated with is what it predicts with."""
    photos = RNG.integers(0, 256, (3, 8, 8, 3), np.uint8)
    plain = Predictor.from_run(finished_run)
    mirror = Predictor.from_run(finished_run, fields={"eval.tta": "mirror"})
    pixels = plain.preprocess(photos)
    expected = (plain.outputs_of(pixels) + plain.outputs_of(pixels[:, :, ::-1])) / 2
    found = mirror.outputs(photos)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found - plain.outputs(photos)).max() > 1e-3
    evaluated = mirror.evaluate()["eval"]["loss"]
    assert evaluated != pytest.approx(plain.evaluate()["eval"]["loss"], rel=1e-6)


def test_a_task_without_classes_has_no_views(monkeypatch):
    config = base_config()
    config.eval.tta = "mirror"
    check_fields(config)
    monkeypatch.setattr(Classification, "averages_views", False)
    with pytest.raises(ConfigError, match="'mirror' averages the logits of classes, which"):
        check_fields(config)
