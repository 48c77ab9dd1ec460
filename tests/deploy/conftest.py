"""What tests of exports share."""

import pytest

from imagenet_jax.deploy import export


@pytest.fixture(scope="session", autouse=True)
def few_images_are_timed():
    """A latency is no fact that a test could check."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "_TIMED", (1, 2))
        monkeypatch.setattr(export, "_REPEATS", 1)
        yield
