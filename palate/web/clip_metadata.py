"""Blank out of clips what does not belong to the clip: titles, programs, comments and times.

A clip can be large, and its parts refer to each other by their places in the file. So nothing moves: the bytes at fault are replaced by
others of the same length while the file is sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

Patch = tuple[int, bytes]
"""A place in a file, and the bytes that stand there instead of its own."""

LARGEST_PATCH = 2**20
"""Longest run of bytes that is blanked. Data of this size are pictures or sound."""

_MP4_PARENTS = frozenset(b"moov trak mdia minf stbl moof traf".split())
_MP4_TOLD = frozenset(b"udta meta uuid ID32 prft free skip wide".split())
_MP4_DATED = {b"mvhd", b"tkhd", b"mdhd"}
_WEBM_PARENTS = {0x18538067, 0x1549A966, 0x1654AE6B, 0xAE}
"""Segment, Info, Tracks, TrackEntry."""

_WEBM_TOLD = {0x7BA9, 0x4D80, 0x5741, 0x4461, 0x73A4, 0x7384, 0x3CB923, 0x3C83AB, 0x3EB923, 0x3E83BB, 0x536E, 0x258688}
"""Title, programs, date, ids and names of files, names of tracks and codecs."""

_WEBM_BLANKED = {0x1254C367, 0x1941A469, 0xEC}
"""Tags, attachments, and space that is said to be empty."""


def patches(file: Path) -> tuple[Patch, ...]:
    """Return what to replace in an MP4 or WebM file, as far as the file keeps to its format."""
    with file.open("rb") as content:
        size = content.seek(0, 2)
        content.seek(0)
        head = content.read(12)
        if head[4:8] == b"ftyp":
            return tuple(_mp4(content, 0, size))
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return tuple(_webm(content, 0, size))
    return ()


def _mp4(content: BinaryIO, at: int, end: int) -> Iterator[Patch]:
    while at + 8 <= end:
        content.seek(at)
        head = content.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        start = 8
        if size == 1 and len(head) == 16:
            size, start = struct.unpack_from(">Q", head, 8)[0], 16
        size = size or end - at  # 0 means up to the end
        if size < start or at + size > end:
            return
        inside, length = at + start, size - start
        if kind in _MP4_PARENTS:
            yield from _mp4(content, inside, at + size)
        elif kind in _MP4_TOLD and length <= LARGEST_PATCH:
            yield at + 4, b"free"
            yield inside, bytes(length)
        elif kind in _MP4_DATED:
            content.seek(inside)
            version = content.read(1)
            yield inside + 4, bytes(16 if version == b"\1" else 8)
        elif kind == b"hdlr" and 24 < length <= LARGEST_PATCH:
            yield inside + 24, bytes(length - 24)
        elif kind == b"stsd":
            yield from _codec_name(content, inside)
        at += size


def _codec_name(content: BinaryIO, inside: int) -> Iterator[Patch]:
    """Blank the name of the program in the first sample entry, if it is of a picture."""
    content.seek(inside + 8)
    entry = content.read(86)
    if (
        len(entry) == 86
        and struct.unpack_from(">I", entry)[0] >= 86
        and entry[4:8] in {b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp09", b"mp4v"}
    ):
        yield inside + 8 + 50, bytes(32)


def _webm(content: BinaryIO, at: int, end: int) -> Iterator[Patch]:
    while at < end:
        content.seek(at)
        head = content.read(12)
        width = _width(head, 0)
        size_width = _width(head, width)
        if not width or width > 4 or not size_width or len(head) < width + size_width:
            return
        kind = int.from_bytes(head[:width], "big")
        length = int.from_bytes(head[width : width + size_width], "big") & ((1 << 7 * size_width) - 1)
        inside = at + width + size_width
        if length == (1 << 7 * size_width) - 1:  # unknown
            length = end - inside
        if inside + length > end:
            return
        if kind in _WEBM_PARENTS:
            yield from _webm(content, inside, inside + length)
        elif kind in _WEBM_TOLD and length <= LARGEST_PATCH:
            yield inside, bytes(length)
        elif kind in _WEBM_BLANKED and length <= LARGEST_PATCH:
            total = inside - at + length
            head = b"\xec" + bytes([0x80 | total - 2]) if total < 129 else b"\xec\x01" + (total - 9).to_bytes(7, "big")
            yield at, head + bytes(total - len(head))
        at = inside + length


def _width(head: bytes, at: int) -> int:
    """Return how many bytes the number at this place has, 0 if there is none. Its leading zeros say it."""
    return 9 - head[at].bit_length() if at < len(head) and head[at] else 0
