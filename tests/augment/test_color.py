import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from imagenet_jax.augment import color
from imagenet_jax.config import base_config

FACTORS = np.float32([0.0, 0.3, 1.0, 1.7])


@pytest.fixture
def images():
    """Four pictures float32 [4, 24, 20, 3] in [0, 1], of whole levels."""
    levels = np.random.default_rng(0).integers(0, 256, (4, 24, 20, 3))
    levels[1] = levels[1] // 8 + 100
    levels[2, ..., 1] = levels[2, ..., 0]
    levels[3, :12] = levels[3, :12, :, :1]  # grey: no hue
    return np.float32(levels / 255)


def by_torchvision(name, images, values, **options):
    """torchvision's function on each image [H, W, C] with its value."""
    functional = torchvision().transforms.functional
    import torch

    done = [
        getattr(functional, name)(torch.tensor(image).permute(2, 0, 1), value, **options)
        for image, value in zip(images, values, strict=True)
    ]
    return np.stack([image.permute(1, 2, 0).numpy() for image in done])


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation"])
def test_adjustments_equal_torchvisions(name, images):
    expected = by_torchvision(name, images, FACTORS.tolist())
    np.testing.assert_allclose(getattr(color, name)(images, FACTORS), expected, atol=2e-6)


@pytest.mark.parametrize("shift", [-0.5, -0.13, 0.0, 0.25, 0.5])
def test_hue_equals_torchvisions(shift, images):
    expected = by_torchvision("adjust_hue", images, [shift] * 4)
    ours = color.adjust_hue(jnp.asarray(images), jnp.full(4, shift))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("largest", [0.8, 2.0])
def test_blur_equals_torchvisions(largest, images):
    sigma = np.float32([0.1, 0.5, 0.7, largest])
    size = 2 * int(3 * largest + 0.5) + 1
    functional = torchvision().transforms.functional
    import torch

    expected = [
        functional.gaussian_blur(torch.tensor(i).permute(2, 0, 1), size, [float(s)] * 2)
        for i, s in zip(images, sigma, strict=True)
    ]
    expected = np.stack([image.permute(1, 2, 0).numpy() for image in expected])
    ours = color.gaussian_blur(jnp.asarray(images), jnp.asarray(sigma), largest)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_colours_are_pillows_within_its_rounding(images):
    levels = np.uint8(np.round(images * 255))
    for number, image in enumerate(map(Image.fromarray, levels)):
        one, factor = images[number : number + 1], np.float32([0.6])
        pairs = [
            (color.adjust_brightness(one, factor), ImageEnhance.Brightness(image).enhance(0.6)),
            (color.adjust_contrast(one, factor), ImageEnhance.Contrast(image).enhance(0.6)),
            (color.adjust_saturation(one, factor), ImageEnhance.Color(image).enhance(0.6)),
            (color.to_gray(jnp.asarray(one)), image.convert("L").convert("RGB")),
            (color.solarize(one, 128 / 255), ImageOps.solarize(image)),
        ]
        for ours, theirs in pairs:
            assert np.abs(255 * np.asarray(ours[0]) - np.asarray(theirs)).max() <= 1.6


def test_blur_is_pillows_in_the_middle():
    smooth = np.uint8(np.random.default_rng(0).integers(0, 256, (60, 60, 3)))
    image = Image.fromarray(smooth).filter(ImageFilter.GaussianBlur(2))
    expected = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), np.float64)
    start = np.float32(np.asarray(image) / 255)[None]
    ours = 255 * np.asarray(color.gaussian_blur(start, np.float32([1.5]), 2.0))[0]
    assert np.abs(ours - expected)[10:-10, 10:-10].max() < 3  # Pillow's is made of box filters


def changed(images, **fields):
    """The images after random_color under these fields, 0 to 1, many times over."""
    config = base_config().augment
    config.update(fields)
    keys = jax.random.split(jax.random.key(0), len(images))
    levels = np.uint8(np.round(images * 255))
    return np.asarray(jax.jit(lambda x: color.random_color(x, keys, config))(levels)) / 255


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("grayscale", lambda x: np.asarray(color.to_gray(x))),
        ("solarize", lambda x: np.where(x >= 128 / 255, 1 - x, x)),
    ],
)
def test_a_share_of_the_images_is_changed(field, change, images):
    many = np.repeat(images[:1], 200, 0)
    out = changed(many, **{field: 0.25})
    was = np.isclose(out, change(many), atol=1e-5).all((1, 2, 3))
    kept = np.isclose(out, many, atol=1e-5).all((1, 2, 3))
    assert (was ^ kept).all() and 30 < was.sum() < 70


