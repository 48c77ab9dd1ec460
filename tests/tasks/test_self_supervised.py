"""Learning from views: the same numbers however a batch is spread, augmentation, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import EXHAUSTIVE, curve, largest_difference

from imagenet_jax.augment.color import gaussian_blur, normalize, to_gray
from imagenet_jax.augment.crop_views import train_crops
from imagenet_jax.data.names import check_data
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import make_task
from imagenet_jax.tasks.self_supervised_checks import METHODS
from imagenet_jax.tasks.table import LEARN_FROM_AVERAGE, find_task, task_names
from imagenet_jax.training.averages import moved_average
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.loop import train
from imagenet_jax.training.program import make_program
from imagenet_jax.training.program_checks import check_config
from imagenet_jax.training.trained import trained_model


def settle(config, task):
    """What a method needs."""
    config.task, config.augment.pad = task, 0
    config.data.update(crops=2, train_crop="random_resized_crop")
    config.pretrain.update(hidden=16, size=8, temperature=0.2)
    config.model.bn_group_size, config.optim.learning_rate = 0, 0.002
    config.augment.update(brightness=0.4, hue=0.1, grayscale=0.2, view_blur=(1.0, 0.1))
    if METHODS[task]:
        config.pretrain.predictor = 16
    if task in LEARN_FROM_AVERAGE:
        config.ema_decay, config.ema_ramp = 0.9, "cosine"
    if task == "dino":
        config.data.update(local_crops=3, local_size=4)
        config.pretrain.update(prototypes=32, norm="none", freeze_prototypes="2 steps")
    return config


@pytest.mark.xdist_group("self_supervised")
@pytest.mark.parametrize(
    ("task", "partitioner"),
    [
        ("simclr", "shard_map"),
        pytest.param("dino", "shard_map", marks=pytest.mark.slow),
        pytest.param("byol", "jit", marks=pytest.mark.slow),
        *(
            pytest.param(task, partitioner, marks=EXHAUSTIVE)
            for task in METHODS
            for partitioner in ("jit", "shard_map", "pmap")
            if (task, partitioner)
            not in (("simclr", "shard_map"), ("dino", "shard_map"), ("byol", "jit"))
        ),
    ],
)
def test_eight_devices_compare_the_views_of_all(loop_config, task, partitioner):
    config = settle(loop_config, task)
    alone, alone_state = curve(config, devices=1, steps=10)
    config.partitioner = partitioner
    spread, spread_state = curve(config, steps=10)
    np.testing.assert_allclose(spread, alone, atol=1e-4)
    # Of BYOL what starts at zero is still so small that a ReLU which rounding turns shows in it.
    most = 0.02 if task == "byol" else 1e-3
    assert largest_difference(alone_state, spread_state) < most
    _, start = curve(config, devices=1, steps=0)
    assert largest_difference(start, alone_state) > 0.1


@pytest.mark.slow
def test_micro_batches_are_added_up_where_images_are_not_compared(loop_config):
    config = settle(loop_config, "byol")
    config.model.frozen_norm, config.pretrain.norm, config.batch_size = True, "none", 32
    whole, _ = curve(config, steps=3)
    config.accumulate = 2
    parts, _ = curve(config, steps=3)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_the_average_is_kept_more_and_more_by_a_cosine(loop_config):
    """BYOL, appendix: tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2."""
    config = settle(loop_config, "byol")
    _, state = curve(config, devices=1, steps=0)
    ones = jax.tree.map(jnp.ones_like, state.params)
    zeros = jax.tree.map(jnp.zeros_like, {"params": state.params, "batch_stats": state.batch_stats})
    for step in (0, 5, 20):
        before = state.replace(ema=zeros, step=jnp.int32(step))
        moved = moved_average(before, ones, zeros["batch_stats"], config, 0, (0, 20))
        kept = 1 - (1 - 0.9) * (np.cos(np.pi * step / 20) + 1) / 2
        found = jax.tree.leaves(moved["params"])[0].ravel()[0]
        assert found == pytest.approx(1 - kept, abs=1e-6)


def test_prototypes_wait_and_the_centre_follows_the_teacher(loop_config):
    config = settle(loop_config, "dino")
    config.optim.weight_decay = 0.0
    states = [curve(config, devices=1, steps=steps)[1] for steps in (0, 2, 3)]
    kernels = [np.asarray(state.params["prototypes"]["kernel"]) for state in states]
    np.testing.assert_array_equal(kernels[1], kernels[0])
    assert (kernels[2] != kernels[1]).any()
    centres = [np.asarray(state.batch_stats["centre"]) for state in states]
    assert not centres[0].any() and np.abs(centres[1]).max() > 0.01
    assert np.abs(centres[2] - centres[1]).max() > 1e-4


def test_views_are_augmented_each_by_itself(loop_config):
    """All grey; the first blurred, of the second and the small ones some, as their shares say."""
    config = settle(loop_config, "dino")
    config.augment.update(flip=False, brightness=0.0, hue=0.0, grayscale=1.0)
    config.augment.update(view_blur=(1.0, 0.0, 0.5), blur_sigma=(0.8, 0.8))
    config.data.update(local_crops=4)
    rng, count = np.random.default_rng(0), 64
    image = rng.integers(0, 256, (count, 2 * 8 + 2 * 4, 8, 3), dtype=np.uint8)
    batch = {"image": image, "epoch": np.zeros(count, int), "index": np.arange(count)}
    views = train_crops(batch, jax.random.key(0), config)

    def expected(crop, blurred):
        gray = to_gray(crop.astype(np.float32) / 255)
        if blurred:
            gray = gaussian_blur(gray, np.full(len(crop), 0.8, np.float32), largest=0.8)
        return normalize(255 * gray, config.augment.mean, config.augment.std)

    whole = views.whole.reshape(count, 2, 8, 8, 3)
    np.testing.assert_allclose(whole[:, 0], expected(image[:, :8], True), atol=1e-4)
    np.testing.assert_allclose(whole[:, 1], expected(image[:, 8:16], False), atol=1e-4)
    local = np.asarray(views.local).reshape(count, 4, 4, 4, 3)
    shares = []
    for number in range(4):
        y, x = 16 + 4 * (number // 2), 4 * (number % 2)
        crop = image[:, y : y + 4, x : x + 4]
        both = [np.asarray(expected(crop, blurred)) for blurred in (False, True)]
        is_either = [np.abs(local[:, number] - one).max((1, 2, 3)) < 1e-4 for one in both]
        assert (is_either[0] | is_either[1]).all()
        shares.append(is_either[1])
    assert 0.35 < np.mean(shares) < 0.65
    assert any((shares[0] != other).any() for other in shares[1:])


def test_what_learns_from_its_average_is_known_without_jax():
    found = [name for name in task_names() if find_task(name).learns_from_average]
    assert sorted(LEARN_FROM_AVERAGE) == sorted({*found, "mean_teacher"})


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        (
            "simclr",
            {"data.crops": 1},
            "two views of each image, and config.data.crops = 1",
        ),
        ("simclr", {"data.local_crops": 2}, "local_crops = 2 are for config.task = 'dino'"),
        ("simclr", {"accumulate": 2}, "which compares all images of a batch"),
        ("simclr", {"augment.mixup": 0.2}, r"does not go with config\.augment\.mixup = 0.2"),
        ("simclr", {"pretrain.predictor": 9}, "no use for config.pretrain.predictor, which is 9"),
        ("simclr", {"finetune.mode": "head"}, "finetune.mode = 'head'"),
        ("simclr", {"data.train_crop": "none"}, "each is a random crop"),
        ("byol", {"pretrain.predictor": 0}, "needs config.pretrain.predictor, which is 0"),
        ("byol", {"ema_decay": 0.0, "ema_ramp": "tensorflow"}, "learns from the average of its"),
        ("byol", {"eval.norm_batches": 2}, "which itself needs averages; set it to 0"),
        ("dino", {"pretrain.prototypes": 0}, "set it to 65536"),
        ("dino", {"data.local_size": 9}, "local_size = 9 is more than the 8 pixels"),
        ("classification", {"data.crops": 2}, "views for config.task = simclr, byol"),
        ("simclr", {"data.unlabelled_class": "rest"}, "learns from all without any; set it to ''"),
        (
            "byol",
            {"data.labelled_fraction": 0.1},
            "labelled_fraction = 0.1 says which images .*set it to 1.0",
        ),
    ],
)
def test_what_does_not_go_together_is_said_at_once(loop_config, task, fields, message):
    config = settle(loop_config, task) if task in METHODS else loop_config
    for name, value in fields.items():
        section, _, field = name.rpartition(".")
        (config[section] if section else config)[field] = value
    with pytest.raises(ConfigError, match=message):
        check_fields(config)
        check_data(config.data)
        make_task(config).model()


def test_a_model_without_features_is_refused(loop_config):
    config = settle(loop_config, "simclr")
    config.model.name, config.model.stem, config.model.width = "squeezenet1_0", "", 0
    with pytest.raises(ConfigError, match="has no one linear layer at its end"):
        make_task(config).model()


def test_small_crops_need_a_model_that_sees_them(loop_config):
    config = settle(loop_config, "dino")
    config.data.image_size, config.data.local_size = 64, 32
    check_config(config, make_mesh())
    config.model.name, config.model.stem, config.model.width = "mixer_s16", "", 0
    with pytest.raises(ConfigError, match=r"cannot see crops of config\.data\.local_size = 32"):
        check_config(config, make_mesh())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet8", "vit_ti16"])
def test_a_classifier_starts_from_what_was_learnt(loop_config, tmp_path, one_block, model):
    """All of it but the projector; the last layer is its own. With the averaged weights."""
    config = settle(loop_config, "byol")
    config.duration, config.eval.every, config.eval.knn = "3 steps", "", 5
    if model == "vit_ti16":
        config.model.update(name=model, stem="", width=0)
        config.data.image_size = 32
    summary = train(config, tmp_path / "run")
    assert 0 <= summary["eval"]["knn"] <= 1 and summary["eval"]["feature_std"] > 0
    learnt = trained_model(tmp_path / "run", "latest").variables
    new = config.copy_and_resolve_references()
    new.task, new.finetune.weights, new.data.crops = "classification", str(tmp_path / "run"), 1
    new.ema_decay, new.ema_ramp = 0.0, "tensorflow"
    program = make_program(make_task(new), make_mesh(), num_examples=40)
    start = starting_variables(program)
    found, wanted = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (start, learnt))
    own = {path for path in wanted if {"projector", "predictor"} & {key.key for key in path}}
    head = {path for path in found if path not in wanted}
    assert own and head and set(wanted) - own == set(found) - head
    for path in set(found) - head:
        np.testing.assert_array_equal(found[path], np.asarray(wanted[path]))
