import jax
import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.schedules import make_schedule


def schedule(total=100, **fields):
    """Learning rates of all steps; one epoch is 10 steps, the peak is 2."""
    config = base_config()
    config.batch_size, config.optim.learning_rate = 10, 2.0
    config.schedule.update(fields)
    made = make_schedule(config, total_steps=total, num_examples=100)
    return np.array([made(step) for step in range(total + 1)])


def test_warmup_rises_linearly_to_the_peak():
    rates = schedule(name="constant", warmup="2 epochs")
    np.testing.assert_allclose(rates[:20], np.arange(20) / 20 * 2, rtol=1e-6)
    np.testing.assert_allclose(rates[20:], 2)


def test_cosine_after_warmup():
    rates = schedule(name="cosine", warmup="10 percent")
    expected = 1 + np.cos(np.pi * (np.arange(10, 101) - 10) / 90)
    np.testing.assert_allclose(rates[10:], expected, atol=1e-6)


def test_quarter_cosine_is_that_of_fixmatch():
    """lr * cos(7 pi k / 16 K), google-research/fixmatch, fixmatch.py."""
    rates = schedule(name="quarter_cosine", end=np.cos(7 * np.pi / 16).item())
    np.testing.assert_allclose(rates, 2 * np.cos(7 * np.pi / 16 * np.arange(101) / 100), rtol=1e-5)
    rates = schedule(name="quarter_cosine", warmup="10 percent", cooldown="1 epochs")
    np.testing.assert_allclose(rates[10:91], 2 * np.cos(np.pi / 160 * np.arange(81)), atol=1e-6)


def test_linear_down_to_the_end_share():
    rates = schedule(name="linear", end=0.25)
    np.testing.assert_allclose(rates, np.linspace(2, 0.5, 101), rtol=1e-5)


def test_step_drops_are_counted_from_the_start_of_the_run():
    rates = schedule(name="step", warmup="1 epochs", boundaries=("3 epochs", "600 examples"))
    np.testing.assert_allclose(rates[10:30], 2)
    np.testing.assert_allclose(rates[31:60], 0.2, rtol=1e-6)
    np.testing.assert_allclose(rates[61:], 0.02, rtol=1e-6)


def test_two_drops_at_one_step_count_twice():
    rates = schedule(name="step", boundaries=("3 epochs", "30 steps"))
    np.testing.assert_allclose(rates[31:], 0.02, rtol=1e-6)


def test_what_does_nothing_is_said(caplog):
    boundaries = ("3 epochs", "10 epochs", f"{10**14} steps")
    rates = schedule(name="step", warmup="0.001 epochs", boundaries=boundaries)
    np.testing.assert_allclose(rates[:30], 2)
    np.testing.assert_allclose(rates[31:], 0.2, rtol=1e-6)
    for word in (
        "'10 epochs' lies not within",
        "'100000000000000 steps' lies",
        "is less than a step",
    ):
        assert word in caplog.text
    assert "'3 epochs'" not in caplog.text


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match="warmup = '10 epochs' is 100 steps"):
        schedule(name="cosine", warmup="10 epochs")


def test_a_longer_warmup_and_cooldown_are_refused():
    with pytest.raises(ConfigError, match="cooldown = '5 epochs' is 50 steps after a warmup of 50"):
        schedule(name="constant", warmup="5 epochs", cooldown="5 epochs")


def test_a_longer_warmup_and_hold_are_refused():
    with pytest.raises(ConfigError, match="hold = '5 epochs' is 50 steps after a warmup of 50"):
        schedule(name="cosine", warmup="5 epochs", hold="5 epochs")
    with pytest.raises(ConfigError, match="of 50 and a hold of 20, the whole run"):
        schedule(name="cosine", warmup="5 epochs", hold="2 epochs", cooldown="3 epochs")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"unit": "rate", "end": 2.5}, "end = 2.5 is above the peak"),
        ({"unit": "rate", "warmup_start": 2.5}, "warmup_start = 2.5 is above the peak"),
        ({"name": "exponential", "timescale": "0 steps"}, "timescale = '0 steps' is nothing"),
    ],
)
def test_rates_and_times_that_make_no_sense_are_refused(fields, word):
    config = base_config()
    config.schedule.update(fields)
    config.optim.learning_rate = 2.0
    with pytest.raises(ConfigError, match=word):
        make_schedule(config, total_steps=100, num_examples=100)


# The sources' formulas, of the step t of 1000 with 12.5 in an epoch and the peak 2.
T, EPOCH, PEAK = np.arange(1001), 12.5, 2.0


def rising(start, until):
    return start + (PEAK - start) * T / until


def cosine(t, length, low=0.0):
    return low + (PEAK - low) * 0.5 * (1 + np.cos(np.pi * np.clip(t / length, 0, 1)))


def big_vision_rsqrt(timescale, warmup, cooldown):
    """big_vision's utils.create_learning_rate_schedule, decay_type "rsqrt"."""
    rate = PEAK / np.sqrt(1 + np.maximum(T - warmup, 0) / timescale)
    return rate * np.minimum(1, T / warmup) * np.minimum(1, (1000 - T) / cooldown)


def first_of_epoch():
    """The step of T that is the first one of its epoch, epochs beginning at the nearest step."""
    begins = np.array([int(epoch * EPOCH + 0.5) for epoch in range(81)])
    return begins[np.searchsorted(begins, T, side="right") - 1]


