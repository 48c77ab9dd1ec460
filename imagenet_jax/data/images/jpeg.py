"""The header of a JPEG, read without decoding it."""

import re
import struct
from typing import NamedTuple

_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers that no length follows
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
ORIENTATION = 0x0112
# The integer types of EXIF, with and without sign: 1, 2 and 4 bytes.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}


class Header(NamedTuple):
    """What a decoder has to know beforehand (ITU-T T.81, section B.2.2)."""

    height: int  # pixels, as stored
    width: int
    channels: int  # 1: grey, 3: colour, 4: CMYK
    bits: int  # per channel
    orientation: int  # of EXIF, or of XMP where EXIF has none, 1 to 8; 1: upright


def read_header(encoded: bytes | memoryview) -> Header | None:
    """The header of a JPEG file; None if the bytes are none or end before the frame begins."""
    if encoded[:2] != b"\xff\xd8":
        return None
    at, end = 2, len(encoded)
    in_exif = in_xmp = None
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
            orientation = in_xmp if in_exif is None else in_exif
            return Header(height, width, channels, bits, orientation or 1)
        if marker == 0xE1:
            segment = bytes(encoded[at + 4 : at + 2 + length])
            if segment.startswith(_EXIF) and in_exif is None:
                in_exif = _exif_orientation(segment[len(_EXIF) :])
            elif segment.startswith(_XMP) and (match := _IN_XMP.search(segment)):
                in_xmp = _valid(int(match[1]))
        at += 2 + length
    return None


def _exif_orientation(tiff: bytes) -> int | None:
    """The orientation in the first directory of an EXIF block; None if it holds none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", tiff, entry)
            if tag == ORIENTATION and kind in _INTEGERS:
                at, size = entry + 8, struct.calcsize(_INTEGERS[kind])
                if values * size > 4:  # what does not fit in the entry stands elsewhere
                    (at,) = struct.unpack_from(order + "I", tiff, at)
                return _valid(struct.unpack_from(order + _INTEGERS[kind], tiff, at)[0])
    except struct.error:
        pass
    return None


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1
