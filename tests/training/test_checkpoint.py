import json
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental import multihost_utils

from imagenet_jax.devices.parallel import batch_shapes, put_batch
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import CheckpointError, DivergenceError
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training import checkpoint as checkpoint_module
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.clock import Clock
from imagenet_jax.training.program import make_program
from imagenet_jax.training.state import state_sha256

BOTH_WAYS = ["copy on the devices", "wait for the host"]


@pytest.fixture(scope="module")
def program(wide_config):
    """Not narrower: Orbax would put small arrays elsewhere, and there was no file to damage."""
    wide_config.ema_decay = 0.9
    return make_program(Classification.of_size(wide_config, 10), make_mesh(), num_examples=40)


@pytest.fixture(scope="module")
def train_step(program):
    return program.compile_train_step()


@pytest.fixture(scope="module")
def first_state(program):
    return program.init_state()


@pytest.fixture
def state(first_state):
    """A copy: one of the tests donates it."""
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), leaf.sharding), first_state)


@pytest.fixture(params=BOTH_WAYS[:1])
def checkpoints(tmp_path, program, train_step, request, monkeypatch):
    if request.param == "wait for the host":
        device = type("Device", (), {"memory_stats": lambda self: {"bytes_limit": 0}})
        monkeypatch.setattr(jax, "local_devices", lambda: [device()])
    made = Checkpoints(tmp_path, keep=2)
    made.compile(program.state_shapes(), train_step)
    yield made
    made.close()


def other(state, seed):
    """The same arrays with other values."""
    generator = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda p: jax.device_put(generator.random(p.shape, np.float32), p.sharding), state.params
    )
    return state.replace(params=params)


def save(checkpoints, state, steps, top1=None):
    """Saves another state at each step; returns {step: sha256}."""
    hashes = {}
    for step in steps:
        now = other(state, step)
        checkpoints.save(step, now, {"number": step}, top1 and top1[step])
        hashes[step] = state_sha256(now)
    checkpoints.wait()
    return hashes


def data_files(directory):
    """The files with array data of a checkpoint, largest first."""
    files = [f for f in (directory / "state").rglob("*") if f.is_file() and "/d/" in f.as_posix()]
    return sorted(files, key=lambda f: -f.stat().st_size)


@pytest.mark.parametrize("checkpoints", BOTH_WAYS, indirect=True)
def test_restored_state_and_record_are_the_saved_ones(checkpoints, program, state):
    hashes = save(checkpoints, state, [3])
    restored, record = checkpoints.restore(program.state_shapes())
    assert state_sha256(restored) == hashes[3]
    assert record["number"] == 3
    for one, expected in zip(
        jax.tree.leaves(restored.ema), jax.tree.leaves(state.ema), strict=True
    ):
        np.testing.assert_array_equal(one, expected)


def test_without_checkpoints_there_is_nothing_to_restore(checkpoints, program):
    assert checkpoints.restore(program.state_shapes()) is None


@pytest.mark.parametrize("checkpoints", BOTH_WAYS, indirect=True)
def test_the_latest_and_the_best_are_kept(checkpoints, program, state):
    hashes = save(checkpoints, state, range(1, 6), {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.5, 5: 0.4})
    assert sorted(checkpoints.steps()) == [2, 4, 5]
    best, _ = checkpoints.restore(program.state_shapes(), which="best")
    assert state_sha256(best) == hashes[2]
    # Checkpoints of before have the score under the metric's name.
    for file in checkpoints.directory.glob("*/metrics/metrics"):
        file.write_text(json.dumps({"top1": json.loads(file.read_text())["score"]}))
    before = Checkpoints(checkpoints.directory, keep=2, read_only=True)
    best, _ = before.restore(program.state_shapes(), which="best")
    assert state_sha256(best) == hashes[2]
    fourth, _ = checkpoints.restore(program.state_shapes(), which="4")
    assert state_sha256(fourth) == hashes[4]
    with pytest.raises(CheckpointError, match="latest, best or one of the steps 5, 4, 2"):
        checkpoints.restore(program.state_shapes(), which="3")


def cut_short(directory):
    file = data_files(directory)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change_one_byte(directory):
    file = data_files(directory)[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove_the_state(directory):
    shutil.rmtree(directory / "state")


def remove_one_file(directory):
    data_files(directory)[0].unlink()


def empty_the_record(directory):
    file = next(f for f in (directory / "record").rglob("*") if f.is_file())
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [cut_short, change_one_byte, remove_the_state, remove_one_file, empty_the_record]
)
def test_damaged_newest_is_passed_over_with_a_warning(tmp_path, program, state, damage, caplog):
    checkpoints = Checkpoints(tmp_path, keep=2)
    hashes = save(checkpoints, state, [1, 2])
    checkpoints.close()
    damage(tmp_path / "2")
    checkpoints = Checkpoints(tmp_path, keep=2)
    restored, _ = checkpoints.restore(program.state_shapes(), set_aside_damaged=True)
    assert state_sha256(restored) == hashes[1]
    assert f"{tmp_path}/2 is damaged" in caplog.text
    # Its step can be saved again, and the damaged one is still there to be looked at.
    assert save(checkpoints, state, [2]) == {2: hashes[2]}
    assert (tmp_path / "2.damaged").is_dir()
    checkpoints.close()


