import cv2
import numpy as np
import pytest
from oracles import torchvision
from PIL import Image
from pixel_oracles import noise

from imagenet_jax.config import base_config
from imagenet_jax.data.images import randaugment_tf as ours
from imagenet_jax.data.images.autoaugment import IMAGENET_TF
from imagenet_jax.data.images.randaugment_tf import (
    OPERATIONS_TF,
    autoaugment_tf,
    randaugment_tf,
)

HEIGHT, WIDTH = 120, 140


def grey(pixels):
    return (pixels @ [0.299, 0.587, 0.114])[..., None]


def smoothed(pixels):
    inner = cv2.filter2D(pixels, -1, np.float64([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13)
    inner[[0, -1]], inner[:, [0, -1]] = pixels[[0, -1]], pixels[:, [0, -1]]
    return inner


def blended(other, pixels, level):
    """Of big_vision's blend, whose image has the share 0.1 + 0.18 `level`."""
    return np.clip(other + (0.1 + 0.18 * level) * (pixels - other), 0, 255)


def moved(pixels, up, left):
    """By whole pixels, grey coming in."""
    kept = pixels[up:, left:]
    sides = ((0, HEIGHT - kept.shape[0]), (0, WIDTH - kept.shape[1]), (0, 0))
    return np.pad(kept, sides, constant_values=128)


# What an operation makes of pixels float64 [H, W, 3] at a level; the first sign is -1.
EXPECTED = {
    "Invert": lambda p, level: 255 - p,
    "Posterize": lambda p, level: p // 2 ** (8 - (4 * level // 10)) * 2 ** (8 - (4 * level // 10)),
    "Solarize": lambda p, level: np.where(p < 256 * level // 10 % 256, p, 255 - p),
    "SolarizeAdd": lambda p, level: np.where(p < 128, np.minimum(p + 11 * level, 255), p),
    "Color": lambda p, level: blended(grey(p), p, level),
    "Contrast": lambda p, level: blended(HEIGHT * WIDTH // 256, p, level),
    "Brightness": lambda p, level: blended(0, p, level),
    "Sharpness": lambda p, level: blended(smoothed(p), p, level),
    "TranslateX": lambda p, level: moved(p, 0, 10 * level),
    "TranslateY": lambda p, level: moved(p, 10 * level, 0),
}


def applied(name, pixels, level, draws=()):
    picture = OPERATIONS_TF[name](Image.fromarray(pixels), level / 10, -1, iter(draws))
    return np.asarray(picture).astype(float)


@pytest.mark.parametrize("level", [5, 10, 15])
@pytest.mark.parametrize("name", EXPECTED)
def test_operations_are_big_visions(name, level):
    pixels = noise(HEIGHT, WIDTH)
    difference = applied(name, pixels, level) - EXPECTED[name](pixels.astype(float), level)
    assert np.abs(difference).max() <= 2.5  # of rounding, times a factor up to 2.8


def test_solarize_of_level_10_inverts_everything():
    """256 does not fit a byte; that is what TensorFlow's code does, run in 2.21."""
    pixels = noise(20, 20)
    np.testing.assert_array_equal(applied("Solarize", pixels, 10), 255 - pixels.astype(float))


def test_what_is_turned_or_sheared_lets_grey_in():
    white = np.full((HEIGHT, HEIGHT, 3), 255, np.uint8)
    for name, share in (("Rotate", 0.134), ("ShearX", 0.15), ("ShearY", 0.15)):
        values, counts = np.unique(applied(name, white, 10), return_counts=True)
        assert list(values) == [128, 255]  # a turn by 30 degrees, a shear by 0.3
        assert counts[0] / white.size == pytest.approx(share, abs=0.03)


def test_cutout_greys_a_square_as_far_as_it_is_inside():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cut = applied("Cutout", image, 5, [0.5, 10.5 / WIDTH])
    rows, columns = np.nonzero(cut[..., 0] == 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 79, 0, 29)
    assert not image.any()  # which belongs to the caller


def test_each_of_sixteen_operations_is_drawn_and_applied_at_the_level():
    config = base_config()
    config.data.policy_ops, config.data.policy_magnitude = 1, 10
    pixels, names = noise(64, 64), list(OPERATIONS_TF)
    assert len(names) == 16
    for number, name in enumerate(names):
        draws = [(number + 0.5) / 16, 0.2, 0.5, 0.5]
        drawn = randaugment_tf(Image.fromarray(pixels), iter(draws), config.data)
        np.testing.assert_array_equal(drawn, applied(name, pixels, 10, draws[2:]), name)


def test_pairs_of_autoaugment_are_those_of_timms_v0():
    """Which has them of the same source, but for how far an image is moved."""
    torchvision()
    timm = pytest.importorskip("timm.data.auto_augment", reason="timm is not installed")
    theirs = timm.auto_augment_policy_v0({})
    found = [[(op.name.removesuffix("Rel"), op.prob, op.magnitude) for op in p] for p in theirs]
    assert list(map(list, IMAGENET_TF)) == found


def test_a_pair_of_autoaugment_is_applied_with_its_probabilities(monkeypatch):
    calls = []

    def recorded(name):
        return lambda image, share, sign, draw: calls.append((name, share, sign)) or image

    names = {name for pair in IMAGENET_TF for name, *_ in pair}
    assert names <= set(OPERATIONS_TF)
    monkeypatch.setattr(ours, "_AUTOAUGMENT_TF", {name: recorded(name) for name in names})
    data = base_config().data
    autoaugment_tf(None, iter([0.5 / 25, 0.79, 0.9, 0.79, 0.1]), data)
    autoaugment_tf(None, iter([0.5 / 25, 0.81, 0.9, 0.81, 0.1]), data)
    assert calls == [("Equalize", 0.1, 1), ("ShearY", 0.4, -1)]


def test_autoaugment_moves_an_image_by_up_to_250_pixels():
    pixels = noise(300, 300)
    draws = [15.5 / 25, 0.0, 0.9, 0.79, 0.9]  # a turn by 21 degrees, then down by 225
    down = np.asarray(autoaugment_tf(Image.fromarray(pixels), iter(draws), base_config().data))
    assert (down[:225] == 128).all() and not (down[225:] == 128).all()
