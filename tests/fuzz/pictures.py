"""Directories of frames with unusual or malicious files."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from tests.fuzz.corpus import zero_bomb
from tests.fuzz.mutations import damage_bytes, damage_container

_NAMES = (
    "new\nline", "tab\t", "ä", "a\u0301", "\u202e", "\udcff", "-rf", "--help", "~", "$(touch x)", "%d", "*", "a" * 240,
    " ",    "..png", "frame10", "frame2", "CON", "0" * 200, "9" * 220, "²", "\U0001f600",
)  # fmt: skip


def damage_directory(random: Random, pictures: Mapping[str, bytes], folder: Path, bait: Path) -> Path | str:
    """A directory of frames with an unusual file; returns the command's input: directory, glob or list."""
    folder.mkdir()
    name = random.choice(sorted(pictures))
    suffix = f".{name.rsplit('.', 1)[1]}"
    for number in range(2):
        (folder / f"frame{number}{suffix}").write_bytes(pictures[name])
    for _ in range(random.choice((1, 1, 2, 3))):
        with contextlib.suppress(OSError, ValueError):
            _add_odd(random, pictures, folder, suffix, bait)
    return random.choice((folder, folder, folder, f"{folder}/*", _list_of(random, folder), folder / f"frame1{suffix}"))


def picture_bombs() -> dict[str, bytes]:
    """Small files with a huge stated size, and decompression bombs."""
    return {
        "wide.png": png(60_000, 60_000),
        "long.png": png(1, 2**31 - 1),
        "allowed.png": png(12_000, 12_000, rows=zlib_bomb(500)),
        "text.png": png(8, 8, extra=chunk(b"zTXt", b"x\0\0" + zlib_bomb(300))),
        "profile.png": png(8, 8, extra=chunk(b"iCCP", b"x\0\0" + zlib_bomb(300))),
        "frames.png": png(8, 8, extra=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "rows.png": png(8, 8, rows=zlib_bomb(500)),
        "wide.bmp": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "wide.ppm": b"P6 99999999 99999999 255\n",
        "digits.ppm": b"P6 " + b"9" * 100_000 + b" 1 255\n",
        "wide.tif": tiff(60_000, 60_000, 1),
        "strips.tif": tiff(12_000, 12_000, 2**31 - 1),
        "wide.webp": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\xff\xff\xff\xff\xff\xff",
        "wide.jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\x01\x03\x11\x01" + bytes(99),
    }


def png(width: int, height: int, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """An 8-bit RGB PNG of a stated size, with valid checksums."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", rows or zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def zlib_bomb(mib: int) -> bytes:
    """A zlib stream of `mib` MiB of zeros with a wrong checksum."""
    return b"\x78\xda" + zero_bomb(mib) + bytes(4)


def tiff(width: int, height: int, rows_per_strip: int) -> bytes:
    """A grey TIFF of a stated size with almost no data."""
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, rows_per_strip),
        (279, 9),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 20) + bytes(12) + struct.pack("<H", len(tags)) + entries + bytes(4)


def _add_odd(random: Random, pictures: Mapping[str, bytes], folder: Path, suffix: str, bait: Path) -> None:
    whole = pictures[random.choice(sorted(pictures))]
    deeds: list[Callable[[], object]] = [
        *[lambda: _damaged(random, pictures, folder)] * 12,
        *[lambda: _bomb(random, folder)] * 4,
        *[lambda: (folder / f"{random.choice(_NAMES)}{suffix}").write_bytes(whole)] * 3,
        lambda: (folder / f"z{suffix}").symlink_to(f"z{suffix}"),
        lambda: (folder / "loop").symlink_to(folder),
        lambda: (folder / f"z{suffix}").symlink_to(bait / "kept.txt"),
        lambda: (folder / f"z{suffix}").symlink_to("/dev/zero"),
        (folder / f"z{suffix}").mkdir,
        lambda: os.mkfifo(folder / f"pipe{suffix}"),
        lambda: (folder / f"z{suffix}").write_bytes(b""),
        lambda: (folder / f"frame0{suffix}").chmod(0),
        lambda: folder.chmod(0o500),
        lambda: (folder / "notes.txt").write_text("no picture"),
        lambda: (folder / "Thumbs.db").write_bytes(whole),
        lambda: (folder / ".hidden.png").write_bytes(b"x"),
        lambda: (folder / "wrong.png").write_bytes(whole),
        lambda: (folder / "frame0.bmp").write_bytes(pictures["a.bmp"]),
        (folder / f"frame0{suffix}").unlink,
    ]
    random.choice(deeds)()


def _damaged(random: Random, pictures: Mapping[str, bytes], folder: Path) -> None:
    name = random.choice(sorted(pictures))
    suffix = f".{name.rsplit('.', 1)[1]}"
    data = damage_container(random, pictures[name], suffix)
    if suffix == ".png" and random.random() < 0.7:
        data = _with_checksums(data)
    (folder / random.choice((f"frame1{suffix}", f"z{suffix}"))).write_bytes(data)


def _bomb(random: Random, folder: Path) -> None:
    bombs = picture_bombs()
    name = random.choice(sorted(bombs))
    (folder / name).write_bytes(bombs[name])


def _with_checksums(data: bytes) -> bytes:
    """A mutated PNG with valid checksums, so that decoders read it."""
    found, start = data[:8], 8
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if start + 12 + length > len(data):
            break
        found += chunk(data[start + 4 : start + 8], data[start + 8 : start + 8 + length])
        start += 12 + length
    return found + data[start:]


def _list_of(random: Random, folder: Path) -> Path:
    file = folder.parent / "inputs.txt"
    lines = random.choice((
        str(folder).encode(),
        b"\xef\xbb\xbf" + str(folder).encode(),
        b"# nothing\n\n",
        b"inputs.txt\n",
        b"\xff\xfe\n",
        b"frames\n" * 3,
        b"\0\n",
        b"x" * 100_000,
        b"frames/[\n",
        b"**/**/**/*\n",
        damage_bytes(random, str(folder).encode()),
    ))  # fmt: skip
    file.write_bytes(lines)
    return file
