"""Losses between views against the papers' equations, written in NumPy one pair at a time."""

import numpy as np
import pytest

from imagenet_jax.tasks import view_losses

IMAGES, SIZE = 5, 7


def vectors(seed, rows=2 * IMAGES):
    found = np.random.default_rng(seed).normal(size=(rows, SIZE))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def softmax(logits):
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


@pytest.mark.parametrize("absent", [None, 3])
def test_simclr_tells_a_view_from_all_others_that_could_be_read(absent):
    z, temperature = vectors(0), 0.3
    there = np.ones(2 * IMAGES, bool)
    if absent is not None:
        there[2 * absent : 2 * absent + 2] = False
    found = view_losses.nt_xent(z, z, np.arange(2 * IMAGES), there, temperature)
    for image in set(range(IMAGES)) - {absent}:
        losses = []
        for row, partner in ((2 * image, 2 * image + 1), (2 * image + 1, 2 * image)):
            others = [k for k in range(2 * IMAGES) if k != row and there[k]]
            shares = softmax(np.array([z[row] @ z[k] / temperature for k in others]))
            losses.append(-np.log(shares[others.index(partner)]))
        assert found[image] == pytest.approx(np.mean(losses), rel=1e-5)


def test_moco_finds_the_teachers_vector_of_the_other_view():
    q, k, temperature = vectors(1), vectors(2), 0.2
    there, places = np.ones(IMAGES, bool), np.arange(IMAGES)
    found = view_losses.contrastive(q, k, places, there, temperature)
    for image in range(IMAGES):
        loss = 0.0
        for view in (0, 1):
            keys = k[1 - view :: 2]
            shares = softmax(keys @ q[2 * image + view] / temperature)
            loss -= np.log(shares[image])
        assert found[image] == pytest.approx(2 * temperature * loss, rel=1e-5)


def test_byol_is_the_squared_distance_to_the_other_view():
    p, z = vectors(3), vectors(4)
    found = view_losses.regression(p, z)
    for image in range(IMAGES):
        first, second = 2 * image, 2 * image + 1
        expected = np.square(p[first] - z[second]).sum() + np.square(p[second] - z[first]).sum()
        assert found[image] == pytest.approx(expected, rel=1e-5)


def test_dino_is_the_cross_entropy_of_all_pairs_of_different_views():
    rng = np.random.default_rng(5)
    student, teacher = rng.normal(size=(IMAGES, 4, SIZE)), rng.normal(size=(IMAGES, 2, SIZE))
    found = view_losses.self_distillation(
        np.float32(student), np.float32(teacher), 2, temperature=0.1, teacher_temperature=0.04
    )
    for image in range(IMAGES):
        pairs = [
            -softmax(teacher[image, t] / 0.04) @ np.log(softmax(student[image, s] / 0.1))
            for t in range(2)
            for s in range(4)
            if s != t
        ]
        assert len(pairs) == 6 and found[image] == pytest.approx(np.mean(pairs), rel=1e-4)
