"""Votes of neighbours, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from imagenet_jax.tasks import nearest
from imagenet_jax.tasks.nearest import Bank, Neighbours, count_right, ranks, unit, votes


def drawn(count, seed, classes=7):
    """Features of unequal lengths around a direction for each class, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = np.random.default_rng(9).normal(size=(classes, 12))
    return (centres[labels] + rng.normal(0, 2, (count, 12))) * rng.uniform(1, 9, (count, 1)), labels


@pytest.mark.parametrize("count", [1, 20])
def test_votes_are_those_of_scikit_learn(count, monkeypatch):
    """In blocks of which the last ones are smaller, and one is smaller than the neighbours."""
    monkeypatch.setattr(nearest, "_BANK", 90)
    monkeypatch.setattr(nearest, "_QUERIES", 64)
    (bank, known), (queries, labels) = drawn(365, 0), drawn(150, 1)
    reference = KNeighborsClassifier(
        count, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(bank, known)
    probability = reference.predict_proba(queries)
    # Of equal ones, which no vote has, the lower number stands first.
    first = np.argsort(-probability, 1, kind="stable")[:, :5]
    has_vote = np.take_along_axis(probability, first, 1) > 0
    expected = [
        (reference.predict(queries) == labels).sum(),
        ((first == labels[:, None]) & has_vote).any(1).sum(),
    ]
    told = count_right(Bank(unit(queries), labels), Bank(unit(bank), known), count, 0.1)
    np.testing.assert_array_equal(told, expected)
    assert 0.2 * 150 < told[0] < 150
    found = nearest.nearest(unit(queries), unit(bank), count)
    distances, places = reference.kneighbors(queries)
    np.testing.assert_array_equal(found.place, places)
    np.testing.assert_allclose(1 - found.similarity, distances, atol=1e-6)
    shares = votes(found, known, 7, 0.1)
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), probability, rtol=1e-4)


def test_of_equally_near_ones_the_first_vote(monkeypatch):
    monkeypatch.setattr(nearest, "_BANK", 4)
    bank = np.float32([[1, 0], [0, 1], [0, 1], [1, 0], [0, 1], [-1, 0], [0, 1], [1, 0], [0, 1]])
    found = nearest.nearest(np.float32([[0, 1], [1, 0]]), bank, 4)
    assert found.place.tolist() == [[1, 2, 4, 6], [0, 3, 7, 1]]
    all_alike = nearest.nearest(np.ones((1, 2), np.float32), np.ones((9, 2), np.float32), 3)
    assert all_alike.place.tolist() == [[0, 1, 2]]


def test_ties_go_to_the_lower_class_and_no_vote_is_no_answer():
    found = Neighbours(np.float32([[0.5, 0.5], [1.0, -1.0]]), np.array([[0, 1], [2, 1]]))
    weights = votes(found, np.array([3, 1, 0]), 5, 1e-3)  # whose weight is finite
    assert weights.tolist() == [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    assert ranks(weights, np.array([3, 0])).tolist() == [1, 0]
    assert ranks(weights, np.array([1, 4])).tolist() == [0, 5]
    # Of two classes, with fewer images than neighbours and a class that has none.
    bank = Bank(unit(np.eye(2)), np.array([1, 1]))
    queries = Bank(unit(np.eye(2)), np.array([1, 0]))
    assert count_right(queries, bank, 20, 0.07).tolist() == [1, 1]


def test_features_without_a_direction_are_zero():
    found = unit(np.float32([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], rtol=1e-6)
