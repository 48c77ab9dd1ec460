"""What a working directory holds, as far as it shows without reading a checkpoint."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from imagenet_jax.config import from_json
from imagenet_jax.errors import CheckpointError, ConfigError, UserError

REPORT = "evaluation"  # the folder of what goes wrong


def check_writable(workdir: Path) -> None:
    """Raises UserError if a working directory cannot be made or written to; makes nothing."""
    _check_folder(workdir, f"--workdir={workdir}")


def check_run_folder(workdir: Path) -> None:
    """As `check_writable`, for checkpoints: they could not be read back from just any folder."""
    path = str(workdir.absolute())
    odd = [c for c in path if c in "*?[\\" or 0xD800 <= ord(c) < 0xE000]
    if odd:
        raise UserError(
            f"--workdir={workdir}: Orbax, which writes the checkpoints, takes {odd[0]!r} in {path} "
            "for a part of a pattern; use a folder whose path is in UTF-8 and has none of * ? [ \\"
        )
    check_writable(workdir)


def check_output(file: Path, flag: str) -> None:
    """Raises UserError if the file that a flag names cannot be written; makes nothing."""
    if file.is_dir():
        raise UserError(f"{flag}={file} is a folder; expected the name of a file")
    if file.exists() and not file.is_file():  # /dev/stdout
        return
    _check_folder(file.parent, f"{flag}={file}")


def _check_folder(folder: Path, what: str) -> None:
    absolute = folder.absolute()
    place = next(path for path in (absolute, *absolute.parents) if path.exists())
    wrong = None if place.is_dir() else errno.ENOTDIR
    if not wrong and not os.access(place, os.W_OK | os.X_OK):
        wrong = errno.EACCES
    if wrong:
        reason = f"[Errno {wrong}] {os.strerror(wrong)}: {str(place)!r}"
        raise UserError(f"{what} cannot be written to: {reason}")


def saved_config(workdir: Path) -> ml_collections.ConfigDict | None:
    """The config of the run in a working directory; None if there is none.

    Raises:
      ConfigError: if it cannot be read, or has fields that this version does not know.
    """
    saved = workdir / "config.json"
    if not saved.exists():
        return None
    try:
        return from_json(saved.read_text(encoding="utf-8"))
    except (ValueError, TypeError, RecursionError, ConfigError) as error:
        raise ConfigError(
            f"{saved} cannot be read: {error}. Bring back a copy, or give the run's --config"
        ) from error


def reported_checkpoint(config: ml_collections.ConfigDict) -> str:
    """Of which checkpoint a run with this config reports the evaluation: latest or best."""
    return {"best": "best", "last": "latest"}[config.eval.report]


def checkpoints_of(workdir: Path) -> Path:
    """The folder with the checkpoints of a run. Raises CheckpointError if there is none."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoints in {workdir}; give the --workdir of a training run")
    return folder


def check_which(folder: Path, which: str) -> None:
    """Raises CheckpointError if `which` is not latest, best or a step with a folder in there."""
    if which not in ("latest", "best") and not (which.isdecimal() and (folder / which).is_dir()):
        steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), reverse=True)
        raise no_checkpoint(which, folder.absolute(), steps)


def no_checkpoint(which: str, folder: Path, steps: Sequence[int]) -> CheckpointError:
    """The error of a checkpoint that is asked for and not among the steps that are there."""
    listed = ", ".join(map(str, steps)) or "none"
    return CheckpointError(
        f"no checkpoint {which!r} in {folder}; expected latest, best or one of the steps {listed}"
    )
