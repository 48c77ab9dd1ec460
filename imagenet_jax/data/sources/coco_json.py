"""COCO's layout: JSON files with images, annotations and categories, one a split.

They lie anywhere, as annotations/instances_train2017.json or train/_annotations.coco.json. Where
there are files called instances_*, they alone count. A split is called as its file, without
instances_, or as its folder where all files have one name. An image is looked for by the end of
its path, and where several end so, the one with no more before it, or in the folder that is called
as the split; one in the folder of another split is not taken then.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from imagenet_jax.data.sources.box_files import Found, Photo
from imagenet_jax.data.sources.files import Files
from imagenet_jax.data.sources.label_files import repeated
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, SPLITS, find_images
from imagenet_jax.data.sources.objects import BoxChecks, make_objects
from imagenet_jax.data.sources.outlines import Outline, polygons, run_lengths
from imagenet_jax.errors import DataError

_MOST_BYTES = 2**30  # COCO's largest file has 450 MB
_MOST_SIDE = 2**16  # pixels
_INSTANCES = "instances_"


def find_photos(root: str, files: Files, only: str = "", masks: bool = False) -> Found:
    """All photos of a folder or an archive.

    Args:
      root: for messages.
      files: what is in it.
      only: the path of the one file of annotations that counts; "": all do.
      masks: whether outlines are asked for; objects without one are left out then.

    Raises:
      DataError: without annotations, or if they cannot be read.
    """
    images, _ = find_images(files.names, files.beginning)
    checks, photos, class_names = BoxChecks(), [], None
    by_end: dict[str, list[str]] = {}
    for image in images:
        by_end.setdefault(PurePosixPath(image).name, []).append(image)
    for split, name, content in _contents(root, files, only):
        things = content["annotations"]
        if masks and things and not any(_has_outline(one) for one in things):
            checks.count("files of annotations without outlines", name)
            continue
        names, numbers = _classes(f"{root}/{name}", content)
        if class_names not in (None, names):
            raise DataError(f"{root}/{name} has other categories than the files before it")
        class_names = names
        has_own = any(split.lower() in _folders(image) for image in images)
        find = partial(_image, split=split, by_end=by_end, has_own=has_own)
        photos += _photos(split, name, content, numbers, find, checks, masks)
    if class_names is None:
        raise DataError(
            f"{root}: no JSON file has images, annotations and categories as COCO's "
            "annotations/instances_*.json" + (", and outlines of objects" if masks else "")
        )
    return Found(photos, class_names, checks.counts)


def _contents(root: str, files: Files, only: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The split, the path and the content of each file of annotations."""
    paths = [PurePosixPath(name) for name in files.names if name.lower().endswith(".json")]
    paths = [path for path in paths if only in ("", str(path))]
    instances = [path for path in paths if path.name.startswith(_INSTANCES)]
    found = {}
    for path in instances or paths:
        content = _read(f"{root}/{path}", str(path), files)
        if content is not None:
            found[path] = content
    one_name = len({path.name for path in found}) == 1
    for path, content in found.items():
        yield _split(path, one_name), str(path), content


def _read(where: str, name: str, files: Files) -> Mapping[str, Any] | None:
    """The content of a file, or None if it is of another kind."""
    size = files.size_of(name)
    if size > _MOST_BYTES:
        raise DataError(f"{where} has {size / 2**20:,.0f} MiB; at most 1,024 are read")
    try:
        content = json.loads(files.read(name, _MOST_BYTES))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{where} is damaged or no JSON: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in parts):
        return None
    return content


def _split(path: PurePosixPath, one_name: bool) -> str:
    """What the split of a file is called."""
    stem = path.stem.removeprefix(_INSTANCES)
    folder = path.parent.name
    if folder.lower() in SPLITS or (one_name and not path.name.startswith(_INSTANCES) and folder):
        return DEFAULT_SPLIT if folder.lower() == "annotations" else folder
    year = stem.rstrip("0123456789")  # train2017
    return year if year.lower() in SPLITS else stem


