"""Maps of classes are cut out and resized with their images."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config
from imagenet_jax.data.chunk import ChunkMaker
from imagenet_jax.data.images.class_map import decode_map
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.order import Rows
from imagenet_jax.data.sources.masks import FIELD

RULES = [
    *((True, rule) for rule in ("random_resized_crop", "resize_random_crop", "scale_jitter")),
    *((False, rule) for rule in ("center_crop", "resize_center_crop", "resize", "letterbox")),
]


def encoded(pixels, kind="PNG", mode=None):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


class Maps:
    """Photos whose red channel is the map of their classes."""

    class_names = tuple("abcdefgh")

    def __init__(self, shapes, **field):
        random = np.random.default_rng(0)
        self.fields = {"segmentation": FIELD._replace(**field)}
        coarse = [random.integers(0, 8, (4, 5)).astype(np.uint8) for _ in shapes]
        self.maps = [
            np.array(Image.fromarray(levels).resize((width, height), 0))
            for levels, (height, width) in zip(coarse, shapes, strict=True)
        ]

    def read(self, index):
        maps = [self.maps[i] for i in index]
        photos = [encoded(np.stack([levels, 200 + 0 * levels, 10 * levels], -1)) for levels in maps]
        return photos, {"segmentation": [encoded(levels) for levels in maps]}


def chunk(source, train, epoch=0, **data):
    config = base_config()
    config.data.update(image_size=32, resize_method="nearest", train_resize=40, **data)
    count = len(source.maps)
    rows = Rows(np.arange(count), np.full(count, epoch), np.ones(count, bool))
    maker = ChunkMaker(source, Preprocess(config.data, 1, train))
    made = [maker.one(rows.part(row, 1)) for row in range(count)]
    return [(one["image"][0], one["segmentation"][0]) for one in made]


@pytest.mark.parametrize(("train", "rule"), RULES)
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_map_goes_where_its_image_goes(train, rule, epoch):
    """Both by the nearest pixel: each level is that of the pixel, and nothing is beside it."""
    source = Maps([(40, 60), (64, 33), (7, 90), (32, 32)])
    crop = {"train_crop" if train else "eval_crop": rule}
    for image, levels in chunk(source, train, epoch, **crop, jitter=(0.3, 2.0)):
        beside = levels == 255
        assert (image[beside] == (124, 116, 104)).all()
        assert (image[..., 1] == 200)[~beside].all()
        # Where a place is between two pixels, OpenCV's rounding may take the other one.
        shifts = itertools.product((0, -1, 1), (0, -1, 1))
        near = [np.roll(levels, shift, (0, 1)) == image[..., 0] for shift in shifts]
        assert near[0][~beside].mean() > 0.85 and np.any(near, 0)[~beside].all()
        padded = rule in ("letterbox", "scale_jitter")
        assert padded or not beside.any()


def test_scale_jitter_makes_images_larger_and_smaller():
    source = Maps([(30, 60)])
    shares = []
    for epoch in range(40):
        ((_, levels),) = chunk(source, True, epoch, train_crop="scale_jitter", jitter=(0.25, 2.0))
        rows, columns = ((levels != 255).any(axis).sum() for axis in (1, 0))
        shares.append((rows, columns))
    rows, columns = np.array(shares).T
    assert columns.min() <= 12 and columns.max() == 32  # a long side of 8 to 64
    assert rows.min() <= 6 and rows.max() == 32
    alone = columns < 32
    np.testing.assert_allclose(rows[alone] * 2, columns[alone], atol=2)
    (_, whole) = chunk(source, False, eval_crop="letterbox")[0]
    assert (whole[:16] != 255).all() and (whole[16:] == 255).all()


def test_the_short_side_can_be_the_one_that_fits():
    source = Maps([(16, 64)])
    how = {"train_crop": "scale_jitter", "jitter": (1.0, 1.0), "jitter_side": "short"}
    ((_, levels),) = chunk(source, True, **how)
    assert (levels != 255).all()


@pytest.mark.parametrize("rule", [rule for train, rule in RULES if not train])
@pytest.mark.parametrize("shape", [(64, 128), (50, 20), (32, 32), (7, 300)])
def test_a_map_is_brought_back_to_the_photo(rule, shape):
    """Within a pixel of the network's; where it saw nothing is nothing."""
    config = base_config()
    config.data.update(image_size=32, eval_crop=rule)
    preprocess = Preprocess(config.data, 0, train=False)
    rows, columns = np.mgrid[:32, :32].astype(np.uint8)
    found = [preprocess.restore_map(levels, shape, 255) for levels in (rows, columns)]
    zero = np.zeros(1, int)
    ((top, left, height, width),) = preprocess.boxes(np.array([shape]), zero, zero)
    for axis, levels in enumerate(found):
        assert levels.shape == shape and levels.dtype == np.uint8
        start, side = np.reshape(preprocess.place((height, width), 0, 0), (2, 2))[:, axis]
        seen = np.argwhere(levels != 255)[:, axis]
        whole, before = ((height, top), (width, left))[axis]
        expected = (seen - before + 0.5) / whole * side + start - 0.5
        assert np.abs(levels[levels != 255] - expected).max() <= 0.5 + 1e-9
    inside = (found[0] != 255).sum() / np.prod(shape)
    assert inside == 1 if rule in ("letterbox", "resize") else inside > 0


def test_levels_can_stand_for_others():
    table = np.full(256, 255, np.uint8)
    table[[1, 2]] = 0, 1
    source = Maps([(32, 32)], table=table.tobytes())
    ((_, levels),) = chunk(source, False, eval_crop="none")
    assert np.array_equal(levels, table[source.maps[0]])


def test_palettes_grey_and_two_levels_are_numbers_of_classes():
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 5
    palette = Image.fromarray(levels, "P")
    palette.putpalette(np.arange(768, dtype=np.uint8).tobytes())
    file = io.BytesIO()
    palette.save(file, "PNG")
    assert np.array_equal(decode_map(file.getvalue(), (3, 4), "map"), levels)
    assert np.array_equal(
        decode_map(encoded(levels.astype(np.int32), mode="I;16"), (3, 4), "map"), levels
    )
    assert np.array_equal(decode_map(encoded(levels > 2), (3, 4), "map"), levels > 2)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (encoded(np.zeros((3, 4, 3), np.uint8)), "its map has the channels RGB"),
        (encoded(np.zeros((4, 3), np.uint8)), "its map has 4 x 3 pixels, the image 3 x 4"),
        (encoded(np.full((3, 4), 999, np.int32), mode="I;16"), "its map has levels up to 999"),
        (encoded(np.zeros((3, 4), np.uint8))[:40], "its map is"),
        (b"", "its map is no image"),
        (encoded(np.zeros((3, 4), np.uint8), "JPEG"), "its map is a JPEG"),
        (b"P6\n4 3\n255\n" + bytes(36), "its map has the channels RGB"),
    ],
)
def test_what_is_no_map_is_named(file, message):
    with pytest.raises(ValueError, match=message):
        decode_map(file, (3, 4), "its map")
