"""Reading files of a data set: pictures, label maps, text tables, JSON, with clear errors.

Annotations refer to the stored pixels, so EXIF rotation is not applied here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels: left, top, width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def longer_side(self) -> float:
        """The larger of width and height."""
        return max(self.width, self.height)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on disk, or a crop of it.

    Attributes:
        name: unique within its data set.
        path: the file.
        crop: the box that is cropped out; None for the whole picture.
    """

    name: str
    path: Path
    crop: Box | None = None

    def read(self) -> NDArray[np.uint8]:
        """RGB pixels, uint8 [h, w, 3].

        Raises:
            InputError: the file is missing, or isn't a picture.
        """
        rgb = read_rgb(self.path)
        return rgb if self.crop is None else rgb[crop_slices(self.crop, rgb.shape[:2])]

    def pixels(self) -> tuple[int, int]:
        """Height and width, without decoding it.

        Raises:
            InputError: the file is missing, or isn't a picture.
        """
        size_hw = size_of(self.path)
        if self.crop is None:
            return size_hw
        rows, cols = crop_slices(self.crop, size_hw)
        return rows.stop - rows.start, cols.stop - cols.start


def crop_slices(box: Box, size_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """Slices of rows and columns of a box, rounded to whole pixels, within the picture, and at least one pixel."""
    top = min(max(int(box.top), 0), size_hw[0] - 1)
    left = min(max(int(box.left), 0), size_hw[1] - 1)
    bottom = min(max(int(box.top) + int(box.height), top + 1), size_hw[0])
    right = min(max(int(box.left) + int(box.width), left + 1), size_hw[1])
    return slice(top, bottom), slice(left, right)


def require_root(root: Path, candidates: Sequence[str], marker: str, layout: str) -> Path:
    """The first of `root` and its sub-folders `candidates` that contains `marker`.

    Raises:
        InputError: none of them does.
    """
    folders = [root, *(root / name for name in candidates)]
    for folder in folders:
        if (folder / marker).exists():
            return folder
    raise InputError(f"'{root / marker}' is missing; expected {layout}; give the folder that holds it as --data")


def require(path: Path, layout: str) -> Path:
    """The path itself, if it exists.

    Raises:
        InputError: it doesn't.
    """
    if not path.exists():
        raise InputError(f"'{path}' is missing; expected {layout}; unpack the archive again")
    return path


def read_lines(file: Path, layout: str) -> list[str]:
    """Lines of a text file, stripped, without empty ones.

    Raises:
        InputError: the file is missing or isn't text.
    """
    try:
        text = require(file, layout).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{file}' can't be read: {error}; expected {layout}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_table(file: Path, columns: int, layout: str) -> list[list[str]]:
    """Fields of a text file with `columns` fields a line, separated by spaces; the last one may contain spaces.

    Raises:
        InputError: the file is missing, or a line has fewer fields.
    """
    rows = [line.split(maxsplit=columns - 1) for line in read_lines(file, layout)]
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise InputError(f"'{file}' line {number} has {len(row)} fields, expected {columns}; expected {layout}")
    return rows


def read_numbers(file: Path, columns: int, layout: str) -> NDArray[np.float64]:
    """Numbers of a text file, [lines, columns].

    Raises:
        InputError: the file is missing, or a field isn't a number.
    """
    try:
        return np.array(read_table(file, columns, layout), dtype=np.float64).reshape(-1, columns)
    except ValueError as error:
        raise InputError(f"'{file}' doesn't hold {columns} numbers a line: {error}") from error


def read_json(file: Path, layout: str) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: the file is missing or isn't JSON.
    """
    try:
        return json.loads(require(file, layout).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{file}' is not JSON: {error}; expected {layout}") from error


def read_rgb(file: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [h, w, 3].

    Raises:
        InputError: the file is missing, or isn't a picture.
    """
    return _read_picture(file, "RGB")


def read_indices(file: Path) -> NDArray[np.uint8]:
    """A label map as uint8 [h, w]: palette indices, grey values, or the largest channel of a colour picture.

    Raises:
        InputError: the file is missing, isn't a picture, or has a label above 255.
    """
    values = _read_picture(file, None)
    if values.ndim == 3:
        # The alpha channel is dropped: its 255 would make every opaque pixel foreground.
        colours = values.shape[2] - (values.shape[2] in (2, 4))
        values = values[..., :colours].max(2)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.size and values.max() > 255:
        raise InputError(f"'{file}' has the label {values.max()}; expected labels of 0..255")
    return values.astype(np.uint8)


def size_of(file: Path) -> tuple[int, int]:
    """Height and width of a picture, without decoding it.

    Raises:
        InputError: the file is missing, or isn't a picture.
    """
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.height, picture.width
    except OSError as error:
        raise InputError(f"picture '{file}' can't be read: {error}") from error


def pictures_in(folder: Path) -> list[Path]:
    """Pictures of a folder, sorted by name, without hidden files."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders of a folder, sorted by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def first_existing(paths: Iterable[Path]) -> Path | None:
    """The first path that exists, or None."""
    return next((path for path in paths if path.exists()), None)


def _read_picture(file: Path, mode: str | None) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return np.array(picture.convert(mode) if mode else picture)
    except (OSError, SyntaxError) as error:
        raise InputError(f"picture '{file}' can't be read: {error}") from error
