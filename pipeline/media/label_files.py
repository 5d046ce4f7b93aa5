"""Label maps of pictures: palette PNGs, and arrays of one npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.files import output_errors


def write_label_picture(path: Path, labels: NDArray[np.uint8], colors: NDArray[np.uint8]) -> None:
    """Write a label map as a palette PNG.

    Args:
        path: the file.
        labels: uint8 [h, w]; 0 is the background, shown black.
        colors: uint8 [k, 3], RGB of the labels 1..k.

    Raises:
        OutputError: it can't be written.
    """
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0, *colors.ravel().tolist()])
    with output_errors(path):
        image.save(path, format="PNG")


class LabelArchive:
    """Writes label maps into an npz file one by one, so that only one is in memory.

    Args:
        file: the file; it is complete at the end of the `with` block.

    Raises:
        OutputError: it can't be written.
    """

    def __init__(self, file: Path) -> None:
        """Begin the file."""
        self._file = file
        with output_errors(file):
            self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Complete the file."""
        with output_errors(self._file):
            self._archive.close()

    def add(self, name: str, labels: NDArray[np.uint8]) -> None:
        """Append labels, uint8 of any shape; `numpy.load(file)[name]` reads them back.

        Raises:
            OutputError: they can't be written.
        """
        # A fixed date: same labels, same bytes.
        entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        with output_errors(self._file), self._archive.open(entry, "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(labels), allow_pickle=False)
