"""One step of a network of a few numbers, against formulas in NumPy."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from imagenet_jax import augment
from imagenet_jax.config import base_config
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.state import init_state, init_variables
from imagenet_jax.training.step import eval_step, train_step

RATE, WEIGHT = 0.5, 0.3


class Network(nn.Module):
    """A norm, and two linear layers side by side: the head and an auxiliary one."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, image, train):
        x = image.reshape(len(image), -1)
        x = nn.BatchNorm(not train, momentum=0.5, use_scale=False, use_bias=False, name="bn")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        self.sow("auxiliary", "head", nn.Dense(3, name="aux")(x))
        return nn.Dense(3, name="fc")(x)


@pytest.fixture
def config():
    """No augmentation; 4 images of 2x2 pixels a batch."""
    config = base_config()
    config.augment.update(pad=0, flip=False)
    config.loss.auxiliary, config.loss.label_smoothing, config.ema_decay = WEIGHT, 0.1, 0.5
    return config


@pytest.fixture
def batch():
    """Four examples, of which the last is padding."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (4, 2, 2, 3), np.uint8),
        "label": np.array([0, 1, 2, 0], np.int32),
        "mask": np.array([True, True, True, False]),
        "epoch": np.zeros(4, np.int32),
        "index": np.array([4, 2, 7, -1], np.int32),
    }


def start(model, rate=RATE):
    """A step without its task, and the state before it."""
    optimizer = optax.sgd(rate)
    key = jax.random.key(0)
    variables = init_variables(key, model=model, image_size=2)
    state = init_state(key, variables, optimizer=optimizer, ema=True)
    return partial(train_step, model=model, optimizer=optimizer), state


def normalized(batch, config):
    """What the linear layers see in training, float64, and the statistics of the norm."""
    x = np.asarray(augment.eval_image(batch, config.augment), np.float64).reshape(4, -1)
    mean, var = x.mean(0), x.var(0)
    return (x - mean) / np.sqrt(var + 1e-5), mean, var


def test_head_and_auxiliary_head_move_by_their_gradients(config, batch):
    """And the averages of parameters and statistics by nine tenths of the way."""
    step, state = start(Network())
    after, sums = jax.jit(partial(step, task=Classification.of_size(config, 3)))(state, batch)
    x, mean, var = normalized(batch, config)
    real, target = batch["mask"], 0.9 * np.eye(3)[batch["label"]] + 0.1 / 3
    for layer, weight in (("fc", 1.0), ("aux", WEIGHT)):
        kernel, bias = (np.asarray(state.params[layer][n], np.float64) for n in ("kernel", "bias"))
        logits = x @ kernel + bias
        slope = scipy.special.softmax(logits, -1) - target
        slope = weight * slope * real[:, None] / real.sum()
        new = {"kernel": kernel - RATE * x.T @ slope, "bias": bias - RATE * slope.sum(0)}
        for name, expected in new.items():
            np.testing.assert_allclose(after.params[layer][name], expected, atol=1e-5)
            average = 0.1 * np.asarray(state.params[layer][name]) + 0.9 * expected
            np.testing.assert_allclose(after.ema["params"][layer][name], average, atol=1e-5)
        if layer == "fc":
            loss = -(target * scipy.special.log_softmax(logits, -1)).sum(-1)
            # The auxiliary loss is trained and not reported.
            assert float(sums["loss"]) == pytest.approx(loss[real].sum(), rel=1e-5)
            assert int(sums["correct_top1"]) == (logits.argmax(-1) == batch["label"])[real].sum()
    assert (int(sums["count"]), int(after.step)) == (3, 1)
    for name, first, found in (("mean", 0.0, mean), ("var", 1.0, var)):
        running = 0.5 * first + 0.5 * found
        np.testing.assert_allclose(after.batch_stats["bn"][name], running, rtol=1e-4, atol=1e-5)
        average = 0.1 * first + 0.9 * running
        np.testing.assert_allclose(
            after.ema["batch_stats"]["bn"][name], average, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_count_as_in_torch(smoothing, config, batch):
    """So little here that all weights of the batch are below 1."""
    torch = pytest.importorskip("torch")
    config.loss.update(label_smoothing=smoothing, auxiliary=0.0)
    step, state = start(Network())
    task = Classification(config, tuple("abc"), class_weights=(0.3, 0.05, 0.02))
    after, sums = jax.jit(partial(step, task=task))(state, batch)
    x = torch.tensor(normalized(batch, config)[0])[batch["mask"]]
    kernel, bias = (
        torch.tensor(np.asarray(state.params["fc"][n], np.float64), requires_grad=True)
        for n in ("kernel", "bias")
    )
    label = torch.tensor(batch["label"][batch["mask"]]).long()
    weights = torch.tensor(task.class_weights, dtype=torch.float64)
    loss = torch.nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(x @ kernel + bias, label)
    loss.backward()
    for name, value in (("kernel", kernel), ("bias", bias)):
        expected = np.asarray(state.params["fc"][name]) - RATE * value.grad.numpy()
        np.testing.assert_allclose(after.params["fc"][name], expected, atol=1e-5)
    assert float(sums["loss"]) == pytest.approx(loss.item() * weights[label].sum().item(), rel=1e-5)


def test_dropout_is_another_at_every_step_and_in_every_micro_batch(config, batch):
    """Nothing is learnt: what is dropped is all that changes the loss."""
    step, state = start(Network(dropout=0.5), rate=0.0)
    compiled = jax.jit(partial(step, task=Classification.of_size(config, 3)))
    losses = [
        float(compiled(state.replace(step=jnp.int32(n)), batch)[1]["loss"]) for n in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]

    # The second half of the rows is the first again, and in a micro-batch of its own.
    pair = {name: array[:2] for name, array in batch.items()}
    twice = {name: array.repeat(2, 0) for name, array in pair.items()}
    alone = float(compiled(state, pair)[1]["loss"])
    config.accumulate = 2
    both = float(
        jax.jit(partial(step, task=Classification.of_size(config, 3)))(state, twice)[1]["loss"]
    )
    assert both != pytest.approx(2 * alone, rel=1e-3)


def test_evaluation_is_of_the_running_statistics_and_without_smoothing(config, batch):
    config.loss.label_smoothing = 0.5
    model = Network(dropout=0.5)
    _, state = start(model)
    variables = state.eval_variables()
    variables["batch_stats"]["bn"]["mean"] += 0.25
    sums, _ = jax.jit(partial(eval_step, task=Classification.of_size(config, 3), model=model))(
        variables, batch
    )
    x = np.asarray(augment.eval_image(batch, config.augment), np.float64).reshape(4, -1)
    x = (x - 0.25) / np.sqrt(1 + 1e-5)
    logits = x @ np.asarray(state.params["fc"]["kernel"])
    loss = -scipy.special.log_softmax(logits, -1)[np.arange(4), batch["label"]]
    assert float(sums["loss"]) == pytest.approx(loss[batch["mask"]].sum(), rel=1e-5)
    assert int(sums["count"]) == 3
