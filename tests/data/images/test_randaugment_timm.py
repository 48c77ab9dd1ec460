"""RandAugment compared with timm's: operations by their pixels, draws by their distributions."""

import random

import numpy as np
import pytest
from oracles import torchvision
from PIL import Image
from pixel_oracles import encode, noise
from scipy.stats import ks_2samp
from test_preprocess import trained

from imagenet_jax.config import apply_overrides, base_config, validate
from imagenet_jax.data.images import randaugment_timm as ours
from imagenet_jax.errors import ConfigError

FILL = (124, 116, 104)
RANDOM = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def timm():
    torchvision()  # timm imports it
    pytest.importorskip("timm", reason="timm is not installed")
    from timm.data import auto_augment

    return auto_augment


@pytest.fixture(scope="module")
def picture():
    """Noise on slopes: neither flat nor of all levels."""
    rows, columns = np.ogrid[:40, :56]
    slope = np.stack(np.broadcast_arrays(3 * rows, 2 * columns, rows + columns), -1)
    return Image.fromarray(np.uint8(40 + slope + noise(40, 56) // 8))


def plain(name):
    return name.removesuffix("Rel").removesuffix("Increasing")


@pytest.mark.parametrize("increasing", [True, False])
def test_operations_are_timms(timm, picture, increasing, monkeypatch):
    names = timm._RAND_INCREASING_TRANSFORMS if increasing else timm._RAND_TRANSFORMS
    operations = ours.operations_timm(increasing)
    assert list(operations) == [plain(name) for name in names]
    for name in names:
        for sign in (-1, 1):
            monkeypatch.setattr(timm, "_randomly_negate", lambda value, sign=sign: sign * value)
            for magnitude in (0, 2.6, 7, 9.3, 10, 13.7, 28):
                for method in Image.Resampling.BILINEAR, Image.Resampling.BICUBIC:
                    options = {"img_mean": FILL, "interpolation": method}
                    options["magnitude_max"] = 30
                    operation = timm.AugmentOp(name, 1.0, magnitude, options)
                    if name.startswith("Posterize"):  # today's Pillow refuses to keep 0 bits
                        lost = min(max(8 - operation.level_fn(magnitude, {})[0], 0), 8)
                        expected = np.asarray(picture) >> lost << lost
                    else:
                        expected = operation(picture)
                    found = operations[plain(name)](
                        picture, magnitude / 10, sign, ours.Look(method, FILL)
                    )
                    np.testing.assert_array_equal(found, expected, f"{name} {sign} {magnitude}")


def timms_draws(timm, text, count):
    """(operation, magnitude of turns or None, interpolation) of all that is applied."""
    policy, found = timm.rand_augment_transform(text, {"img_mean": FILL}), []

    def recorded(name):
        def record(image, *args, resample, **options):
            chosen = random.choice(resample)  # as timm's operations do
            found.append((plain(name), abs(args[0]) / 3 if name == "Rotate" else None, chosen))
            return image

        return record

    for operation in policy.ops:
        operation.aug_fn = recorded(operation.name)
    random.seed(0)
    np.random.seed(0)
    for _ in range(count):
        policy(None)
    return found


def our_draws(monkeypatch, overrides, count):
    config, found = base_config(), []
    apply_overrides(config, {"data.policy": "randaugment_timm", **overrides})
    validate(config)

    def recorded(name):
        def record(image, share, sign, look):
            assert look.fill == FILL
            found.append((name, 10 * share, sign, look.resample))
            return image

        return record

    names = list(ours.operations_timm(True))
    monkeypatch.setattr(ours, "operations_timm", lambda _: {name: recorded(name) for name in names})
    numbers = np.random.default_rng(0).random((count, 64))
    for row in numbers:
        ours.randaugment_timm(None, iter(row), config.data)
    return found


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("rand-m9-mstd0.5-inc1", {}),
        (
            "rand-m4-n3-mstd2-p0.8",
            {"magnitude": "4", "ops": "3", "magnitude_std": "2", "prob": "0.8"},
        ),
        (
            "rand-m15-mstd2-mmax16-inc1",
            {"magnitude": "15", "magnitude_std": "2", "magnitude_max": "16"},
        ),
    ],
)
def test_draws_are_timms_in_distribution(timm, monkeypatch, text, overrides):
    count = 6000
    overrides = {f"data.policy_{name}": value for name, value in overrides.items()}
    random_method = {"data.resize_method": "random", "data.eval_resize_method": "bicubic"}
    theirs = timms_draws(timm, text, count)
    found = our_draws(monkeypatch, overrides | random_method, count)
    assert len(found) == pytest.approx(len(theirs), rel=0.03)
    for name in {name for name, *_ in theirs}:
        shares = [np.mean([draw[0] == name for draw in draws]) for draws in (found, theirs)]
        assert shares[0] == pytest.approx(1 / 15, abs=0.01)
        assert shares[1] == pytest.approx(1 / 15, abs=0.01)
    magnitudes = np.array([draw[1] for draw in found])
    expected = np.array([draw[1] for draw in theirs if draw[1] is not None])
    assert ks_2samp(magnitudes, expected).pvalue > 0.01
    most = float(overrides.get("data.policy_magnitude_max", 10))
    assert np.mean(magnitudes == most) == pytest.approx(np.mean(expected == most), abs=0.03)
    assert np.mean([draw[2] for draw in found]) == pytest.approx(0, abs=0.05)
    for method in RANDOM:
        shares = [np.mean([draw[-1] == method for draw in draws]) for draws in (found, theirs)]
        assert shares == pytest.approx([0.5, 0.5], abs=0.03)


def test_interpolation_is_drawn_for_each_image_and_epoch():
    pixels = encode(noise(50, 60))
    plain = {"train_crop": "resize", "image_size": 24}
    either = [trained(pixels, **plain, resize_method=method) for method in ("bilinear", "bicubic")]
    drawn = [
        [
            trained(pixels, index=index, epoch=epoch, **plain, resize_method="random")
            for index in range(40)
        ]
        for epoch in (0, 0, 1)
    ]
    which = [[[np.array_equal(x, one) for one in either].index(True) for x in row] for row in drawn]
    assert which[0] == which[1] != which[2]
    assert 10 < sum(which[0]) < 30


def test_what_cannot_be_is_refused():
    config = base_config()
    config.data.resize_method = "random"
    with pytest.raises(ConfigError, match=r"set config\.data\.eval_resize_method too"):
        validate(config)
    config.data.update(resize_method="area", policy="randaugment_timm")
    with pytest.raises(ConfigError, match="'area'; expected nearest, bilinear, bicubic or random"):
        validate(config)
    config.data.update(resize_method="bicubic", policy_magnitude=11)
    with pytest.raises(ConfigError, match="= 11 is no magnitude of randaugment_timm; expected 0"):
        validate(config)
    config.data.policy_magnitude_max = 11
    validate(config)
    config.data.update(policy="randaugment", policy_magnitude=6.5)
    with pytest.raises(ConfigError, match=r"= 6\.5 is no magnitude of randaugment; .* whole"):
        validate(config)
    config.data.policy = "randaugment_tf"
    validate(config)
