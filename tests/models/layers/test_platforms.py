"""What is chosen by platform."""

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.layers.platforms import TPU, choose, lowering_for, relu


def test_a_compiled_program_holds_the_branch_of_its_platform_alone():
    for platforms, kept in ((TPU, "cosine"), (("cpu",), "sine")):

        def function(x, platforms=platforms):
            return choose(platforms, jnp.sin, jnp.cos, x)

        compiled = jax.jit(function).lower(jnp.ones(3)).compile().as_text()
        assert f" {kept}(" in compiled
        assert "conditional" not in compiled
        assert {"cosine": " sine(", "sine": " cosine("}[kept] not in compiled


def test_a_platform_that_is_known_is_all_that_is_traced():
    function = jax.jit(lambda x: choose(TPU, jnp.sin, jnp.cos, x))
    traced = {}
    for platform in ("cpu", "tpu", None):
        with lowering_for(platform):
            traced[platform] = str(function.trace(jnp.ones(3)).jaxpr)
    assert "cos" in traced["cpu"] and "sin" not in traced["cpu"]
    assert "sin" in traced["tpu"] and "cos" not in traced["tpu"]
    assert "sin" in traced[None] and "cos" in traced[None]


def test_relu():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0])
    value, pullback = jax.vjp(relu, x)
    np.testing.assert_array_equal(value, jax.nn.relu(x))
    np.testing.assert_array_equal(pullback(jnp.arange(1.0, 6))[0], [0, 0, 0, 4, 5])
    np.testing.assert_array_equal(jax.jvp(relu, (x,), (x,))[1], jnp.maximum(x, 0))
