"""`launch.py fields`: what --config.FIELD=VALUE can set."""

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config import flatten
from imagenet_jax.config.hints import likely_fields
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.errors import ConfigError
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="*", help="only fields with one of these in name or meaning"
    )


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    values = dict(flatten(config))
    wanted = [
        pattern.removeprefix("--").removeprefix("config.").lower() for pattern in args.pattern
    ]

    def fits(name: str) -> bool:
        return any(word in name or word in SCHEMA[name].meaning.lower() for word in wanted)

    names = [name for name in SCHEMA if not wanted or fits(name)]
    names = names or [field for word in wanted for field in likely_fields(word)[:1]]
    if not names:
        raise ConfigError(f"no field has {' or '.join(args.pattern)} in its name or meaning")
    fields = {
        name: {
            "value": values[name],
            "default": SCHEMA[name].default,
            "allowed": SCHEMA[name].allowed,
            "meaning": SCHEMA[name].meaning,
        }
        for name in names
    }
    return {"config": Path(args.config or "quickstart").name, "fields": fields}


def _text(result: dict[str, Any]) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    lines = []
    for name, field in result["fields"].items():
        value, default = (_written(field[key]) for key in ("value", "default"))
        lines.append(f"{name} = {value}" + (f"   (default {default})" if value != default else ""))
        about = field["meaning"] + (f". {_sentence(field['allowed'])}" if field["allowed"] else "")
        lines += textwrap.wrap(about, width, initial_indent="    ", subsequent_indent="    ")
    count = len(result["fields"])
    lines.append(f"{count} field{'s' * (count > 1)}; values of --config={result['config']}")
    return "\n".join(lines)


def _written(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


FIELDS = Verb("what --config.FIELD=VALUE can set", _add_flags, _run, _text, needs_jax=False)
