"""Stages of a run: other sizes of the training images, other augmentation."""

import os
import signal

import numpy as np
import pytest
from PIL import Image
from test_loop import StopAt

import imagenet_jax as ij
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.loop import train
from imagenet_jax.training.state import state_sha256

STAGES = (
    "0 steps: data.train_size=4",
    "6 steps: data.train_size=12 augment.erase=0.5 accumulate=2",
)


@pytest.fixture
def staged(loop_config, tmp_path):
    """Photos that are cropped at random to the size of each stage."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in "ab":
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for k in range(10):
                pixels = rng.integers(0, 255, (14, 20, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{k}.png")
    loop_config.data.name = f"folder:{tmp_path / 'photos'}"
    loop_config.data.eval_crop = "resize"
    loop_config.model.bn_group_size = 1
    loop_config.stages = STAGES
    return loop_config


@pytest.mark.slow
def test_a_run_is_the_same_wherever_it_is_resumed(staged, tmp_path):
    def interrupt():
        os.kill(os.getpid(), signal.SIGTERM)

    staged.duration = "10 steps"
    # Where a stage ends; the streams show that it is the same within one.
    assert train(staged, tmp_path / "run", tracking=[StopAt(6, interrupt)]) is None
    assert (tmp_path / "run" / "checkpoints/6").is_dir()
    assert train(staged, tmp_path / "run")["state_sha256"] == by_hand(staged)


def by_hand(config):
    """The hash of the state after a run whose stages are configs without stages."""
    plain = config.copy_and_resolve_references()
    plain.stages = ()
    first, second = (plain.copy_and_resolve_references() for _ in range(2))
    first.data.train_size = 4
    second.data.train_size, second.augment.erase, second.accumulate = 12, 0.5, 2
    state = ij.starting_state(ij.training_program(plain))
    for part, start, stop in ((first, 0, 6), (second, 6, 10)):
        program = ij.training_program(part)
        step = program.compile_train_step()
        for batch in ij.batches(part, train=True, start=start, stop=stop):
            assert batch["image"].shape[1] == part.data.train_size
            state, _ = step(state, program.put_batch(batch))
    return state_sha256(state)


def test_the_stream_changes_with_the_stages_and_evaluation_does_not(staged):
    sizes = [batch["image"].shape[1] for batch in ij.batches(staged, train=True, start=4, stop=8)]
    assert sizes == [4] * 2 + [12] * 2
    assert {batch["image"].shape[1] for batch in ij.batches(staged, train=False)} == {8}
    staged.data.name = "fake"
    (batch,) = ij.batches(staged, train=True, start=6, stop=7)
    assert batch["image"].shape == (16, 12, 12, 3)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("data.train_size=4",), "expected 'START: FIELD=VALUE FIELD=VALUE'"),
        (("2 weeks: data.train_size=4",), "expected 'START"),
        (("2 epochs: data.train_size",), "'data.train_size' is no FIELD=VALUE"),
        (("2 epochs: batch_size=4",), "batch_size has to stay as it is"),
        (("2 epochs: data.trainsize=4",), "did you mean 'data.train_size'"),
        (("2 epochs: augment.mean=0,0,0",), "augment.mean has to stay"),
        (("2 epochs: augment.mixxup=0.2",), r"did you mean 'augment\.mixup'"),
        (("2 epochs: augment.erase=0.1 augment.erase=0.2",), "augment.erase stands there twice"),
        (("2 epochs: data.train_size=-4",), "data.train_size = -4 is not possible"),
        (("2 epochs: data.policy_magnitude=x",), "cannot be read; expected float"),
        (("2 epochs: model.width=4",), "model.width has to stay"),
    ],
)
def test_what_is_no_stage_is_refused(stages, message, loop_config):
    loop_config.stages = stages
    with pytest.raises(ConfigError, match=message):
        check_fields(loop_config)


def test_stages_out_of_order_and_sizes_that_a_model_cannot_have(loop_config, tmp_path):
    loop_config.stages = ("9 steps: augment.erase=0.1", "1 epochs: augment.erase=0.2")
    with pytest.raises(ConfigError, match=r"begin at the steps \[9, 3\]"):
        train(loop_config, tmp_path)
    loop_config.model.update(name="vit_ti16", width=0, stem="", bn_group_size=0)
    loop_config.data.image_size, loop_config.data.train_size = 32, 16
    loop_config.stages = ()
    with pytest.raises(ConfigError, match="'vit_ti16' has parameters for images of one size"):
        train(loop_config, tmp_path)
    loop_config.data.train_size, loop_config.augment.colout = 32, 0.5
    with pytest.raises(ConfigError, match="they have 16 pixels a side"):
        train(loop_config, tmp_path)
