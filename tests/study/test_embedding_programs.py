"""ArcFace with a million classes, as XLA's TPU compiler makes it. Not a timing."""

import importlib.util

import pytest
from test_programs import own_flags, study  # noqa: F401 - a fixture

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.xdist_group("large")]
FIELDS = {
    **{"task": "embedding", "embedding.loss": "arcface", "embedding.size": 512},
    **{"data.name": "fake", "data.fake_classes": 1_000_000, "data.image_size": 112},
    **{"model.name": "resnet18", "sharding": "tensor_parallel=4"},
}


def test_a_million_classes_fit_and_stay_where_they_are(tmp_path):
    """By libtpu 0.0.52 and jax 0.10.2: 4.73 GiB of 16."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    flags = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    more = ("--batch_per_device=256", "--partitioner=jit")
    facts, _ = study(tmp_path, "v5e:4x4", *more, *flags)
    assert facts["fits"] and facts["peak_bytes"] < 5.5e9
    found = facts["collectives"]
    # The gradient of the directions, 250,000 x 512 on a device; neither these nor logits travel.
    assert 512e6 < found["all-reduce"]["bytes"] < 545e6
    others = [kind["bytes"] for name, kind in found.items() if name != "all-reduce"]
    assert sum(others) < 4e6
