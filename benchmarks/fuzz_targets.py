"""The readers that fuzz_readers.py tries, and valid files for each."""

import dataclasses
import io
import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MAX_PIXELS = 2**20


@dataclasses.dataclass(frozen=True)
class Reader:
    """How a kind of file is made and read.

    Attributes:
      seeds: valid files, each as its parts: members of an archive, records, or the whole.
      build: a file of its parts.
      read: reads the file in a folder that is empty else, as the program does.
      expected: what it may raise.
    """

    seeds: list[list[bytes]]
    build: Callable[[list[bytes]], bytes]
    read: Callable[[Path, bytes], None]
    expected: tuple[type[Exception], ...]


def zipped(names: list[str]) -> Callable[[list[bytes]], bytes]:
    """Puts parts into an archive under these names; further ones are left out."""

    def build(parts: list[bytes]) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, part in zip(names, parts, strict=False):
                archive.writestr(name, part)
        return file.getvalue()

    return build


def weights_readers() -> dict[str, Reader]:
    """The files of pretrained weights."""
    import safetensors.numpy

    from imagenet_jax.errors import UserError
    from imagenet_jax.weights.files import read_weights

    def read(suffix: str) -> Callable[[Path, bytes], None]:
        def run(folder: Path, data: bytes) -> None:
            (folder / f"w{suffix}").write_bytes(data)
            for array in read_weights(folder / f"w{suffix}").arrays.values():
                np.array(array, np.float32)

        return run

    examples = ROOT / "tests" / "weights" / "data"
    new = [examples / f"{name}_zip.pth" for name in ("module", "tensors")]
    names, members = [], []
    for path in new:
        with zipfile.ZipFile(path) as archive:
            names.append([name.replace("tensors", "module") for name in archive.namelist()])
            members.append([archive.read(name) for name in archive.namelist()])
    old = [[path.read_bytes()] for path in examples.glob("*_legacy.pth")]
    arrays = {"a.weight": np.ones((3, 4), np.float32), "a.bias": np.arange(3)}
    npys = []
    for array in arrays.values():
        file = io.BytesIO()
        np.save(file, array)
        npys.append(file.getvalue())
    whole = safetensors.numpy.save(arrays)
    size = 8 + int.from_bytes(whole[:8], "little")
    small = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [3, 4], "data_offsets": [0, 12]}})

    def tensors(parts: list[bytes]) -> bytes:
        return struct.pack("<Q", len(parts[0])) + b"".join(parts)

    longest = max(names, key=len)
    return {
        "pth": Reader(members, zipped(longest), read(".pth"), (UserError,)),
        "pth_legacy": Reader(old, b"".join, read(".pth"), (UserError,)),
        "npz": Reader([npys], zipped(["a.npy", "b.npy"]), read(".npz"), (UserError,)),
        "safetensors": Reader(
            [[whole[8:size], whole[size:]], [small.encode(), bytes(range(12))]],
            tensors,
            read(".safetensors"),
            (UserError,),
        ),
    }


