"""Statistics of BatchNorm for averaged weights, against torch's update_bn; and in a run."""

import json
import os
import signal

import flax.linen as nn
import jax
import numpy as np
import pytest
from test_loop import StopAt, read_lines

from imagenet_jax import augment
from imagenet_jax.data import open_split
from imagenet_jax.devices import make_mesh
from imagenet_jax.devices.sharding import DATA_AXIS
from imagenet_jax.inference.evaluate import evaluate_run
from imagenet_jax.models.layers.norm import BatchNorm
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.batch_statistics import BatchStatistics
from imagenet_jax.training.loop import train
from imagenet_jax.training.program import make_program
from imagenet_jax.training.trained import trained_model

torch = pytest.importorskip("torch", reason="torch is not installed")


class Network(nn.Module):
    """Two norms, the second of which sees what the first makes."""

    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, image, train):
        norm = {"momentum": self.momentum, "axis_name": self.axis_name}
        x = BatchNorm(**norm, name="bn1")(image.reshape(len(image), -1), train)
        x = nn.relu(nn.Dense(6, name="fc1")(x))
        return nn.Dense(10, name="fc2")(BatchNorm(**norm, name="bn2")(x, train))


class Small(Classification):
    def model(self, devices=1):
        axis = None if self.config.partitioner == "jit" else DATA_AXIS
        return Network(self.config.model.bn_momentum or 0.9, axis)


def torch_network(params):
    network = torch.nn.Sequential(
        torch.nn.BatchNorm1d(192),
        torch.nn.Linear(192, 6),
        torch.nn.ReLU(),
        torch.nn.BatchNorm1d(6),
        torch.nn.Linear(6, 10),
    )
    with torch.no_grad():
        for place, name in ((1, "fc1"), (4, "fc2")):
            network[place].weight.copy_(torch.tensor(np.array(params[name]["kernel"]).T))
            network[place].bias.copy_(torch.tensor(np.array(params[name]["bias"])))
    return network


@pytest.mark.parametrize(
    ("partitioner", "accumulate"),
    [("shard_map", 2), *(pytest.param(p, 1, marks=pytest.mark.slow) for p in ("jit", "pmap"))],
)
def test_statistics_are_those_of_update_bn(loop_config, partitioner, accumulate):
    """Means over three batches, or six micro-batches, after which they are what they were not."""
    loop_config.partitioner, loop_config.accumulate = partitioner, accumulate
    loop_config.eval.norm_batches, loop_config.ema_decay = 3, 0.9
    loop_config.augment.update(pad=0, flip=False)
    split = open_split(loop_config, train=True)
    mesh = make_mesh(devices=jax.devices()[:2])
    program = make_program(Small.of_split(loop_config, split), mesh, num_examples=40)
    state = program.init_state()
    found = BatchStatistics(program, split).estimated(state.eval_variables(), step=1)
    batches = []
    for batch in split.train_batches(np.arange(16), 0, 3):
        image = np.asarray(augment.eval_image(batch, loop_config.augment)).reshape(2, 8, -1)
        for part in range(accumulate):  # of every device each second image
            batches.append(torch.tensor(image[:, part::accumulate].reshape(-1, 192)))
    average = torch.optim.swa_utils.AveragedModel(torch_network(state.params))
    torch.optim.swa_utils.update_bn(batches, average)
    for place, name in ((0, "bn1"), (3, "bn2")):
        norm = average.module[place]
        expected = {"mean": norm.running_mean, "var": norm.running_var}
        for part, value in expected.items():
            value = value.numpy()
            np.testing.assert_allclose(
                found["batch_stats"][name][part], value, rtol=1e-4, atol=1e-5
            )
            assert np.abs(value - state.batch_stats[name][part]).max() > 0.01
    assert found["params"] is state.ema["params"]


@pytest.fixture
def swa_config(loop_config):
    loop_config.swa_start, loop_config.duration = "4 steps", "9 steps"
    loop_config.eval.weights, loop_config.eval.norm_batches = "both", 2
    loop_config.eval.every = "3 steps"
    return loop_config


@pytest.mark.slow
def test_a_run_with_averages_is_evaluated_and_resumed(swa_config, tmp_path):
    """Both weights, by the run and by its checkpoint; a signal between changes nothing."""
    whole = train(swa_config, tmp_path / "whole")
    stop = StopAt(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(swa_config, tmp_path / "run", tracking=[stop]) is None
    resumed = train(swa_config, tmp_path / "run")
    for name in ("state_sha256", "eval", "eval_raw"):
        assert resumed[name] == whole[name]
    assert whole["eval"]["loss"] != whole["eval_raw"]["loss"]
    states = [trained_model(tmp_path / name, "latest").variables for name in ("whole", "run")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    lines = [line for line in read_lines(tmp_path / "run") if "eval/top1" in line]
    assert [line["step"] for line in lines] == [3, 6, 9]
    assert lines[-1]["eval_raw/loss"] == whole["eval_raw"]["loss"]

    found = evaluate_run(swa_config, tmp_path / "run", which="latest")
    assert found["eval"] == whole["eval"] and found["eval_raw"] == whole["eval_raw"]
    swa_config.eval.weights, swa_config.eval.norm_batches = "raw", 0
    found = evaluate_run(swa_config, tmp_path / "run", which="latest")
    assert found["eval"] == whole["eval_raw"] and "eval_raw" not in found
    # Statistics of another number of batches are estimated for the checkpoint.
    swa_config.eval.weights, swa_config.eval.norm_batches = "averaged", 5
    found = evaluate_run(swa_config, tmp_path / "run", which="latest")
    assert found["eval"]["loss"] != whole["eval"]["loss"]
    assert found["eval"]["loss"] == pytest.approx(whole["eval"]["loss"], rel=0.2)
    assert json.loads((tmp_path / "run/summary.json").read_text())["eval_raw"]
