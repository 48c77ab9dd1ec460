"""A SavedModel's second signature: files of photos in, answers out, in TensorFlow's operations."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.deploy.comparison import compared
from imagenet_jax.deploy.program import program_of
from imagenet_jax.errors import ExportError
from imagenet_jax.inference.photos import model_input, to_pixels
from imagenet_jax.training.trained import TrainedModel

_LEVELS = 4.0  # mean difference, more than which is another crop
_READ = (b"\xff\xd8\xff", b"\x89PN")  # how files begin that decode_jpeg reads
_METHODS = {"area": "area", "lanczos": "lanczos3"}  # others have the same name


def photo_function(call: Any, config: ml_collections.ConfigDict) -> Any:
    """A tf.function "photos": bytes of JPEG or PNG files, string [N] -> outputs.

    Photos are cropped and resized as evaluation does it, in TensorFlow's own way of resizing. They
    are not turned as their EXIF data say. Boxes are in pixels of the photo, class maps in those of
    the network's image.

    Args:
      call: a tf.function of images uint8 [N, S, S, 3].
      config: of the run.

    Raises:
      ExportError: for faces that are to be aligned by points that no file of a photo has.
    """
    from imagenet_jax.data.host_tensorflow import tf

    if config.data.eval_crop == "align":
        raise ExportError(
            "the signature \"photos\" takes files alone, and config.data.eval_crop = 'align' needs "
            "points of each face; set --config.data.eval_crop=resize, for faces that are aligned"
        )
    prepare = _prepare(config)
    signature = [tf.TensorSpec([None], tf.string, "image_bytes")]

    @tf.function(autograph=False, input_signature=signature)
    def photos(image_bytes: Any) -> dict[str, Any]:
        size = config.data.image_size
        types = (
            tf.TensorSpec([size, size, 3], tf.uint8),
            *[tf.TensorSpec([4], tf.float32)] * 3,
        )
        images, scale, shift, edges = tf.map_fn(prepare, image_bytes, fn_output_signature=types)
        outputs = dict(call(images))
        for name in outputs:
            if name.rpartition("/")[2] == "boxes":
                back = (outputs[name] - shift[:, None]) / scale[:, None]
                outputs[name] = tf.clip_by_value(back, 0.0, edges[:, None])
        return outputs

    return photos


def compare_photos(trained: TrainedModel, path: Path, photos: Sequence[bytes]) -> dict[str, Any]:
    """What the signature "photos" of a folder says of files, beside what the model says.

    Returns:
      photos, how many; levels, the largest mean difference of what the network sees of one, 0 to
      255: decoders and ways of resizing round otherwise; changed_decisions, where they are clear.

    Raises:
      ExportError: if the network sees something else.
    """
    from imagenet_jax.data.host_tensorflow import tf

    config, prepare = trained.config, _prepare(trained.config)
    stored = config.copy_and_resolve_references()
    stored.data.exif_orientation = False  # which the signature does not know of
    pixels = [to_pixels(photo, stored) for photo in photos]
    photos = [
        photo if bytes(photo[:3]) in _READ else tf.io.encode_png(image).numpy()
        for photo, image in zip(photos, pixels, strict=True)
    ]
    if config.data.eval_crop == "none":  # it takes files of one size alone
        side = config.data.image_size
        pixels = [np.resize(image, (side, side, 3)) for image in pixels]
        photos = [tf.io.encode_png(image).numpy() for image in pixels]
    images = np.stack([model_input(image, config) for image in pixels])
    seen = np.stack([prepare(tf.constant(photo))[0].numpy() for photo in photos])
    levels = float(np.abs(seen.astype(np.float32) - images).mean((1, 2, 3)).max())
    if levels > _LEVELS:
        raise ExportError(
            f'the signature "photos" of {trained.name} makes other images of files than evaluation '
            f"does: {levels:.1f} levels apart; set --input=float32 to leave it out"
        )
    ours = dict(jax.device_get(jax.jit(program_of(trained))(trained.variables, images)))
    preprocess = Preprocess(config.data, config.seed, train=False)
    for name, array in ours.items():
        if name.rpartition("/")[2] == "boxes":
            rows = zip(array, pixels, strict=True)
            back = [preprocess.restore_boxes(row, image.shape[:2]) for row, image in rows]
            ours[name] = np.stack(back).astype(array.dtype)
    loaded = tf.saved_model.load(str(path))
    found = loaded.signatures["photos"](image_bytes=tf.constant(list(photos)))
    theirs = {name: array.numpy() for name, array in found.items()}
    changed = compared(ours, theirs, config.task == "multilabel", "bfloat16").changed
    return {"photos": len(photos), "levels": round(levels, 2), "changed_decisions": changed}


def _prepare(config: ml_collections.ConfigDict) -> Callable[[Any], tuple[Any, ...]]:
    """What `data.images.preprocess.Preprocess` does of an evaluation image, from its file; with
    the factor and the shift from the photo's pixels to the network's, and the photo's edges, [4]
    each: of left, top, right and bottom."""
    from imagenet_jax.data.host_tensorflow import tf

    data, size = config.data, config.data.image_size
    method = data.eval_resize_method or data.resize_method
    how = {"method": _METHODS.get(method, method), "antialias": data.resize_antialias}

    def prepare(encoded: Any) -> tuple[Any, ...]:
        photo = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        photo.set_shape([None, None, 3])
        shape = tf.shape(photo)[:2]
        if data.eval_crop == "none":
            image, start, factor = tf.ensure_shape(photo, [size, size, 3]), [0.0, 0.0], [1.0, 1.0]
        elif data.eval_crop == "center_crop":
            side = tf.round(_float(tf.reduce_min(shape)) * data.eval_crop_fraction)
            side = tf.maximum(tf.cast(side, tf.int32), 1)
            begin = (shape - side) // 2
            part = photo[begin[0] : begin[0] + side, begin[1] : begin[1] + side]
            factor = [size / _float(side)] * 2
            image, start = tf.image.resize(part, [size, size], **how), -_float(begin) * factor
        else:
            sides, start = _sides(shape)
            factor = _float(sides) / _float(shape)
            image = _placed(tf.image.resize(photo, sides, **how), start)
            start = _float(start)
        if image.dtype != tf.uint8:
            image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        image.set_shape([size, size, 3])
        edges = _float(shape)
        return image, *(tf.gather(v, [1, 0, 1, 0]) for v in (factor, start, edges))

    def _sides(shape: Any) -> tuple[Any, Any]:
        """Height and width of the resized photo, and where its upper left comes."""
        if data.eval_crop == "resize":
            return tf.constant([size, size]), tf.constant([0, 0])
        if data.eval_crop == "letterbox":
            scaled = _float(shape) * (size / _float(tf.reduce_max(shape)))
            return tf.maximum(tf.cast(tf.round(scaled), tf.int32), 1), tf.constant([0, 0])
        short = data.eval_resize or math.floor(size / data.eval_crop_fraction)
        least = tf.reduce_min(shape)
        sides = tf.where(shape == least, short, short * shape // least)
        return sides, -tf.cast(tf.round(_float(sides - size) / 2), tf.int32)

    def _placed(resized: Any, start: Any) -> Any:
        """Of the size that the network sees: what is larger is cut off, the rest is filled."""
        inside = resized[tf.maximum(-start[0], 0) :, tf.maximum(-start[1], 0) :][:size, :size]
        before = tf.maximum(start, 0)
        inside = inside[: size - before[0], : size - before[1]]
        after = size - before - tf.shape(inside)[:2]
        pads = tf.stack([before, after], 1)
        pads = tf.concat([pads, [[0, 0]]], 0)
        fill = tf.reshape(tf.constant(data.pad_fill, inside.dtype), [-1])
        return tf.pad(inside - fill, pads) + fill  # pads are 0

    def _float(number: Any) -> Any:
        return tf.cast(number, tf.float32)

    return prepare