def test_three_augment_makes_a_third_grey_a_third_solarized_and_blurs_the_rest(images):
    many = np.repeat(images[:1], 300, 0)
    out = changed(many, three_augment=True)
    grey = np.isclose(out, np.asarray(color.to_gray(many)), atol=1e-5).all((1, 2, 3))
    solar = np.isclose(out, np.where(many >= 128 / 255, 1 - many, many), atol=1e-5).all((1, 2, 3))
    slope = np.abs(np.diff(out, axis=2)).mean((1, 2, 3))
    blurred = slope < np.abs(np.diff(many[0], axis=1)).mean() + 1e-6
    assert not (grey & solar).any() and blurred[~grey & ~solar].all()
    for share in (grey, solar, ~grey & ~solar):
        assert 70 < share.sum() < 130


def test_jitter_draws_the_whole_range_in_every_order():
    grey = np.full((400, 4, 4, 3), 0.4, np.float32)
    bright = changed(grey, brightness=0.5)[:, 0, 0, 0] / 0.4
    assert 0.49 < bright.min() < 0.55 and 1.45 < bright.max() < 1.51
    # Brighter than white is cut off: then less contrast is not what it is before.
    images = np.broadcast_to(np.float32([0.0, 0.9])[None, :, None, None], (400, 2, 4, 3))
    keys = jax.random.split(jax.random.key(1), 400)
    both = np.asarray(color.color_jitter(jnp.asarray(images), keys, (0.9, 0.9, 0.0, 0.0)))
    assert len(np.unique(both[:, 1, 0, 0].round(3))) > 100 and both.min() >= 0 and both.max() <= 1


@pytest.mark.parametrize("beyond", [False, True])  # what one change leaves is the next one's
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("shift_brightness", "adjust_brightness"),
        ("scale_contrast", "adjust_contrast"),
        ("scale_saturation", "adjust_saturation"),
        ("adjust_hue", "adjust_hue"),
    ],
)
def test_the_jitter_of_tensorflow_is_its(ours, theirs, beyond, images):
    import tensorflow as tf

    images = images * 1.4 - 0.2 if beyond and theirs != "adjust_hue" else images
    values = np.float32([-0.2, 0.3, 1.0, 0.7])
    values = np.abs(values) if theirs in ("adjust_contrast", "adjust_saturation") else values
    change = getattr(tf.image, theirs)
    expected = np.stack([change(i, float(v)) for i, v in zip(images, values, strict=True)])
    found = getattr(color, ours)(jnp.asarray(images), jnp.asarray(values))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_jitter_of_tensorflow_adds_and_cuts_at_its_end():
    grey = np.full((400, 4, 4, 3), 0.4, np.float32)
    added = changed(grey, brightness=0.5, jitter="tensorflow")[:, 0, 0, 0]
    assert added.min() == 0 and 0.85 < added.max() < 0.9 and 20 < (added == 0).sum() < 70
    pair = np.broadcast_to(np.float32([0.3, 0.9])[None, :, None, None], (400, 2, 4, 3))
    keys = jax.random.split(jax.random.key(1), 400)
    both = color.color_jitter(jnp.asarray(pair), keys, (0.3, 0.9, 0, 0), "tensorflow")
    both = np.asarray(both)[:, :, 0, 0]
    # A factor about the mean after or before a shift of it: the middle is the shifted mean.
    inner = both[(both > 0).all(1) & (both < 1).all(1)].mean(1)
    assert len(inner) > 100 and inner.min() > 0.29 and inner.max() < 0.91


def test_noise_has_its_deviation():
    grey = np.full((50, 20, 20, 3), 0.5, np.float32)
    out = changed(grey, noise=0.1) - 0.5
    assert abs(out.std() - 0.1) < 0.005 and abs(out.mean()) < 0.005


def test_lighting_is_along_the_axes_of_the_colours():
    """Krizhevsky et al. 2012: covariance of what is added is that of ImageNet's colours, scaled."""
    config = base_config().augment
    config.lighting = 0.1
    levels = np.full((4000, 2, 2, 3), 100, np.uint8)
    keys = jax.random.split(jax.random.key(0), 4000)
    added = (np.asarray(color.random_color(levels, keys, config)) - 100) / 255
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)
    vectors = np.array([[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948]])
    vectors = np.vstack([vectors, [0.4009, -0.8140, 0.4203]])
    spread = (added[:, 0, 0] @ vectors.T).std(0)
    np.testing.assert_allclose(spread, 0.1 * np.array([0.2175, 0.0188, 0.0045]), rtol=0.06)
    np.testing.assert_allclose(added.mean((0, 1, 2)), 0, atol=1e-3)
