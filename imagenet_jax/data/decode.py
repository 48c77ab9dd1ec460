"""Encoded image to uint8 pixels on the host, as TensorFlow graph functions."""

from collections.abc import Callable

import ml_collections

from imagenet_jax.data.host_tensorflow import tf

# (height, width) int32 [2] to the box (top, left, height, width) int32 [4] that is decoded.
BoxFunction = Callable[[tf.Tensor], tf.Tensor]


def train_image(
    encoded: tf.Tensor,
    index: tf.Tensor,
    epoch: tf.Tensor,
    data: ml_collections.ConfigDict,
    seed: int,
) -> tf.Tensor:
    """A training image uint8 [S, S, 3]; the crop is a function of (seed, epoch, index)."""
    if data.train_crop == "none":
        return stored_size(encoded, data.image_size)
    if data.train_crop == "center_crop":
        box = center_box(data.eval_crop_fraction)
    else:
        stream = tf.cast(epoch, tf.int64) * 2**31 + seed
        pair = tf.stack([stream, tf.cast(index, tf.int64)])
        box = random_box(pair, tuple(data.crop_area), tuple(data.crop_ratio))
    return cropped(encoded, box, data)


def eval_image(encoded: tf.Tensor, data: ml_collections.ConfigDict) -> tf.Tensor:
    """An evaluation image uint8 [S, S, 3]."""
    if data.eval_crop == "none":
        return stored_size(encoded, data.image_size)
    return cropped(encoded, center_box(data.eval_crop_fraction), data)


def stored_size(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes an image that must have `size` x `size` pixels already; else an error at run time."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    shape = tf.shape(image)
    message = f"the image does not have data.image_size = {size} pixels; set a crop"
    check = tf.debugging.assert_equal(shape[:2], (size, size), message)
    with tf.control_dependencies([check]):
        return tf.ensure_shape(tf.identity(image), (size, size, 3))


def cropped(encoded: tf.Tensor, box: BoxFunction, data: ml_collections.ConfigDict) -> tf.Tensor:
    """Decodes a box of the image (of a JPEG only that box) and resizes it to S x S, uint8."""

    def from_jpeg() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(encoded)
        return tf.image.decode_and_crop_jpeg(
            encoded, box(shape[:2]), channels=3, dct_method="INTEGER_ACCURATE"
        )

    def from_other() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        top, left, height, width = tf.unstack(box(tf.shape(image)[:2]))
        return image[top : top + height, left : left + width]

    crop = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
    crop = tf.ensure_shape(crop, (None, None, 3))
    size = (data.image_size, data.image_size)
    pixels = tf.image.resize(crop, size, method=data.resize_method, antialias=data.resize_antialias)
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def random_box(
    seed: tf.Tensor, area: tuple[float, float], ratio: tuple[float, float]
) -> BoxFunction:
    """Inception's random crop (Szegedy et al. 2014); the whole image after 10 misses.

    Args:
      seed: int64 [2].
      area: range of the crop's share of the image's area.
      ratio: range of the crop's width / height.
    """

    def box(shape: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([shape, [3]], 0),
            tf.zeros((1, 0, 4)),
            seed,
            min_object_covered=0.0,
            area_range=area,
            aspect_ratio_range=ratio,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    return box


def center_box(fraction: float) -> BoxFunction:
    """A square in the middle, its side `fraction` of the short side, rounded."""

    def box(shape: tf.Tensor) -> tf.Tensor:
        short = tf.cast(tf.reduce_min(shape), tf.float32)
        side = tf.maximum(tf.cast(tf.round(short * fraction), tf.int32), 1)
        return tf.concat([(shape - side) // 2, [side, side]], 0)

    return box
