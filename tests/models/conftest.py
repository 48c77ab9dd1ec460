"""What tests of several models share."""

import jax
import pytest


@pytest.fixture(params=["cpu", "cuda", "tpu"])
def platform(request, monkeypatch):
    """Programs are lowered as for another platform, as far as the models choose by it."""

    def platform_dependent(*args, default, **by_platform):
        return by_platform.get(request.param, default)(*args)

    monkeypatch.setattr(jax.lax, "platform_dependent", platform_dependent)
    return request.param
