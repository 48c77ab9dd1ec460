"""Which suites there are, and where each lies; without JAX and TensorFlow, to be checked early.

A suite is asked for by NAME, which is looked for in config.data.dir, as the TFDS data set or as the
folder that the published archive unpacks to, or by NAME=folder:PATH or NAME=zip:PATH.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from imagenet_jax.config.semi_fields import CLASSIFIERS
from imagenet_jax.data.names import resolved_dir
from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.errors import ConfigError, DataError, did_you_mean

SEVERITIES = (1, 2, 3, 4, 5)


class Suite(NamedTuple):
    """A published set of images.

    Attributes:
      images: how many were published; None: not known here.
      tfds, split: what TFDS calls it; "" where it does not have it.
      folders: what the published archive unpacks to; any of them is looked for.
      remedy: how to get them.
      folder_is: what the folder of an image says: the "synset" of its class, its "number", a class
        of "objectnet"; "" where labels are in a file real.json.
      column: of classes.csv, the classes that alone are compared; "": all 1000.
    """

    images: int | None
    tfds: str
    split: str
    folders: tuple[str, ...]
    remedy: str
    folder_is: str = "synset"
    column: str = ""


def _unpack(url: str) -> str:
    return f"unpack the archive from {url}"


def _v2(variant: str, folder: str) -> Suite:
    folder = f"imagenetv2-{folder}-format-val"
    remedy = _unpack("https://huggingface.co/datasets/vaishaal/ImageNetV2")
    return Suite(10_000, f"imagenet_v2/{variant}", "test", (folder,), remedy, "number")


_HENDRYCKS = "https://github.com/hendrycks"
SUITES = {
    "real": Suite(
        50_000,
        "imagenet2012_real",
        "validation",
        ("imagenet-real",),
        "put ImageNet's ILSVRC2012_val_*.JPEG there, and real.json from "
        "https://github.com/google-research/reassessed-imagenet",
        "",
    ),
    "v2": _v2("matched-frequency", "matched-frequency"),
    "v2/threshold-0.7": _v2("threshold-0.7", "threshold0.7"),
    "v2/topimages": _v2("topimages", "top-images"),
    "a": Suite(
        7_500,
        "imagenet_a",
        "test",
        ("imagenet-a",),
        _unpack(f"{_HENDRYCKS}/natural-adv-examples"),
        column="a",
    ),
    "r": Suite(
        30_000,
        "imagenet_r",
        "test",
        ("imagenet-r",),
        _unpack(f"{_HENDRYCKS}/imagenet-r"),
        column="r",
    ),
    "sketch": Suite(
        50_889,
        "imagenet_sketch",
        "test",
        ("sketch", "imagenet-sketch"),
        _unpack("https://github.com/HaohanWang/ImageNet-Sketch"),
    ),
    "c": Suite(
        50_000,
        "imagenet2012_corrupted",
        "validation",
        ("imagenet-c", "ImageNet-C"),
        f"unpack the tar files that {_HENDRYCKS}/robustness links to into one folder",
    ),
    "objectnet": Suite(
        None, "", "", ("objectnet-1.0",), _unpack("https://objectnet.dev"), folder_is="objectnet"
    ),
}


def _rows(file: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / file).open(newline="") as opened:
        return list(csv.DictReader(opened))


# Of ImageNet-C, {name: AlexNet's mean error over the severities}, by which mCE divides (Hendrycks
# and Dietterich 2019; google-research/augmix, imagenet.py); None of the four that are not in it.
ALEXNET_ERROR = {
    row["name"]: float(row["alexnet_error"]) if row["alexnet_error"] else None
    for row in _rows("corruptions.csv")
}
BENCHMARK = tuple(name for name, error in ALEXNET_ERROR.items() if error is not None)
# The 200 classes of ImageNet-A and of -R as in their authors' code (timm's imagenet_a_synsets.txt,
# imagenet_r_synsets.txt), and the folder of ObjectNet's class for each of ImageNet's that has one
# (ObjectNet's objectnet_to_imagenet_1k.json and folder_to_objectnet_label.json).
_CLASSES = _rows("classes.csv")


def subset(column: str) -> tuple[str, ...]:
    """The synsets of the classes of `Suite.column`, in their order."""
    return tuple(row["synset"] for row in _CLASSES if row[column]) if column else SYNSETS


def objectnet_classes() -> dict[str, tuple[str, ...]]:
    """{folder of a class of ObjectNet: synsets of those of ImageNet's classes that it is}."""
    found: dict[str, tuple[str, ...]] = {}
    for row in _CLASSES:
        if folder := row["objectnet"]:
            found[folder] = (*found.get(folder, ()), row["synset"])
    return found


class Part(NamedTuple):
    """Images that are evaluated together: all of a suite, or a corruption at one severity.

    Attributes:
      name: as the suite, or c/CORRUPTION/SEVERITY.
      suite: what it is of.
      kind, path: ("folder" or "zip", PATH), or ("tfds", NAME).
    """

    name: str
    suite: Suite
    kind: str
    path: str


def suite_names() -> list[str]:
    """All names that can be asked for."""
    names = [f"c/{corruption}" for corruption in ALEXNET_ERROR]
    return [*SUITES, *names, *(f"{name}/{severity}" for name in names for severity in SEVERITIES)]


def check_names(asked: Sequence[str], task: str) -> None:
    """Raises ConfigError for a suite that does not exist, or a task that has none."""
    known = suite_names()
    names = [text.partition("=")[0] for text in asked]
    for text, name in zip(asked, names, strict=True):
        if name not in known:
            there = f"{', '.join(SUITES)}, c/CORRUPTION and c/CORRUPTION/SEVERITY"
            hint = did_you_mean(name, known)
            raise ConfigError(f"there is no evaluation suite {name!r}; there are {there}{hint}")
        kinds = ("folder",) if _is_corrupted(name) else ("folder", "zip")
        _, equals, place = text.partition("=")
        kind, _, path = place.partition(":")
        if equals and not (kind in kinds and path):
            forms = " or ".join(f"{name}={kind}:PATH" for kind in kinds)
            raise ConfigError(f"suite {text!r}: expected {name} or {forms}")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"the evaluation suite {name} is asked for {names.count(name)} times")
    if asked and task not in CLASSIFIERS:
        raise ConfigError(
            f"evaluation suites are for config.task = 'classification', this one is {task!r}"
        )


