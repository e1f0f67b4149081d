"""Take out of pictures what does not belong to the picture: comments, camera and program data, times, prompts, anything after the end.

Programs that make pictures write into them who made them, and with which model. The desk must not say it, not even to a rater who saves a
picture. Pixels, colours, transparency, animation and the orientation of a photograph stay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT bKGD iCCP cICP mDCV cLLI acTL fcTL fdAT".split())
_WEBP_CHUNKS = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))
_EXIF_FLAG, _XMP_FLAG = 0x08, 0x04
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_ORIENTATION = 0x0112


class _UnknownPictureError(ValueError):
    """A picture that does not keep to its format."""


def without_metadata(data: bytes) -> bytes:
    """Return a PNG, JPEG, GIF or WebP file without metadata. A file that does not keep to its format is returned as it is."""
    try:
        if data.startswith(_PNG):
            return b"".join(_png(data))
        if data.startswith(b"\xff\xd8"):
            return b"".join(_jpeg(data))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return b"".join(_gif(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (_UnknownPictureError, struct.error, IndexError):
        return data
    return data


def _png(data: bytes) -> Iterator[bytes]:
    yield _PNG
    at = len(_PNG)
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise _UnknownPictureError
        if kind in _PNG_CHUNKS:
            yield data[at:end]
        if kind == b"IEND":
            return
        at = end


def _jpeg(data: bytes) -> Iterator[bytes]:
    orientation = 1
    kept: list[bytes] = []
    at = 2
    while data[at : at + 2] != b"\xff\xd9":
        if data[at] != 0xFF:
            raise _UnknownPictureError
        if data[at + 1] == 0xFF:  # fill
            at += 1
            continue
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if end > len(data):
            raise _UnknownPictureError
        content = data[at + 4 : end]
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = _orientation(content[6:])
        if _belongs(marker, content):
            kept.append(data[at:end])
        at = end
        if marker == 0xDA:  # the pixels follow, up to the next marker
            at = _end_of_scan(data, end)
            kept.append(data[end:at])
    yield b"\xff\xd8"
    if orientation != 1:
        exif = b"Exif\0\0" + _only_orientation(orientation)
        yield b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    yield from kept
    yield b"\xff\xd9"


def _belongs(marker: int, content: bytes) -> bool:
    """Return whether a segment of a JPEG is needed to draw it."""
    if marker == 0xE0:
        return content.startswith(b"JFIF\0")
    if marker == 0xE2:
        return content.startswith(b"ICC_PROFILE\0")
    if marker == 0xEE:
        return content.startswith(b"Adobe")
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _end_of_scan(data: bytes, at: int) -> int:
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise _UnknownPictureError
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7 and data[at + 1] != 0xFF:
            return at
        at += 1 if data[at + 1] == 0xFF else 2


def _orientation(tiff: bytes) -> int:
    """Return the orientation in EXIF data, 1 (upright) if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for number in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * number)
            if tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _only_orientation(orientation: int) -> bytes:
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def _gif(data: bytes) -> Iterator[bytes]:
    at = 13 + _colours(data[10])
    yield data[:at]
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            end = _end_of_blocks(data, at + 11 + _colours(data[at + 9]))
            yield data[at:end]
        elif data[at] == 0x21:
            label, end = data[at + 1], _end_of_blocks(data, at + 2)
            is_loop = label == 0xFF and data[at + 3 : at + 14] in _LOOPS
            if label in {0xF9, 0x01} or is_loop:
                yield data[at:end]
        else:
            raise _UnknownPictureError
        at = end
    yield b"\x3b"


def _colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def _webp(data: bytes) -> bytes:
    chunks: list[bytes] = []
    orientation, at, end_of_all = 1, 12, min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    while at + 8 <= end_of_all:
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        content = data[at + 8 : at + 8 + length]
        if len(content) < length:
            raise _UnknownPictureError
        if kind == b"EXIF":
            orientation = _orientation(content.removeprefix(b"Exif\0\0"))
        elif kind in _WEBP_CHUNKS:
            chunks.append(_webp_chunk(kind, content))
        at += 8 + length + length % 2
    flags = _EXIF_FLAG if orientation != 1 else 0
    if flags:
        chunks.append(_webp_chunk(b"EXIF", _only_orientation(orientation)))
    for number, chunk in enumerate(chunks):
        if chunk[:4] == b"VP8X":
            chunks[number] = chunk[:8] + bytes([chunk[8] & ~(_EXIF_FLAG | _XMP_FLAG) | flags]) + chunk[9:]
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
