"""Embeddings as a task: the same numbers however they are spread, and what is refused."""

import jax
import numpy as np
import pytest
from test_step import EXHAUSTIVE, curve, largest_difference

from imagenet_jax.data import open_split
from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_model
from imagenet_jax.models.heads.embedder import create_embedder
from imagenet_jax.tasks import make_task
from imagenet_jax.tasks.embedding import Embedding
from imagenet_jax.training.checks import check_fields

LOSSES = ("triplet", "arcface", "cosface", "supcon", "proxy_anchor")


@pytest.fixture
def config(loop_config):
    """`loop_config` of ten classes, four images of each of four in a batch."""
    loop_config.task, loop_config.data.per_class = "embedding", 4
    loop_config.embedding.size, loop_config.embedding.scale = 8, 16.0
    loop_config.model.bn_group_size = 0
    loop_config.optim.learning_rate = 0.01
    return loop_config


@pytest.mark.xdist_group("embedding")
@pytest.mark.parametrize(
    ("loss", "partitioner"),
    [
        ("triplet", "shard_map"),
        pytest.param("proxy_anchor", "shard_map", marks=pytest.mark.slow),
        *(
            pytest.param(loss, partitioner, marks=EXHAUSTIVE)
            for loss in LOSSES
            for partitioner in ("jit", "shard_map", "pmap")
            if partitioner != "shard_map" or loss not in ("triplet", "proxy_anchor")
        ),
    ],
)
def test_eight_devices_compare_the_images_of_all(config, loss, partitioner):
    config.embedding.update(loss=loss, norm=False)  # before one a bias moves by rounding alone
    alone, alone_state = curve(config, devices=1, steps=5)
    config.partitioner = partitioner
    spread, spread_state = curve(config, steps=5)
    np.testing.assert_allclose(spread, alone, rtol=2e-5, atol=1e-4)  # some are 40
    assert largest_difference(alone_state, spread_state) < 1e-3
    _, start = curve(config, devices=1, steps=0)
    assert largest_difference(start, alone_state) > 0.01


@pytest.mark.xdist_group("embedding")
@pytest.mark.slow
@pytest.mark.parametrize("partitioner", ["shard_map", pytest.param("jit", marks=EXHAUSTIVE)])
def test_hard_triplets_and_turned_classes_do_not_depend_on_the_devices(config, partitioner):
    config.embedding.update(mining="hard", turns=4)
    alone, _ = curve(config, devices=1, steps=4)
    config.partitioner = partitioner
    spread, _ = curve(config, steps=4)
    np.testing.assert_allclose(spread, alone, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["tensor_parallel=2", "fsdp=4"])
def test_directions_of_classes_are_spread_by_classes(config, sharding):
    config.data.update(fake_classes=512, fake_train_examples=2048)
    config.embedding.loss, config.data.per_class = "arcface", 0
    alone, _ = curve(config, devices=1, steps=3)
    config.sharding = sharding
    spread, state = curve(config, steps=3)
    np.testing.assert_allclose(spread, alone, atol=1e-4)
    kernel = state.params["class_weights"]["kernel"]
    parts = int(sharding[-1])
    assert kernel.sharding.shard_shape(kernel.shape) == (8, 512 // parts)


@pytest.mark.slow
def test_micro_batches_are_added_up_where_images_are_not_compared(config):
    """ArcFace looks at each image by itself."""
    config.embedding.update(loss="arcface", norm=False)
    config.model.bn_group_size = 1
    config.batch_size, config.data.per_class = 32, 0
    whole, _ = curve(config, steps=3)
    config.accumulate = 2
    parts, _ = curve(config, steps=3)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 2}, r"accumulate = 2 .*'triplet', which compares all images of a batch"),
        ({"accumulate": 2, "embedding.loss": "proxy_anchor"}, "micro-batches are never seen"),
        ({"data.per_class": 0}, r"config\.data\.per_class; it is 0, set it to 4"),
        ({"data.per_class": 1, "embedding.loss": "supcon"}, "it is 1, set it to 4"),
        ({"augment.mixup": 0.2}, r"does not go with config\.augment\.mixup"),
        ({"distill.weights": "resnet50"}, r"config\.distill\.weights"),
        ({"model.head": "fcn"}, r"config\.model\.head = 'fcn'"),
        ({"model.head_std": 0.0}, r"config\.model\.head_std = 0"),
        ({"eval.tta": "mirror"}, "averages the logits of classes"),
        ({"embedding.angular_margin": 4.0}, "from 0 to below pi"),
        ({"embedding.turns": 2}, "1, 4 or 8"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(config, fields, message):
    for name, value in fields.items():
        section, _, field = name.rpartition(".")
        (config[section] if section else config)[field] = value
    with pytest.raises(ConfigError, match=message):
        check_fields(config)


def test_the_network_is_the_classifier_with_directions_beside():
    image = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    options = {"width": 8, "stage_sizes": (1,)}
    model = create_embedder("resnet8", size=6, classes=4, norm=False, **options)
    variables = model.init(jax.random.key(0), image, train=False)
    directions = np.asarray(variables["params"].pop("class_weights")["kernel"])
    assert directions.shape == (6, 4)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, atol=0.7)
    plain = create_model("resnet8", num_classes=6, **options)
    variables.pop("auxiliary")
    logits = np.asarray(plain.apply(variables, image, train=False))
    expected = logits / np.linalg.norm(logits, axis=1, keepdims=True)
    whole = {
        **variables,
        "params": {**variables["params"], "class_weights": {"kernel": directions}},
    }
    np.testing.assert_allclose(model.apply(whole, image, train=False), expected, atol=1e-5)
    _, updated = model.apply(whole, image, train=False, mutable=["auxiliary"])
    cosines = expected @ (directions / np.linalg.norm(directions, axis=0))
    np.testing.assert_allclose(updated["auxiliary"]["cosines"][0], cosines, atol=1e-5)


def test_classes_that_are_never_trained_on_have_no_direction(config):
    config.embedding.loss, config.data.held_out_classes = "arcface", ("1..3", "class 8")
    task = make_task(config, open_split(config, train=True))
    assert task.identities == tuple(f"class {k}" for k in (0, 4, 5, 6, 7, 9))
    batch = {"label": np.array([9, 4, 0]), "mask": np.ones(3, bool)}
    assert task._told(batch, None).label.tolist() == [5, 1, 0]
    assert Embedding.of_facts(config, task.facts()).identities == task.identities
