import pytest

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.checks import batch_unit, validate_batch


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
