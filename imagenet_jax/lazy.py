"""Faces of packages whose names can be asked for without importing all that is behind them."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`: imports the submodule of a name when the name is asked for.

    Args:
      package: its `__name__`.
      names: {name: the submodule that has it}.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return find
