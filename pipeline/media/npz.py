"""The one writer of npz files: array by array, so that only one is in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import replaced_file


@dataclass(frozen=True, slots=True)
class NpzWriter:
    """An npz file that is being written; made by `open_npz`."""

    archive: zipfile.ZipFile

    def write(self, name: str, array: NDArray[Any]) -> None:
        """Append an array; `numpy.load(file)[name]` reads it back."""
        with self._member(name) as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)

    def write_rows(self, name: str, shape: tuple[int, ...], rows: Iterator[NDArray[np.uint8]]) -> None:
        """Append an array uint8 of a shape from its rows, one in memory at a time."""
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        with self._member(name) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for row in rows:
                stream.write(np.ascontiguousarray(row).tobytes())

    def _member(self, name: str) -> AbstractContextManager[IO[bytes]]:
        # A fixed date: same arrays, same bytes.
        entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
        entry.compress_type = self.archive.compression
        return self.archive.open(entry, "w", force_zip64=True)


@contextmanager
def open_npz(file: Path, compression: int = zipfile.ZIP_STORED) -> Iterator[NpzWriter]:
    """Write an npz file; it appears complete at the end of the block, or not at all.

    `compression` is a kind of `zipfile`'s; label maps shrink by deflating, descriptors don't.

    Raises:
        OutputError: it can't be written.
    """
    with replaced_file(file) as partial, zipfile.ZipFile(partial, "w", compression) as archive:
        yield NpzWriter(archive)
