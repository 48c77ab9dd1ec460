import math

import numpy as np
from sklearn.metrics import top_k_accuracy_score

from imagenet_jax.tasks.metrics import classification_sums, summarize


def sums(logits, label, mask=None):
    """Sums with a loss of 1 for each example."""
    count = len(label)
    mask = np.ones(count, bool) if mask is None else mask
    return classification_sums(
        np.asarray(logits, np.float32),
        np.asarray(label, np.int32),
        np.ones(count, np.float32),
        mask,
    )


def test_counts_equal_scikit_learn():
    generator = np.random.default_rng(0)
    logits, label = generator.normal(0, 1, (500, 20)), generator.integers(0, 20, 500)
    found = sums(logits, label)
    for k in (1, 5):
        expected = top_k_accuracy_score(label, logits, k=k, normalize=False, labels=range(20))
        assert found[f"correct_top{k}"] == expected


def test_masked_examples_do_not_count():
    found = sums(np.eye(8), np.arange(8), np.arange(8) < 3)
    assert (found["count"], found["correct_top1"], found["loss"]) == (3, 3, 3.0)


def test_equal_scores_go_to_the_lower_class_as_in_argmax():
    logits = np.zeros((10, 10))
    found = sums(logits, np.arange(10))
    assert found["correct_top1"] == (logits.argmax(-1) == np.arange(10)).sum() == 1
    assert found["correct_top5"] == 5


def test_nan_is_never_correct():
    assert sums(np.full((4, 3), np.nan), np.zeros(4))["correct_top1"] == 0


def test_masked_nan_loss_does_not_spread():
    loss = np.array([1.0, np.nan], np.float32)
    mask = np.array([True, False])
    found = classification_sums(np.eye(2, dtype=np.float32), np.arange(2), loss, mask)
    assert found["loss"] == 1.0


def test_summary_divides_the_sums_of_all_batches_once():
    parts = [sums(np.eye(6), [0, 1, 2, 3, 0, 0]), sums(np.eye(2), [0, 1])]
    found = summarize([{k: np.asarray(v) for k, v in part.items()} for part in parts])
    assert (found["num_examples"], found["correct_top1"]) == (8, 6)
    assert found["top1"] == 6 / 8
    assert isinstance(found["correct_top1"], int)
    assert math.isnan(summarize([])["top1"])
