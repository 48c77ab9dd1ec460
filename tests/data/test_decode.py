import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pixel_oracles import bilinear, center_crop, encode, noise, pil_pixels

from imagenet_jax.config import base_config
from imagenet_jax.data import decode


def evaluated(encoded, **data):
    """The evaluation image of an encoded one, under these fields of config.data."""
    config = base_config()
    config.data.update(data)
    return decode.eval_image(tf.constant(encoded), config.data).numpy()


def trained(encoded, index=0, epoch=0, seed=0, **data):
    """The training image of an encoded one, under these fields of config.data."""
    config = base_config()
    config.data.update(data)
    place = tf.constant(index, tf.int32), tf.constant(epoch, tf.int32)
    return decode.train_image(tf.constant(encoded), *place, config.data, seed).numpy()


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
    assert difference(image, expected).max() <= 0.51


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


def sample_boxes(shape, area, ratio, count=500):
    """Boxes int32 [count, 4] of an image of this shape."""

    @tf.function
    def sample():
        def box(index):
            return decode.random_box(tf.stack([0, index]), area, ratio)(tf.constant(shape))

        numbers = tf.range(count, dtype=tf.int64)
        return tf.map_fn(box, numbers, fn_output_signature=tf.int32)

    return sample().numpy()


@pytest.mark.parametrize(
    ("area", "ratio"),
    [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.35, 0.4), (0.6, 0.9)), ((0.05, 0.5), (1.0, 1.0))],
)
@pytest.mark.parametrize("shape", [(300, 400), (400, 300)])
def test_random_boxes_keep_to_their_ranges_and_fill_them(area, ratio, shape):
    height, width = shape
    top, left, h, w = sample_boxes(shape, area, ratio).T
    assert top.min() >= 0 and left.min() >= 0
    assert (top + h).max() <= height and (left + w).max() <= width
    # A pixel more or less on each side is the rounding.
    share, pixel = h * w / (height * width), (h + w + 1) / (height * width)
    assert (share >= area[0] - pixel).all() and (share <= area[1] + pixel).all()
    assert ((w - 1) / (h + 1) <= ratio[1]).all() and ((w + 1) / (h - 1) >= ratio[0]).all()
    for values, (low, high) in ((share, area), (w / h, ratio)):
        assert values.min() <= low + 0.2 * (high - low) + 0.01
        assert values.max() >= high - 0.2 * (high - low) - 0.01


def test_boxes_lie_anywhere_in_the_image():
    boxes = sample_boxes((100, 100), (0.25, 0.25), (1.0, 1.0))
    for corner in boxes[:, 0], boxes[:, 1]:  # 50x50 boxes: uniform on 0..50
        assert abs(corner.mean() - 25) < 3 and corner.min() <= 2 and corner.max() >= 48


def test_an_impossible_box_is_the_whole_image():
    box = decode.random_box(tf.constant([0, 0], tf.int64), (0.9, 1.0), (1.0, 1.0))
    assert box(tf.constant([10, 1000])).numpy().tolist() == [0, 0, 10, 1000]


@pytest.mark.parametrize("train", [True, False])
def test_images_of_the_stored_size_are_taken_as_they_are(train):
    pixels = noise(16, 16)
    data = {"image_size": 16, "train_crop": "none", "eval_crop": "none"}
    image = (trained if train else evaluated)(encode(pixels), **data)
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("shape", [(16, 17), (17, 16), (8, 32), (17, 17)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_size = 16 pixels; set a crop"):
        evaluated(encode(noise(*shape)), eval_crop="none", image_size=16)
