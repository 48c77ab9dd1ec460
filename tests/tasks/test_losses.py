import numpy as np
import pytest
import scipy.special

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
