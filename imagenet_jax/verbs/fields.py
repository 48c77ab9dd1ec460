"""`launch.py fields`: what --config.FIELD=VALUE can set."""

import argparse
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config import flatten
from imagenet_jax.config.hints import likely_fields
from imagenet_jax.config.schema import SCHEMA, SECTIONS
from imagenet_jax.errors import ConfigError
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="*", help="only fields with one of these in name or meaning"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="as docs/configuration.md, with the defaults"
    )


def _check(args: argparse.Namespace, config: ml_collections.ConfigDict, here: bool) -> None:
    if args.markdown and (args.config or args.overrides):
        raise ConfigError("--markdown shows the defaults; leave out --config and --config.FIELD")


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    values = dict(flatten(config))
    wanted = [
        pattern.removeprefix("--").removeprefix("config.").lower() for pattern in args.pattern
    ]

    def fits(name: str) -> bool:
        # In the meaning a word begins so: "lr" is no part of SimCLR.
        meaning = SCHEMA[name].meaning.lower()
        return any(
            word in name or re.search(rf"(?<!\w){re.escape(word)}", meaning) for word in wanted
        )

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
    form = {"markdown": True} if args.markdown else {}
    return {"config": Path(args.config or "quickstart").name, "fields": fields, **form}


def _text(result: dict[str, Any]) -> str:
    if result.get("markdown"):
        return _page(result["fields"])
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


_INTRODUCTION = """\
# Every field of a config

Look up what a field means, which values it takes and what it is unless you set it. Set one on the
command line as `--config.FIELD=VALUE`, or in a [config file](recipes.md#write-your-own).
`python launch.py fields WORD` finds fields by a word in the terminal, and with `--config=NAME`
shows the values of that config.

`python launch.py fields --markdown` prints this page. A duration is a number and a unit:
`90 epochs`, `500 steps`, `50000 examples` or `5 percent` (of the run)."""


def _page(fields: dict[str, dict[str, Any]]) -> str:
    """The fields as a page of Markdown, a table for each section."""
    lines = [_INTRODUCTION]
    for section, title in SECTIONS.items():
        rows = [name for name in fields if name.rpartition(".")[0] == section]
        if not rows:
            continue
        heading = f"{title}: `{section}`" if section else title
        lines += ["", f"## {heading}", "", "| field | default | values | meaning |"]
        lines.append("|---|---|---|---|")
        for name in rows:
            field = fields[name]
            cells = (f"`{name}`", f"`{_written(field['default'])}`", _values(field))
            lines.append(f"| {' | '.join(map(_cell, (*cells, field['meaning'])))} |")
    return "\n".join(lines)


def _values(field: dict[str, Any]) -> str:
    """Of which kind they are, and which are possible."""
    kinds = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    kind = kinds.get(type(field["default"]), "")
    if isinstance(field["default"], str) and field["allowed"]:
        kind = ""
    return ", ".join(filter(None, (kind, field["allowed"])))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


FIELDS = Verb(
    "what --config.FIELD=VALUE can set", _add_flags, _run, _text, check=_check, needs_jax=False
)
