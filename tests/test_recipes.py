"""Published recipes: the parts against their sources, and that each runs."""

import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from sources import convnets, older, pretraining, transformers

import launch
from imagenet_jax.config import base_config
from imagenet_jax.config.durations import steps_of
from imagenet_jax.config.files import load_recipes
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.table import MODELS
from imagenet_jax.tasks import make_task
from imagenet_jax.training.checks import check_fields, validate_batch
from imagenet_jax.training.rules import decay_factors
from imagenet_jax.training.schedules import make_schedule

SOURCES = convnets.SOURCES | older.SOURCES | transformers.SOURCES | pretraining.SOURCES
RECIPES = load_recipes()
ROOT = Path(__file__).parents[1]


FILES = sorted({name.partition(":")[0] for name in RECIPES})


@pytest.mark.parametrize("file", FILES)
def test_recipes_are_configs_and_say_what_they_are_not(file):
    text = (ROOT / f"configs/recipes/{file}.py").read_text()
    assert f"--config={file}" in text and "\nDeviation: " in text
    for name in (name for name in RECIPES if name.startswith(f"{file}:")):
        config, published = RECIPES[name]
        check_fields(config)
        validate_batch(config, num_devices=1)
        assert published.source and (published.top1 is None or 50 < published.top1 < 96), name


def test_the_page_has_the_table(capsys):
    assert launch.main(["recipes", "--markdown"]) == 0
    table = capsys.readouterr().out.strip()
    page = (ROOT / "docs/recipes.md").read_text()
    assert table in page, "put what `python launch.py recipes --markdown` prints into the page"


def rates(name):
    """The learning rate of a recipe by the step, and the steps of an epoch."""
    config = RECIPES[name][0]
    size, count = config.batch_size, SOURCES[name].num_examples
    total = steps_of(config.duration, batch_size=size, num_examples=count)
    made = make_schedule(config, total_steps=total, num_examples=count)
    return jax.jit(made), count / size, total


@pytest.mark.parametrize("name", SOURCES)
def test_the_learning_rate_is_that_of_the_source(name):
    """All through the run; what changes by the epoch also around the ends of epochs."""
    rate, length, total = rates(name)
    ends = np.round(np.arange(1, total // length) * length).astype(int)
    steps = np.unique(np.r_[np.linspace(0, total - 1, 400).astype(int), ends - 2, ends + 2])
    found = np.array(jax.vmap(rate)(steps))
    expected = np.array([SOURCES[name].rate(step, length) for step in steps.tolist()])
    # An epoch is no whole number of steps.
    tolerance = SOURCES[name].tolerance
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=2e-4 * expected.max())


# No shape of a parameter depends on them.
SHAPELESS = (
    *("zero_init_residual", "conv_init", "bn_init", "head_std", "head_bias", "bn_group_size"),
    *("blur_pool", "dropout", "drop_path", "kernel_init"),
)


def parameters(config):
    """Their shapes."""
    return variable_shapes(make_task(config).model(), config.data.image_size)["params"]


@functools.cache
def classifier(model, image_size):
    """By the fields of a model, as many recipes have the same."""
    config = base_config()
    config.model.update(json.loads(model))
    config.data.image_size = image_size
    return parameters(config)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * source.slow) for n, source in SOURCES.items()],
)
def test_those_parameters_decay_that_do_in_the_source(name):
    config, source = RECIPES[name][0], SOURCES[name]
    if config.task == "classification":
        model = {field: value for field, value in config.model.items() if field not in SHAPELESS}
        params = classifier(json.dumps(model), config.data.image_size)
    else:
        params = parameters(config)
    factors = {
        jax.tree_util.keystr(path, simple=True, separator="/"): factor
        for path, factor in jax.tree_util.tree_leaves_with_path(decay_factors(config.optim, params))
    }
    undecayed = {path for path, factor in factors.items() if factor == 0}
    expected = re.compile(source.undecayed or "(?!)")
    assert undecayed == {path for path in factors if expected.search(path)}
    assert (len(factors), len(factors) - len(undecayed)) == source.decayed


@pytest.mark.parametrize("name", SOURCES)
def test_its_constants_are_those_of_the_source(name):
    config = RECIPES[name][0]
    found = {}
    for field in SOURCES[name].fields:
        value = config
        for part in field.split("."):
            value = value[part]
        found[field] = value
    assert found == dict(SOURCES[name].fields)


TINY = (
    *("--config.data.name=fake", "--config.data.fake_train_examples=96", "--config.stages=()"),
    *("--config.data.fake_eval_examples=16", "--config.data.fake_classes=10"),
    *("--config.batch_size=32", "--config.model.bn_group_size=2", "--config.eval.batch_size=16"),
    *("--config.data.image_size=32", "--config.data.train_size=0", "--config.data.eval_resize=32"),
    *("--config.schedule.warmup=1 steps", "--config.eval.every=", "--config.log.every=1 steps"),
    *("--config.schedule.boundaries=", "--config.schedule.hold=0 steps"),
    *("--config.schedule.cooldown=0 steps", "--config.log.tensorboard=False"),
    *("--config.model.dtype=float32", "--config.checkpoint.every=2 steps"),
    "--config.finetune.weights=",
)


# Of recipes whose options resnet8 does not take.
_VITS = ("deit", "deit3", "augreg", "big_vision_vit_s16", "torchvision_vit", "algoperf_vit_s16")
OTHER = {
    **dict.fromkeys(_VITS, ("--config.model.name=vit_ti16",)),
    "convnext_v2": ("--config.model.name=resnet8", "--config.optim.rules="),
    "airbench": (),
    "mae_vit_b16": ("--config.model.name=vit_ti16", "--config.mae.decoder_depth=1"),
}


# One of three in CI; what the others are made of is in these, too.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] if number % 6 else [])
        for number, name in enumerate(FILES)
    ],
)
def test_a_recipe_takes_three_steps_resumes_and_evaluates(name, tmp_path, monkeypatch):
    """With another network where its own takes minutes to compile."""
    monkeypatch.setitem(MODELS, "vit_ti16", functools.partial(MODELS["vit_ti16"], depth=2))
    network = OTHER.get(name, ("--config.model.name=resnet8",))
    argv = [f"--config={name}", f"--workdir={tmp_path}", *TINY, *network]
    assert launch.main([*argv, "--config.duration=2 steps"]) == 0
    argv.append("--allow_config_change=duration")
    assert launch.main([*argv, "--config.duration=3 steps"]) == 0
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3]