COURSES = {
    # timm's CosineLRScheduler with warmup_prefix=False, of DeiT: absolute start and floor.
    "deit": (
        {
            **{"name": "cosine", "warmup": "100 steps", "warmup_prefix": False, "unit": "rate"},
            **{"warmup_start": 1e-3, "end": 0.01},
        },
        np.where(T < 100, rising(1e-3, 100), cosine(T, 1000, 0.01)),
    ),
    # timm's cooldown_epochs: the cosine ends before, and the floor goes on.
    "timm_cooldown": (
        {"name": "cosine", "end": 0.1, "cooldown": "200 steps"},
        cosine(T, 800, 0.2),
    ),
    # torch's SequentialLR of LinearLR(start_factor=0.01) and CosineAnnealingLR, each epoch.
    "torchvision": (
        {"name": "cosine", "warmup": "8 epochs", "warmup_start": 0.01, "interval": "epoch"},
        np.where(T < 100, rising(0.02, 100), cosine(T - 100, 900))[first_of_epoch()],
    ),
    # FFCV: np.interp between 1e-4 of the peak, the peak and 0; airbench94's ends.
    "ffcv": (
        {"name": "linear", "warmup": "125 steps", "warmup_start": 1e-4},
        np.interp(T, [0, 125, 1000], [1e-4 * PEAK, PEAK, 0]),
    ),
    "airbench": (
        {"name": "linear", "warmup": "23 percent", "warmup_start": 0.2, "end": 0.07},
        np.interp(T, [0, 230, 1000], [0.2 * PEAK, PEAK, 0.07 * PEAK]),
    ),
    # MLPerf's LARS: tf.train.polynomial_decay with power 2 behind the warmup.
    "mlperf": (
        {"name": "polynomial", "power": 2.0, "warmup": "50 steps", "end": 1e-4},
        np.where(T < 50, rising(0, 50), 2e-4 + (2 - 2e-4) * (1 - (T - 50) / 950) ** 2),
    ),
    # AlgoPerf's heavy ball: linear over a part of what is left, then flat.
    "algoperf": (
        {"name": "linear", "warmup": "100 steps", "end": 1e-3, "cooldown": "10 percent"},
        np.interp(T, [0, 100, 900], [0, 2, 2e-3]),
    ),
    # tf.train.exponential_decay(staircase=True), counted from step 0: EfficientNet.
    "efficientnet": (
        {
            **{"name": "exponential", "factor": 0.97, "timescale": "2.4 epochs"},
            **{"warmup": "5 epochs", "warmup_prefix": False},
        },
        np.where(T < 63, rising(0, 63), PEAK * 0.97 ** (T // (2.4 * EPOCH))),
    ),
    # Inception v3's floor.
    "inception": (
        {"name": "exponential", "factor": 0.5, "timescale": "60 steps", "end": 0.01},
        np.maximum(PEAK * 0.5 ** (T // 60), 0.02),
    ),
    "rsqrt": (
        {"name": "rsqrt", "timescale": "50 steps", "warmup": "80 steps", "cooldown": "300 steps"},
        big_vision_rsqrt(50, 80, 300),
    ),
    # fastai's flat beginning of a cosine, and one that has its warmup within.
    "flat": (
        {"name": "cosine", "warmup": "100 steps", "hold": "620 steps", "end": 0.1},
        np.where(T < 100, rising(0, 100), cosine(T - 720, 280, 0.2)),
    ),
    "flat_from_the_start": (
        {"name": "linear", "warmup": "100 steps", "hold": "30 percent", "warmup_prefix": False},
        np.where(T < 100, rising(0, 100), np.interp(T, [300, 1000], [2, 0])),
    ),
    "flat_between": (
        {"name": "linear", "hold": "200 steps", "cooldown": "300 steps", "end": 0.5},
        np.interp(T, [200, 700], [2, 1]),
    ),
    # timm's WSDScheduler with decay_fn="linear".
    "wsd": (
        {"name": "constant", "warmup": "100 steps", "cooldown": "200 steps", "end": 0.1},
        np.interp(T, [0, 100, 800, 1000], [0, 2, 2, 0.2]),
    ),
}


@pytest.mark.parametrize("name", COURSES)
def test_courses_of_published_recipes_at_every_step(name):
    fields, expected = COURSES[name]
    config = base_config()
    config.batch_size, config.optim.learning_rate = 8, PEAK
    config.schedule.update(fields)
    rate = jax.jit(jax.vmap(make_schedule(config, total_steps=1000, num_examples=100)))
    np.testing.assert_allclose(rate(T), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("warmup", [8, 3])
def test_nvidias_warmup_by_epochs(warmup):
    """DeepLearningExamples' lr_cosine_policy, with epochs of 10 steps."""
    found = schedule(
        total=200,
        **{"name": "cosine", "warmup": f"{warmup - 1} epochs", "warmup_start": 1 / warmup},
        **{"hold": "1 epochs", "interval": "epoch"},
    )
    epoch = np.arange(200) // 10
    rise, fall = 2 * (epoch + 1) / warmup, cosine(epoch - warmup, 20 - warmup)
    np.testing.assert_allclose(found[:200], np.where(epoch < warmup, rise, fall), rtol=1e-5)


def test_a_factor_for_each_epoch_where_epochs_are_no_whole_steps():
    """torch's StepLR(1, gamma), with epochs of 12.375 steps: the second begins at the 12th."""
    config = base_config()
    config.batch_size, config.optim.learning_rate = 8, 2.0
    config.schedule.update(name="exponential", factor=0.98, interval="epoch")
    made = make_schedule(config, total_steps=200, num_examples=99)
    epoch = np.floor((np.arange(200) + 0.49) / 12.375)
    np.testing.assert_allclose([made(s) for s in range(200)], 2 * 0.98**epoch, rtol=1e-5)
