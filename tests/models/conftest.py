"""What tests of several models share."""

import pytest

from imagenet_jax.models.layers.platforms import lowering_for


@pytest.fixture(params=["cpu", "cuda", "tpu"])
def platform(request):
    """Programs are traced as for another platform, as far as the models choose by it."""
    with lowering_for(request.param):
        yield request.param
