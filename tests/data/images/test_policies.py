import numpy as np
import pytest
from oracles import torchvision
from PIL import Image
from pixel_oracles import noise
from test_preprocess import encode, evaluated, trained

from imagenet_jax.config import base_config, validate
from imagenet_jax.data import open_split
from imagenet_jax.data.images import autoaugment, policies
from imagenet_jax.data.images.image_ops import OPERATIONS
from imagenet_jax.errors import ConfigError

MAGNITUDES = {
    "Identity": (0.0,),
    "ShearX": (-0.3, 0.0, 0.17, 0.99),
    "ShearY": (-0.99, 0.11, 0.3),
    "TranslateX": (-7.0, 3.6, 32.0),
    "TranslateY": (-7.9, 3.6, 14.0),
    "Rotate": (-135.0, -12.5, 0.0, 30.0),
    "Brightness": (-0.9, -0.2, 0.0, 0.99),
    "Color": (-0.9, -0.2, 0.0, 0.99),
    "Contrast": (-0.9, -0.2, 0.0, 0.99),
    "Sharpness": (-0.9, -0.2, 0.0, 0.99),
    "Posterize": (1, 2, 5, 8),
    "Solarize": (0.0, 100.5, 128.0, 255.0),
    "AutoContrast": (0.0,),
    "Equalize": (0.0,),
    "Invert": (0.0,),
}


