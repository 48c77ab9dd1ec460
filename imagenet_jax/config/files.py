"""Config files: found by name or path, and run."""

import importlib.util
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
# Beside the package in a checkout, within it where it was installed.
CONFIGS = next(
    (folder for folder in (_PACKAGE.parent / "configs", _PACKAGE / "configs") if folder.is_dir()),
    _PACKAGE / "configs",
)


def find_config(name: str | Path) -> str:
    """The file of a config, with its argument if there is one: FILE.py or FILE.py:ARGUMENT.

    Args:
      name: FILE.py[:ARGUMENT], or NAME[:ARGUMENT] of a config that comes with the program.

    Raises:
      ConfigError: if there is none.
    """
    text, colon, argument = str(name).partition(".py:")
    if colon or text.endswith(".py") or Path(text).exists():
        path = Path(f"{text}.py" if colon else text)
        if path.suffix != ".py" or not path.is_file():
            known = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
            hint = f"; there are {', '.join(known)}" if known else ""
            raise ConfigError(f"config file {path} is no Python file{hint}")
        return str(name)
    text, colon, argument = text.partition(":")
    known = sorted(path.stem for path in CONFIGS.glob("*.py"))
    if text not in known:
        hint = did_you_mean(text, known) or f"; there are {', '.join(known)}, or give a FILE.py"
        raise ConfigError(f"there is no config {text!r}{hint}")
    return f"{CONFIGS / text}.py{colon}{argument}"


def load_config(name: str | Path) -> ml_collections.ConfigDict:
    """Runs `get_config()` of a config file, or `get_config("ARGUMENT")`.

    Args:
      name: as of `find_config`.

    Raises:
      ConfigError: if the file does not give a config.
    """
    text, colon, argument = find_config(name).partition(".py:")
    path = Path(f"{text}.py" if colon else text)
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument) if colon else module.get_config()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"config file {path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            f"config file {path}: get_config() returns {kind_of(config)}; let it end with `return "
            "config`, which began as base_config()"
        )
    return config


def kind_of(value: Any) -> str:
    """What a value is, for a message."""
    return "None" if value is None else f"a {type(value).__name__}"
