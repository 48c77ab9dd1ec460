"""Odd files: what becomes of each, alone and in a data set."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from pixel_oracles import encode, noise, pil_pixels

from imagenet_jax.data import open_split
from imagenet_jax.data.images.decode import decode_image
from imagenet_jax.errors import DataError

ORIENTATION = 0x0112
SMOOTH = np.tile(np.linspace(0, 255, 16, dtype=np.uint8)[:, None, None], (1, 24, 3))


def decoded(encoded, exif_orientation=True, max_pixels=2**27):
    return decode_image(encoded, exif_orientation=exif_orientation, max_pixels=max_pixels)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def ppm(pixels):
    return b"P6\n%d %d\n255\n" % pixels.shape[1::-1] + pixels.tobytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_every_common_format_is_read_as_pillow_reads_it(format):
    encoded = encode(noise(16, 20), format)
    np.testing.assert_array_equal(decoded(encoded), pil_pixels(encoded))


@pytest.mark.parametrize("format", ["ICO", "ICNS", "EPS", "PCX"])
def test_formats_that_no_data_set_needs_are_refused(format):
    """EPS starts Ghostscript; a crafted ICNS of Pillow's own tests took more than a minute."""
    with pytest.raises(ValueError, match="no image, or of an unknown format"):
        decoded(encode(noise(16, 16), format))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_colour_modes_become_rgb(mode):
    image = Image.fromarray(SMOOTH).convert(mode)
    encoded = saved(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    pixels = decoded(encoded)
    assert pixels.shape == (16, 24, 3) and pixels.dtype == np.uint8
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels - expected).max() <= 1


def test_cmyk_jpegs_keep_their_colours():
    encoded = saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decoded(encoded).astype(int) - SMOOTH).max() <= 8


def test_a_palette_with_a_transparent_colour_is_read():
    image = Image.fromarray(SMOOTH).convert("P")
    encoded = saved(image, "PNG", transparency=0)
    np.testing.assert_array_equal(decoded(encoded), np.asarray(image.convert("RGB")))


