"""A file-backed store of descriptors and saliency, so that neither pass computes a frame twice.

Plain reads and writes instead of a memory map: mapped pages would count as this process's memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OutputError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CachedFeatures:
    """One frame's entry: descriptors float32 [rows, cols, channels] and saliency float32 [rows, cols]."""

    descriptors: Floats
    saliency: Floats


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    shape: tuple[int, int, int]


class FeatureCache:
    """Descriptors and saliency by key, in one temporary file that goes with the cache.

    Args:
        directory: where the file is made; it must exist.

    Raises:
        OutputError: the file can't be made or has no more room.
    """

    def __init__(self, directory: Path) -> None:
        """Make an empty cache."""
        self._path = directory / "features.cache"
        self._places: dict[Hashable, _Place] = {}
        try:
            self._file: BinaryIO = self._path.open("w+b")
        except OSError as error:
            raise OutputError(f"the fit's cache '{self._path}' can't be made: {error.strerror}") from error

    def __enter__(self) -> Self:
        """Use the cache in a `with` block, at whose end its file is removed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __contains__(self, key: Hashable) -> bool:
        """Whether a frame is in the cache."""
        return key in self._places

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._places)

    def put(self, key: Hashable, descriptors: Floats, saliency: Floats) -> None:
        """Append a frame: descriptors [rows, cols, channels], saliency [rows, cols]."""
        rows, cols, channels = descriptors.shape
        try:
            offset = self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(descriptors, dtype=np.float32).data)
            self._file.write(np.ascontiguousarray(saliency, dtype=np.float32).data)
            self._file.flush()
        except OSError as error:
            raise OutputError(f"the fit's cache '{self._path}' can't be written: {error.strerror}") from error
        self._places[key] = _Place(offset, (rows, cols, channels))

    def get(self, key: Hashable) -> CachedFeatures:
        """Read a frame back, bit by bit what was put."""
        place = self._places[key]
        rows, cols, channels = place.shape
        self._file.seek(place.offset)
        descriptors = np.fromfile(self._file, np.float32, rows * cols * channels).reshape(place.shape)
        saliency = np.fromfile(self._file, np.float32, rows * cols).reshape(rows, cols)
        return CachedFeatures(descriptors, saliency)

    def __iter__(self) -> Iterator[CachedFeatures]:
        """All frames in the order they were put, one in memory at a time."""
        return (self.get(key) for key in self._places)
