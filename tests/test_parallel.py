"""Sums over devices."""

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from imagenet_jax import parallel
from imagenet_jax.sharding import DATA_AXIS, make_mesh


@pytest.mark.parametrize("reduce", [parallel.all_reduce, parallel.all_reduce_vectors])
def test_all_reduce_sums_every_leaf(reduce):
    """In the form of this platform, and in that of GPUs."""
    random, mesh = np.random.default_rng(0), make_mesh()
    shares = {
        "kernel": random.normal(size=(mesh.size, 3, 4)).astype(np.float32),
        "count": random.integers(0, 100, (mesh.size,), np.int32),
        "nested": [random.normal(size=(mesh.size, 5)).astype(np.float32)] * 2,
    }

    def step(shares):
        return reduce(jax.tree.map(lambda share: share[0], shares), DATA_AXIS)

    spread = partial(jax.shard_map, mesh=mesh, check_vma=False, out_specs=PartitionSpec())
    sums = jax.jit(spread(step, in_specs=PartitionSpec(DATA_AXIS)))(shares)
    for ours, share in zip(jax.tree.leaves(sums), jax.tree.leaves(shares), strict=True):
        assert ours.dtype == share.dtype
        np.testing.assert_allclose(ours, share.sum(0), rtol=1e-5)
