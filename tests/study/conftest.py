import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compilation_cache():
    """A study switches it off for its process; other tests want it."""
    enabled = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", enabled)
