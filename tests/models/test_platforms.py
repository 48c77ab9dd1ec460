"""What is chosen by platform."""

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.platforms import TPU, choose, relu


def test_a_compiled_program_holds_the_branch_of_its_platform_alone():
    for platforms, kept in ((TPU, "cosine"), (("cpu",), "sine")):

        def function(x, platforms=platforms):
            return choose(platforms, jnp.sin, jnp.cos, x)

        compiled = jax.jit(function).lower(jnp.ones(3)).compile().as_text()
        assert f" {kept}(" in compiled
        assert "conditional" not in compiled
        assert {"cosine": " sine(", "sine": " cosine("}[kept] not in compiled


def test_relu():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0])
    value, pullback = jax.vjp(relu, x)
    np.testing.assert_array_equal(value, jax.nn.relu(x))
    np.testing.assert_array_equal(pullback(jnp.arange(1.0, 6))[0], [0, 0, 0, 4, 5])
    np.testing.assert_array_equal(jax.jvp(relu, (x,), (x,))[1], jnp.maximum(x, 0))
