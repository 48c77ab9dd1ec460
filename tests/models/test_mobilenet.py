import jax
import numpy as np
import pytest

from imagenet_jax.models import mobilenet


@pytest.mark.slow
def test_stochastic_depth_of_v3_rises_from_nothing():
    """Of three blocks the last is dropped but for one time in a hundred, the first never."""
    blocks = (mobilenet.SMALL[4]._replace(inner=16, channels=16),) * 3
    model = mobilenet.MobileNetV3(blocks, last=8, num_classes=3, drop_path=0.99 * 3 / 2)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()

    def loss_fn(params):
        rngs, given = {"dropout": jax.random.key(2)}, variables | {"params": params}
        logits, _ = model.apply(given, x, train=True, rngs=rngs, mutable=["batch_stats"])
        return (logits**2).sum()

    gradient = jax.jit(jax.grad(loss_fn))(variables["params"])
    first, last = (gradient[f"features.{n}"]["block.0.0"]["kernel"] for n in (1, 3))
    assert np.abs(first).max() > 0 == np.abs(last).max()
