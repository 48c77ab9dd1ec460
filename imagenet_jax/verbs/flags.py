"""The command line: its verb, its flags, and the fields of the config that it sets."""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from imagenet_jax.config import find_config
from imagenet_jax.config.hints import likely_flag
from imagenet_jax.errors import USAGE, ConfigError, did_you_mean
from imagenet_jax.verbs.table import VERBS
from imagenet_jax.verbs.verb import number

_STARTED_AS = Path(sys.argv[0]).name
PROGRAM = {"__main__.py": "python -m imagenet_jax", "imagenet-jax": "imagenet-jax"}.get(
    _STARTED_AS, "python launch.py"
)
_FIRST_STEPS = f"""
first steps:
  {PROGRAM}
      trains a small network on handwritten digits, in a minute
  {PROGRAM} predict --model=efficientnet_lite0 photo.jpg
      what is in a photo
  {PROGRAM} --config=finetune:efficientnet_lite0,head --config.data.name=folder:PHOTOS
      a classifier of your own photos, in PHOTOS/CLASS (or PHOTOS/train/CLASS and PHOTOS/val/CLASS)
  {PROGRAM} fields learning_rate
      what can be set, as --config.FIELD=VALUE
"""


class _Parser(argparse.ArgumentParser):
    """With messages like those of all other mistakes."""

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else ";"
        print(f"error: {message}{end} `{self.prog} --help` has all flags", file=sys.stderr)
        raise SystemExit(USAGE)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, with `verb` and `overrides` {"FIELD": "VALUE"} among them.

    Raises:
      ConfigError: for a verb, a config or a workdir that cannot be.
      SystemExit: after --help, and after a message on a flag that cannot be.
    """
    argv = list(argv)
    verb = argv.pop(0) if argv and not argv[0].startswith("-") else ""
    if verb == "help":
        verb, argv = "", [*argv, "--help"]
    if verb and verb not in VERBS:
        hint = did_you_mean(verb, VERBS)
        raise ConfigError(f"there is no verb {verb!r}; there are {', '.join(VERBS)}{hint}")
    parser = _parser(verb)
    fields = [arg for arg in argv if arg.startswith("--config.")]
    for field in fields:
        if "=" not in field:
            raise ConfigError(f"{field}: write it as {field}=VALUE")
    args, unknown = parser.parse_known_args([arg for arg in argv if arg not in fields])
    if unknown:
        hints = [hint for flag in _flags(unknown) if (hint := _hint(parser, flag))]
        meant = f"; did you mean {' '.join(hints)}?" if hints else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
    args.verb, args.program = verb or "train", PROGRAM
    if "://" in (args.workdir or ""):
        raise ConfigError(f"--workdir={args.workdir} is a URL; give the path of a mounted folder")
    args.config = args.config and find_config(os.path.expanduser(args.config))
    default = Path(str(args.config or "quickstart").partition(".py:")[0]).stem
    if getattr(args, "model", ""):
        default = f"{verb}/{args.model}"
    args.json = args.json and os.path.expanduser(args.json)
    args.workdir = Path(os.path.expanduser(args.workdir or f"runs/{default}"))
    args.overrides = dict(f.removeprefix("--config.").split("=", 1) for f in fields)
    return args


def _flags(arguments: Sequence[str]) -> list[str]:
    """--FLAG=VALUE of --FLAG=VALUE and of --FLAG VALUE."""
    flags: list[str] = []
    for argument in arguments:
        if argument.startswith("-"):
            flags.append(argument)
        elif flags and "=" not in flags[-1]:
            flags[-1] += f"={argument}"
    return flags


def _hint(parser: argparse.ArgumentParser, argument: str) -> str:
    """The flag that was probably meant."""
    name, equals, value = argument.partition("=")
    flags = [flag for action in parser._actions for flag in action.option_strings]
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.8)
    return near[0] + equals + value if near else likely_flag(argument)


def _parser(verb: str) -> argparse.ArgumentParser:
    """Of a verb; of "" for the program as a whole, which trains."""
    parser = _Parser(
        prog=f"{PROGRAM} {verb}".strip(),
        description=f"{VERBS[verb].meaning}." if verb else _about(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"`{PROGRAM} fields` lists what --config.FIELD=VALUE can set"
        if verb
        else _FIRST_STEPS,
        usage=None if verb else f"{PROGRAM} [VERB] [flags] [--config.FIELD=VALUE ...]",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="NAME", help="resnet50, finetune:MODEL, ... or a FILE.py of your own")
    add("--workdir", metavar="DIR", help="where the run is kept; default: runs/CONFIG")
    add("--json", metavar="FILE", help="also write the result to this file as JSON")
    add(
        "--launcher",
        default="local",
        help="local: this process. processes:NxD: N processes that work together on this machine, "
        "with D virtual CPU devices each. slurm:..., tpu-vm:..., gke:...: on a cluster; "
        "docs/scale-out.md has their options",
    )
    add(
        "--max_restarts",
        type=number(int, least=0),
        default=0,
        metavar="N",
        help="of a launcher, after a process was preempted, killed, hung or crashed",
    )
    add("--dry_run", action="store_true", help="of a launcher: print what would run")
    add(
        "--start_timeout",
        type=number(int, least=1, most=10**6),
        default=300,
        metavar="SECONDS",
        help="to wait for other processes",
    )
    VERBS[verb or "train"].add_flags(parser)
    return parser


def _about() -> str:
    lines = [f"  {name:10} {known.meaning}" for name, known in VERBS.items()]
    return "\n".join(
        (
            "Trains, fine-tunes, evaluates and studies image models.\n",
            "verbs:",
            *lines,
            f"\n`{PROGRAM} VERB --help` has the flags of a verb. Without one it trains:",
        )
    )
