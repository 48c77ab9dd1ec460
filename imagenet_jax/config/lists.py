"""Lists on a command line: A,B,C."""

import re
from collections.abc import Iterator

_CLOSING = {"(": ")", "[": "]", "'": "'", '"': '"'}


def split_list(text: str) -> Iterator[str]:
    """The parts between commas that are in no brackets or quotes; without quotes around a part.

    Raises:
      ValueError: for brackets or quotes that are not closed.
    """
    part, closing = "", []  # what has to come before a comma counts
    for letter in f"{text},":
        if closing and letter == closing[-1]:
            closing.pop()
        elif letter in _CLOSING and not (closing and closing[-1] in "'\""):
            closing.append(_CLOSING[letter])
        elif letter == "," and not closing:
            part = part.strip()
            yield part[1:-1] if re.fullmatch(r"'[^']*'|\"[^\"]*\"", part) else part
            part = ""
            continue
        part += letter
    if closing:
        raise ValueError(f"{text!r} lacks {closing[-1]} at its end")


def parse_tuple(text: str) -> list[str]:
    """The parts of "(A, B)", "[A, B]" or "A,B" that are not empty. Raises as `split_list`."""
    text = text.strip()
    if text[:1] + text[-1:] in ("()", "[]"):
        try:
            return list(filter(None, split_list(text[1:-1])))
        except ValueError:  # (a)|(b)
            pass
    return list(filter(None, split_list(text)))
