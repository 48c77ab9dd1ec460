"""Losses of metric learning: against the equations of their papers, in NumPy and one by one."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.tasks import metric_losses as losses

LABELS = np.array([0, 1, 0, 2, 1, 0, 2, 3])  # the last one is alone


def random_rows(seed=0, dims=5):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(len(LABELS), dims))
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def known(mask=None):
    mask = np.ones(len(LABELS), bool) if mask is None else mask
    return losses.Labels(jnp.array(LABELS), jnp.array(mask), jnp.arange(len(LABELS)))


def of_batch(rows, loss, mask=None, **options):
    """A loss of anchors, and its pairs."""
    labels = known(mask)
    pairs = losses.pairs_of(labels, labels)
    rows = jnp.asarray(rows)
    return loss(losses.squared_distances(rows, rows), pairs, **options), pairs


def distance(one, other):
    return float(np.square(np.float64(one) - np.float64(other)).sum())


def members(anchor, same, there):
    return [
        k for k in np.flatnonzero(there) if k != anchor and (LABELS[k] == LABELS[anchor]) == same
    ]


MASKS = [None, np.array([1, 1, 0, 1, 1, 1, 1, 1], bool)]


@pytest.mark.parametrize("mask", MASKS, ids=["whole", "masked"])
@pytest.mark.parametrize("seed", range(3))
def test_semi_hard_triplets_are_facenets(seed, mask):
    rows, there = random_rows(seed), np.ones(8, bool) if mask is None else mask
    found, pairs = of_batch(rows, losses.triplet, mask, margin=0.3)
    total, count = 0.0, 0
    for anchor in np.flatnonzero(there):
        others = [distance(rows[anchor], rows[k]) for k in members(anchor, False, there)]
        for k in members(anchor, True, there):
            near = distance(rows[anchor], rows[k])
            farther = [d for d in others if d > near]
            other = min(farther) if farther else max(others)
            total, count = total + max(0.0, near - other + 0.3), count + 1
    assert float(found.sum()) == pytest.approx(total, rel=1e-5) and total > 0
    assert float(losses.triplets_of(pairs, "semi_hard").sum()) == count


@pytest.mark.parametrize("mask", MASKS, ids=["whole", "masked"])
def test_hard_triplets_are_those_of_hermans(mask):
    rows, there = random_rows(), np.ones(8, bool) if mask is None else mask
    found, pairs = of_batch(rows, losses.triplet, mask, margin=0.3, mining="hard")
    expected = np.zeros(8)
    for anchor in np.flatnonzero(there):
        near = [distance(rows[anchor], rows[k]) for k in members(anchor, True, there)]
        others = [distance(rows[anchor], rows[k]) for k in members(anchor, False, there)]
        if near:
            expected[anchor] = max(0.0, max(near) - min(others) + 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    has = [bool(members(k, True, there)) and there[k] for k in range(8)]
    np.testing.assert_array_equal(losses.triplets_of(pairs, "hard"), has)


@pytest.mark.parametrize("mask", MASKS, ids=["whole", "masked"])
def test_the_contrastive_loss_is_that_of_khosla(mask):
    rows, there = random_rows(), np.ones(8, bool) if mask is None else mask
    found, _ = of_batch(rows, losses.supervised_contrastive, mask, temperature=0.2)
    expected = np.zeros(8)
    for anchor in np.flatnonzero(there):
        cosines = np.float64(rows) @ np.float64(rows[anchor]) / 0.2
        same = members(anchor, True, there)
        all_others = same + members(anchor, False, there)
        bottom = np.log(np.exp(cosines[all_others]).sum())
        expected[anchor] = -np.mean([cosines[k] - bottom for k in same]) if same else 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def softmax_loss(logits, label):
    return np.log(np.exp(logits).sum()) - logits[label]


def cosines_of(rows, classes=4):
    directions = np.random.default_rng(7).normal(size=(rows.shape[1], classes))
    return np.float64(rows) @ (directions / np.linalg.norm(directions, axis=0))


def test_arcface_adds_to_the_angle():
    cosines = cosines_of(random_rows())
    cosines[0, 0] = -0.95  # 0.5 more than this angle would be beyond pi
    expected = []
    for row, label in zip(cosines, LABELS, strict=True):
        logits, angle = 16 * row, np.arccos(row[label])
        wider = np.cos(angle + 0.5) if angle + 0.5 < np.pi else row[label] - 0.5 * np.sin(0.5)
        logits[label] = 16 * wider
        expected.append(softmax_loss(logits, label))
    found = losses.additive_angular(jnp.float32(cosines), jnp.array(LABELS), scale=16.0, margin=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_cosface_takes_from_the_cosine():
    cosines = cosines_of(random_rows())
    expected = []
    for row, label in zip(cosines, LABELS, strict=True):
        logits = 16 * row
        logits[label] -= 16 * 0.35
        expected.append(softmax_loss(logits, label))
    found = losses.additive_cosine(jnp.float32(cosines), jnp.array(LABELS), scale=16.0, margin=0.35)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", MASKS, ids=["whole", "masked"])
def test_proxy_anchor_is_that_of_kim(mask):
    cosines, there = cosines_of(random_rows(), 5), np.ones(8, bool) if mask is None else mask
    expected, of_batch_count = 0.0, len({*LABELS[there]})
    for k in range(5):
        same = [
            row[k]
            for row, label, ok in zip(cosines, LABELS, there, strict=True)
            if ok and label == k
        ]
        other = [
            row[k]
            for row, label, ok in zip(cosines, LABELS, there, strict=True)
            if ok and label != k
        ]
        if same:
            expected += np.log1p(np.exp(-32 * (np.array(same) - 0.1)).sum()) / of_batch_count
        expected += np.log1p(np.exp(32 * (np.array(other) + 0.1)).sum()) / 5
    found = losses.proxy_anchor(jnp.float32(cosines), known(mask), scale=32.0, margin=0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


BATCH_LOSSES = {
    "semi_hard": functools.partial(losses.triplet, margin=0.2),
    "hard": functools.partial(losses.triplet, margin=0.2, mining="hard"),
    "supcon": functools.partial(losses.supervised_contrastive, temperature=0.01),
}
CLASS_LOSSES = {
    "arcface": functools.partial(losses.additive_angular, scale=64.0, margin=0.5),
    "cosface": functools.partial(losses.additive_cosine, scale=64.0, margin=0.35),
}


@pytest.mark.parametrize("name", [*BATCH_LOSSES, *CLASS_LOSSES, "proxy_anchor"])
@pytest.mark.parametrize("kind", ["random", "collapsed", "opposite", "alone"])
def test_gradients_are_finite_wherever_embeddings_lie(name, kind):
    """All at one point, at opposite ones, and where no image has another of its class."""
    rows = random_rows()
    if kind == "collapsed":
        rows = np.broadcast_to(rows[:1], rows.shape)
    if kind == "opposite":
        rows = np.float32(np.where(LABELS[:, None] == 0, 1, -1) * rows[:1])
    labels = known(np.arange(8) >= 6 if kind == "alone" else None)

    def of(rows):
        if name in BATCH_LOSSES:
            distances = losses.squared_distances(rows, rows)
            return BATCH_LOSSES[name](distances, losses.pairs_of(labels, labels)).sum()
        directions = jnp.concatenate([rows[:1], -rows[:1], rows[1:4]]).T
        cosines = rows @ directions
        if name == "proxy_anchor":
            return losses.proxy_anchor(cosines, labels, scale=32.0, margin=0.1)
        return CLASS_LOSSES[name](cosines, labels.label).sum()

    value, gradient = jax.value_and_grad(of)(jnp.asarray(rows))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_gradients_are_those_of_small_differences():
    rows = np.float64(random_rows())
    labels = known()

    @jax.jit
    def of(rows):
        pairs = losses.pairs_of(labels, labels)
        distances = losses.squared_distances(rows, rows)
        total = losses.triplet(distances, pairs, margin=0.3).sum()
        return total + losses.supervised_contrastive(distances, pairs, temperature=0.5).sum()

    with jax.enable_x64(True):
        gradient = np.asarray(jax.grad(of)(jnp.asarray(rows)))
        for row, column in itertools.product((0, 3, 7), (0, 2)):
            step = np.zeros_like(rows)
            step[row, column] = 1e-6
            near = (of(jnp.asarray(rows + step)) - of(jnp.asarray(rows - step))) / 2e-6
            assert float(near) == pytest.approx(gradient[row, column], abs=1e-4)