def _classes(where: str, content: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names of the classes, and their numbers by those of the categories.

    Raises:
      DataError: for categories that have none, or share one.
    """
    categories = content["categories"]
    try:
        known = {category["id"]: category["name"] for category in categories}
        order = sorted(known)
        names = tuple(known[number] for number in order)
        ids = [category["id"] for category in categories]
        twice = repeated(ids) if len(known) < len(ids) else repeated(names)
        if twice != "":
            raise ValueError(f"{twice!r} is there twice; rename one, or merge them")
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("they need names")
    except ValueError as error:
        raise DataError(f"{where}: the categories cannot be read: {error}") from error
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{where}: the categories cannot be read: each needs id, numbers or texts for all of "
            f"them, and name ({error!r})"
        ) from error
    return names, {number: label for label, number in enumerate(order)}


def _photos(
    split: str,
    name: str,
    content: Mapping[str, Any],
    numbers: Mapping[Any, int],
    find: Callable[[str], str],
    checks: BoxChecks,
    masks: bool,
) -> list[Photo]:
    """The photos of a file; what is wrong is counted."""
    images: dict[Any, tuple[str, int, int]] = {}
    for image in content["images"]:
        try:
            number, path = image["id"], image["file_name"]
            height, width = int(image["height"]), int(image["width"])
            found = find(str(path))
            if number in images or not (0 < height <= _MOST_SIDE and 0 < width <= _MOST_SIDE):
                raise ValueError
        except (TypeError, KeyError, ValueError, OverflowError):
            checks.count("images that are described wrongly", f"{name}: {str(image)[:60]}")
            continue
        if found:
            images[number] = found, height, width
        else:
            checks.count("images that are not there", f"{name}: {path}")
    things: dict[Any, list[tuple[Any, ...]]] = {number: [] for number in images}
    for one in content["annotations"]:
        thing = _thing(one, name, images, numbers, checks, masks)
        if thing:
            things[thing[0]].append(thing[1:])
    photos = []
    for number, (path, *sides) in images.items():
        columns = zip(*things[number], strict=True) if things[number] else [()] * 5
        boxes, labels, crowd, area, outlines = columns
        if not boxes:
            checks.count("images without objects (kept)", path)
        outlines = outlines if masks else None
        objects = make_objects(boxes, labels, tuple(sides), crowd, None, area, outlines)
        photos.append(Photo(split, path, objects))
    return photos


def _thing(
    one: Any,
    name: str,
    images: Mapping[Any, tuple[str, int, int]],
    numbers: Mapping[Any, int],
    checks: BoxChecks,
    masks: bool,
) -> tuple[Any, ...] | None:
    """The number of the image of an annotation, its box, label, whether it is a crowd, its area,
    its outline if it is asked for."""
    try:
        number, category, box = one["image_id"], one["category_id"], one["bbox"]
        where = f"{name}: annotation {str(one.get('id'))[:40]}"
        if number not in images:
            return checks.count("annotations of images that are not there", where)
        if category not in numbers:
            return checks.count("annotations of unknown categories", where)
        left, top, wide, high = map(float, box)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return checks.count("annotations that are no boxes", f"{name}: {str(one)[:60]}")
    _, height, width = images[number]
    cut = checks.inside((left, top, left + wide, top + high), height, width, where)
    if cut is None:
        return None
    written = one.get("segmentation")
    outline = _outline(written, (height, width)) if masks else None
    if masks and outline is None:
        is_wrong = isinstance(written, dict) and written
        what = "whose run lengths are not of their image" if is_wrong else "without an outline"
        return checks.count(f"objects {what}", where)
    if isinstance(outline, tuple) and len(outline) < len(written):
        checks.count("parts of outlines that are no polygons", where)
    try:
        crowd = float(one.get("iscrowd") or 0) != 0
    except (TypeError, ValueError, OverflowError):
        return checks.count("annotations whose iscrowd is no number", where)
    try:
        area = float(one.get("area"))
    except (TypeError, ValueError, OverflowError):
        area = float("nan")
    area = area if 0 < area < float("inf") else float("nan")
    return number, cut, numbers[category], crowd, area, outline


def _has_outline(one: Any) -> bool:
    return isinstance(one, dict) and bool(one.get("segmentation"))


def _outline(written: Any, sides: tuple[int, int]) -> Outline | None:
    return run_lengths(written, sides) if isinstance(written, dict) else polygons(written)


def _folders(image: str) -> set[str]:
    """In small letters, without the years."""
    return {part.lower().rstrip("0123456789") for part in PurePosixPath(image).parts[:-1]}


def _image(path: str, split: str, by_end: Mapping[str, Sequence[str]], has_own: bool) -> str:
    """The image that is called so, or ""; has_own: whether a folder is called as the split."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    ending = by_end.get(parts[-1] if parts else "", ())
    found = [image for image in ending if PurePosixPath(image).parts[-len(parts) :] == parts]
    if "/".join(parts) in found:
        return "/".join(parts)
    mine = [image for image in found if split.lower() in _folders(image)]
    if has_own and len(parts) == 1:  # what is in the folder of another split is another image
        found = mine or [image for image in found if not _folders(image) & SPLITS]
    found = mine if len(mine) == 1 else found
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1]} both end with {path}, and the annotations of {split} do "
            "not say which of them they mean"
        )
    return found[0] if found else ""
