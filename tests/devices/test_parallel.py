"""Sums over devices, and the options that a step is compiled with."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from imagenet_jax.devices import parallel
from imagenet_jax.devices.sharding import DATA_AXIS, make_mesh, replicated
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.program import make_program


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


def compiled(*options):
    """A step whose operations XLA fuses, unless it is told not to."""
    mesh = make_mesh()
    first = jax.ShapeDtypeStruct((3,), jnp.float32, sharding=replicated(mesh))
    return parallel.compile_step(
        lambda first, batch: jnp.exp(first / 3 + 1).sum(),
        first,
        parallel.batch_shapes(8, 2, {}),
        mesh=mesh,
        partitioner="jit",
        donate=False,
        options=options,
    )


def test_compiler_options_reach_xla():
    fused, apart = compiled(), compiled("xla_disable_hlo_passes=fusion")
    # Apart each operation is a fusion of its own or none, as XLA's flags say.
    assert apart.as_text().count(" fusion(") != fused.as_text().count(" fusion(") > 0


# What every program for a CPU is compiled with.
STORED = {"xla_disable_hlo_passes": "cse_barrier_expander"}


@pytest.mark.parametrize(
    ("kind", "platform", "chosen"),
    [
        ("TPU v5 lite", "tpu", {"xla_tpu_a": 2, "xla_d": "a:b"}),
        ("TPU v5", "tpu", {"xla_tpu_a": 1, "xla_d": "a:b"}),
        ("NVIDIA H200", "gpu", {"xla_gpu_b": 0.5, "xla_d": "a:b"}),
        ("cpu", "cpu", {**STORED, "xla_cpu_c": True, "xla_d": "a:b"}),
    ],
)
def test_compiler_options_of_other_devices_do_not_count(kind, platform, chosen):
    options = ("xla_tpu_a=1", "TPU v5 lite: xla_tpu_a=2", "xla_gpu_b=0.5", "xla_cpu_c=true")
    device = SimpleNamespace(device_kind=kind, platform=platform)
    assert parallel.compiler_options((*options, "xla_d=a:b"), device) == chosen
    compiled("xla_tpu_scoped_vmem_limit_kib=32768", "other: xla_nonsense=1")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("xla_cpu_nonsense=1", "config.compiler_options = .*No such compile option"),
        ("xla_allow_excess_precision=maybe", "config.compiler_options = .*not a valid bool"),
    ],
)
def test_compiler_options_that_xla_refuses(option, message):
    with pytest.raises(ConfigError, match=message):
        compiled(option)


def test_both_steps_are_compiled_with_the_options_of_the_config(tiny_config):
    tiny_config.compiler_options = ("xla_cpu_nonsense=1",)
    program = make_program(Classification.of_size(tiny_config, 10), make_mesh(), num_examples=40)
    for compile_step in (program.compile_train_step, lambda: program.compile_eval_step(30)):
        with pytest.raises(ConfigError, match="xla_cpu_nonsense"):
            compile_step()


def test_what_a_cpu_is_asked_to_store_is_stored():
    """Else XLA computes it anew wherever it is used; this fails where XLA renames its pass."""
    function = jax.jit(lambda x: jax.lax.optimization_barrier(2 * x) + 1).lower(jnp.ones(8))
    options = parallel.compiler_options((), jax.devices()[0])
    assert "opt-barrier(" in function.compile(compiler_options=options).as_text()
    assert "opt-barrier(" not in function.compile().as_text()