def test_another_state_than_was_written_is_damaged(checkpoints, program, state, caplog, tmp_path):
    """Also where every file is whole, and Orbax content."""
    hashes = save(checkpoints, state, [1, 2])
    (file,) = (
        f for f in (tmp_path / "2/record").rglob("*") if f.is_file() and "checksum" in f.read_text()
    )
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "checksum": record["checksum"] ^ 1}))
    restored, _ = checkpoints.restore(program.state_shapes())
    assert state_sha256(restored) == hashes[1]
    assert "of the state" in caplog.text and "written" in caplog.text


def test_a_damaged_score_is_named(tmp_path, program, state):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        save(checkpoints, state, (1,), {1: 0.5})
    for damage in ("[", "[]"):
        (tmp_path / "1/metrics/metrics").write_text(damage)
        with pytest.raises(CheckpointError, match=r"1/metrics/metrics is damaged.* Remove the fol"):
            Checkpoints(tmp_path, keep=2)
    shutil.rmtree(tmp_path / "1/metrics")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(program.state_shapes(), which="best")


def test_the_clock_of_another_version_goes_on():
    assert Clock.of_record({"images": 7, "of_tomorrow": 1}).images == 7


def test_reading_alone_renames_nothing(tmp_path, program, state):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, state, [1, 2])
    cut_short(tmp_path / "2")
    checkpoints.restore(program.state_shapes())
    assert (tmp_path / "2").is_dir()


def test_if_all_are_damaged_the_error_says_why(tmp_path, program, state):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, state, [1, 2])
    for step in ("1", "2"):
        cut_short(tmp_path / step)
    with pytest.raises(CheckpointError, match=r"no checkpoint .* step 2: .*step 1: "):
        checkpoints.restore(program.state_shapes())
    assert (tmp_path / "1").is_dir()


def test_checkpoint_of_another_model_names_the_arrays(checkpoints, program, state, wide_config):
    save(checkpoints, state, [1])
    wider = make_program(Classification.of_size(wide_config, 12), make_mesh(), num_examples=40)
    with pytest.raises(CheckpointError, match=r"params/fc/bias is .* \(10,\), expected .* \(12,\)"):
        checkpoints.restore(wider.state_shapes())
    half = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.bfloat16), program.state_shapes())
    with pytest.raises(CheckpointError, match=r"fc/bias is float32 .*, expected bfloat16"):
        checkpoints.restore(half)
    config = wide_config.copy_and_resolve_references()
    config.model.name = "resnet20"
    deeper = make_program(Classification.of_size(config, 10), make_mesh(), num_examples=40)
    with pytest.raises(CheckpointError, match=r"missing params/layer1.1/conv1/kernel"):
        checkpoints.restore(deeper.state_shapes())


@pytest.mark.parametrize("checkpoints", BOTH_WAYS, indirect=True)
def test_state_that_is_not_finite_is_not_saved(checkpoints, program, state):
    hashes = save(checkpoints, state, [1])
    bad = state.replace(params=jax.tree.map(lambda p: p * np.nan, state.params))
    with pytest.raises(DivergenceError, match=r"not finite at step 2.*steps \[1\]"):
        checkpoints.save(2, bad, {}, None)
        checkpoints.wait()
    restored, _ = checkpoints.restore(program.state_shapes())
    assert state_sha256(restored) == hashes[1]


def test_disk_without_room_is_refused_before_writing(checkpoints, state, monkeypatch):
    save(checkpoints, state, [1])
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(checkpoint_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"disk full: .*steps \[1\] are kept"):
        checkpoints.save(2, state, {}, None)


def test_leftover_of_a_killed_write_is_cleaned_up(tmp_path, program, state):
    checkpoints = Checkpoints(tmp_path, keep=2)
    hashes = save(checkpoints, state, [1])
    checkpoints.close()
    half = tmp_path / "2.orbax-checkpoint-tmp-7"
    shutil.copytree(tmp_path / "1", half)
    checkpoints = Checkpoints(tmp_path, keep=2)
    restored, _ = checkpoints.restore(program.state_shapes())
    assert state_sha256(restored) == hashes[1]
    assert not half.exists()


def test_training_goes_on_while_orbax_takes_a_copy(
    tmp_path, program, train_step, state, monkeypatch
):
    """Orbax is held up until the state has been donated to two more steps and is gone."""
    go_on, orbax_save = threading.Event(), ocp.CheckpointManager.save
    held = []

    def save(manager, step, **arguments):
        held.append(go_on.wait(60))
        return orbax_save(manager, step, **arguments)

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.compile(program.state_shapes(), train_step)
    saved = state_sha256(state)
    checkpoints.save(1, state, {}, None)
    config = program.config
    shapes = batch_shapes(config.batch_size, config.data.image_size, program.task.fields())
    batch = {name: np.ones(shape.shape, shape.dtype) for name, shape in shapes.items()}
    batch = put_batch(batch, program.mesh)
    for _ in range(2):
        state, _ = train_step(state, batch)
    changed = state_sha256(state)
    assert not held
    go_on.set()
    checkpoints.wait()
    restored, _ = checkpoints.restore(program.state_shapes())
    assert held == [True]
    assert state_sha256(restored) == saved != changed
    checkpoints.close()


@pytest.mark.parametrize("checkpoints", BOTH_WAYS, indirect=True)
def test_saves_ask_the_preemption_service_nothing(checkpoints, state, monkeypatch):
    """The loop does, at each step; a thread would turn back the count of steps."""
    asked = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked.append)
    save(checkpoints, state, [1])
    assert asked == []
