"""Files of every set of pictures: arrays, overview pages, and a record row for each picture."""

from __future__ import annotations

import contextlib
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.media.npz import open_npz
from pipeline.media.pictures import write_picture
from pipeline.painting.overview_sheet import Colour, Sheet
from pipeline.records import PartMap
from pipeline.runs.picture_record import PictureRecord
from pipeline.stages.picture_set import Album

PAGE = 40
"""Pictures on a page at most."""


class Overview:
    """Writes overview.png, and overview-2.png and so on where a set doesn't fit on one page.

    Args:
        folder: where the pages go.
        title: the heading of each page.
        legend: names and RGB colours beside the heading.
    """

    def __init__(self, folder: Path, title: str, legend: Sequence[tuple[str, Colour]] = ()) -> None:
        """Begin with an empty page."""
        self._folder, self._title, self._legend = folder, title, legend
        self._pages = 0
        self._sheet = Sheet(title, legend)

    def add(self, caption: str, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Add a picture and its results, uint8 [height, width, 3] of one shape."""
        self._sheet.add(caption, pictures)
        if len(self._sheet) == PAGE:
            self.close()

    def close(self) -> None:
        """Write the page that has been begun."""
        if not len(self._sheet):
            return
        self._pages += 1
        name = "overview.png" if self._pages == 1 else f"overview-{self._pages}.png"
        write_picture(self._folder / name, self._sheet.draw())
        self._sheet = Sheet(f"{self._title} (page {self._pages + 1})", self._legend)


class AlbumFiles(ABC):
    """Writes each picture's files into a folder as its labels come; a kind of result says which files.

    Attributes:
        rows: what there is to tell of the pictures that have been written.
    """

    def __init__(self, folder: Path, album: Album, overview: Overview, arrays: str) -> None:
        """Begin the arrays' archive beside an overview."""
        self.rows: list[PictureRecord] = []
        self._folder, self._album, self._overview = folder, album, overview
        self._opened = contextlib.ExitStack()
        self._archive = self._opened.enter_context(open_npz(folder / arrays, zipfile.ZIP_DEFLATED))

    def __enter__(self) -> Self:
        """Use it in a `with` block, at whose end the archive and the overview are complete."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Complete what has been begun."""
        self._opened.__exit__(kind, *error)  # type: ignore[arg-type]
        if kind is None:
            self._overview.close()

    def write(self, items: Iterator[PartMap]) -> None:
        """Write pictures."""
        for item in items:
            self._write(item)

    @abstractmethod
    def _write(self, item: PartMap) -> None:
        """Write one picture's files, and add its row."""
