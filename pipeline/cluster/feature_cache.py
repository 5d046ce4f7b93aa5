"""A file-backed store of descriptors and saliency, so that neither pass computes a frame twice.

`FeatureCache` is removed at its end; `KeptCache` stays, so that a resumed run needn't compute its frames again. Plain
reads and writes instead of a memory map: mapped pages would count as resident memory of this process.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OutputError

Floats = NDArray[np.float32]
Key = tuple[Any, Any]
"""An input's number or name, and what tells its entries apart: the number of a frame, mostly."""


@dataclass(frozen=True, slots=True)
class CachedFeatures:
    """One frame's entry: descriptors float32 [rows, cols, channels] and saliency float32 [rows, cols]."""

    descriptors: Floats
    saliency: Floats


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    shape: tuple[int, int, int]
    pts: int

    @property
    def size(self) -> int:
        """Bytes of descriptors and saliency."""
        rows, cols, channels = self.shape
        return 4 * rows * cols * (channels + 1)


class FeatureCache:
    """Descriptors and saliency by key, in one temporary file that is removed with the cache.

    Args:
        directory: where the file is made; it must exist.
        held_bytes: frames up to this size in all are held in memory too, and not read from the file.

    Raises:
        OutputError: the file can't be made or has no more room.
    """

    def __init__(self, directory: Path, held_bytes: int = 0) -> None:
        """Make an empty cache."""
        self._path = directory / "features.cache"
        self._room = held_bytes
        self._held: dict[Key, CachedFeatures] = {}
        self._places: dict[Key, _Place] = {}
        try:
            self._file: BinaryIO = self._open()
        except OSError as error:
            raise OutputError(f"the fit's cache '{self._path}' can't be made: {error.strerror}") from error

    def __enter__(self) -> Self:
        """Use the cache in a `with` block, at whose end its file is removed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._close()
        self._path.unlink(missing_ok=True)

    def __contains__(self, key: Key) -> bool:
        """Whether a frame is in the cache."""
        return key in self._places

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._places)

    def put(self, key: Key, descriptors: Floats, saliency: Floats, pts: int) -> None:
        """Append a frame: descriptors [rows, cols, channels], saliency [rows, cols], and its time for `holds`."""
        rows, cols, channels = descriptors.shape
        parts = [np.ascontiguousarray(part, dtype=np.float32).data.cast("B") for part in (descriptors, saliency)]
        try:
            place = _Place(self._file.seek(0, 2), (rows, cols, channels), pts)
            for part in parts:
                self._file.write(part)
            self._file.flush()
            self._note(key, place, zlib.crc32(parts[1], zlib.crc32(parts[0])))
        except OSError as error:
            raise OutputError(f"the fit's cache '{self._path}' can't be written: {error.strerror or error}") from error
        self._places[key] = place
        if place.size <= self._room:
            self._room -= place.size
            self._held[key] = _copied(descriptors, saliency)

    def holds(self, key: Key, pts: int) -> bool:
        """Whether a frame is in the cache, of that time: damage may have moved the frames' numbers since."""
        return key in self._places and self._places[key].pts == pts

    def get(self, key: Key) -> CachedFeatures:
        """Read a frame back, bit by bit what was put."""
        if key in self._held:
            return self._held[key]
        place = self._places[key]
        rows, cols, channels = place.shape
        self._file.seek(place.offset)
        descriptors = np.fromfile(self._file, np.float32, rows * cols * channels).reshape(place.shape)
        saliency = np.fromfile(self._file, np.float32, rows * cols).reshape(rows, cols)
        return CachedFeatures(descriptors, saliency)

    def drop(self, key: Key) -> None:
        """Forget a frame; its room in the file isn't used again."""
        del self._places[key]
        self._held.pop(key, None)

    def release(self) -> None:
        """Hold nothing in memory any more; all of it is in the file."""
        self._held.clear()
        self._room = 0

    def inputs(self) -> set[Any]:
        """The inputs of which there are frames."""
        return {number for number, _ in self._places}

    def of(self, number: Any) -> Iterator[CachedFeatures]:
        """The frames of an input in the order they were put, one in memory at a time."""
        return (self.get(key) for key in self._places if key[0] == number)

    def items(self) -> Iterator[tuple[Key, CachedFeatures]]:
        """All keys and frames in the order they were put, one in memory at a time."""
        return ((key, self.get(key)) for key in self._places)

    def __iter__(self) -> Iterator[CachedFeatures]:
        """All frames in the order they were put, one in memory at a time."""
        return (self.get(key) for key in self._places)

    def _open(self) -> BinaryIO:
        return self._path.open("w+b")

    def _close(self) -> None:
        # On a full disk the rest of the frame that made `put` fail may still be buffered.
        with suppress(OSError):
            self._file.close()

    def _note(self, key: Key, place: _Place, checksum: int) -> None:
        """Nothing: what a temporary file holds needn't be found again."""


class KeptCache(FeatureCache):
    """A cache that stays in its directory and is found again; keys are (input, frame) numbers.

    An index file has a line for each frame, with a CRC-32. A frame that doesn't match its checksum is dropped, and all
    behind it: a crash may have torn it.
    """

    def __exit__(self, *_: object) -> None:
        """Close the file; it stays."""
        self._close()

    def _open(self) -> BinaryIO:
        self._path.touch()
        self._index.touch()
        file = self._path.open("r+b")
        kept, end = self._read_index(file)
        file.truncate(end)
        self._index.write_text("".join(kept), encoding="utf-8")
        return file

    @property
    def _index(self) -> Path:
        return self._path.with_suffix(".index")

    def _read_index(self, file: BinaryIO) -> tuple[list[str], int]:
        """Note the frames that are intact; their lines, and where the last one ends in the file."""
        kept, end = [], 0
        for line in self._index.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            found = _parse(line, end)
            if found is None or not _is_intact(file, found[1], found[2]):
                break
            key, place, _ = found
            self._places[key] = place
            end = place.offset + place.size
            kept.append(line)
        return kept, end

    def _note(self, key: Key, place: _Place, checksum: int) -> None:
        with self._index.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([key, place.offset, place.shape, checksum, place.pts]) + "\n")


class ReadOnlyCache(KeptCache):
    """A kept cache that other processes read at the same time; nothing of it is changed. Empty where there is none."""

    def _open(self) -> BinaryIO:
        try:
            file = self._path.open("rb")
            self._read_index(file)
        except FileNotFoundError:
            return BytesIO()
        return file


def _copied(descriptors: Floats, saliency: Floats) -> CachedFeatures:
    """Read-only copies: the arrays that are put may be views into a batch."""
    copies = [np.array(part, dtype=np.float32, order="C") for part in (descriptors, saliency)]
    for part in copies:
        part.flags.writeable = False
    return CachedFeatures(*copies)


def _parse(line: str, offset: int) -> tuple[tuple[int, int], _Place, int] | None:
    try:
        entry = json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    match entry:
        case [[int(source), int(frame)], int(start), [int(rows), int(cols), int(channels)], int(checksum), int(pts)]:
            place = _Place(start, (rows, cols, channels), pts)
            return ((source, frame), place, checksum) if start == offset and min(place.shape) > 0 else None
        case _:
            return None


def _is_intact(file: BinaryIO, place: _Place, checksum: int) -> bool:
    if file.seek(0, 2) < place.offset + place.size:
        return False
    file.seek(place.offset)
    return zlib.crc32(file.read(place.size)) == checksum
