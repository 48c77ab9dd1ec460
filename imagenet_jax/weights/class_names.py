"""A file that names the classes of weights."""

import json
from pathlib import Path
from typing import Any

from imagenet_jax.errors import WeightsError


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a file in UTF-8, in the order of the model's outputs.

    A name a line; or JSON, which is a list of names, {number: name}, {name: number} or, as Keras
    has it, {number: [synset, name]}, of which the synset is taken.

    Raises:
      WeightsError: for a file that cannot be read, with the line that is empty or comes twice.
    """
    try:
        text = path.read_text("utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    is_json = text.lstrip().startswith(("[", "{"))
    lines = _of_json(path, text) if is_json else text.splitlines()
    names: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name, place = line.strip(), "name" if is_json else "line"
        if not name or not name.isprintable():
            raise WeightsError(f"{path}, {place} {number}: expected the name of a class")
        if name in names:
            raise WeightsError(
                f"{path}, {place} {number}: {name!r} stands in {place} {names[name]}, too"
            )
        names[name] = number
    if not names:
        raise WeightsError(f"{path} is empty; expected the name of a class in each line")
    return tuple(names)


def _of_json(path: Path, text: str) -> list[str]:
    try:
        found: Any = json.loads(text)
        if isinstance(found, dict):
            if all(type(value) is int for value in found.values()):
                found = {number: name for name, number in found.items()}
            else:
                found = {int(number): name for number, name in found.items()}
            found = [found[number] for number in range(len(found))]
        found = [name[0] if isinstance(name, list) and len(name) == 2 else name for name in found]
        if not all(isinstance(name, str) for name in found):
            raise TypeError("names are something else")
        return found
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} looks like JSON, and is not of the kinds that are read: a list of names, "
            "{number: name} from 0 on, or {name: number}; write a name a line"
        ) from error
