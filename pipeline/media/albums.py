"""Pictures of any sizes as inputs, each on its own: for the tasks that work on pictures instead of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.media.directory import DirectorySource
from pipeline.media.pictures import read_picture
from pipeline.media.sources import expand, safe_name, unique_name


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file, and a name that is unique among a run's pictures and safe as the name of a file."""

    name: str
    path: Path

    def read(self) -> NDArray[np.uint8]:
        """The upright picture, uint8 [height, width, 3].

        Raises:
            InputError: it can't be read.
        """
        return read_picture(self.path)


def resolve_pictures(arguments: Sequence[str]) -> list[Picture]:
    """The pictures that a command's arguments mean, in their order; directories and globs in natural order.

    Args:
        arguments: pictures, directories of pictures, globs, or text files of paths.

    Raises:
        InputError: something doesn't exist, is no picture, or holds none.
    """
    found: list[Path] = []
    for argument in arguments:
        for path, pictures in expand(argument, Path(), lists=True):
            if pictures is None and not path.is_dir():
                raise InputError(f"{str(path)!r} is no picture; expected pictures, directories of pictures or globs")
            found += pictures if pictures is not None else DirectorySource(path, path.name, fps=1).files
    taken: set[str] = set()
    return [Picture(unique_name(safe_name(path.stem), taken), path) for path in found]
