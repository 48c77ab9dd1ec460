"""Which files of a folder or an archive are images, and of which split and class.

SPLIT/CLASS/IMAGE, or without splits CLASS/IMAGE, or files called nXXXXXXXX_*.JPEG as ImageNet's
are. A class is a folder with all that lies below it, at any depth, as in torchvision's ImageFolder.
Folders are splits where one of them is called train, validation, test or the like, or where no
image lies directly in them. A folder around all of it does not matter. What is left out is told.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from imagenet_jax.errors import DataError

DEFAULT_SPLIT = "train"
# What people call splits.
SPLITS = {
    *("train", "training", "trn", "val", "valid", "validation", "dev", "eval", "evaluation"),
    *("test", "testing", "holdout"),
}
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".png", ".apng", ".bmp", ".dib", ".gif"),
    *(".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".mpo", ".avif", ".avifs"),
    *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
)
# Files that are no images, whatever they begin with.
_OTHER_SUFFIXES = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".py"),
    *(".zip", ".tar", ".gz", ".npy", ".npz", ".mat", ".pkl", ".db", ".ini", ".log", ".pdf"),
)
# How files of the formats begin that `images.decode` reads.
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*|P[1-6]\s"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|.{4}ftypavi[fs]",
    re.DOTALL,
)
BEGINNING = 16  # bytes that tell
HIDDEN = "hidden"
# What programs keep beside images: "._1.jpg" of macOS, which is no image; thumbnails of a NAS.
_OF_PROGRAMS = re.compile(r"\._.*|__MACOSX|\.ipynb_checkpoints|\.Trash.*|@eaDir|\$RECYCLE\.BIN")
_SYNSET = re.compile(r"(n\d{8})_")


class Entry(NamedTuple):
    """An image file and what it is an example of."""

    split: str
    class_names: tuple[str, ...]
    path: str


LeftOut = dict[str, list[str]]  # {reason: paths}


def left_out_text(left_out: LeftOut) -> str:
    """How many files are left out and why, or ""."""
    shown = {reason: names for reason, names in left_out.items() if reason != HIDDEN}
    parts = (f"{len(names):,} {reason} (e.g. {names[0]})" for reason, names in shown.items())
    return ", ".join(parts)


def find_images(
    names: Iterable[str], beginning: Callable[[str], bytes]
) -> tuple[list[str], LeftOut]:
    """The images among files, by their suffixes and, where these say nothing, by their contents.

    Args:
      names: paths, with /.
      beginning: the first BEGINNING bytes of a file.
    """
    images, left_out = [], {}
    for name in names:
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if any(map(_OF_PROGRAMS.fullmatch, path.parts)):
            left_out.setdefault(HIDDEN, []).append(name)
        elif any(part.startswith(".") for part in path.parts):
            reason = "hidden by a dot" if suffix in IMAGE_SUFFIXES else HIDDEN
            left_out.setdefault(reason, []).append(name)
        elif suffix in IMAGE_SUFFIXES or (
            suffix not in _OTHER_SUFFIXES and _BEGINNINGS.match(beginning(name))
        ):
            images.append(name)
        else:
            left_out.setdefault("no image", []).append(name)
    return images, left_out


def class_folders(root: str, images: Sequence[str]) -> tuple[list[Entry], LeftOut]:
    """The split and the class of each image, and the images that have none.

    Raises:
      DataError: if a folder could be a split as well as a class, or if what would be the classes
        are splits.
    """
    paths = {name: PurePosixPath(name).parts for name in images}
    while len(tops := {path[0] for path in paths.values()}) == 1 and _is_around(tops, paths):
        paths = {name: path[1:] for name, path in paths.items()}
    if all(len(path) == 1 for path in paths.values()):
        return _named_by_synsets(paths)
    # Folders with images of their own, and those with folders of images.
    direct = {path[0] for path in paths.values() if len(path) == 2}
    deep = {path[0] for path in paths.values() if len(path) > 2}
    splits = {top for top in deep if top.lower() in SPLITS}
    if splits & direct and direct - splits:
        one, other = min(splits & direct), min(direct - splits)
        raise DataError(
            f"{root}: the folder {one} has images and folders of images, and {other} has images: "
            f"is {one} a split or a class? Move its images into a folder, or rename it"
        )
    if not splits and direct:
        found = [Entry(DEFAULT_SPLIT, path[:1], n) for n, path in paths.items() if len(path) > 1]
    else:
        found = [Entry(path[0], path[1:2], n) for n, path in paths.items() if len(path) > 2]
    _check_classes(root, found)
    taken = {entry.path for entry in found}
    none = [name for name in paths if name not in taken]
    return found, {"in no folder of a class": none} if none else {}


def image_folders(root: str, images: Sequence[str]) -> tuple[list[Entry], LeftOut]:
    """The split of each image, where nobody asks for classes; as `class_folders`.

    Where these leave nothing out, they count. Else all images are of one split, but where folders
    are called train, validation or the like: then what is in none of them is left out.
    """
    try:
        found, others = class_folders(root, images)
    except DataError:
        found, others = [], {"in no class": list(images)}
    if found and not others:
        return found, others
    paths = {name: PurePosixPath(name).parts for name in images}
    while (
        len(tops := {path[0] for path in paths.values()}) == 1
        and not {top.lower() for top in tops} & SPLITS
        and all(len(path) > 1 for path in paths.values())
    ):
        paths = {name: path[1:] for name, path in paths.items()}
    inside = {n for n, path in paths.items() if len(path) > 1 and path[0].lower() in SPLITS}
    found = [Entry(paths[n][0] if inside else DEFAULT_SPLIT, (), n) for n in inside or paths]
    none = [name for name in paths if name not in inside] if inside else []
    return found, {"in no folder of a split": none} if none else {}


def _check_classes(root: str, found: Sequence[Entry]) -> None:
    """Raises DataError where the folders of classes are splits, or repeat the splits."""
    classes = {entry.class_names[0] for entry in found}
    repeated = all(entry.split == entry.class_names[0] for entry in found)
    if found and (repeated or all(name.lower() in SPLITS for name in classes)):
        raise DataError(
            f"{root}: the folders of images that would be classes are {', '.join(sorted(classes))} "
            f"(e.g. {found[0].path}), names of splits. Images belong in SPLIT/CLASS/IMAGE or "
            "CLASS/IMAGE, with nothing beside them or between"
        )


def _is_around(tops: set[str], paths: Mapping[str, Sequence[str]]) -> bool:
    """Whether the only folder is around others: splits, or several classes."""
    (top,) = tops
    if any(len(path) < 3 for path in paths.values()):
        return all(len(path) == 2 for path in paths.values()) and all(
            _SYNSET.match(path[-1]) for path in paths.values()
        )
    inner = {path[1] for path in paths.values()}
    if top.lower() in SPLITS:
        return False
    if any(name.lower() in SPLITS for name in inner):
        return True
    return any(len(path) > 3 for path in paths.values())


def _named_by_synsets(paths: Mapping[str, Sequence[str]]) -> tuple[list[Entry], LeftOut]:
    """Images without folders, as ImageNet's archives have them."""
    matches = {name: _SYNSET.match(path[-1]) for name, path in paths.items()}
    found = [Entry(DEFAULT_SPLIT, (match[1],), name) for name, match in matches.items() if match]
    none = [name for name, match in matches.items() if not match]
    return found, {"in no folder of a class": none} if none else {}
