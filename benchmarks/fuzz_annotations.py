"""Readers of what people write about photos: boxes, maps of classes, pairs, points of faces."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz_targets import Reader

SIDES = 12, 17  # height and width of the photo
MOST = 100  # objects of an image


def words(text: bytes) -> list[bytes]:
    """The parts of a text: names, numbers and marks, so that changes of one leave the others."""
    return re.findall(rb'"[^"]*"|[\w.]+|\s+|.', text, re.DOTALL)


def png(pixels: np.ndarray) -> bytes:
    """A file of these pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def photo() -> bytes:
    """What the annotations are about."""
    return png(np.random.default_rng(0).integers(0, 255, (*SIDES, 3), np.uint8))


def levels() -> bytes:
    """A map of three classes, or of objects."""
    return png(np.repeat(np.uint8([[0, 1, 2]]), SIDES[0], 0).repeat(6, 1)[:, : SIDES[1]])


def coco() -> list[bytes]:
    """COCO's JSON, with a polygon, run lengths of both forms and a crowd."""
    height, width = SIDES
    pixels = height * width
    shapes = [
        [[1, 1, 8, 1, 8, 6.5, 1, 6.5]],
        {"size": [height, width], "counts": [20, 30, pixels - 50]},
        {"size": [height, width], "counts": "d0n1f4"},
    ]
    objects = [
        {
            **{"id": k, "image_id": 7, "category_id": 1 + k % 2, "bbox": [1, 2, 5.5, 3]},
            **{"area": 16.5, "iscrowd": int(k == 1), "segmentation": shape},
        }
        for k, shape in enumerate(shapes)
    ]
    image = {"id": 7, "file_name": "1.png", "height": height, "width": width}
    kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog", "supercategory": "animal"}]
    content = {"images": [image], "annotations": objects, "categories": kinds}
    return [json.dumps(content).encode(), json.dumps(content, indent=1).encode()]


def voc() -> list[bytes]:
    """Pascal VOC's XML."""
    things = "".join(
        f"<object><name>{name}</name><difficult>{k}</difficult><bndbox><xmin>{1 + k}</xmin>"
        "<ymin>2</ymin><xmax>9.5</xmax><ymax>11</ymax></bndbox></object>"
        for k, name in enumerate(("cat", "dog"))
    )
    size = f"<size><width>{SIDES[1]}</width><height>{SIDES[0]}</height><depth>3</depth></size>"
    text = f"<annotation><filename>1.png</filename>{size}{things}</annotation>"
    return [text.encode(), b'<?xml version="1.0" encoding="utf-8"?>\n' + text.encode()]


def box_readers() -> dict[str, Reader]:
    """Photos with boxes and outlines, to the pixels of these."""
    from imagenet_jax.data.images.class_map import decode_map
    from imagenet_jax.data.sources.box_files import open_boxes
    from imagenet_jax.data.sources.masks import open_masks
    from imagenet_jax.data.sources.objects import BOXES, as_they_are, run_lengths_of
    from imagenet_jax.data.sources.outlines import OBJECT_MASKS
    from imagenet_jax.errors import UserError

    def read(kind: str, image: str, name: str, masks: bool) -> Callable[[Path, bytes], None]:
        beside = {image: photo(), "labels/names.txt": b"cat\ndog\n"}
        beside |= {"SegmentationObject/1.png": levels()} if kind == "voc" and masks else {}

        def run(folder: Path, data: bytes) -> None:
            for place, content in {**beside, name: data}.items():
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(content)
            reads = (BOXES, OBJECT_MASKS) if masks else (BOXES,)
            source = open_boxes(kind, str(folder), "train", reads, most=MOST)
            for row in range(len(source)):
                objects = source.objects(row)
                as_they_are(objects, SIDES, MOST)
                if masks:
                    run_lengths_of(objects, SIDES)

        return run

    def of_map(folder: Path, data: bytes) -> None:
        for place, content in {"images/1.png": photo(), "masks/1.png": data}.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content)
        source = open_masks(str(folder), "train")
        for row in range(len(source)):
            (found,) = source.read(np.array([row]))[1]["segmentation"]
            decode_map(found, SIDES, "masks/1.png")

    of_photo = (UserError, ValueError, OSError)
    lines = [b"1 0.1 0.1 0.5 0.1 0.5 0.75\n", b"0 0.5 0.5 0.25 0.5\n1 0.2 0.3 0.1 0.1\n"]
    places = {
        "coco": ("images/1.png", "annotations/instances_train.json", list(map(words, coco()))),
        "voc": ("JPEGImages/1.png", "Annotations/1.xml", list(map(words, voc()))),
        "yolo": ("images/1.png", "labels/1.txt", list(map(words, lines))),
    }
    made = {
        kind + ("_masks" if masks else ""): Reader(
            seeds, b"".join, read(kind, image, name, masks), of_photo
        )
        for kind, (image, name, seeds) in places.items()
        for masks in (False, True)
    }
    return made | {"class_map": Reader([[levels()]], b"".join, of_map, of_photo)}


def face_readers() -> dict[str, Reader]:
    """Lists of pairs, and of the points of faces."""
    from imagenet_jax.data.landmarks import read_landmarks
    from imagenet_jax.errors import UserError
    from imagenet_jax.tasks.pair_files import read_pairs

    def read(name: str, reader: Callable[[str], object]) -> Callable[[Path, bytes], None]:
        def run(folder: Path, data: bytes) -> None:
            (folder / name).write_bytes(data)
            reader(str(folder / name))

        return run

    same = [b"ann\t%d\t%d\n" % (k, k + 1) for k in range(1, 11)]
    other = [b"ann\t%d\tbob\t%d\n" % (k, k) for k in range(1, 11)]
    folds = [line for pair in zip(same, other, strict=True) for line in pair]
    pairs = [words(b"10\n" + b"".join(same + other)), words(b"10\t1\n" + b"".join(folds))]
    parts = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    head = "name," + ",".join(f"{part}_{axis}" for part in parts for axis in "xy")
    points = words(f"{head}\nann/1.jpg,30,50,65,50,48,70,33,90,62.5,90\n".encode())
    return {
        "pairs": Reader(pairs, b"".join, read("pairs.txt", read_pairs), (UserError,)),
        "landmarks": Reader([points], b"".join, read("points.csv", read_landmarks), (UserError,)),
    }


GROUPS = {
    **{kind + masks: box_readers for kind in ("coco", "voc", "yolo") for masks in ("", "_masks")},
    "class_map": box_readers,
    **dict.fromkeys(("pairs", "landmarks"), face_readers),
}
