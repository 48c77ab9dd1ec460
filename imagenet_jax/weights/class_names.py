"""A file that names the classes of weights."""

from pathlib import Path

from imagenet_jax.errors import WeightsError


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a text file in UTF-8, a name a line, in the order of the model's outputs.

    Raises:
      WeightsError: for a file that cannot be read, with the line that is empty or comes twice.
    """
    try:
        lines = path.read_text("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    names: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name or not name.isprintable():
            raise WeightsError(f"{path}, line {number}: expected the name of a class")
        if name in names:
            raise WeightsError(f"{path}, line {number}: {name!r} stands in line {names[name]}, too")
        names[name] = number
    if not names:
        raise WeightsError(f"{path} is empty; expected the name of a class in each line")
    return tuple(names)
