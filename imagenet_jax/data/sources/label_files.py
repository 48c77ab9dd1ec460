"""Labels in text files, one beside each image or in a tree of its own.

The labels of IMAGE.jpg stand in IMAGE.txt in the same folder, or, where the image is below a
folder images, at the same place below labels: images/train/1.jpg and labels/train/1.txt, or
train/images/1.jpg and train/labels/1.txt. Each line has one, or several with ";" between, or is
YOLO's, a number with a box or a polygon behind it. An image with an empty file, or without one,
has no label. Where there are folders images, what lies elsewhere is no image of the set. The first
folder that is not called images is the split; what has none is "train".

Labels are names. With a file classes.txt or names.txt, a name a line, or YOLO's data.yaml, they may
also be the numbers of its names from 0 on, and a label that is neither is refused.
"""

import collections
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import PurePosixPath

import yaml
from absl import logging

from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, Entry, LeftOut
from imagenet_jax.errors import DataError, did_you_mean

IMAGES, LABELS = "images", "labels"
CLASSES = ("classes.txt", "names.txt", "data.yaml")  # files that name the classes
_YOLO = re.compile(r"([0-9]+)( +-?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?){4,}", re.IGNORECASE)


def labelled(
    root: str, images: Sequence[str], names: Collection[str], read_file: Callable[[str], bytes]
) -> tuple[list[Entry], tuple[str, ...], LeftOut]:
    """Images with their labels, the classes that a file names, () without it, and other images.

    Args:
      root: the folder or archive, for messages.
      images: paths of the images in it, with /.
      names: paths of all files in it.
      read_file: the bytes of a path.

    Raises:
      DataError: if no image has a file of labels, or for a label that cannot be.
    """
    known = set(names)
    classes = class_file_names(root, known, read_file)
    inside = [image for image in images if IMAGES in PurePosixPath(image).parts[:-1]]
    outside = sorted(set(images).difference(inside)) if inside else []
    images = inside or images
    files = [
        next((place for place in label_places(image) if place in known), None) for image in images
    ]
    lacking = [image for image, file in zip(images, files, strict=True) if file is None]
    if lacking and len(lacking) == len(images):
        places = " or ".join(label_places(lacking[0]))
        raise DataError(f"{root}: no image has a file of labels; {lacking[0]} would have {places}")
    if lacking:
        few = f"{len(lacking):,} of {len(images):,} images have no file of labels"
        logging.warning("%s: %s and count as without label, e.g. %s", root, few, lacking[0])
    labels = [_labels(root, file, read_file, classes) if file else () for file in files]
    found = [Entry(*entry) for entry in zip(split_folders(images), labels, images, strict=True)]
    return found, classes, {f"in no folder {IMAGES}": outside} if outside else {}


def split_labels(text: str) -> tuple[str, ...]:
    """The labels of "cat; dog", each once, in their order."""
    return tuple(dict.fromkeys(part.strip() for part in re.split("[;\n]", text) if part.strip()))


def label_places(image: str) -> list[str]:
    """Where the labels of an image can be."""
    path = PurePosixPath(image)
    places, parts = [path], list(path.parts)
    if IMAGES in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index(IMAGES)
        places.insert(0, PurePosixPath(*parts[:last], LABELS, *parts[last + 1 :]))
    return [str(place.with_suffix(suffix)) for suffix in (".txt", ".TXT") for place in places]


def class_file_names(
    root: str, known: Collection[str], read_file: Callable[[str], bytes]
) -> tuple[str, ...]:
    """The names in the file that has them."""
    files = sorted(name for name in known if PurePosixPath(name).name in CLASSES)
    if not files:
        return ()
    if len(files) > 1:
        raise DataError(f"{root} has several files that name its classes: {', '.join(files[:3])}")
    (file,) = files
    text = _text(root, file, read_file)
    names = yaml_names(f"{root}/{file}", text) if file.endswith(".yaml") else _lines(text)
    if twice := repeated(names):
        raise DataError(f"{root}/{file} has the class {twice!r} twice; rename one, or merge them")
    return tuple(names)


def has_keypoints(root: str, known: Collection[str], read_file: Callable[[str], bytes]) -> bool:
    """Whether a data.yaml says that there are points of poses behind the boxes."""
    files = [name for name in known if PurePosixPath(name).name == CLASSES[2]]
    return any(re.search("^kpt_shape:", _text(root, file, read_file), re.M) for file in files)


def yaml_names(file: str, text: str) -> list[str]:
    """The field names of a data.yaml, a list or {number: name}."""
    try:
        # All as text: no, on and 1e3 are names of classes like others.
        names = yaml.load(text, yaml.BaseLoader)["names"]
        if isinstance(names, dict):
            names = [names[str(number)] for number in range(len(names))]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("names is something else")
        return names
    except (yaml.YAMLError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: expected names, a list or NUMBER: NAME from 0 on") from error


def _labels(
    root: str, file: str, read_file: Callable[[str], bytes], classes: tuple[str, ...]
) -> tuple[str, ...]:
    numbers = {str(number): name for number, name in enumerate(classes)}
    found = []
    for line in _lines(_text(root, file, read_file)):
        box = _YOLO.fullmatch(line)
        for label in (box[1],) if box else split_labels(line):
            # A box has the number of its class, also where classes are called 1, 2, 3.
            name = numbers.get(label) if box or label not in classes else label
            if classes and name is None:
                raise DataError(
                    f"{root}/{file}: {label!r} is none of the {len(classes)} classes that are "
                    f"named{did_you_mean(label, classes)}"
                )
            found.append(name or label)
    return tuple(dict.fromkeys(found))


def _text(root: str, file: str, read_file: Callable[[str], bytes]) -> str:
    try:
        return read_file(file).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{root}/{file} cannot be read: {error}") from error


def read_lines(root: str, file: str, read_file: Callable[[str], bytes]) -> list[str]:
    """The lines of a text file that are not empty. Raises DataError."""
    return _lines(_text(root, file, read_file))


def names_in(line: str) -> Iterator[str]:
    """What a line of a list of images may call one: all of it or its first word, which Pascal VOC
    has a number behind; with or without a suffix."""
    for text in (line, line.split()[0]):
        name = text.rpartition("/")[2]
        yield name
        yield PurePosixPath(name).stem


def repeated(names: Sequence[str]) -> str:
    """The first name that is there twice, or ""."""
    counts = collections.Counter(names)
    return next((name for name in names if counts[name] > 1), "")


def _lines(text: str) -> list[str]:
    """Those that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def split_folders(images: Sequence[str]) -> list[str]:
    """The split of each image."""
    folders = [
        [part for part in PurePosixPath(image).parts[:-1] if part != IMAGES] for image in images
    ]
    while len({tuple(parts[:1]) for parts in folders}) == 1 and max(map(len, folders)) > 1:
        folders = [parts[1:] for parts in folders]  # a folder around it all
    return [parts[0] if parts else DEFAULT_SPLIT for parts in folders]
