"""Sequences of pictures as an input: a directory of frames, a glob, a single picture."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import InputError
from pipeline.media.colour import SRGB
from pipeline.media.kinds import is_picture
from pipeline.media.pictures import picture_size, read_picture
from pipeline.media.source import ALL_FRAMES, DecodeReport, Selection, Source, SourceInfo
from pipeline.records import Frame

_log = logging.getLogger(__name__)


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key that sorts numbers in names by their value.

    >>> sorted(["frame10", "frame2", "frame1a"], key=natural_key)
    ['frame1a', 'frame2', 'frame10']
    """
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    # Numbers before text, as in a plain sort; the name itself decides between frame01 and frame1.
    key = [(0, int(piece), "") if piece[0] in "0123456789" else (1, 0, piece) for piece in map(_short, pieces)]
    return key, name


def _short(piece: str) -> str:
    # Python refuses to read integers of more than 4,300 digits; no file name has them, a glob's path may.
    return piece[:1000]


def require_text(path: Path) -> None:
    """Refuse a name that isn't text: records, label stores and exports could not say it.

    Raises:
        InputError: some byte of the path is no UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!r} has a name that isn't UTF-8; rename it") from error


def frame_rate(fps: float) -> Fraction:
    """Frames per second as a fraction of small numbers.

    >>> frame_rate(29.97), frame_rate(25)
    (Fraction(2997, 100), Fraction(25, 1))
    """
    return Fraction(fps).limit_denominator(1001)


class DirectorySource(Source):
    """Pictures of one size, one frame each, at a constant rate: pts is the frame's number."""

    def __init__(self, path: Path, name: str, fps: float, files: Sequence[Path] | None = None) -> None:
        """Say which pictures; `files` in the order wanted, None: all of directory `path` in natural order."""
        super().__init__(path, name)
        self.rate = frame_rate(fps)
        self.given = files

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The pictures in order.

        Raises:
            InputError: the directory can't be read or holds no picture.
        """
        if self.given is not None:
            return tuple(self.given)
        pictures, others = _listing(self.path)
        if not pictures:
            raise InputError(
                f"directory {str(self.path)!r} holds no picture; "
                "expected frames as PNG, JPEG, TIFF, BMP, WebP, AVIF or HEIC"
            )
        if others:
            left = f"{len(others)} files that are no pictures are left out ({others[0].name!r}, ...)"
            warning = f"{str(self.path)!r}: {left}"
            _log.warning("%s", warning)
            self.report = DecodeReport(warnings=(*self.report.warnings, warning))
        for picture in pictures:
            require_text(picture)
        return tuple(pictures)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        stems = Counter(file.stem for file in self.files)
        return tuple(file.stem if stems[file.stem] == 1 else file.name for file in self.files)

    @property
    def file_names(self) -> Mapping[str, str]:
        """The file's name by `Frame.name`, which is its stem, or the whole name where two files share a stem."""
        return MappingProxyType({name: file.name for name, file in zip(self._names, self.files, strict=True)})

    def _read_info(self) -> SourceInfo:
        """From the pictures' headers; an InputError where one can't be read, or two differ in size."""
        sizes = ((file, picture_size(file)) for file in self.files)
        _, first = next(sizes)
        for file, size in sizes:
            self._require_size(file, size, first)
        return SourceInfo(
            size_hw=first,
            time_base=1 / self.rate,
            average_rate=self.rate,
            frames=len(self.files),
            start_pts=0,
            end_pts=len(self.files),
            audio=False,
            colour=SRGB,
        )

    def count(self, selection: Selection = ALL_FRAMES) -> int:
        """How many pictures are selected."""
        return len(self._selected(selection))

    def times(self, selection: Selection) -> Sequence[int]:
        """The pts of the selected pictures, which are their numbers."""
        return self._selected(selection)

    def decoded_frames(self, selection: Selection, wanted: Collection[int]) -> int:
        """As many as are wanted: a picture is decoded without the others."""
        return len(wanted)

    def frames(self, selection: Selection = ALL_FRAMES, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """The selected pictures as frames, in order.

        Raises:
            InputError: as `probe`; a picture is broken.
        """
        info = self.probe()
        for index, number in enumerate(self._selected(selection)):
            if wanted is not None and index not in wanted:
                continue
            rgb = read_picture(self.files[number])
            self._require_size(self.files[number], (rgb.shape[0], rgb.shape[1]), info.size_hw)
            self.report = replace(self.report, frames=index + 1)
            yield Frame(index, number, info.time_base, rgb, self._names[number])

    def _selected(self, selection: Selection) -> list[int]:
        return selection.numbers(number / self.rate for number in range(len(self.files)))

    def _require_size(self, file: Path, size_hw: tuple[int, int], expected_hw: tuple[int, int]) -> None:
        if size_hw != expected_hw:
            raise InputError(
                f"picture {str(file)!r} is {size_hw[1]}x{size_hw[0]} pixels, {self.files[0].name!r} is "
                f"{expected_hw[1]}x{expected_hw[0]}; all frames of an input must have one size"
            )


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """The pictures and the other files of a directory, each in natural order; hidden files are passed over."""
    try:
        files = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file()]
    except OSError as error:
        raise InputError(f"directory {str(folder)!r} can't be read: {error.strerror}") from error
    files.sort(key=lambda file: natural_key(file.name))
    return [file for file in files if is_picture(file)], [file for file in files if not is_picture(file)]
