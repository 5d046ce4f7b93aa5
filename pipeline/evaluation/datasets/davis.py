"""DAVIS 2016 and 2017: videos with object masks (Perazzi et al.; Pont-Tuset et al.).

    JPEGImages/480p/<sequence>/00000.jpg
    Annotations/480p/<sequence>/00000.png    or Annotations_unsupervised/480p (2017, all salient objects)
    ImageSets/480p/val.txt                   2016: one line per frame, with the paths of frame and mask
    ImageSets/2016/val.txt, 2017/val.txt     2017: one sequence per line

The resolution `480p` may be `Full-Resolution` or missing. Without ImageSets all sequences are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import (
    first_existing,
    folders_in,
    pictures_in,
    read_indices,
    read_lines,
    require,
    require_root,
)

Year = Literal[2016, 2017]

LAYOUT = (
    "JPEGImages/480p/<sequence>/*.jpg and Annotations/480p/<sequence>/*.png (the level 480p may be missing), "
    "with ImageSets/480p/val.txt, ImageSets/2016/val.txt or ImageSets/2017/val.txt"
)

LEVELS = ("480p", "Full-Resolution", "")
VOID = 255


@dataclass(frozen=True, slots=True)
class DavisSequence:
    """One video.

    Attributes:
        name: the sequence's name.
        frames: its frames in order.
        masks: one mask per frame.
        year: version of the annotation: 2016 has one foreground, 2017 numbered objects.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    year: Year

    def __post_init__(self) -> None:
        """Check that there is one mask per frame."""
        if len(self.frames) != len(self.masks) or not self.frames:
            raise ValueError(f"DavisSequence '{self.name}': {len(self.frames)} frames, {len(self.masks)} masks")

    def count_objects(self) -> int:
        """Number of objects: 1 for 2016, else the highest number in the first frame.

        Raises:
            InputError: the first mask shows no object.
        """
        if self.year == 2016:
            return 1
        objects = int(self._numbers(self.masks[0]).max())
        if objects == 0:
            raise InputError(f"'{self.masks[0]}' shows no object; expected numbered objects in the first frame")
        return objects

    def read_objects(self, index: int, objects: int) -> NDArray[np.bool_]:
        """Masks of a frame's objects, bool [objects, h, w].

        Raises:
            InputError: the mask is missing, or isn't a picture.
        """
        if self.year == 2016:
            return (read_indices(self.masks[index]) > 0)[None]
        numbers = self._numbers(self.masks[index])
        return np.stack([numbers == number for number in range(1, objects + 1)])

    def _numbers(self, mask: Path) -> NDArray[np.uint8]:
        numbers = read_indices(mask)
        return np.where(numbers == VOID, 0, numbers).astype(np.uint8)


def load_davis(root: Path, year: Year) -> tuple[DavisSequence, ...]:
    """The sequences for validation, in the order of their list.

    Args:
        root: the folder DAVIS, or its parent.
        year: 2016: one foreground mask; 2017: numbered objects.

    Raises:
        InputError: a folder or file is missing.
    """
    folder = require_root(root, ["DAVIS"], "JPEGImages", LAYOUT)
    unsupervised = folder / "Annotations_unsupervised"
    truth = unsupervised if year == 2017 and unsupervised.is_dir() else folder / "Annotations"
    if not truth.is_dir():
        raise InputError(f"'{truth}' is missing; expected {LAYOUT}; unpack the archive of annotations too")
    images, masks = find_level(folder / "JPEGImages", truth)
    return tuple(_load_sequence(name, images, masks, year) for name in _sequence_names(folder, images, year))


def find_level(images: Path, masks: Path) -> tuple[Path, Path]:
    """Folders of frames and masks at a resolution that both have, the smaller one if there are two."""
    found = (level for level in LEVELS if (images / level).is_dir() and (masks / level).is_dir())
    level = next(found, "")
    return images / level, masks / level


def _load_sequence(name: str, images: Path, masks: Path, year: Year) -> DavisSequence:
    if not (images / name).is_dir():
        raise InputError(f"'{images / name}' is missing; expected {LAYOUT}; unpack the archive again")
    frames = pictures_in(images / name)
    truth = [require(masks / name / f"{frame.stem}.png", LAYOUT) for frame in frames]
    if not frames:
        raise InputError(f"'{images / name}' holds no frame; expected {LAYOUT}; unpack the archive again")
    return DavisSequence(name, tuple(frames), tuple(truth), year)


def _sequence_names(folder: Path, images: Path, year: Year) -> list[str]:
    sets = folder / "ImageSets"
    if not sets.is_dir():
        return [found.name for found in folders_in(images)]
    by_frame = [sets / level / "val.txt" for level in ("480p", "1080p")]
    by_name = sets / str(year) / "val.txt"
    listed = first_existing([by_name, *by_frame] if year == 2016 else [by_name])
    if listed is None:
        raise InputError(f"'{by_name}' is missing; expected {LAYOUT}; unpack the archive of that year")
    lines = read_lines(listed, LAYOUT)
    if listed == by_name:
        return lines
    # A line of 2016 holds the paths of a frame and its mask; their folder is named after the sequence.
    return list(dict.fromkeys(Path(line.split()[0]).parent.name for line in lines))
