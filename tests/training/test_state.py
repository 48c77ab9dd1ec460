import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.training.state import TrainState, all_finite, checksum, state_sha256


def make_state(**changes):
    fields = {
        "step": jnp.zeros((), jnp.int32),
        "params": {"b": jnp.arange(3.0), "a": jnp.ones((2, 2))},
        "batch_stats": {},
        "opt_state": (),
        "ema": None,
        "rng": jnp.zeros(2, jnp.uint32),
    }
    return TrainState(**(fields | changes))


def test_sha256_is_over_path_dtype_shape_and_bytes_in_path_order():
    digest = hashlib.sha256()
    digest.update(b"['params']['a'] float32 (2, 2)\n" + np.ones((2, 2), np.float32).tobytes())
    digest.update(b"['params']['b'] float32 (3,)\n" + np.arange(3, dtype=np.float32).tobytes())
    assert state_sha256(make_state()) == digest.hexdigest()


def test_checksum_sees_every_changed_bit_and_every_swap():
    plain = checksum(make_state())
    assert plain == checksum(make_state())
    changed = {"b": jnp.array([0.0, 1.0, np.nextafter(np.float32(2), 3)]), "a": jnp.ones((2, 2))}
    swapped = {"b": jnp.array([1.0, 0.0, 2.0]), "a": jnp.ones((2, 2))}
    for other in (
        make_state(params=changed),
        make_state(params=swapped),
        make_state(step=jnp.ones((), jnp.int32)),
        make_state(rng=jnp.array([0, 1], jnp.uint32)),
    ):
        assert checksum(other) != plain


def test_checksum_of_half_precision_sees_a_bit():
    half = jnp.array([1.0, 2.0], jnp.bfloat16)
    assert checksum(make_state(params=half)) != checksum(make_state(params=half.at[0].set(1.0078)))


def test_all_finite_finds_one_nan_anywhere():
    assert all_finite(make_state())
    for bad in (np.nan, np.inf):
        assert not all_finite(make_state(opt_state={"trace": jnp.array([0.0, bad])}))


def test_state_is_a_frozen_pytree():
    state = make_state()
    assert len(jax.tree.leaves(state)) == 4
    try:
        state.step = 1
    except AttributeError:
        return
    raise AssertionError("the state could be changed in place")
