import numpy as np
import pytest
import scipy.special
from oracles import torchvision
from sklearn.utils.class_weight import compute_class_weight

from imagenet_jax.augment import Targets
from imagenet_jax.config import apply_overrides, base_config, validate
from imagenet_jax.config.stages import config_stages
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import Classification, Multilabel, make_task, task_split
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


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_of_classes_in_the_binary_loss_are_torchs(reduction):
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(0, 2, (6, 3)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, (6, 3)).astype(np.uint8)
    config, weights = base_config(), (0.5, 0.0, 3.0)
    config.loss.update(label_smoothing=0.0, class_reduction=reduction)
    task = Multilabel(config, tuple("abc"), class_weights=weights)
    theirs = torch.nn.BCEWithLogitsLoss(torch.tensor(weights), reduction="none")
    expected = theirs(torch.tensor(logits), torch.tensor(labels, dtype=torch.float32))
    expected = getattr(expected, reduction)(-1)
    np.testing.assert_allclose(task.loss(logits, Targets(labels)), expected, rtol=1e-5)
    config.loss.name = "sigmoid"
    one = Classification(config, tuple("abc"), class_weights=weights)
    label = labels.argmax(-1)
    expected = theirs(torch.tensor(logits), torch.tensor(np.eye(3, dtype=np.float32)[label]))
    expected = getattr(expected, reduction)(-1)
    np.testing.assert_allclose(one.loss(logits, Targets(label)), expected, rtol=1e-5)


def test_views_are_compared_as_timm_does():
    """Its views are one batch after the other, ours side by side; one of them is quite certain."""
    torchvision()  # timm imports it
    torch, loss = pytest.importorskip("torch"), pytest.importorskip("timm.loss")
    logits = np.random.default_rng(0).normal(0, 4, (5, 3, 7)).astype(np.float32)
    logits[0] = 80 * np.eye(7, dtype=np.float32)[[0, 0, 1]]
    label = np.array([0, 1, 2, 3, 4], np.int32)
    config = base_config()
    config.data.views, config.loss.jsd, config.loss.label_smoothing = 3, 12.0, 0.1
    task = Classification.of_size(config, 7)
    outcome = task.losses(lambda x: (x, {}), logits.reshape(15, 7), Targets(label))
    found = task.shown_loss(outcome).mean()
    theirs = loss.JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0.1)
    stacked = torch.tensor(logits.swapaxes(0, 1).reshape(15, 7))
    expected = theirs(stacked, torch.tensor(np.tile(label, 3)).long())
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_array_equal(outcome.outputs, logits[:, 0])


def test_mixed_images_are_weighted_by_both_labels():
    """As torch weighs soft targets; and partners in a mix weigh together what both do."""
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(0, 2, (4, 3)).astype(np.float32)
    label, share = np.array([0, 2, 1, 1], np.int32), np.array([0.3, 0.3, 0.9, 0.9], np.float32)
    config = base_config()
    config.loss.label_smoothing = 0.0
    task = Classification(config, tuple("abc"), class_weights=(0.2, 0.7, 3.0))
    targets = Targets.of_pairs(label, share)
    soft = share[:, None] * np.eye(3)[label]
    soft = soft + (1 - share[:, None]) * np.eye(3)[targets.other]
    theirs = torch.nn.CrossEntropyLoss(torch.tensor(task.class_weights), reduction="none")
    expected = theirs(torch.tensor(logits), torch.tensor(soft, dtype=torch.float32))
    np.testing.assert_allclose(task.loss(logits, targets), expected, rtol=1e-5)
    total = task.denominators({"mask": np.ones(4, bool), "label": label})["weights"]
    assert float(total) == pytest.approx((soft @ task.class_weights).sum(), rel=1e-6)


@pytest.mark.parametrize("classes", [28, 300])
def test_balanced_weights_are_those_of_scikit_learn(classes, tiny_config):
    """Of 40 images: some classes have two, or most have none."""
    tiny_config.data.fake_classes = classes
    tiny_config.loss.class_weights = ("balanced",)
    split = task_split(tiny_config, train=True)
    label = split.source.arrays(np.arange(40))[1]["label"]
    weights = np.array(make_task(tiny_config, split).class_weights)
    there = np.unique(label)
    assert len(there) == min(classes, 40)
    expected = compute_class_weight("balanced", classes=there, y=label)
    np.testing.assert_allclose(weights[there], expected)
    assert weights.sum() == pytest.approx(expected.sum())
    assert not make_task(tiny_config, task_split(tiny_config, train=False)).class_weights
    assert len(make_task(tiny_config).class_weights) == classes  # of data that are not opened


@pytest.mark.parametrize("weights", [(1.0, 2.0), (0.0,) * 10, ("1", "2", "3")])
def test_weights_that_are_not_one_for_each_class_are_refused(weights, tiny_config):
    tiny_config.loss.class_weights = weights
    with pytest.raises(ConfigError, match="one for each of the 10 classes"):
        make_task(tiny_config, task_split(tiny_config, train=True))


def test_what_is_no_weight_is_refused(tiny_config):
    for weights in (("balance",), (1.0, -1.0), (float("nan"),), ("balanced", "1")):
        tiny_config.loss.class_weights = weights
        with pytest.raises(ConfigError, match="a number from 0 on for each class"):
            validate(tiny_config)
    apply_overrides(tiny_config, {"loss.class_weights": "0.5,2"})
    validate(tiny_config)
    tiny_config.stages = ("5 steps: loss.class_weights=balanced",)
    with pytest.raises(ConfigError, match=r"loss\.class_weights has to stay"):
        config_stages(tiny_config)