@pytest.fixture
def picture():
    """Noise on slopes: neither flat nor of all levels."""
    rows, columns = np.ogrid[:40, :56]
    slope = np.stack(np.broadcast_arrays(3 * rows, 2 * columns, rows + columns), -1)
    return Image.fromarray(np.uint8(40 + slope + noise(40, 56) // 8))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_torchvisions(name, picture):
    transforms = torchvision().transforms
    for magnitude in MAGNITUDES[name]:
        expected = transforms.autoaugment._apply_op(
            picture, name, magnitude, transforms.InterpolationMode.NEAREST, None
        )
        np.testing.assert_array_equal(
            np.asarray(OPERATIONS[name](picture, magnitude)), np.asarray(expected), name
        )


def test_simple_operations_equal_numpy(picture):
    pixels = np.asarray(picture)
    done = {k: np.asarray(OPERATIONS[k](picture, m)) for k, m in (("Invert", 0), ("Posterize", 3))}
    np.testing.assert_array_equal(done["Invert"], 255 - pixels)
    np.testing.assert_array_equal(done["Posterize"], pixels & 0b11100000)
    assert not np.asarray(OPERATIONS["Posterize"](picture, 0)).any()
    moved = np.asarray(OPERATIONS["TranslateX"](picture, 5.9))
    np.testing.assert_array_equal(moved[:, 5:], pixels[:, :-5])
    assert not moved[:, :5].any()
    solar = np.asarray(OPERATIONS["Solarize"](picture, 128))
    np.testing.assert_array_equal(solar, np.where(pixels < 128, pixels, 255 - pixels))


@pytest.mark.parametrize("name", ["RandAugment", "TrivialAugmentWide", "AutoAugment", "AugMix"])
def test_magnitudes_are_torchvisions(name):
    transforms = torchvision().transforms
    width, height = 224, 160
    ours, theirs = {
        "RandAugment": (policies.randaugment_space((width, height)), (31, (height, width))),
        "TrivialAugmentWide": (policies.trivialaugment_space(), (31,)),
        "AutoAugment": (policies.autoaugment_space((width, height)), (10, (height, width))),
        "AugMix": (policies.augmix_space((width, height)), (10, (height, width))),
    }[name]
    expected = getattr(transforms, name)()._augmentation_space(*theirs)
    assert ours.keys() == expected.keys()
    for operation, (magnitudes, signed) in expected.items():
        assert ours[operation][1] == signed
        values = np.broadcast_to(magnitudes.numpy(), ours[operation][0].shape)
        np.testing.assert_allclose(ours[operation][0], values, atol=1e-4, err_msg=operation)


@pytest.mark.parametrize("name", ["IMAGENET", "CIFAR10", "SVHN"])
def test_learnt_policies_are_torchvisions(name):
    transforms = torchvision().transforms
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy[name]).policies
    assert list(getattr(autoaugment, name)) == theirs


def applied(monkeypatch, policy, draws, **fields):
    """The (operation, magnitude) that a policy applies, given its random numbers."""
    config = base_config()
    config.data.policy = policy
    config.data.update(fields)
    calls = []

    def record(name):
        def operation(image, magnitude):
            calls.append((name, magnitude))
            return image

        return operation

    monkeypatch.setattr(policies, "OPERATIONS", {name: record(name) for name in OPERATIONS})
    image = Image.new("RGB", (224, 224))
    policies.POLICIES[policy](image, iter(draws), config.data)
    return calls


def test_randaugment_applies_operations_of_its_magnitude(monkeypatch):
    draws = [1.5 / 14, 0.4, 12.5 / 14, 0.1, 5.5 / 14, 0.9]
    calls = applied(monkeypatch, "randaugment", draws, policy_ops=3, policy_magnitude=10)
    assert calls == [("ShearX", pytest.approx(-0.1)), ("AutoContrast", 0.0), ("Rotate", 10.0)]


def test_trivialaugment_applies_one_operation(monkeypatch):
    calls = applied(monkeypatch, "trivialaugment", [30.5 / 31, 5.5 / 14, 0.2])
    assert calls == [("Rotate", -135.0)]


def test_autoaugment_applies_a_pair_with_its_probabilities(monkeypatch):
    assert applied(monkeypatch, "autoaugment", [0.5 / 25, 0.39, 0.9, 0.59, 0.1]) == [
        ("Posterize", 4.0),
        ("Rotate", -30.0),
    ]
    assert applied(monkeypatch, "autoaugment", [0.5 / 25, 0.41, 0.9, 0.61, 0.1]) == []


def test_augmix_blends_the_image_with_its_chains(monkeypatch):
    config = base_config()
    config.data.policy, config.data.policy_magnitude = "augmix", 3
    pixels = noise(20, 20)
    invert = {name: OPERATIONS["Invert"] for name in OPERATIONS}
    monkeypatch.setattr(policies, "OPERATIONS", invert)
    # weights equal, share 0.4; chains of 1, 2 and 1 operations
    draws = [0.5, 0.5, 0.5, 0.4, 0.1, *[0.3] * 3, 0.5, *[0.3] * 6, 0.1, *[0.3] * 3]
    result = np.asarray(
        policies.augmix(Image.fromarray(pixels), iter(draws), config.data), np.float64
    )
    image, inverse = pixels.astype(float), 255.0 - pixels
    expected = 0.6 * image + 0.4 * (inverse + image + inverse) / 3
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize(
    "fields",
    [{"policy": name} for name in policies.POLICIES] + [{"rotate": 20.0}, {"translate": 0.2}],
)
def test_augmentation_is_a_function_of_seed_epoch_and_index(fields):
    encoded = encode(noise(40, 40))
    options = {"train_crop": "resize", "image_size": 40, "policy_magnitude": 9, **fields}
    places = [(i, e, s) for i in range(4) for e in range(3) for s in range(2)]
    images = [trained(encoded, *place, **options) for place in places]
    again = [trained(encoded, *place, **options) for place in reversed(places)]
    np.testing.assert_array_equal(images, again[::-1])
    assert len({image.tobytes() for image in images}) > len(places) // 2
    options["eval_crop"] = options.pop("train_crop")
    np.testing.assert_array_equal(evaluated(encoded, **options), noise(40, 40))


def test_every_policy_draws_all_its_operations(monkeypatch):
    seen = {name: set() for name in policies.POLICIES}
    for policy, names in seen.items():
        record = {k: lambda i, m, k=k, names=names: names.add(k) or i for k in OPERATIONS}
        monkeypatch.setattr(policies, "OPERATIONS", record)
        config = base_config()
        config.data.policy, config.data.policy_magnitude = policy, 5
        for index in range(400):
            policies.augment(noise(8, 8), config.data, 0, 0, index)
    assert seen["randaugment"] == seen["trivialaugment"] == set(OPERATIONS) - {"Invert"}
    assert seen["augmix"] == set(OPERATIONS) - {"Invert", "Identity"}
    for name, table in (("", "IMAGENET"), ("_cifar10", "CIFAR10"), ("_svhn", "SVHN")):
        flat = {name for pair in getattr(autoaugment, table) for name, _, _ in pair}
        assert seen[f"autoaugment{name}"] == flat


def test_views_of_an_image_are_its_crop_and_what_the_policy_makes_of_that(noise_config, rows):
    def images(**data):
        config = noise_config.copy_and_resolve_references()
        config.data.update(data)
        return next(open_split(config, train=True).train_batches(rows, 1, 2))["image"]

    plain, one = images(), images(policy="trivialaugment")
    views = images(policy="trivialaugment", views=3)
    assert views.shape == (4, 24, 8, 3)
    views = views.reshape(4, 3, 8, 8, 3)
    np.testing.assert_array_equal(views[:, 0], plain)
    np.testing.assert_array_equal(views[:, 1], one)
    assert (views[:, 2] != views[:, 1]).any() and (views[:, 2] != plain).any()
    noise_config.data.update(cache=True, views=3, train_crop="resize")
    with pytest.raises(ConfigError, match=r"data\.mosaic and data\.copy_paste make others"):
        open_split(noise_config, train=True)


def test_rotation_and_translation_keep_to_their_ranges():
    corner = np.zeros((41, 41, 3), np.uint8)
    corner[20, 20] = 255
    encoded = encode(corner)
    options = {"train_crop": "resize", "image_size": 41}
    places = [
        np.argwhere(trained(encoded, index, translate=0.25, **options)[..., 0])[0] - 20
        for index in range(60)
    ]
    assert np.abs(places).max() <= 10 and (np.ptp(places, axis=0) >= 16).all()
    for index in range(20):  # the centre stays where it is
        assert trained(encoded, index, rotate=180.0, **options)[20, 20, 0] == 255


def test_a_severity_that_augmix_lacks_is_refused():
    config = base_config()
    config.data.policy, config.data.policy_magnitude = "augmix", 11
    with pytest.raises(ConfigError, match=r"policy_magnitude = 11 .* 1 to 10"):
        validate(config)
