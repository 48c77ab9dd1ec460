import numpy as np
import pytest
import scipy.special
from oracles import torchvision

from imagenet_jax.augment import Targets
from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import Classification
from imagenet_jax.tasks.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_equals_its_definition_on_smoothed_targets(smoothing):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 5, (16, 7)).astype(np.float32)
    label = generator.integers(0, 7, 16).astype(np.int32)
    target = np.eye(7)[label] * (1 - smoothing) + smoothing / 7
    expected = -(target * scipy.special.log_softmax(logits.astype(np.float64), -1)).sum(-1)
    np.testing.assert_allclose(
        cross_entropy(logits, label, smoothing), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("smoothing", "threshold", "reduction"),
    # "ResNet strikes back" A2, its other form, DeiT III, big_vision
    [(0.0, 0.2, "mean"), (0.1, 0.0, "mean"), (0.0, 1e-6, "mean"), (0.0, 0.0, "sum")],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_binary_loss_is_that_of_timm(smoothing, threshold, reduction, mixed):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 5, (8, 7)).astype(np.float32)
    label = generator.integers(0, 7, 8).astype(np.int32)
    weight = np.array([0.05, 0.15, 0.25, 0.5, 0.6, 0.9, 1.0, 0.0], np.float32)
    config = base_config()
    config.loss.update(name="sigmoid", label_smoothing=smoothing)
    config.loss.update(target_threshold=threshold, class_reduction=reduction)
    task = Classification.of_size(config, 7)
    other = label.reshape(-1, 2)[:, ::-1].ravel()
    targets = Targets(label, other, weight) if mixed else Targets(label)
    eye = np.eye(7) * (1 - smoothing) + smoothing / 7
    share = weight[:, None] if mixed else 1
    target = share * eye[label] + (1 - share) * eye[other]
    if threshold:
        target = (target > threshold).astype(float)
    sigmoid = scipy.special.expit(logits.astype(np.float64))
    expected = -target * np.log(sigmoid) - (1 - target) * np.log1p(-sigmoid)
    expected = getattr(expected, reduction)(-1)
    np.testing.assert_allclose(task.loss(logits, targets), expected, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(task.probabilities(logits[0]), sigmoid[0], rtol=1e-5)
    observed = task.observe(logits, Targets(label))
    np.testing.assert_allclose(observed["probability"], sigmoid.max(-1), rtol=1e-5)
    plain = -np.log(sigmoid[np.arange(8), label]) - np.log1p(-sigmoid).sum(-1)
    plain += np.log1p(-sigmoid[np.arange(8), label])
    plain = plain / (7 if reduction == "mean" else 1)
    sums = task.evaluation_sums(logits, Targets(label), np.ones(8, bool))
    np.testing.assert_allclose(sums["loss"], plain.sum(), rtol=1e-5)


def test_the_binary_loss_equals_timms_own():
    torchvision()  # timm imports it
    torch, loss = pytest.importorskip("torch"), pytest.importorskip("timm.loss")
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 5, (8, 7)).astype(np.float32)
    label = generator.integers(0, 7, 8).astype(np.int32)
    for smoothing, threshold in ((0.1, None), (0.0, 0.2), (0.3, 0.04)):
        config = base_config()
        config.loss.update(name="sigmoid", label_smoothing=smoothing)
        config.loss.target_threshold = threshold or 0.0
        found = Classification.of_size(config, 7).loss(logits, Targets(label)).mean()
        theirs = loss.BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
        expected = theirs(torch.from_numpy(logits), torch.from_numpy(label).long())
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_logits_that_are_never_negative_are_for_the_softmax_alone():
    config = base_config()
    config.model.name, config.loss.name = "squeezenet1_1", "sigmoid"
    with pytest.raises(ConfigError, match="squeezenet1_1' cannot say that a class is absent"):
        Classification.of_size(config, 7).model()
