"""Pictures and clips go without what their makers wrote into them, and look as they did."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from palate.web.clip_metadata import patches
from palate.web.picture_metadata import without_metadata

SECRET = b"made by model-7"


def drawn() -> Image.Image:
    image = Image.new("RGB", (12, 7))
    for x in range(12):
        for y in range(7):
            image.putpixel((x, y), (x * 20, y * 30, 40))
    return image


def exif(orientation: int = 1) -> bytes:
    data = Image.Exif()
    data[0x0112], data[0x0131] = orientation, SECRET.decode()
    return data.tobytes()


def png() -> bytes:
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("parameters", SECRET.decode())
    info.add_itxt("prompt", SECRET.decode(), zip=False)
    drawn().save(file, "PNG", pnginfo=info, exif=exif(), dpi=(77, 77))
    return file.getvalue() + SECRET


def jpeg(orientation: int = 1) -> bytes:
    file = io.BytesIO()
    drawn().save(file, "JPEG", exif=exif(orientation), comment=SECRET, progressive=True)
    return file.getvalue() + SECRET


def gif() -> bytes:
    file = io.BytesIO()
    frames = [drawn(), drawn().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], loop=3, duration=70, comment=SECRET)
    return file.getvalue() + SECRET


def webp(orientation: int = 1) -> bytes:
    file = io.BytesIO()
    drawn().save(file, "WEBP", lossless=True, exif=exif(orientation), xmp=SECRET)
    return file.getvalue() + SECRET


@pytest.mark.parametrize("made", [png, jpeg, gif, webp])
def test_a_picture_keeps_its_pixels_and_loses_its_metadata(made: Callable[[], bytes]) -> None:
    data = made()
    assert SECRET in data
    clean = without_metadata(data)
    assert SECRET not in clean
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(clean))
    assert (before.size, getattr(before, "n_frames", 1)) == (after.size, getattr(after, "n_frames", 1))
    for frame in range(getattr(before, "n_frames", 1)):
        before.seek(frame)
        after.seek(frame)
        assert before.convert("RGBA").tobytes() == after.convert("RGBA").tobytes()
    assert after.info.get("loop") == before.info.get("loop")
    assert without_metadata(clean) == clean


@pytest.mark.parametrize("made", [jpeg, webp])
def test_a_photograph_stays_upright(made: Callable[[int], bytes]) -> None:
    clean = without_metadata(made(6))
    assert SECRET not in clean
    assert Image.open(io.BytesIO(clean)).getexif() == {0x0112: 6}


@pytest.mark.parametrize("made", [png, jpeg, gif, webp])
def test_a_damaged_picture_is_left_to_the_browser(made: Callable[[], bytes]) -> None:
    data = made().removesuffix(SECRET)
    for end in range(len(data)):
        without_metadata(data[:end])  # never fails
    assert without_metadata(b"") == b""


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def element(kind: bytes, content: bytes) -> bytes:
    return kind + (0x10000000 | len(content)).to_bytes(4, "big") + content


def patched(data: bytes, folder: Path) -> bytes:
    (folder / "clip").write_bytes(data)
    changed = bytearray(data)
    for at, instead in patches(folder / "clip"):
        changed[at : at + len(instead)] = instead
    assert len(changed) == len(data)
    return bytes(changed)


def test_an_mp4_loses_names_and_times(tmp_path: Path) -> None:
    dated = box(b"mvhd", b"\0\0\0\0" + SECRET[:8] + bytes(80))
    track = box(b"trak", box(b"tkhd", b"\1\0\0\7" + SECRET * 2 + bytes(60)) + box(b"mdia", box(b"hdlr", bytes(24) + SECRET + b"\0")))
    pictures = SECRET + bytes(2000)
    data = box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", dated + track + box(b"udta", box(b"meta", SECRET))) + box(b"uuid", SECRET)
    whole = data + box(b"mdat", pictures)
    clean = patched(whole, tmp_path)
    assert clean.count(SECRET) == 1
    assert clean.endswith(box(b"mdat", pictures))
    assert SECRET[:8] not in clean[: len(data)]
    assert patched(whole[:-5], tmp_path).count(SECRET[:8]) == 1
    for end in range(len(data)):
        patched(whole[:end], tmp_path)


def test_a_webm_loses_names_tags_and_times(tmp_path: Path) -> None:
    info = element(b"\x15\x49\xa9\x66", element(b"\x4d\x80", SECRET) + element(b"\x57\x41", SECRET) + element(b"\x44\x61", SECRET[:8]))
    tags, cluster = element(b"\x12\x54\xc3\x67", SECRET * 3), element(b"\x1f\x43\xb6\x75", SECRET)
    head = element(b"\x1a\x45\xdf\xa3", b"\x42\x82\x84webm")
    clean = patched(head + element(b"\x18\x53\x80\x67", info + tags + cluster), tmp_path)
    assert clean.count(SECRET) == 1
    assert clean.endswith(cluster)
    unknown = head + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + info + cluster
    assert patched(unknown, tmp_path).count(SECRET) == 1
    for end in range(len(unknown)):
        patched(unknown[:end], tmp_path)
