"""Masked autoencoders as a task: the same numbers however they are spread, and what is refused."""

import jax
import numpy as np
import pytest
from test_step import EXHAUSTIVE, compiled, curve, largest_difference

from imagenet_jax.data import open_split
from imagenet_jax.devices import parallel
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.table import make_task
from imagenet_jax.training.checks import check_fields


def set_fields(config, fields):
    for name, value in fields.items():
        section, _, field = name.rpartition(".")
        (config[section] if section else config)[field] = value


@pytest.fixture
def config(loop_config):
    """`loop_config` with a ViT of one block, 16 patches of two pixels an image."""
    set_fields(
        loop_config,
        {
            **{"task": "mae", "model.name": "vit_ti16", "model.stem": "", "model.patch": 2},
            **{"model.width": 16, "model.depth": 1, "model.heads": 2, "model.bn_group_size": 0},
            **{"mae.decoder_depth": 1, "mae.decoder_width": 8, "mae.decoder_heads": 2},
            **{"optim.name": "adamw", "optim.learning_rate": 0.01},
        },
    )
    return loop_config


@pytest.mark.xdist_group("mae")
@pytest.mark.parametrize(
    ("partitioner", "accumulate"),
    [
        ("shard_map", 1),
        pytest.param("jit", 1, marks=pytest.mark.slow),
        pytest.param("pmap", 1, marks=EXHAUSTIVE),
        pytest.param("shard_map", 2, marks=pytest.mark.slow),
        pytest.param("jit", 2, marks=EXHAUSTIVE),
    ],
)
def test_eight_devices_hide_the_patches_that_one_does(config, partitioner, accumulate):
    config.optim.name = "sgd"  # Adam would blow up the rounding of a gradient of zero
    alone, alone_state = curve(config, devices=1, steps=5)
    config.partitioner, config.accumulate = partitioner, accumulate
    spread, spread_state = curve(config, steps=5)
    np.testing.assert_allclose(spread, alone, atol=1e-4)
    assert largest_difference(alone_state, spread_state) < 1e-3
    _, start = curve(config, devices=1, steps=0)
    assert largest_difference(start, alone_state) > 0.01


def evaluated(config, devices):
    """The sums of the evaluation of a first state, and the few images that its meter keeps."""
    program, _ = compiled(config, devices)
    split, mesh = open_split(config, train=False), program.mesh
    step, meter = program.compile_eval_step(split.num_examples), program.task.meter(split)
    size = program.eval_batch_size(split.num_examples)
    variables, sums = program.init_state().eval_variables(), []
    for batch in split.eval_batches(parallel.local_rows(mesh, size), size):
        found, _ = step(variables, parallel.put_batch(batch, mesh))
        sums.append(program.task.metered(jax.device_get(found), meter))
    return program.task.summarize(sums), meter.few(), split


