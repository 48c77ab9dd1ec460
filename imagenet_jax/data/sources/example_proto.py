"""tf.train.Example records, read in place: protobuf would copy an image twice."""

from collections.abc import Iterator

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse_example(
    record: bytes | memoryview,
) -> dict[str, list[memoryview] | list[int] | list[float]]:
    """The features of a serialized tf.train.Example.

    Args:
      record: see tensorflow/core/example/{example,feature}.proto and the wire format at
        https://protobuf.dev/programming-guides/encoding.

    Returns:
      {name: values}; bytes are views of the record.

    Raises:
      ValueError: if the record is no such message.
    """
    view, features = memoryview(record), {}
    try:
        for entry in _messages(view, 1, 1):  # Example.features, Features.feature
            fields = dict(_fields(entry))
            name = str(fields.get(1, b""), "utf-8")
            for kind, values in _fields(fields.get(2, view[:0])):
                if kind == 1:
                    features[name] = [memoryview(value) for _, value in _fields(values)]
                elif kind == 2:
                    floats = [_floats(value) for _, value in _fields(values)]
                    features[name] = [n for part in floats for n in part]
                elif kind == 3:
                    features[name] = [n for _, value in _fields(values) for n in _integers(value)]
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("the record is no tf.train.Example") from error
    return features


def _messages(view: memoryview, *path: int) -> Iterator[memoryview]:
    """The messages at the end of a path of field numbers."""
    if not path:
        yield view
        return
    for number, value in _fields(view):
        if number == path[0]:
            yield from _messages(value, *path[1:])


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field of a message; IndexError where it is cut short."""
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise IndexError(kind)
        if at + size > end:
            raise IndexError(size)
        yield number, view[at : at + size]
        at += size


def _floats(value: memoryview | int) -> list[float]:
    """The float32 values of a field, packed or one alone."""
    if isinstance(value, int) or len(value) % 4:
        raise IndexError(value)
    return np.frombuffer(value, "<f4").tolist()


def _integers(value: memoryview | int) -> Iterator[int]:
    """The int64 values of a field, packed or one alone."""
    if isinstance(value, int):
        yield _signed(value)
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield _signed(number)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, lowest first, and where it ends."""
    byte = view[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while True:
        at += 1
        byte = view[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + 1
        shift += 7
        if shift > 63:
            raise IndexError(shift)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
