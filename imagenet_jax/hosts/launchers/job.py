"""What a launcher is to run."""

import dataclasses
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from imagenet_jax.errors import PERMANENT, ConfigError, UserError

# Where TPU VMs and pods have the bucket in which the workdir is.
MOUNT = Path("/mnt/bucket")
# A pattern of a shell's `case`: what only a person can mend.
PERMANENT_PATTERN = "|".join(map(str, PERMANENT))
# Of launch.py and configs/, which are not there where the package was installed.
CHECKOUT = Path(__file__).resolve().parents[3]


def own_program() -> list[str]:
    """The beginning of a command line that starts this program on this machine."""
    script = CHECKOUT / "launch.py"
    return [sys.executable, *([str(script)] if script.is_file() else ["-m", "imagenet_jax"])]


@dataclasses.dataclass(frozen=True)
class Job:
    """A command line of launch.py.

    Attributes:
      arguments: of launch.py, without --config, --workdir and what is the launcher's own.
      config: the config file; relative to the folder where it is in there.
      workdir: where the run is kept, as the processes of the job see it.
      folder: of launch.py on this machine.
      program: see `own_program`.
      restarts: how often to start it again, see `errors`.
      services: that its metrics go to, see `reports.services`.
    """

    arguments: Sequence[str]
    config: Path | None
    workdir: Path
    folder: Path
    program: Sequence[str]
    restarts: int
    services: Sequence[str] = ()

    def __post_init__(self) -> None:
        for part in (*self.arguments, *map(str, (self.config, self.workdir, self.folder))):
            if not part.isprintable():
                raise ConfigError(f"{part!r} has characters that no command line should have")

    @property
    def name(self) -> str:
        """For the scheduler: the workdir's name in letters, digits and hyphens.

        With a hash of its path, as two workdirs may have one name.
        """
        plain = re.sub(r"[^a-z0-9]+", "-", self.workdir.name.lower())[:32].strip("-")
        plain = plain if plain[:1].isalpha() else f"run-{plain}".strip("-")
        return f"{plain}-{hashlib.sha1(str(self.workdir).encode()).hexdigest()[:6]}"

    def command(self) -> list[str]:
        """What each process runs on this machine, or one that sees the same files."""
        config = self.config and self.folder / self.config
        return self._command(self.program, config, self.workdir)

    def remote_command(self, python: str) -> list[str]:
        """What each runs in a copy of the folder; a relative workdir is in `MOUNT`.

        Raises:
          ConfigError: if the config is not in the folder.
        """
        if self.config and self.config.is_absolute():
            raise ConfigError(
                f"--config={self.config} is not in {self.folder}, which is what the machines of "
                "the job get; copy it to configs/"
            )
        workdir = self.workdir if self.workdir.is_absolute() else MOUNT / self.workdir
        return self._command([python, "launch.py"], self.config, workdir)

    def _command(self, program: Sequence[str], config: Path | None, workdir: Path) -> list[str]:
        flags = [f"--config={config}"] if config else []
        verb = [part for part in self.arguments[:1] if not part.startswith("-")]
        rest = self.arguments[len(verb) :]
        return [*program, *verb, *flags, f"--workdir={workdir}", *rest]  # rest may have --


def shell(command: Sequence[str], indent: str = "  ") -> str:
    """A command as lines of a shell script."""
    return f" \\\n{indent}".join(shlex.quote(part) for part in command)


def submit(command: Sequence[str], path: Path, *, hint: str, needs: str = "") -> None:
    """Runs a scheduler's command on a file just written.

    Raises:
      UserError: if the program, or the one that it `needs`, is not here, or if it fails.
    """
    program = needs or command[0]
    if shutil.which(program) is None:
        raise UserError(f"{path} is written, but there is no {program} here; {hint}")
    status = subprocess.run(command).returncode
    if status:
        raise UserError(f"`{shlex.join(command)}` ended with status {status}; {hint}")
