import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from oracles import torchvision
from PIL import Image
from pixel_oracles import bilinear, center_crop, encode, noise, pil_pixels

from imagenet_jax.config import base_config, validate
from imagenet_jax.data.chunk import ChunkMaker
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.order import Rows
from imagenet_jax.errors import ConfigError


class OneImage:
    """A source whose every example is the same file."""

    class_names, fields = ("any",), {}

    def __init__(self, encoded):
        self.encoded = encoded

    def read(self, index):
        return [self.encoded] * len(index), {}


def made(encoded, train, place, data):
    config = base_config()
    config.data.update(data)
    index, epoch, seed = place
    rows = Rows(np.array([index]), np.array([epoch]), np.ones(1, bool))
    maker = ChunkMaker(OneImage(encoded), Preprocess(config.data, seed, train))
    return maker.one(rows)["image"][0]


def evaluated(encoded, **data):
    """The evaluation image of an encoded one, under these fields of config.data."""
    return made(encoded, False, (0, 0, 0), data)


def trained(encoded, index=0, epoch=0, seed=0, **data):
    """The training image of an encoded one, under these fields of config.data."""
    return made(encoded, True, (index, epoch, seed), data)


def difference(image, expected):
    """Absolute difference in levels, one for each value."""
    return np.abs(image.astype(np.float64) - expected)


def test_center_crop_of_photographs_equals_pillow_and_bilinear_weights(photos):
    for name, encoded in photos.items():
        expected = bilinear(center_crop(pil_pixels(encoded), 0.875), 224)
        wrong = difference(evaluated(encoded), expected)
        # Rounding to uint8 is 0.25 on average; another libjpeg may add a level here and there.
        assert wrong.mean() < 0.4 and np.quantile(wrong, 0.99) <= 1.5, name


def test_only_the_box_of_a_jpeg_is_decoded_and_equals_pillow(photos):
    for name, encoded in photos.items():
        expected = center_crop(pil_pixels(encoded), 0.5)
        image = evaluated(encoded, eval_crop_fraction=0.5, image_size=len(expected))
        # libjpeg interpolates colour between columns, so the box's first and last may differ.
        assert difference(image, expected)[:, 1:-1].max() <= 2, name


@pytest.mark.parametrize("shape", [(13, 20), (20, 13), (9, 9), (1, 5), (1, 1)])
@pytest.mark.parametrize("fraction", [0.875, 1.0, 0.3])
def test_the_box_is_in_the_middle(shape, fraction):
    pixels = noise(*shape)
    expected = center_crop(pixels, max(fraction, 1 / min(shape)))  # one pixel at least
    image = evaluated(encode(pixels), eval_crop_fraction=fraction, image_size=len(expected))
    np.testing.assert_array_equal(image, expected)


def test_a_training_image_may_be_the_center_crop():
    encoded = encode(noise(30, 20))
    image = trained(encoded, epoch=3, train_crop="center_crop", image_size=16)
    np.testing.assert_array_equal(image, evaluated(encoded, image_size=16))
    expected = bilinear(center_crop(pil_pixels(encoded), 0.875), 16)
    assert difference(image, expected).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("crop", ["center_crop", "none"])
def test_grey_images_become_three_equal_channels(format, crop):
    encoded = encode(noise(16, 16)[..., 0], format)
    image = evaluated(encoded, eval_crop=crop, eval_crop_fraction=1.0, image_size=16)
    assert image.shape == (16, 16, 3) and (image == image[..., :1]).all()
    assert difference(image, pil_pixels(encoded)).max() <= 2


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "WEBP"])
def test_lossless_formats_are_exact(format):
    levels = noise(16, 16) // 64 * 85
    grey = np.repeat(levels[..., :1], 3, -1) if format == "GIF" else levels  # GIF: 256 colours
    encoded = encode(grey, format, **({"lossless": True} if format == "WEBP" else {}))
    image = evaluated(encoded, eval_crop_fraction=1.0, image_size=16)
    np.testing.assert_array_equal(image, grey)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [24, 90])
def test_antialiased_resize_equals_pillow(method, size):
    pixels = noise(60, 60) // 2 + 64  # no overshoot, which Pillow clips after each axis
    image = evaluated(
        encode(pixels),
        eval_crop_fraction=1.0,
        image_size=size,
        resize_method=method,
        resize_antialias=True,
    )
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = Image.fromarray(pixels).resize((size, size), filters[method])
    assert difference(image, np.asarray(expected)).max() <= 1


