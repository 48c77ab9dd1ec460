"""What stands behind a launcher's name: --launcher=slurm:nodes=2,time=24:00:00."""

import dataclasses
import re
from typing import Any, TypeVar

from imagenet_jax.errors import ConfigError, did_you_mean

Options = TypeVar("Options")


def option(default: Any = dataclasses.MISSING, *, meaning: str, least: int = 1) -> Any:
    """A field of an options class; without a default it has to be given. `least`: of numbers."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "least": least})


def parse_options(launcher: str, text: str, kind: type[Options]) -> Options:
    """The options of "nodes=2,time=24:00:00" as a `kind`, a dataclass of `option` fields.

    Raises:
      ConfigError: for an option that does not exist, is missing, or has a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not part.isprintable():
            raise ConfigError(f"--launcher={launcher} has the option {part!r}, which is no text")
        if name not in fields or not equals:
            hint = did_you_mean(name, fields)
            raise ConfigError(f"--launcher={launcher} has no option {part!r}{hint}\n{listed(kind)}")
        values[name] = _value(launcher, fields[name], value)
    missing = [f.name for f in fields.values() if f.default is dataclasses.MISSING]
    missing = [name for name in missing if name not in values]
    if missing:
        raise ConfigError(f"--launcher={launcher} needs {', '.join(missing)}\n{listed(kind)}")
    return kind(**values)


def check_names(launcher: str, options: Any, *names: str) -> None:
    """Raises ConfigError for options that are not made of letters, digits and ._:/@- alone."""
    for name in names:
        value = getattr(options, name)
        if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", value):
            raise ConfigError(f"--launcher={launcher}: {name}={value} is no name")


def listed(kind: type) -> str:
    """The options of a launcher, a line each."""
    lines = []
    for field in dataclasses.fields(kind):
        needed = field.default is dataclasses.MISSING
        default = "needed" if needed else f"default {field.default!r}"
        lines.append(f"  {field.name}: {field.metadata['meaning']} ({default})")
    return "\n".join(lines)


def _value(launcher: str, field: dataclasses.Field, text: str) -> Any:
    if field.type is bool:
        if text not in ("true", "false"):
            raise ConfigError(f"--launcher={launcher}: {field.name}={text}; expected true or false")
        return text == "true"
    if field.type is int:
        least = field.metadata["least"]
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise ConfigError(
                f"--launcher={launcher}: {field.name}={text[:40]}; expected a whole number, at "
                f"least {least}: {field.metadata['meaning']}"
            )
        return int(text)
    return text
