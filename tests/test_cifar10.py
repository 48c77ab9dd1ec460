"""CIFAR-10 itself, from the zip of images."""

import jax
import pytest

from imagenet_jax.config import load_config
from imagenet_jax.data import open_split
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.evaluate import evaluate_split
from imagenet_jax.training.loop import train
from imagenet_jax.training.program import make_program


@pytest.mark.exhaustive
@pytest.mark.slow
def test_counts_are_the_same_integers_for_batch_sizes_and_device_counts(test_data, tmp_path):
    config = load_config("configs/cifar10.py")
    config.data.name = f"zip:{test_data}/cifar10_images.zip"
    config.model.name, config.model.width, config.model.dtype = "resnet8", 8, "float32"
    config.batch_size, config.duration, config.model.bn_group_size = 128, "40 steps", 16
    config.schedule.warmup, config.optim.learning_rate = "10 steps", 0.1
    config.log.tensorboard = False
    expected = train(config, tmp_path)["eval"]
    assert expected["num_examples"] == 10000
    assert expected["correct_top1"] > 1500  # better than chance, so that there is something to lose

    split = open_split(config, train=False)
    for devices, batch_size in ((1, 7), (1, 1000), (2, 256), (8, 64)):
        config.eval.batch_size = batch_size
        mesh = make_mesh(devices=jax.devices()[:devices])
        program = make_program(Classification.of_size(config, 10), mesh, num_examples=50000)
        checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
        state, _ = checkpoints.restore(program.state_shapes())
        eval_step = program.compile_eval_step(split.num_examples)
        found = evaluate_split(program, eval_step, state.eval_variables(), split)
        for name in ("num_examples", "correct_top1", "correct_top5"):
            assert found[name] == expected[name], (devices, batch_size)