@pytest.mark.xdist_group("mae")
@pytest.mark.slow
@pytest.mark.parametrize("partitioner", ["shard_map", pytest.param("jit", marks=EXHAUSTIVE)])
def test_the_images_that_are_drawn_do_not_depend_on_devices_and_batches(config, partitioner):
    alone, (index, arrays), split = evaluated(config, devices=1)
    config.partitioner, config.eval.batch_size = partitioner, 8
    spread, (again, others), _ = evaluated(config, devices=8)
    assert alone["num_examples"] == spread["num_examples"] == 30
    assert spread["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    assert len(index) == 8 and (index == again).all() and np.ptp(index) > 15
    for name, array in arrays.items():
        np.testing.assert_allclose(others[name], array, atol=1e-5)
    assert (arrays["masked"].sum(1) == 12).all() and np.ptp(arrays["masked"], 0).any()
    seen = ~(arrays["masked"] > 0).reshape(8, 4, 4).repeat(2, 1).repeat(2, 2)
    levels = split.images(index) / 255
    pixels = (levels - config.augment.mean) / config.augment.std
    same = np.abs(arrays["image"] - pixels).max(-1) < 1e-5
    assert (same == seen).mean() > 0.99  # by chance a pixel that is told may be right


def test_masks_are_of_the_example_and_its_epoch(config):
    task = make_task(config)
    image = np.zeros((3, 8, 8, 3), np.uint8)
    batch = {"image": image, "label": np.zeros(3, np.int32), "mask": np.ones(3, bool)}

    def noise(index, epoch, **how):
        places = {"index": np.array(index), "epoch": np.array(epoch)}
        inputs, _ = task.inputs({**batch, **places}, *(how.get("key"), 0), train="key" in how)
        return np.asarray(inputs.noise)

    key = {"key": jax.random.key(3)}
    first, other = noise([4, 5, 4], [0, 0, 1], **key), noise([5, 4, 4], [0, 0, 0], **key)
    assert first.shape == (3, 16) and (first[1] == other[0]).all() and (first[0] == other[1]).all()
    assert (first[0] != first[2]).all() and (first[0] != first[1]).all()
    fixed = noise([4, 5, 4], [0, 0, 1])
    assert (fixed[0] == fixed[2]).all() and (fixed[0] != fixed[1]).all()


def test_people_are_shown_what_the_encoder_sees(config):
    config.augment.pad = 0
    task, index = make_task(config), np.arange(2, dtype=np.int32)
    images = np.full((2, 8, 8, 3), 255, np.uint8)
    known = {"label": index, "index": index, "epoch": index, "mask": index >= 0}
    batch = {"image": images, **known}
    pixels, _ = task.seen(*task.inputs(batch, jax.random.key(1), 0, train=True))
    tiles = pixels.reshape(2, 4, 2, 4, 2, 3)
    assert ((tiles == 255).all((2, 4, 5)).sum((1, 2)) == 4).all()
    assert ((tiles == 128).all((2, 4, 5)).sum((1, 2)) == 12).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model.name": "resnet8", **dict.fromkeys(("model.patch", "model.depth"), 0)}
            | {"model.heads": 0},
            r"plain ViT, which config\.model\.name = 'resnet8' is not",
        ),
        ({"model.name": "deit_s16_distilled"}, "is not; expected vit_ti16, "),
        ({"model.patch": 3}, r"image_size = 8 does not divide into patches of 3 .*that does is 9"),
        ({"model.patch": 0}, r"patches of 16 pixels of vit_ti16; the nearest that does is 16"),
        ({"mae.mask_ratio": 0.95}, r"mask_ratio = 0\.95: of the 16 patches .* none is seen"),
        ({"model.patch": 8, "mae.mask_ratio": 0.1}, "none is seen; the model.patch = 4 makes more"),
        ({"mae.mask_ratio": 1.0}, "above 0 and below 1"),
        ({"mae.decoder_heads": 3}, r"decoder_heads = 3 do not divide config\.mae\.decoder_width"),
        ({"mae.decoder_width": 6}, "a multiple of 4"),
        ({"augment.mixup": 0.2}, r"does not go with config\.augment\.mixup"),
        ({"augment.cutmix": 1.0}, r"does not go with config\.augment\.cutmix"),
        ({"augment.colout": 0.1}, r"does not go with config\.augment\.colout"),
        ({"distill.weights": "resnet50"}, r"does not go with config\.distill\.weights"),
        ({"loss.class_weights": (1.0,) * 10}, r"does not go with config\.loss\.class_weights"),
        ({"model.representation_size": 8}, r"config\.model\.representation_size"),
        ({"finetune.mode": "head"}, r"config\.finetune\.mode = 'head'"),
        ({"data.views": 3, "loss.jsd": 12.0}, r"data\.views = 3 does not go with config\.task"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(config, fields, message):
    set_fields(config, fields)
    with pytest.raises(ConfigError, match=message):
        check_fields(config)
