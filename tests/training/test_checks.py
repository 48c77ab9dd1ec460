import pytest

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.checks import batch_unit, check_fields, validate_batch


def config_of(batch_size, **fields):
    config = base_config()
    config.batch_size = batch_size
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_batch_that_divides_is_accepted(devices):
    validate_batch(config_of(512, **{"accumulate": 2, "model.bn_group_size": 32}), devices)


def test_batch_that_does_not_divide_names_the_batches_devices_and_groups_that_do():
    with pytest.raises(ConfigError) as error:
        validate_batch(config_of(96, **{"model.bn_group_size": 8}), 8)
    message = str(error.value)
    assert "batch_size = 96 does not divide by 8 devices x groups of 8 images" in message
    assert "64 or 128" in message
    assert "device counts 1, 2, 3, 4, 6, 12 or model.bn_group_size = 6 would do" in message


@pytest.mark.parametrize(
    "fields",
    [
        *({"model.name": name} for name in ("vit_s16", "convnext_tiny", "bit_r50x1", "vgg11")),
        {"model.frozen_norm": True},
        {"finetune.mode": "head"},
    ],
)
def test_groups_of_images_count_only_where_batch_statistics_are_computed(fields):
    validate_batch(config_of(30, **fields), 2)
    assert batch_unit(config_of(30, **fields)) == 1
    with pytest.raises(ConfigError) as error:
        validate_batch(config_of(30, **fields), 4)
    assert str(error.value) == (
        "config.batch_size = 30 does not divide by 4 devices; the nearest batch_size that does is "
        "28 or 32. With this one, device counts 1, 2, 3, 5, 6, 10, 15, 30 would do"
    )


@pytest.mark.parametrize("name", ["resnet50", "vgg11_bn"])
def test_a_batch_below_the_default_group_is_told_the_group_that_does(name):
    with pytest.raises(ConfigError, match=r"is 32\..*, model\.bn_group_size = 30 would"):
        validate_batch(config_of(30, **{"model.name": name}), 1)
    validate_batch(config_of(30, **{"model.name": name, "model.bn_group_size": 30}), 1)
    with pytest.raises(ConfigError, match="With this one, no device count would do"):
        validate_batch(config_of(31, **{"model.name": name, "accumulate": 2}), 1)


FREE = {"optim.name": "schedule_free_adamw", "schedule.name": "constant"}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"optim.name": "lars", "optim.decay_coupling": "rate"}, "'' and 'l2' are"),
        ({"optim.name": "lamb", "optim.decay_coupling": "schedule"}, "with config.optim.name = 'l"),
        ({"optim.name": "prodigy", "optim.momentum_dtype": "bfloat16"}, "momentum_dtype = 'bfloa"),
        (FREE | {"optim.momentum_dtype": "bfloat16"}, "momentum_dtype = 'bfloat16'"),
        (FREE | {"schedule.name": "cosine"}, "schedule.name = 'constant' .now 'cosine'"),
        (FREE | {"schedule.cooldown": "10 percent"}, "without a cooldown"),
        (FREE | {"ema_decay": 0.9}, "ema_decay = 0.9 is not possible"),
        (FREE | {"optim.b1": 0.0}, "optim.b1 = 0 leaves"),
        ({"optim.name": "prodigy", "optim.rules": ("fc rate=2",)}, "one rate for all parameters"),
        ({"optim.name": "prodigy", "finetune.mode": "layerwise"}, "one rate for all parameters"),
        ({"prune.share": 0.5, "prune.pattern": "2:4"}, "in place of config.prune.share = 0.5"),
        ({"prune.end": "3 epochs"}, "prune.end = '3 epochs' says how, and nothing is pruned"),
        ({"prune.pattern": "2:4", "prune.scope": "layer"}, "prunes each group of weights"),
        ({"prune.share": 0.5, "finetune.mode": "head"}, "trains no kernel but the head's"),
        ({"optim.rules": ("fc",)}, r"optim.rules = .'fc',. is not possible"),
        ({"optim.rules": ("fc rate=-1",)}, "optim.rules = "),
        ({"optim.rules": ("fc( rate=1",)}, "optim.rules = "),
        ({"optim.rules": ("@bn decay=0",)}, "optim.rules = "),
        ({"optim.rules": ("fc frozen rate=1",)}, "optim.rules = "),
        ({"optim.rules": ("",)}, "optim.rules = "),
        ({"optim.decayed": ("@norm",)}, "optim.decayed = "),
        ({"optim.name": "adam"}, "optim.name = 'adam' is not possible"),
        ({"augment.three_augment": True, "augment.blur": 0.5}, r"augment\.blur = 0.5 does not go"),
        ({"augment.view_blur": (1.0, 0.1)}, r"view_blur = \(1\.0, 0\.1\) is of the views"),
    ],
)
def test_what_makes_no_sense_of_an_optimizer_is_refused(fields, word):
    with pytest.raises(ConfigError, match=word):
        check_fields(config_of(256, **fields))


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_is_possible_with_a_constant_rate(name):
    check_fields(config_of(256, **(FREE | {"optim.name": name})))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.views": 3}, "views = 3 and config.loss.jsd = 0.0 go together"),
        ({"loss.jsd": 12.0}, "views = 1 and config.loss.jsd = 12.0 go together"),
        (
            {
                "data.views": 3,
                "loss.jsd": 12.0,
                "augment.mixup": 0.2,
                "distill.weights": "resnet50",
            },
            "does not go with config.augment.mixup and config.distill.weights",
        ),
        (
            {"data.views": 3, "loss.jsd": 12.0, "data.policy": "augmix"}
            | {"stages": ("5 epochs: loss.jsd=0",)},
            "views = 3 and config.loss.jsd = 0.0 go together",
        ),
        ({"data.views": 3, "loss.jsd": 12.0}, "does not go with config.data.policy = ''"),
    ],
)
def test_views_that_nothing_compares_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        check_fields(config_of(64, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distill.model": "resnet50"}, "distill.model = 'resnet50' is of a teacher"),
        ({"distill.image_size": 64}, "distill.image_size = 64 is of a teacher"),
        ({"eval.scales": (0.5, 1.0)}, r"eval.scales = \(0.5, 1.0\) is for detection and segm"),
        ({"augment.flip_alternates": True, "augment.flip": False}, "needs config.augment.flip"),
        (
            {"augment.mixup": 0.2, "augment.mix_per": "image", "loss.class_weights": (1.0, 2.0)},
            "mix_per = 'image' does not go with config.loss.class_weights",
        ),
    ],
)
def test_what_would_do_nothing_or_another_thing_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        check_fields(config_of(64, **fields))


def test_groups_are_of_the_networks_images_where_several_are_made_of_one():
    """Eight photos with four views each are a group of 32; 64 photos make 32 by halves."""
    views = {"data.views": 4, "loss.jsd": 12.0, "data.policy": "augmix"}
    validate_batch(config_of(8, **views, **{"model.bn_group_size": 32}), 1)
    half = {"augment.mix_per": "half", "augment.mixup": 0.2, "model.bn_group_size": 32}
    validate_batch(config_of(64, **half), 1)
    with pytest.raises(ConfigError, match=r"groups of 32 images .*, which 64 make"):
        validate_batch(config_of(96, **half), 1)
