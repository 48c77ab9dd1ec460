"""The header of a JPEG, read without decoding it."""

import struct
from typing import NamedTuple

_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers that no length follows
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What a decoder has to know beforehand (ITU-T T.81, section B.2.2)."""

    height: int  # pixels, as stored
    width: int
    channels: int  # 1: grey, 3: colour, 4: CMYK
    bits: int  # per channel
    orientation: int  # of EXIF, 1 to 8; 1: upright


def read_header(encoded: bytes | memoryview) -> Header | None:
    """The header of a JPEG file; None if the bytes are none or end before the frame begins."""
    if encoded[:2] != b"\xff\xd8":
        return None
    at, end, orientation = 2, len(encoded), 1
    while at + 4 <= end:
        if encoded[at] != 0xFF:
            return None
        marker = encoded[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(encoded[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            if at + 10 > end:
                return None
            bits, height, width, channels = struct.unpack_from(">BHHB", encoded, at + 4)
            return Header(height, width, channels, bits, orientation)
        if marker == 0xE1 and encoded[at + 4 : at + 10] == _EXIF:
            orientation = _exif_orientation(encoded[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _exif_orientation(tiff: bytes | memoryview) -> int:
    """The orientation in the first directory of an EXIF block; 1 if it holds none that is valid."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
