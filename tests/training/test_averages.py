"""Averages of the weights in training, against PyTorch's."""

import jax
import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.devices import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import make_task
from imagenet_jax.training.averages import moved_average
from imagenet_jax.training.checks import check_fields, check_training
from imagenet_jax.training.program import make_program
from imagenet_jax.training.state import TrainState

torch = pytest.importorskip("torch", reason="torch is not installed")

WAY = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)  # after each step


def averages(start=0, **fields):
    """Those of parameters after each step of WAY, which begin at 0; statistics are the opposite."""
    config = base_config()
    config.update(fields)
    move = jax.jit(lambda state, new: moved_average(state, {"w": new}, {"m": -new}, config, start))
    zero = {"params": {"w": np.zeros(3, np.float32)}, "batch_stats": {"m": np.zeros(3, np.float32)}}
    found, ema = [], zero
    for step, new in enumerate(WAY):
        ema = move(TrainState(np.int32(step), None, None, None, ema, None), new)
        np.testing.assert_array_equal(ema["batch_stats"]["m"], -ema["params"]["w"])
        found.append(ema["params"]["w"])
    return np.stack(found)


class Weights(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(3))


def torch_averages(update, avg_fn=None):
    """Those of an AveragedModel; `update` is told it and the number of each step, from 1 on."""
    model = Weights()
    average, found = torch.optim.swa_utils.AveragedModel(model, avg_fn=avg_fn), []
    for step, new in enumerate(WAY, 1):
        model.w.data = torch.from_numpy(new)
        update(average, model, step)
        found.append(average.module.w.detach().numpy().copy())
    return np.stack(found)


def test_torchvisions_average_is_restarted_through_the_warmup():
    """references/classification/train.py, with its moves at every second step."""

    def update(average, model, step):
        if step % 2 == 0:
            average.update_parameters(model)
            if step < 7:
                average.n_averaged.fill_(0)

    expected = torch_averages(update, lambda old, new, count: 0.9 * old + (1 - 0.9) * new)
    found = averages(start=7, ema_decay=0.9, ema_every=2, ema_ramp="none")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found[7], WAY[7])  # the first after the warmup


@pytest.mark.parametrize(("every", "start"), [(1, 5), (3, 10)])
def test_stochastic_weight_averaging_is_torchs(every, start):
    def update(average, model, step):
        if step % every == 0 and step >= start:
            average.update_parameters(model)

    expected = torch_averages(update)
    found = averages(start=start, swa_start="any", ema_every=every)
    first = -(-start // every) * every - 1
    np.testing.assert_allclose(found[first:], expected[first:], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found[-1], WAY[first::every].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[every - 1], WAY[every - 1])  # a copy before
    at_once = averages(swa_start="any")[-1]  # without the initial weights
    np.testing.assert_allclose(at_once, WAY.mean(0), rtol=1e-5, atol=1e-6)


def exponential(decays):
    """From 0 on."""
    average, found = np.zeros(3), []
    for decay, new in zip(decays, WAY, strict=True):
        average = decay * average + (1 - decay) * new
        found.append(average)
    return np.stack(found)


@pytest.mark.parametrize(
    ("ramp", "decay"),
    [
        ("none", lambda n: 0.9),  # composer's, which begins with a copy of the first weights
        ("timm", lambda n: min(0.9, 1 - (1 + max(0, n - 1)) ** (-2 / 3))),  # ModelEmaV3.get_decay
        ("tensorflow", lambda n: min(0.9, n / (n + 9))),
    ],
)
def test_the_decay_rises_as_it_is_said_to(ramp, decay):
    expected = exponential([decay(n) for n in range(1, len(WAY) + 1)])
    found = averages(ema_decay=0.9, ema_ramp=ramp)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"swa_start": "95 epochs"}, "config.swa_start = '95 epochs', step 238 is beyond the 20"),
        ({"ema_decay": 0.9, "ema_start": "150 percent"}, "weights are those of the last step"),
        ({"ema_decay": 0.9, "ema_every": 21}, "averaged weights stay the initial ones"),
    ],
)
def test_averages_that_never_begin_are_told(loop_config, caplog, fields, message):
    loop_config.update(fields)
    loop_config.duration = "20 steps"
    make_program(make_task(loop_config), make_mesh(), num_examples=40)
    assert message in caplog.text


def test_estimated_statistics_are_not_averaged():
    config = base_config()
    config.ema_decay, config.eval.norm_batches = 0.9, 3
    ema = {"params": {"w": np.zeros(3)}, "batch_stats": {"m": np.ones(3)}}
    state = TrainState(np.int32(0), None, None, None, ema, None)
    moved = moved_average(state, {"w": WAY[0]}, {"m": WAY[0]}, config, 0)
    np.testing.assert_array_equal(moved["batch_stats"]["m"], 1)
    assert np.any(moved["params"]["w"])


def test_the_average_of_a_range_starts_with_the_first_that_was_seen():
    """From 0 on it would cut off most of what comes in the first steps."""
    config = base_config()
    config.ema_decay, config.ema_ramp = 0.9, "none"
    average = {"conv": {"quantized": {"low": np.zeros(()), "high": np.zeros(())}, "m": np.zeros(3)}}
    found = []
    for step, high in enumerate((4.0, 5.0)):
        ema = {"params": {"w": np.zeros(3)}, "batch_stats": average}
        state = TrainState(np.int32(step), None, None, None, ema, None)
        seen = {"low": np.float32(0), "high": np.float32(high)}
        stats = {"conv": {"quantized": seen, "m": np.ones(3)}}
        average = moved_average(state, {"w": WAY[0]}, stats, config, 0)["batch_stats"]
        found.append(float(average["conv"]["quantized"]["high"]))
    np.testing.assert_allclose(found, [4, 4.1], rtol=1e-6)
    assert average["conv"]["quantized"]["low"] == 0
    np.testing.assert_allclose(average["conv"]["m"], 0.19, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ema_decay": 0.9, "swa_start": "1 steps"}, "set one of them"),
        ({"ema_start": "1 steps"}, "ema_start = '1 steps' needs config.ema_decay"),
        ({"ema_ramp": "none"}, "ema_ramp = 'none' needs config.ema_decay"),
        ({"eval.weights": "both"}, "eval.weights = 'both' needs averaged weights"),
        ({"eval.norm_batches": 2}, "norm_batches = 2 is for averaged weights: set"),
        (
            {"eval.norm_batches": 2, "ema_decay": 0.9, "eval.weights": "raw"},
            "norm_batches = 2 is for averaged weights, and",
        ),
        ({"eval.norm_batches": 2, "model.name": "vit_s16"}, "model.name = 'vit_s16' has none"),
        ({"eval.norm_batches": 2, "model.frozen_norm": True}, "with config.model.frozen_norm"),
        ({"eval.norm_batches": 2, "finetune.mode": "head"}, "with config.finetune.mode = 'head'"),
        (
            {"optim.name": "schedule_free_sgd", "schedule.name": "constant", "swa_start": "1%"},
            "swa_start = '1%' is not possible",
        ),
        (
            {
                "optim.name": "schedule_free_sgd",
                "schedule.name": "constant",
                "eval.weights": "raw",
            },
            "eval.weights = 'raw' is not possible",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, message):
    config = base_config()
    config.data.name = "fake"
    config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=message):
        check_fields(config)
        check_training(config, here=False)
