"""Overview sheets as files, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.media.pictures import write_picture
from pipeline.painting.sheets import Colour, Sheet

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
