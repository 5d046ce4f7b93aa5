"""What a file is, decided by its content: a picture, several pictures, or a video."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".avif", ".heic"}
    | {".heif", ".hif", ".apng"}
)
"""Files of a directory that are taken for frames; GIF counts as video."""

_MJPEG_SUFFIXES = frozenset({".mjpeg", ".mjpg"})
_STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"miaf"})
_SEQUENCE_BRANDS = frozenset({b"avis"})
_VIDEO_STARTS = (b"GIF8", b"\x1aE\xdf\xa3", b"OggS", b"FLV", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
_HEAD_BYTES = 64
_MAX_CHUNKS = 4096


class Kind(Enum):
    """What a file is."""

    PICTURE = "a picture"
    PICTURES = "several pictures"
    VIDEO = "a video"


def is_picture(path: Path) -> bool:
    """Whether a file's suffix says that it is a picture.

    >>> is_picture(Path("frame2.PNG")), is_picture(Path("clip.mp4"))
    (True, False)
    """
    return path.suffix.lower() in PICTURE_SUFFIXES


def kind_of(path: Path) -> Kind:
    """What a file is; what can't be read is what its name says."""
    named = Kind.PICTURE if is_picture(path) else Kind.VIDEO
    try:
        with path.open("rb") as file:
            return _kind(file, path, file.read(_HEAD_BYTES)) or named
    except OSError:
        return named


def _kind(file: BinaryIO, path: Path, head: bytes) -> Kind | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _several(any(name == b"acTL" and data[:4] > b"\0\0\0\1" for name, data in _png_chunks(file)))
    if head.startswith(b"RIFF"):
        moves = head[12:16] == b"VP8X" and bool(head[20] & 2)
        return _several(moves) if head[8:12] == b"WEBP" else Kind.VIDEO
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return _several(brand in _SEQUENCE_BRANDS) if brand in _STILL_BRANDS | _SEQUENCE_BRANDS else Kind.VIDEO
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from pipeline.media.pictures import count_pages

        return _several(count_pages(path) > 1)
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.VIDEO if path.suffix.lower() in _MJPEG_SUFFIXES else Kind.PICTURE
    return Kind.VIDEO if head.startswith(_VIDEO_STARTS) else None


def _several(several: bool) -> Kind:
    return Kind.PICTURES if several else Kind.PICTURE


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Names and first bytes of the chunks before the pixels."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        header = file.read(16)
        if len(header) < 16 or header[4:8] == b"IDAT":
            return
        yield header[4:8], header[8:]
        at += 12 + int(struct.unpack(">I", header[:4])[0])