def find_suites(asked: Sequence[str], data_dir: str) -> dict[str, list[Part]]:
    """The parts of each suite, and where they are.

    Args:
      asked: NAME or NAME=KIND:PATH each, checked by `check_names`.
      data_dir: config.data.dir.

    Raises:
      DataError: for one that is not there, or partly as published files and partly TFDS's.
    """
    found = {}
    for text in asked:
        name, _, place = text.partition("=")
        found[name] = [_find(part, place, resolved_dir(data_dir)) for part in _parts(name)]
        first, *others = found[name]
        for other in others:
            if other.kind != first.kind:  # TFDS makes its corruptions itself: others
                raise DataError(
                    f"suite {name}: {first.path} is a {first.kind} and {other.path} a "
                    f"{other.kind}, whose images differ; say c=folder:PATH, or make the others too"
                )
    return found


def _parts(name: str) -> Iterator[str]:
    """The names of the parts of a suite."""
    if _is_corrupted(name):
        _, corruption, severity = (*name.split("/"), "", "")[:3]
        for one in (corruption,) if corruption else BENCHMARK:
            for number in (severity,) if severity else SEVERITIES:
                yield f"c/{one}/{number}"
    else:
        yield name


def _find(name: str, place: str, data_dir: str) -> Part:
    suite = SUITES["c" if _is_corrupted(name) else name]
    below = name.removeprefix("c/") if _is_corrupted(name) else ""
    if place:
        kind, _, path = place.partition(":")
        root = Path(path).expanduser()
        there = _inside(root, below)
        if there and there.is_dir() == (kind == "folder"):
            return Part(name, suite, kind, str(there))
        what = "folder" if kind == "folder" else "file"
        raise DataError(f"suite {name}: there is no {what} {root / below}; {suite.remedy}")
    tfds = f"{suite.tfds}/{below.replace('/', '_')}" if below else suite.tfds
    if tfds and ("://" in data_dir or any(Path(data_dir, tfds).glob("*/dataset_info.json"))):
        return Part(name, suite, "tfds", tfds)
    for folder in suite.folders:
        if there := _inside(Path(data_dir, folder), below):
            return Part(name, suite, "folder", str(there))
    expected = [f"the folder {' or '.join(suite.folders)}{f' with {below}' if below else ''}"]
    remedies = [suite.remedy]
    if tfds:
        expected.append(f"the TFDS data set {tfds}")
        remedies.append(f"or make the data set by `prepare --dataset={tfds} --dir={data_dir}`")
    remedies.append(f"or say where it is: {'c' if below else name}=folder:PATH")
    raise DataError(
        f"suite {name}: {data_dir} (data.dir) {'has neither' if tfds else 'lacks'} "
        f"{' nor '.join(expected)}; {', '.join(remedies)}"
    )


def _is_corrupted(name: str) -> bool:
    return name.partition("/")[0] == "c"


def _inside(root: Path, below: str) -> Path | None:
    """The folder CORRUPTION/SEVERITY in ROOT or in a folder of it; ROOT itself for ""."""
    places = [root / below]
    if below and not places[0].is_dir() and root.is_dir():
        places = sorted(root.glob(f"*/{below}"))  # noise/gaussian_noise/1
    return next((place for place in places if place.exists()), None)
