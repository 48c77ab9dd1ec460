"""Losses without labels against their equations, in NumPy."""

import jax
import numpy as np
import pytest

from imagenet_jax.tasks.consistency_losses import (
    pseudo_label_loss,
    sigmoid_ramp,
    squared_difference,
)

RNG = np.random.default_rng(0)
ONE, OTHER = (RNG.normal(0, 3, (12, 5)).astype(np.float32) for _ in range(2))


def softmax(logits):
    powers = np.exp(np.float64(logits))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.95, 1.0])
def test_clear_classes_are_learnt(threshold):
    """Equation 4 of FixMatch, and google-research/fixmatch."""
    said = softmax(ONE)
    clear = said.max(1) >= threshold
    expected = -np.log(softmax(OTHER)[np.arange(12), said.argmax(1)]) * clear
    loss, confident = pseudo_label_loss(ONE, OTHER, threshold)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert confident.tolist() == clear.tolist()
    if threshold == 0.7:
        assert 0 < clear.sum() < 12
    weak, strong = jax.grad(lambda *x: pseudo_label_loss(*x, threshold)[0].sum(), (0, 1))(
        ONE, OTHER
    )
    assert not np.any(weak)
    target = np.eye(5)[said.argmax(1)]
    np.testing.assert_allclose(strong, (softmax(OTHER) - target) * clear[:, None], atol=1e-6)


def test_probabilities_are_compared_as_mean_teacher_does():
    """softmax_mse_loss of CuriousAI/mean-teacher, in torch, whose sum is over the images."""
    torch = pytest.importorskip("torch")
    student = torch.tensor(ONE, requires_grad=True)
    parts = torch.softmax(student, 1) - torch.softmax(torch.tensor(OTHER), 1)
    expected = (parts**2).sum() / 5
    expected.backward()
    found = squared_difference(ONE, OTHER)
    assert found.shape == (12,)
    np.testing.assert_allclose(found.sum(), expected.item(), rtol=1e-5)
    of_student, of_teacher = jax.grad(lambda *x: squared_difference(*x).sum(), (0, 1))(ONE, OTHER)
    np.testing.assert_allclose(of_student, student.grad, atol=1e-6)
    assert not np.any(of_teacher)


def test_the_weight_rises_as_a_sigmoid():
    """sigmoid_rampup of CuriousAI/mean-teacher, ramps.py."""
    found = [float(sigmoid_ramp(np.int32(step), 40)) for step in (0, 10, 20, 40, 50)]
    expected = [np.exp(-5 * (1 - t) ** 2) for t in (0, 0.25, 0.5, 1, 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(sigmoid_ramp(np.int32(0), 0)) == 1
