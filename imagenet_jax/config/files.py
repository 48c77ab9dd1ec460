"""Config files: found by name or path, and run."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import ml_collections

from imagenet_jax.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # it imports this
    from imagenet_jax.config.recipe import Published

_PACKAGE = Path(__file__).resolve().parents[1]
# Beside the package in a checkout, within it where it was installed.
CONFIGS = next(
    (folder for folder in (_PACKAGE.parent / "configs", _PACKAGE / "configs") if folder.is_dir()),
    _PACKAGE / "configs",
)
RECIPES = CONFIGS / "recipes"  # as published


def find_config(name: str | Path) -> str:
    """The file of a config, with its argument if there is one: FILE.py or FILE.py:ARGUMENT.

    Args:
      name: FILE.py[:ARGUMENT], or NAME[:ARGUMENT] of a config that comes with the program.

    Raises:
      ConfigError: if there is none.
    """
    text, colon, argument = str(name).partition(".py:")
    is_known = text.partition(":")[0] in config_files() and not Path(text).is_file()
    if colon or text.endswith(".py") or (Path(text).exists() and not is_known):
        path = Path(f"{text}.py" if colon else text)
        if path.suffix != ".py" or not path.is_file():
            known = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
            hint = f"; there are {', '.join(known)}" if known else ""
            raise ConfigError(f"config file {path} is no Python file{hint}")
        return str(name)
    text, colon, argument = text.partition(":")
    known = config_files()
    if text not in known:
        hint = did_you_mean(text, known) or f"; there are {', '.join(known)}, or give a FILE.py"
        raise ConfigError(f"there is no config {text!r}{hint}")
    return f"{known[text]}{colon}{argument}"


def config_files() -> dict[str, Path]:
    """The configs that come with the program by their names, those of `RECIPES` among them."""
    files = (*CONFIGS.glob("*.py"), *RECIPES.glob("*.py"))
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}


def load_config(name: str | Path) -> ml_collections.ConfigDict:
    """Runs `get_config()` of a config file, or `get_config("ARGUMENT")`.

    Args:
      name: as of `find_config`.

    Raises:
      ConfigError: if the file does not give a config.
    """
    text, colon, argument = find_config(name).partition(".py:")
    path = Path(f"{text}.py" if colon else text)
    try:
        module = _run(path)
        variants = getattr(module, "RECIPES", None)
        if colon and variants is not None and argument not in variants:
            raise ConfigError(
                f"config file {path} has no {argument!r}; expected {', '.join(variants)}"
                + did_you_mean(argument, variants)
            )
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


def load_recipes() -> dict[str, tuple[ml_collections.ConfigDict, "Published"]]:
    """{name for --config: (config, what is published of it)} of all recipes."""
    found = {}
    for path in sorted(RECIPES.glob("*.py")):
        module = _run(path)
        for variant, published in module.RECIPES.items():
            found[f"{path.stem}:{variant}"] = module.get_config(variant), published
    return found


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kind_of(value: Any) -> str:
    """What a value is, for a message."""
    return "None" if value is None else f"a {type(value).__name__}"
