"""What a working directory holds, as far as it shows without reading a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import ml_collections

from imagenet_jax.config import from_json
from imagenet_jax.errors import CheckpointError, ConfigError


def saved_config(workdir: Path) -> ml_collections.ConfigDict | None:
    """The config of the run in a working directory; None if there is none.

    Raises:
      ConfigError: if it cannot be read.
    """
    saved = workdir / "config.json"
    if not saved.exists():
        return None
    try:
        return from_json(saved.read_text())
    except ValueError as error:
        raise ConfigError(f"{saved} cannot be read: {error}") from error


def checkpoints_of(workdir: Path) -> Path:
    """The folder with the checkpoints of a run. Raises CheckpointError if there is none."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoints in {workdir}; give the --workdir of a training run")
    return folder


def check_which(folder: Path, which: str) -> None:
    """Raises CheckpointError if `which` is not latest, best or a step with a folder in there."""
    if which not in ("latest", "best") and not (which.isdigit() and (folder / which).is_dir()):
        steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdigit()), reverse=True)
        raise no_checkpoint(which, folder.absolute(), steps)


def no_checkpoint(which: str, folder: Path, steps: Sequence[int]) -> CheckpointError:
    """The error of a checkpoint that is asked for and not among the steps that are there."""
    listed = ", ".join(map(str, steps)) or "none"
    return CheckpointError(
        f"no checkpoint {which!r} in {folder}; expected latest, best or one of the steps {listed}"
    )
