"""Pascal VOC's layout: an XML file below Annotations for each image below JPEGImages.

Splits are lists of names in ImageSets/Main (train.txt, val.txt, test.txt), or folders called so;
lists of single classes, as cat_train.txt, do not count. Pixels are numbered from 1, as VOC does,
and a box has its last one. Classes are VOC's twenty, if they are among them, else those that are
found, in alphabetical order.
"""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from PIL import Image

from imagenet_jax.data.sources.box_files import Found, Photo
from imagenet_jax.data.sources.files import Files
from imagenet_jax.data.sources.label_files import names_in, read_lines
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, SPLITS, find_images
from imagenet_jax.data.sources.map_classes import VOC
from imagenet_jax.data.sources.objects import BoxChecks, make_objects
from imagenet_jax.errors import DataError
from imagenet_jax.terminal import working

_MOST_BYTES = 2**22  # of an XML file
_IMAGES = {"jpegimages", "images"}
_MAPS = {"segmentationobject"}
_BOTH = "trainval"  # a list that others are parts of


class _Thing(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    number: int  # in its file, which a map of objects has


def find_photos(root: str, files: Files, masks: bool = False) -> Found:
    """All photos of a folder or an archive.

    Args:
      root: for messages.
      files: what is in it.
      masks: whether outlines are asked for, which maps below SegmentationObject have; images
        without one are left out then.

    Raises:
      DataError: without annotations, or if one of them cannot be read.
    """
    images_and_maps, _ = find_images(files.names, files.beginning)
    # Others, as maps of classes beside them, are no photos.
    others = [name for name in images_and_maps if not _folders(name) & _MAPS]
    images = [name for name in others if _folders(name) & _IMAGES] or others
    by_stem: dict[str, str] = {}
    checks = BoxChecks()
    for image in images:
        if by_stem.setdefault(_key(image), image) != image:
            checks.count("images of one name but for the suffix", image)
    described: dict[str, tuple[list[_Thing], tuple[int, int]]] = {}
    papers = [name for name in files.names if name.lower().endswith(".xml")]
    with working(f"{root}: reading {len(papers):,} annotations"):
        for name in papers:
            if (key := _key(name)) not in by_stem:
                checks.count("annotations of no image", name)
            elif found := _read(root, name, files, by_stem[key], checks):
                described[key] = found
    for key, image in by_stem.items():
        if key not in described:
            checks.count("images without annotations", image)
    if not described:
        raise DataError(
            f"{root}: no image has a file of annotations; expected JPEGImages/NAME.jpg and "
            "Annotations/NAME.xml, as in Pascal VOC"
        )
    names = {thing.name for things, _ in described.values() for thing in things}
    class_names = VOC[1:] if names and names <= set(VOC[1:]) else tuple(sorted(names))
    photos, maps = [], {}
    if masks:
        maps = {_key(name): name for name in images_and_maps if _folders(name) & _MAPS}
        for key in described.keys() - maps.keys():
            checks.count("images without a map of objects", by_stem[key])
        described = {key: one for key, one in described.items() if key in maps}
    for split, key in _splits(root, files, described, checks, "segmentation" if masks else "main"):
        things, sides = described[key]
        photos.append(_photo(split, by_stem[key], things, sides, class_names, maps.get(key, "")))
        if not things:
            checks.count("images without objects (kept)", by_stem[key])
    return Found(photos, class_names, checks.counts)


def _key(name: str) -> str:
    """What an image and its annotations have in common."""
    path = PurePosixPath(name)
    apart = _IMAGES | _MAPS | {"annotations"}
    kept = [part for part in path.parts[:-1] if part.lower() not in apart]
    return "/".join([*kept, path.stem])


def _folders(name: str) -> set[str]:
    return {part.lower() for part in PurePosixPath(name).parts[:-1]}


class _Plain(ElementTree.TreeBuilder):
    """Elements, without a document type, whose entities could grow without bound."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it defines entities")


def _read(
    root: str, name: str, files: Files, image: str, checks: BoxChecks
) -> tuple[list[_Thing], tuple[int, int]] | None:
    """The objects of a file, and height and width of its image, which says them itself where the
    file does not; None if neither does."""
    where = f"{root}/{name}"
    try:
        parser = ElementTree.XMLParser(target=_Plain())
        tree = ElementTree.fromstring(files.read(name, _MOST_BYTES), parser)
        texts = [tree.findtext(f"size/{side}") for side in ("height", "width")]
        sides = tuple(int(float(text or 0)) for text in texts)
    except (OSError, ValueError, OverflowError, LookupError, ElementTree.ParseError) as error:
        raise DataError(f"{where} cannot be read: {error}") from error
    if min(sides) <= 0:
        sides = _sides(files, image)
    if not sides:
        return checks.count("annotations of images whose size nobody says", name)
    height, width = sides
    things = []
    for number, one in enumerate(tree.iter("object"), 1):
        label = (one.findtext("name") or "").strip()
        corners = [one.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        place = f"{name}: object {number}"
        if not label or None in corners:
            checks.count("objects without a name or a box", place)
            continue
        try:
            left, top, right, bottom = map(float, corners)
        except ValueError:
            checks.count("boxes that are not four numbers", place)
            continue
        box = checks.inside((left - 1, top - 1, right, bottom), height, width, place)
        if box:
            difficult = (one.findtext("difficult") or "0").strip() == "1"
            things.append(_Thing(label, box, difficult, number))
    return things, sides


def _sides(files: Files, image: str) -> tuple[int, int] | None:
    """Height and width of an image as it is stored, or None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(files.read(image))) as opened:
            return opened.height, opened.width
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _splits(
    root: str, files: Files, described: Mapping[str, object], checks: BoxChecks, folder: str
) -> list[tuple[str, str]]:
    """The split of each image, by lists, best those of a folder of this name, or by folders."""
    lists = {}
    for name in files.names:
        path = PurePosixPath(name)
        plain = path.stem.lower() in (*SPLITS, _BOTH) and path.suffix.lower() == ".txt"
        if plain:
            lists.setdefault(path.stem, []).append(name)
    for split, names in lists.items():
        mine = [name for name in names if PurePosixPath(name).parent.name.lower() == folder]
        lists[split] = mine or names
    if len(lists) > 1:
        lists.pop(_BOTH, None)
    if not lists:
        folders = {key: _folder(key) for key in described}
        return [(folders[key] or DEFAULT_SPLIT, key) for key in described]
    by_end: dict[str, list[str]] = {}
    for key in described:
        by_end.setdefault(key.rpartition("/")[2], []).append(key)
    found, listed = [], set()
    for split, names in lists.items():
        for name in names:
            beside = PurePosixPath(name).parts[:-3]  # of several years, the one of this list
            for line in read_lines(root, name, files.read):
                keys = next((by_end[name] for name in names_in(line) if name in by_end), [])
                mine = [key for key in keys if PurePosixPath(key).parts[:-1] == beside] or keys
                if len(mine) != 1:
                    what = "named in lists and not there" if not mine else "of one name"
                    checks.count(what, f"{name}: {line}")
                    continue
                found.append((split, mine[0]))
                listed.add(mine[0])
    for key in described:
        if key not in listed:
            checks.count("images in no list", key)
    return found


def _folder(key: str) -> str:
    return next((part for part in key.split("/")[:-1] if part.lower() in SPLITS), "")


def _photo(
    split: str,
    image: str,
    things: Sequence[_Thing],
    sides: tuple[int, int],
    class_names: Sequence[str],
    instances: str,
) -> Photo:
    number = {name: label for label, name in enumerate(class_names)}
    objects = make_objects(
        [thing.box for thing in things],
        [number[thing.name] for thing in things],
        sides,
        ignored=[thing.difficult for thing in things],
        outlines=[thing.number for thing in things] if instances else None,
    )
    return Photo(split, image, objects, instances)