def test_area_resize_is_the_mean_of_blocks():
    pixels = noise(40, 40)
    image = evaluated(encode(pixels), eval_crop_fraction=1.0, image_size=10, resize_method="area")
    assert difference(image, pixels.reshape(10, 4, 10, 4, 3).mean((1, 3))).max() <= 0.51


def test_bicubic_overshoot_is_clipped():
    """-19 and 274 must not wrap round to 237 and 18."""
    stripes = np.tile(np.repeat(np.uint8([0, 255]), 4), 2)  # 16 columns
    pixels = np.broadcast_to(stripes[None, :, None], (16, 16, 3)).copy()
    options = {"eval_crop_fraction": 1.0, "resize_method": "bicubic"}
    image = evaluated(encode(pixels), image_size=64, **options)
    dark, bright = image[:, 4:14].max(), image[:, 18:30].min()  # two stripes without their ends
    assert dark == 0 and bright == 255


RAMP = np.stack(np.broadcast_arrays(*np.ogrid[:200, :240], 7), -1).astype(np.uint8)


def box_of_ramp(image):
    """The box that was cut from RAMP, whose red is the row and green the column."""
    inner = np.arange(16, 48)  # away from the edge, where upsampling repeats the last pixel
    box = []
    for values in (image[inner, 32, 0], image[32, inner, 1]):
        step, first = np.polyfit(inner, values.astype(np.float64), 1)
        box.append((first - step / 2 + 0.5, 64 * step))
    (top, height), (left, width) = box
    return top, left, height, width


def test_random_resized_crop_is_an_upright_box_of_the_image():
    encoded = encode(RAMP)
    for index in range(20):
        image = trained(encoded, index=index, image_size=64)
        top, left, height, width = box_of_ramp(image)
        assert top > -1 and left > -1 and top + height < 201 and left + width < 241
        # The slopes have the errors of a line through 32 rounded values.
        assert 0.07 < height * width / RAMP[..., 0].size < 1.03
        assert 0.71 < width / height < 1.4
        top, left, height, width = (round(side) for side in (top, left, height, width))
        crop = RAMP[top : top + height, left : left + width]
        assert difference(image, bilinear(crop, 64)).max() <= 3


def test_random_resized_crop_is_a_function_of_seed_epoch_and_index():
    encoded = encode(noise(50, 60))
    places = [(i, e, s) for i in (0, 1, 2) for e in (0, 1, 2) for s in (0, 1, 2)]
    images = [trained(encoded, *place, image_size=16) for place in places]
    again = [trained(encoded, *place, image_size=16) for place in reversed(places)]
    np.testing.assert_array_equal(images, again[::-1])
    assert len({image.tobytes() for image in images}) == len(places)


@pytest.mark.parametrize("train", [True, False])
def test_images_of_the_stored_size_are_taken_as_they_are(train):
    pixels = noise(16, 16)
    data = {"image_size": 16, "train_crop": "none", "eval_crop": "none"}
    image = (trained if train else evaluated)(encode(pixels), **data)
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("shape", [(16, 17), (17, 16), (8, 32), (17, 17)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"not data\.image_size = 16; set a crop"):
        evaluated(encode(noise(*shape)), eval_crop="none", image_size=16)


@pytest.fixture(scope="module")
def hundred_photos(test_data):
    """A hundred photos, encoded; the sample's every fifth."""
    with zipfile.ZipFile(test_data / "imagenet_sample.zip") as archive:
        return [archive.read(name) for name in sorted(archive.namelist())[::5]]


def share_within_a_level(images, expected):
    wrong = difference(np.array(images), np.array(expected))
    return (wrong <= 1).mean()


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_evaluation_images_are_pillows_in_the_way_of_torchvision(hundred_photos, method):
    """With Pillow and NumPy alone: short side to 256, then the middle 224 x 224."""
    options = {"eval_crop": "resize_center_crop", "resize_antialias": True}
    images = [evaluated(photo, resize_method=method, **options) for photo in hundred_photos]
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = []
    for photo in hundred_photos:
        whole = Image.open(io.BytesIO(photo)).convert("RGB")
        scale = 256 / min(whole.size)
        size = tuple(256 if side == min(whole.size) else int(side * scale) for side in whole.size)
        pixels = np.asarray(whole.resize(size, filters[method]))
        top, left = (round((side - 224) / 2) for side in pixels.shape[:2])
        expected.append(pixels[top : top + 224, left : left + 224])
    assert share_within_a_level(images, expected) >= 0.999


@pytest.mark.parametrize(("method", "short"), [("bilinear", 232), ("bicubic", 256)])
def test_evaluation_images_are_those_of_torchvisions_transforms(hundred_photos, method, short):
    transforms = torchvision().transforms
    mode = transforms.InterpolationMode[method.upper()]
    reference = transforms.Compose(
        [transforms.Resize(short, mode), transforms.CenterCrop(224), np.asarray]
    )
    options = {"eval_crop": "resize_center_crop", "resize_antialias": True, "eval_resize": short}
    images = [evaluated(photo, resize_method=method, **options) for photo in hundred_photos]
    whole = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in hundred_photos]
    assert share_within_a_level(images, [reference(image) for image in whole]) >= 0.999


