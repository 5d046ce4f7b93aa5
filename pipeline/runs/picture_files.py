"""Files of every set of pictures, page by page: arrays, overviews, and a record row for each picture."""

from __future__ import annotations

import contextlib
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.media.npz import NpzWriter, open_npz
from pipeline.media.pictures import write_picture
from pipeline.painting.overview_sheet import Colour, Sheet
from pipeline.records import PartMap
from pipeline.runs.picture_record import PictureRecord
from pipeline.runs.picture_workspace import PictureWorkspace
from pipeline.stages.picture_set import Album

PAGE = 40
"""Pictures on a page at most; an interrupted run goes on behind the last finished page."""


class Overview:
    """Writes overview.png, and overview-2.png and so on where a set doesn't fit on one page.

    Args:
        folder: where the pages go.
        title: the heading of each page.
        legend: names and RGB colours beside the heading.
        pages: that are there already.
    """

    def __init__(self, folder: Path, title: str, legend: Sequence[tuple[str, Colour]] = (), *, pages: int = 0) -> None:
        """Begin with an empty page."""
        self._folder, self._title, self._legend, self._pages = folder, title, legend, pages
        self._sheet = self._empty()

    def __len__(self) -> int:
        """Pictures on the page that has been begun."""
        return len(self._sheet)

    def add(self, caption: str, pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Add a picture and its results, uint8 [height, width, 3] of one shape."""
        self._sheet.add(caption, pictures)

    def close(self) -> None:
        """Write the page that has been begun, and begin the next one."""
        self._pages += 1
        name = "overview.png" if self._pages == 1 else f"overview-{self._pages}.png"
        write_picture(self._folder / name, self._sheet.draw())
        self._sheet = self._empty()

    def _empty(self) -> Sheet:
        return Sheet(f"{self._title} (page {self._pages + 1})" if self._pages else self._title, self._legend)


class AlbumFiles(ABC):
    """Writes each picture's files as its labels come, page by page; a kind of result says which files.

    Attributes:
        rows: what there is to tell of the pictures that have been written, those of an interrupted run included.
    """

    def __init__(
        self, work: PictureWorkspace, album: Album, title: str, legend: Sequence[tuple[str, Colour]] = ()
    ) -> None:
        """Go on behind the last page that is finished; title and legend are the overview's."""
        pages = work.pages()
        self.rows: list[PictureRecord] = [row for page in pages for row in page.rows]
        self._work, self._album, self._pages = work, album, len(pages)
        self._folder, self._overview = work.files, Overview(work.files, title, legend, pages=len(pages))
        self._fresh: list[PictureRecord] = []
        self._opened = contextlib.ExitStack()
        self._page: NpzWriter | None = None

    def __enter__(self) -> Self:
        """Use it in a `with` block, at whose end the last page is finished, if no error ended it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Finish the page that has been begun, or drop it."""
        if kind is not None:
            self._opened.__exit__(kind, *error)  # type: ignore[arg-type]
        elif self._fresh:
            self._finish_page()

    def left(self, indices: Iterable[int]) -> list[int]:
        """Those pictures that aren't written yet."""
        done = {row.name for row in self.rows}
        return [index for index in indices if self._album.pictures[index].name not in done]

    def write(self, items: Iterator[PartMap]) -> None:
        """Write pictures."""
        for item in items:
            row = self._write(item)
            self.rows.append(row)
            self._fresh.append(row)
            if len(self._fresh) == PAGE:
                self._finish_page()

    def join_arrays(self, name: str) -> None:
        """Write the arrays of all pages into one file, once the `with` block has ended.

        Raises:
            OutputError: it can't be written.
        """
        with open_npz(self._folder / name, zipfile.ZIP_DEFLATED) as whole:
            for number in range(self._pages):
                with np.load(self._page_file(number)) as arrays:
                    for array in arrays.files:
                        whole.write(array, arrays[array])

    @property
    def _archive(self) -> NpzWriter:
        """The arrays of the page that has been begun."""
        if self._page is None:
            file = self._page_file(self._pages)
            self._page = self._opened.enter_context(open_npz(file, zipfile.ZIP_DEFLATED))
        return self._page

    @abstractmethod
    def _write(self, item: PartMap) -> PictureRecord:
        """Write one picture's files, and return its row."""

    def _finish_page(self) -> None:
        self._overview.close()
        self._opened.close()
        self._work.add_page(self._fresh, self._album.failures)
        self._fresh, self._pages, self._page = [], self._pages + 1, None

    def _page_file(self, number: int) -> Path:
        return self._work.arrays / f"{number:06d}.npz"
