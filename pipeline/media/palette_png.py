"""The one writer of palette PNGs: label maps in which a person sees the colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.files import output_errors, partial_path, remove


def write_palette_png(path: Path, labels: NDArray[np.uint8], colors: NDArray[np.uint8]) -> None:
    """Write a label map as a palette PNG; the file appears complete or not at all.

    Args:
        path: the file.
        labels: uint8 [h, w]; 0 is the background, shown black.
        colors: uint8 [k, 3], RGB of the labels 1..k.

    Raises:
        OutputError: it can't be written.
    """
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, *colors.ravel().tolist()])
    partial = partial_path(path)
    with output_errors(path):
        remove(partial)
        image.save(partial, format="PNG")
        partial.replace(path)
