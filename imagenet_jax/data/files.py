"""Image folders and zip archives: SPLIT/CLASS/IMAGE, classes in alphabetical order."""

import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from imagenet_jax.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


class FileSource:
    """A split of a folder or an archive.

    `class_names` are those of all splits together, so that a label means the same in each.
    """

    def __init__(
        self, root: str, split: str, names: Iterable[str], read_file: Callable[[str], bytes]
    ):
        """Takes the images SPLIT/CLASS/IMAGE among `names` (paths inside `root`, with /).

        Raises:
          DataError: if the split has no images.
        """
        found = [(*PurePosixPath(name).parts[-3:-1], name) for name in names if _is_image(name)]
        self.class_names = tuple(sorted({cls for _, cls, _ in found}))
        label_of = {cls: label for label, cls in enumerate(self.class_names)}
        examples = sorted((name, label_of[cls]) for part, cls, name in found if part == split)
        if not examples:
            splits = ", ".join(sorted({part for part, _, _ in found})) or "none"
            raise DataError(
                f"{root}: no images in {split}/CLASS/IMAGE (splits found: {splits}; image "
                f"suffixes: {' '.join(IMAGE_SUFFIXES)}). Set data.train_split and data.eval_split"
            )
        self._root = root
        self._names = [name for name, _ in examples]
        self._labels = np.array([label for _, label in examples], np.int32)
        self._read_file = read_file

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        return [self._read_file(self._names[i]) for i in index], self._labels[index]

    def describe(self, index: int) -> str:
        return f"{self._root}/{self._names[index]}"


def open_folder(path: str, split: str) -> FileSource:
    """The images below PATH/SPLIT/CLASS/. Raises DataError if PATH is not a folder."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"data.name = 'folder:{path}': there is no such folder")
    names = (str(p.relative_to(root).as_posix()) for p in root.glob("*/*/*"))
    return FileSource(str(root), split, names, lambda name: (root / name).read_bytes())


def open_zip(path: str, split: str) -> FileSource:
    """The images SPLIT/CLASS/ of an archive. Raises DataError if it is missing or damaged."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"data.name = 'zip:{path}': there is no such file")
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"data.name = 'zip:{path}': {error}") from error

    def read_file(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise OSError(str(error)) from error  # as a damaged file of a folder gives

    return FileSource(str(file), split, archive.namelist(), read_file)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = path.name.startswith(".")  # macOS keeps "._1.jpg", no image, beside "1.jpg"
    return len(path.parts) == 3 and path.suffix.lower() in IMAGE_SUFFIXES and not hidden
