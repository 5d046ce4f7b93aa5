"""Null chunks of AVI ("the last frame again"): FFmpeg skips them, the header counts them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_ENTRY = struct.Struct("<4sIII")
_MAX_INDEX_BYTES = 2**28


def count_empty_chunks(path: Path, stream: int) -> int | None:
    """Empty chunks of a stream by the file's index; None where there is no index, as in a file that was cut off."""
    prefix = f"{stream:02d}".encode()
    with path.open("rb") as file:
        for name, size in _chunks(file):
            if name == b"idx1":
                index = file.read(min(size, _MAX_INDEX_BYTES))
                whole = index[: len(index) - len(index) % _ENTRY.size]
                return sum(bool(entry[0][:2] == prefix and entry[3] == 0) for entry in _ENTRY.iter_unpack(whole))
    return None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and size of the chunks of the first RIFF; the file stands behind each one's header."""
    at = 12
    while True:
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return
        name, size = struct.unpack("<4sI", header)
        yield name, size
        at += 8 + size + size % 2