def images() -> list[bytes]:
    """Small pictures in all formats that are read, JPEGs with EXIF and of other kinds."""
    from PIL import Image

    from imagenet_jax.data.images.decode import FORMATS

    pixels = np.random.default_rng(0).integers(0, 255, (12, 17, 3), np.uint8)
    image, made = Image.fromarray(pixels), []
    exif = Image.Exif()
    exif[0x0112] = 6
    options = [("JPEG", {"exif": exif}), ("JPEG", {"progressive": True})]
    options += [("PNG", {"exif": exif}), ("TIFF", {"compression": "tiff_lzw"})]
    for name, option in [*options, *((name, {}) for name in FORMATS)]:
        file = io.BytesIO()
        image.save(file, name, **option)
        made.append(file.getvalue())
    for mode, name in (("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("I;16", "PNG")):
        file = io.BytesIO()
        image.convert("L" if mode == "I;16" else mode).convert(mode).save(file, name)
        made.append(file.getvalue())
    return made


def image_readers() -> dict[str, Reader]:
    """Photos and data sets of them, by the functions that training calls."""
    from imagenet_jax.data.images.decode import decode_image
    from imagenet_jax.data.images.jpeg import read_header
    from imagenet_jax.data.sources.files import open_files
    from imagenet_jax.errors import UserError

    def decode(encoded: bytes) -> None:
        read_header(encoded)
        decode_image(encoded, exif_orientation=True, max_pixels=MAX_PIXELS)

    def read(kind: str, name: str) -> Callable[[Path, bytes], None]:
        def run(folder: Path, data: bytes) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            source = open_files(kind, str(folder if kind == "folder" else path), "train")
            for row in range(len(source)):
                for encoded in source.read(np.array([row]))[0]:
                    decode(encoded)

        return run

    pictures = images()
    of_image = (UserError, ValueError, OSError)
    names = [f"photos/train/{kind}/{k}.jpg" for kind in ("cat", "dog") for k in range(3)]
    table = b"path,label,split\n" + b"".join(b"%d.png,c%d,train\n" % (k, k) for k in range(3))

    def in_list(folder: Path, data: bytes) -> None:
        for k in range(3):
            (folder / f"{k}.png").write_bytes(pictures[2])
        read("csv", "list.csv")(folder, data)

    return {
        "jpeg": Reader(
            [[p] for p in pictures if p[:2] == b"\xff\xd8"],
            b"".join,
            lambda folder, data: decode(data),
            (ValueError, OSError),
        ),
        "folder": Reader([[p] for p in pictures], b"".join, read("folder", "cat/1.png"), of_image),
        "zip": Reader(
            [pictures[:6], pictures[6:12]], zipped(names), read("zip", "a.zip"), of_image
        ),
        "csv": Reader([[table], [b'path;label\n0.png;"a, b"\n']], b"".join, in_list, (UserError,)),
    }


def training_readers() -> dict[str, Reader]:
    """JPEGs as training decodes them, in part with TensorFlow; any error there names the image."""
    from imagenet_jax.config import base_config
    from imagenet_jax.data.chunk import ChunkMaker
    from imagenet_jax.data.images.preprocess import Preprocess
    from imagenet_jax.data.order import Rows
    from imagenet_jax.data.sources.files import open_files

    config = base_config()
    config.data.update(image_size=8, max_pixels=MAX_PIXELS, train_crop="random_resized_crop")
    preprocess = Preprocess(config.data, 0, train=True)
    first = Rows(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, bool))

    def read(folder: Path, data: bytes) -> None:
        (folder / "cat").mkdir()
        (folder / "cat" / "1.jpg").write_bytes(data)
        ChunkMaker(open_files("folder", str(folder), "train"), preprocess).one(first)

    jpegs = [[picture] for picture in images() if picture[:2] == b"\xff\xd8"]
    return {"training_jpeg": Reader(jpegs, b"".join, read, (Exception,))}


def record_readers() -> dict[str, Reader]:
    """TFRecords of tf.train.Examples, with the index that is kept beside them."""
    from imagenet_jax.data.host_tensorflow import tf
    from imagenet_jax.data.sources.tfrecord import _masked_crc, record_offsets
    from imagenet_jax.data.sources.tfrecord_folder import open_tfrecord_folder
    from imagenet_jax.errors import UserError

    def example(k: int) -> bytes:
        values = {"image/encoded": b"\xff\xd8" * 20, "image/filename": b"%d.jpg" % k}
        feature = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in values.items()
        }
        label = tf.train.Int64List(value=[k + 1])
        feature["image/class/label"] = tf.train.Feature(int64_list=label)
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(
            deterministic=True
        )

    def framed(parts: list[bytes]) -> bytes:
        lengths = [struct.pack("<Q", len(part)) for part in parts]
        return b"".join(
            length + _masked_crc(length) + part + _masked_crc(part)
            for length, part in zip(lengths, parts, strict=True)
        )

    def read(folder: Path, data: bytes) -> None:
        (folder / "train-00000-of-00001").write_bytes(data)
        source = open_tfrecord_folder(str(folder), "train")
        for row in range(len(source)):
            try:
                source.read(np.array([row]))
            except UserError as error:  # the pipeline puts the name before it
                raise UserError(f"{source.describe(row)}: {error}") from error

    records = [example(k) for k in range(3)]

    def read_index(folder: Path, data: bytes) -> None:
        path = folder / "train-00000-of-00001"
        path.write_bytes(framed(records))
        os.utime(path, ns=(0, 0))
        Path(f"{path}.offsets.npy").write_bytes(data)
        found = record_offsets(str(path))
        if found[0] or found[-1] != path.stat().st_size or (np.diff(found) <= 0).any():
            raise AssertionError(f"wrong offsets {found}")

    index = io.BytesIO()
    ends = np.cumsum([0, *(len(framed([record])) for record in records)])
    np.save(index, np.array([ends[-1], 0, *ends]))
    of_record = (UserError, ValueError, OSError)
    return {
        "tfrecord": Reader([records, records[:1]], framed, read, of_record),
        "tfrecord_index": Reader([[index.getvalue()]], b"".join, read_index, (UserError,)),
    }


GROUPS = {
    **dict.fromkeys(("pth", "pth_legacy", "npz", "safetensors"), weights_readers),
    **dict.fromkeys(("jpeg", "folder", "zip", "csv"), image_readers),
    "training_jpeg": training_readers,
    **dict.fromkeys(("tfrecord", "tfrecord_index"), record_readers),
}