@pytest.mark.parametrize(
    ("crop", "mode", "fraction", "size"),
    [
        ("resize_center_crop", "center", 0.9, 224),
        ("resize_center_crop", "center", 0.882, 240),
        ("resize", "squash", 1.0, 224),
    ],
)
def test_evaluation_images_are_those_of_timm(hundred_photos, crop, mode, fraction, size):
    torchvision()
    data = pytest.importorskip("timm.data", reason="timm is not installed")
    reference = data.create_transform(
        input_size=size, interpolation="bicubic", crop_pct=fraction, crop_mode=mode
    )
    reference.transforms = reference.transforms[:2]  # without ToTensor and Normalize
    options = {"eval_crop_fraction": fraction, "image_size": size, "resize_method": "bicubic"}
    photos = hundred_photos[:30]
    images = [evaluated(p, eval_crop=crop, resize_antialias=True, **options) for p in photos]
    whole = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in photos]
    assert share_within_a_level(images, [np.asarray(reference(i)) for i in whole]) >= 0.999


def test_without_antialias_the_short_side_is_resized_as_well():
    pixels = noise(40, 60)
    image = evaluated(encode(pixels), eval_crop="resize_center_crop", eval_resize=40, image_size=30)
    np.testing.assert_array_equal(image, pixels[5:35, 15:45])


def test_a_resize_smaller_than_the_crop_is_refused():
    config = base_config()
    config.data.eval_resize = 200
    with pytest.raises(ConfigError, match=r"eval_resize = 200 is smaller .*\.image_size = 224"):
        validate(config)


def smooth(height, width):
    """A picture without fine detail: scaling hardly changes it."""
    rows, columns = np.ogrid[:height, :width]
    waves = [np.sin(rows / (40 + 9 * k)) + np.cos(columns / (50 - 7 * k)) for k in range(3)]
    return np.uint8(127 + 60 * np.stack(waves, -1))


@pytest.mark.parametrize("side", [100, 200, 399, 400, 900])
def test_a_large_jpegs_crop_is_decoded_at_a_fraction_of_its_size(side):
    """And covers the same part of the picture as a full decode."""
    encoded = encode(smooth(side, side + 40), "JPEG", quality=95)
    crop = {"train_crop": "center_crop", "eval_crop_fraction": 0.9, "image_size": 90}
    draft, full = trained(encoded, **crop), trained(encoded, draft=False, **crop)
    assert difference(draft, full).mean() < 5  # of a slope of 12 levels a pixel
    assert (draft != full).any() == (round(0.9 * side) >= 180)


def test_evaluation_is_never_decoded_at_a_fraction():
    encoded = encode(noise(400, 400), "JPEG")
    image = evaluated(encoded, image_size=40, eval_crop_fraction=1.0, resize_method="nearest")
    rows = (np.arange(40) * 10 + 5).astype(int)
    expected = pil_pixels(encoded)[rows][:, rows]
    assert (difference(image, expected) <= 2).mean() > 0.999


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 2)])
def test_of_a_very_long_image_only_the_middle_is_resized(shape, antialias):
    pixels = np.full((*shape, 3), 7, np.uint8)
    middle = [slice(None), slice(None)]
    middle[int(np.argmax(shape))] = slice(29_000, 31_000)
    pixels[tuple(middle)] = 200
    rule = {"eval_crop": "resize_center_crop", "image_size": 64, "resize_antialias": antialias}
    tracemalloc.start()
    image = evaluated(encode(pixels, "PNG"), **rule)
    assert tracemalloc.get_traced_memory()[1] < 20 * pixels.nbytes
    tracemalloc.stop()
    assert (image == 200).all()
