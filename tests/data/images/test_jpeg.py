import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image
from pixel_oracles import encode, noise

from imagenet_jax.data.images.decode import decode_image
from imagenet_jax.data.images.jpeg import Header, read_header

ORIENTATION = 0x0112


def with_segment(encoded, marker, content):
    """A JPEG with another segment put in right after its start."""
    length = struct.pack(">H", len(content) + 2)
    return encoded[:2] + bytes([0xFF, marker]) + length + content + encoded[2:]


def exif(order, *entries):
    """An EXIF block with these (tag, type, count, value)."""
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack(order + "HHIHH", tag, kind, count, value, 0)
    start = b"II" if order == "<" else b"MM"
    return b"Exif\0\0" + start + struct.pack(order + "HI", 42, 8) + directory


def test_headers_of_photos_equal_pillows(test_data):
    with zipfile.ZipFile(test_data / "imagenet_sample.zip") as archive:
        files = [archive.read(name) for name in archive.namelist()]
    for encoded in files:
        image = Image.open(io.BytesIO(encoded))
        orientation = image.getexif().get(ORIENTATION, 1) or 1  # one photo says 0
        expected = (image.height, image.width, len(image.getbands()), 8, orientation)
        assert read_header(encoded) == Header(*expected)


@pytest.mark.parametrize(
    ("mode", "options", "channels"),
    [
        ("L", {}, 1),
        ("RGB", {"progressive": True}, 3),
        ("CMYK", {}, 4),
        ("RGB", {"comment": b"x" * 300}, 3),
    ],
)
def test_kinds_of_jpeg(mode, options, channels):
    file = io.BytesIO()
    Image.fromarray(noise(12, 34)).convert(mode).save(file, "JPEG", **options)
    assert read_header(file.getvalue()) == Header(12, 34, channels, 8, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(10))
def test_orientation_is_read_in_both_byte_orders_and_what_is_invalid_is_upright(order, value):
    block = exif(order, (0x0100, 3, 1, 99), (ORIENTATION, 3, 1, value))
    header = read_header(with_segment(encode(noise(8, 8), "JPEG"), 0xE1, block))
    assert header.orientation == (value if 1 <= value <= 8 else 1)
    file = io.BytesIO(with_segment(encode(noise(8, 8), "JPEG"), 0xE1, block))
    assert Image.open(file).getexif().get(ORIENTATION) == value


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["B", "H", "I", "b", "h", "i"])
def test_every_integer_type_of_exif_turns_an_image_alike(order, count, kind):
    number = {"B": 1, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9}[kind]
    values = struct.pack(f"{order}{count}{kind}", *([6] + [1] * (count - 1)))
    start = b"II" if order == "<" else b"MM"
    block = b"Exif\0\0" + start + struct.pack(order + "HIH", 42, 8, 1)
    entry = struct.pack(order + "HHI", ORIENTATION, number, count)
    within = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack(order + "I", 26)
    block += entry + within + bytes(4) + (values if len(values) > 4 else b"")
    plain = encode(noise(8, 16), "JPEG")
    encoded = with_segment(plain, 0xE1, block)
    assert read_header(encoded).orientation == 6
    lying, upright = (
        decode_image(file, exif_orientation=True, max_pixels=1000) for file in (plain, encoded)
    )
    np.testing.assert_array_equal(upright, np.rot90(lying, -1))


def test_an_orientation_of_xmp_counts_where_exif_has_none():
    plain = encode(noise(8, 16), "JPEG")
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="8"/>'
    turned = with_segment(plain, 0xE1, xmp)
    for file, expected in (
        (turned, 8),
        (with_segment(turned, 0xE1, exif("<", (0x0100, 3, 1, 99))), 8),
        (with_segment(turned, 0xE1, exif("<", (ORIENTATION, 3, 1, 1))), 1),
        (with_segment(turned, 0xE1, b"Exif\0\0damaged"), 8),
    ):
        assert read_header(file).orientation == expected
        height = decode_image(file, exif_orientation=True, max_pixels=1000).shape[0]
        assert height == {8: 16, 1: 8}[expected]


def test_a_damaged_exif_block_is_upright():
    encoded = encode(noise(8, 8), "JPEG")
    whole = exif("<", (ORIENTATION, 3, 1, 6))
    for length in range(6, len(whole)):
        header = read_header(with_segment(encoded, 0xE1, whole[:length]))
        assert header.orientation in (1, 6) and header.height == 8
        file = with_segment(encoded, 0xE1, whole[:length])
        decode_image(file, exif_orientation=True, max_pixels=1000)
    assert read_header(with_segment(encoded, 0xE1, b"http://ns.adobe.com/xap")).orientation == 1


def test_a_preview_picture_in_a_segment_is_not_taken_for_the_frame():
    preview = b"Exif\0\0" + encode(noise(4, 4), "JPEG")
    encoded = with_segment(encode(noise(8, 20), "JPEG"), 0xE1, preview)
    assert read_header(encoded)[:2] == (8, 20)


def test_fill_bytes_before_a_marker_are_passed_over():
    encoded = encode(noise(8, 20), "JPEG")
    assert read_header(encoded[:2] + b"\xff\xff" + encoded[2:])[:2] == (8, 20)


def test_a_file_cut_anywhere_gives_the_header_or_none():
    encoded = encode(noise(8, 20), "JPEG")
    headers = [read_header(encoded[:length]) for length in range(len(encoded))]
    first = headers.index(Header(8, 20, 3, 8, 1))
    assert set(headers[:first]) == {None} and set(headers[first:]) == {headers[first]}


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", encode(noise(4, 4)), b"GIF89a" * 9])
def test_what_is_no_jpeg_has_no_header(content):
    assert read_header(content) is None


def test_random_bytes_after_the_start_never_raise():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        read_header(b"\xff\xd8\xff" + rng.bytes(60))
