"""YOLO's layout: beside each image, or in a tree labels, a text file with a line for each object.

A line has the number of a class and the centre, width and height of a box, or the corners of a
polygon, all as shares of the image's sides; points of a pose behind a box, which data.yaml tells
by its kpt_shape, are not read. Files lie as `label_files` has it; data.yaml,
classes.txt or names.txt has the names of the classes.
"""

from pathlib import PurePosixPath

from imagenet_jax.data.sources.box_files import Found, Photo
from imagenet_jax.data.sources.files import Files
from imagenet_jax.data.sources.label_files import (
    CLASSES,
    IMAGES,
    class_file_names,
    has_keypoints,
    label_places,
    read_lines,
    split_folders,
)
from imagenet_jax.data.sources.layout import find_images
from imagenet_jax.data.sources.objects import BoxChecks, Objects, make_objects
from imagenet_jax.data.sources.outlines import polygons
from imagenet_jax.errors import DataError


def find_photos(root: str, files: Files, masks: bool = False) -> Found:
    """All photos of a folder or an archive.

    Args:
      root: for messages.
      files: what is in it.
      masks: whether outlines are asked for; objects without one are left out then.

    Raises:
      DataError: without names of classes or files of labels, or if one of them cannot be read.
    """
    known = set(files.names)
    class_names = class_file_names(root, known, files.read)
    if not class_names:
        raise DataError(f"{root}: no file names the classes; expected one of {', '.join(CLASSES)}")
    keypoints = has_keypoints(root, known, files.read)
    images, _ = find_images(files.names, files.beginning)
    inside = [image for image in images if IMAGES in PurePosixPath(image).parts[:-1]]
    checks, photos, lacking = BoxChecks(), [], 0
    for image in sorted(set(images).difference(inside)) if inside else []:
        checks.count(f"images in no folder {IMAGES}", image)
    images = inside or images
    for image, split in zip(images, split_folders(images), strict=True):
        file = next((place for place in label_places(image) if place in known), None)
        if file is None:
            lacking += 1
            checks.count("images without a file of labels (kept)", image)
        objects = _NONE._replace(outlines=() if masks else None)
        if file:
            objects = _objects(root, file, files, len(class_names), checks, masks, keypoints)
        if file and not len(objects.labels):
            checks.count("images without objects (kept)", image)
        photos.append(Photo(split, image, objects))
    if lacking == len(images):
        places = " or ".join(label_places(images[0])) if images else "labels/NAME.txt"
        raise DataError(f"{root}: no image has a file of labels, as {places}")
    lost = "objects without an outline" in checks.counts
    if lost and not any(len(photo.objects.labels) for photo in photos):
        raise DataError(f"{root}: the files have boxes alone, and no polygons, which masks need")
    return Found(photos, class_names, checks.counts)


_NONE = make_objects([], [])


def _objects(
    root: str,
    file: str,
    files: Files,
    classes: int,
    checks: BoxChecks,
    masks: bool,
    keypoints: bool,
) -> Objects:
    """The objects of a file; keypoints: there are such behind each box."""
    boxes, labels, outlines = [], [], []
    for number, line in enumerate(read_lines(root, file, files.read), 1):
        where = f"{file}, line {number}"
        label, *values = line.split()
        try:
            numbers = [float(value) for value in values][: 4 if keypoints else None]
            if len(numbers) < 4 or (len(numbers) != 4 and len(numbers) % 2):
                raise ValueError
        except ValueError:
            checks.count("lines that are no box", where)
            continue
        if not label.isdecimal() or int(label) >= classes:
            raise DataError(
                f"{root}/{where}: {label!r} is no number of a class, 0 to {classes - 1}"
            )
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        else:
            across, down = numbers[::2], numbers[1::2]
            box = min(across), min(down), max(across), max(down)
        outline = polygons([numbers]) if masks and len(numbers) > 4 else None
        if masks and outline is None:
            checks.count("objects without an outline", where)
        elif cut := checks.inside(box, 1.0, 1.0, where):
            boxes.append(cut)
            labels.append(int(label))
            outlines.append(outline)
    return make_objects(boxes, labels, outlines=outlines if masks else None)
