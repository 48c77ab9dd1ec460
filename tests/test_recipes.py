"""Published recipes: the parts against their sources, and that each runs."""

import functools
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

import launch
from imagenet_jax.config import load_config
from imagenet_jax.config.files import load_recipes
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.tasks import make_task
from imagenet_jax.training.checks import check_fields, validate_batch
from imagenet_jax.training.rules import decay_factors
from imagenet_jax.training.schedules import make_schedule

N = 1_281_167
RECIPES = load_recipes()
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_config_and_says_what_it_is_not(name):
    config = load_config(name)
    check_fields(config)
    validate_batch(config, num_devices=1)
    file, _, variant = name.partition(":")
    text = (ROOT / f"configs/recipes/{file}.py").read_text()
    assert f"--config={file}" in text and "\nDeviation: " in text
    assert RECIPES[name][1].source and 50 < RECIPES[name][1].top1 < 95
    assert variant


def test_the_page_has_the_table(capsys):
    assert launch.main(["recipes", "--markdown"]) == 0
    table = capsys.readouterr().out.strip()
    page = (ROOT / "docs/recipes.md").read_text()
    assert table in page, "put what `python launch.py recipes --markdown` prints into the page"


def rates(name):
    """The learning rate of a recipe by the step, and the steps of an epoch."""
    config = RECIPES[name][0]
    length = N / config.batch_size
    total = round(float(config.duration.split()[0]) * length)
    made = make_schedule(config, total_steps=total, num_examples=N)
    return jax.jit(made), length, total


def by_epoch(rate):
    """Changes from one epoch to the next."""
    return lambda step, length: rate(math.floor((step + 0.499) / length))


def cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


# The formulas of the sources, of a step and the steps of an epoch.
COURSES = {
    "torchvision_v1:resnet50": by_epoch(lambda e: 0.1 * 0.1 ** (e // 30)),
    "torchvision_v2:resnet50": by_epoch(
        lambda e: 0.5 * (0.01 + 0.99 * e / 5 if e < 5 else cosine((e - 5) / 595))
    ),
    "rsb:a3": lambda s, length: (
        8e-7 + (8e-3 - 8e-7) * s / (5 * length)
        if s < 5 * length
        else 1e-6 + (8e-3 - 1e-6) * cosine(s / (100 * length))
    ),
    "deit:s": by_epoch(
        lambda e: 1e-6 + (1e-3 - 1e-6) * e / 5 if e < 5 else 1e-5 + (1e-3 - 1e-5) * cosine(e / 300)
    ),
    "ffcv_resnet50:16": lambda s, length: np.interp(s / length, [0, 2, 16], [1.7e-4, 1.7, 0.0]),
    "mlperf_lars:32k": lambda s, length: (
        29 * s / (18 * length)
        if s < 18 * length
        else 1e-4 + (29 - 1e-4) * (1 - (s - 18 * length) / (46 * length)) ** 2
    ),
}


@pytest.mark.parametrize("name", COURSES)
def test_the_learning_rate_is_that_of_the_source(name):
    """All through the run; what changes by the epoch also around the ends of epochs."""
    rate, length, total = rates(name)
    ends = np.round(np.arange(1, total // length) * length).astype(int)
    steps = np.unique(np.r_[np.linspace(0, total - 1, 400).astype(int), ends - 2, ends + 2])
    found = np.array(jax.vmap(rate)(steps))
    expected = np.array([COURSES[name](step, length) for step in steps.tolist()])
    # An epoch is no whole number of steps.
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * expected.max())


@functools.cache
def shapes(name):
    config = RECIPES[name][0]
    return variable_shapes(make_task(config).model(), config.data.image_size)["params"]


# Of all parameters, how many decay in the source.
DECAYED = {
    "torchvision_v1:resnet50": (161, 161),  # all
    "torchvision_v2:resnet50": (161, 55),  # 53 convolutions, weight and bias of the last layer
    "rsb:a2": (161, 54),  # of two axes and more
    "ffcv_resnet50:16": (161, 55),
    "mlperf_lars:32k": (161, 54),  # no BatchNorm, no bias
    # 12 x (qkv, proj, fc1, fc2), patches, head; no positions, token, norms, biases
    "deit:s": (152, 50),
}


@pytest.mark.parametrize("name", DECAYED)
def test_as_many_parameters_decay_as_in_the_source(name):
    factors = jax.tree.leaves(decay_factors(RECIPES[name][0].optim, shapes(name)))
    assert (len(factors), sum(factor != 0 for factor in factors)) == DECAYED[name]


TINY = (
    *("--config.data.name=fake", "--config.data.fake_train_examples=96", "--config.stages=()"),
    *("--config.data.fake_eval_examples=16", "--config.data.fake_classes=10"),
    *("--config.batch_size=32", "--config.model.bn_group_size=4", "--config.eval.batch_size=16"),
    *("--config.data.image_size=32", "--config.data.train_size=0", "--config.data.eval_resize=32"),
    *("--config.schedule.warmup=1 steps", "--config.eval.every=", "--config.log.every=1 steps"),
    *("--config.schedule.boundaries=", "--config.log.tensorboard=False"),
    *("--config.model.dtype=float32", "--config.checkpoint.every=2 steps"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({name.partition(":")[0] for name in RECIPES}))
def test_a_recipe_takes_three_steps_resumes_and_evaluates(name, tmp_path):
    """With another network where its own takes minutes to compile."""
    network = "deit_ti16" if name == "deit" else "resnet8"
    argv = [f"--config={name}", f"--workdir={tmp_path}", *TINY, f"--config.model.name={network}"]
    assert launch.main([*argv, "--config.duration=2 steps"]) == 0
    argv.append("--allow_config_change=duration")
    assert launch.main([*argv, "--config.duration=3 steps"]) == 0
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3]