def test_sixteen_bits_of_grey_are_scaled_not_clipped():
    grey = np.linspace(0, 65535, 16 * 24).astype(np.uint16).reshape(16, 24)
    pixels = decoded(saved(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(pixels, np.round(grey / 257)[..., None].repeat(3, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_photos_are_turned_upright_unless_told_otherwise(orientation, format):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    encoded = saved(Image.fromarray(noise(16, 24) // 9 * 9), format, exif=exif)
    stored = Image.open(io.BytesIO(encoded))
    upright = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert upright.shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))
    np.testing.assert_array_equal(decoded(encoded), upright)
    np.testing.assert_array_equal(decoded(encoded, False), np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(format):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (40, 90, 200)]
    options = {"lossless": True} if format == "WEBP" else {}
    encoded = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(encoded)).n_frames == 3
    assert (decoded(encoded) == 40).all()


def test_a_ppm_is_not_copied():
    pixels = noise(5, 7)
    encoded = ppm(pixels)
    image = decoded(encoded)
    np.testing.assert_array_equal(image, pixels)
    assert image.base is not None and not image.flags.owndata
    with pytest.raises(ValueError, match="truncated"):
        decoded(encoded[:-1])


def test_too_many_pixels_are_refused_with_the_numbers():
    huge = saved(Image.new("1", (12_000, 12_000)), "PNG")
    with pytest.raises(ValueError, match=r"12000 x 12000 pixels; data.max_pixels = 134217728"):
        decoded(huge)
    large = saved(Image.new("1", (400, 300)), "PNG")
    with pytest.raises(ValueError, match=r"300 x 400 pixels; data.max_pixels = 119999"):
        decoded(large, max_pixels=119_999)
    assert decoded(large, max_pixels=120_000).shape == (300, 400, 3)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_file_cut_anywhere_raises_value_error_or_os_error(format):
    encoded = encode(noise(12, 12), format)
    for length in range(0, len(encoded), max(1, len(encoded) // 60)):
        try:
            image = decoded(encoded[:length])
        except (ValueError, OSError) as error:
            assert str(error)
        else:  # nothing but padding was cut off
            assert image.shape == (12, 12, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFFs
def test_damaged_bytes_raise_value_error_or_os_error_if_anything():
    rng = np.random.default_rng(0)
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        whole = encode(noise(12, 12), format)
        for _ in range(60):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 4):
                damaged[place] = rng.integers(0, 256)
            try:
                decoded(bytes(damaged), max_pixels=10**6)
            except (ValueError, OSError):
                continue


GOOD = {
    "a PNG called .jpg": encode(noise(12, 16)),
    "grey JPEG": encode(noise(12, 16)[..., 0], "JPEG"),
    "CMYK JPEG": saved(Image.fromarray(noise(12, 16)).convert("CMYK"), "JPEG"),
    "16-bit PNG": saved(Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16)), "PNG"),
    "animation": saved(
        Image.new("RGB", (16, 12)),
        "GIF",
        save_all=True,
        append_images=[Image.new("L", (16, 12), 9)],
    ),
    "turned JPEG": saved(
        Image.fromarray(noise(12, 16)),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
}
BAD = {
    "zero bytes": (b"", "empty"),
    "text": (b"<html>404 not found</html>" * 9, "no image"),
    "cut JPEG": (encode(noise(64, 64), "JPEG")[:-700], ""),
    "cut PNG": (encode(noise(64, 64))[:-700], ""),
    "large PNG": (saved(Image.new("1", (12_000, 12_000)), "PNG"), "12000 x 12000 pixels"),
    "large JPEG": (saved(Image.new("L", (12_000, 12_000)), "JPEG"), "12000 x 12000 pixels"),
}


@pytest.fixture
def odd(noise_config, noise_folder):
    """A function that puts a file into the data set; its images are evaluated whole."""
    noise_config.data.eval_crop = "resize"

    def put(content):
        (noise_folder / "train/cat/4.jpg").write_bytes(content)
        return open_split(noise_config, train=False)

    return put


@pytest.mark.parametrize("kind", GOOD)
def test_odd_files_are_converted_among_others(odd, kind):
    (batch,) = odd(GOOD[kind]).eval_batches(np.arange(10), 10)
    assert batch["mask"].all()
    image = decoded(GOOD[kind]).astype(int)  # compared where the resize does not matter: on average
    assert np.abs(batch["image"][2].mean((0, 1)) - image.mean((0, 1))).max() < 30


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_stop_the_run_or_are_skipped_by_name(odd, noise_config, kind, caplog):
    content, reason = BAD[kind]
    split = odd(content)
    with pytest.raises(DataError, match=rf"cat/4\.jpg: .*{reason}"):
        list(split.eval_batches(np.arange(10), 10))
    noise_config.data.bad_images = "skip"
    (batch,) = split.eval_batches(np.arange(10), 10)
    assert batch["mask"].tolist() == [True, True, False] + [True] * 7
    assert (batch["image"][2] == [124, 116, 104]).all()  # 255 times config.augment.mean
    assert list(split.unreadable) == [2] and "cat/4.jpg" in split.unreadable[2]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.slow
def test_the_limit_of_pixels_can_be_raised(odd, noise_config):
    noise_config.data.max_pixels = 12_000**2
    for kind in ("large PNG", "large JPEG"):
        (batch,) = odd(BAD[kind][0]).eval_batches(np.arange(10), 10)
        assert batch["mask"].all() and not batch["image"][2].any()


def test_too_many_bad_files_stop_a_run_that_skips(odd, noise_config, noise_folder):
    noise_config.data.bad_images, noise_config.data.max_bad_fraction = "skip", 0.1
    split = odd(b"")
    list(split.eval_batches(np.arange(10), 10))
    (noise_folder / "train/dog/3.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 10 images .* data.max_bad_fraction = 0\.1"):
        list(open_split(noise_config, train=False).eval_batches(np.arange(10), 10))


def test_a_label_out_of_range_is_named(odd, noise_config):
    split = odd(encode(noise(12, 16)))
    split.source._labels[4] = 2
    with pytest.raises(DataError, match=r"cat/8\.jpg: label 2 is none of 0 to 1"):
        list(split.eval_batches(np.arange(10), 10))
    noise_config.data.bad_images = "skip"  # is for images
    with pytest.raises(DataError, match=r"cat/8\.jpg: label 2 is none of 0 to 1"):
        list(split.eval_batches(np.arange(10), 10))
