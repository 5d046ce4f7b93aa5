"""CelebA: faces with a box and five landmarks, in pictures as they were found (Liu et al., ICCV 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import Box, Picture, first_existing, read_lines, size_of

LANDMARKS = 5
"""Left eye, right eye, nose, left and right corner of the mouth."""

LEAST_SHARE = 0.3
"""Share of a picture that a face's box covers at least (SCOPS, "unaligned CelebA")."""

LAYOUT = (
    "CelebA/ with Img/img_celeba/, Anno/list_landmarks_celeba.txt, Anno/list_bbox_celeba.txt and "
    "Eval/list_eval_partition.txt, or all of them in one folder; MAFL's training.txt and testing.txt, if there"
)

_TRAIN, _TEST = "0", "2"


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One picture with its annotation.

    Attributes:
        picture: the whole picture, named as in the lists.
        is_train: whether landmarks are regressed on it; else they are measured on it.
        size_hw: height and width of the picture.
        landmarks_xy: float64 [5, 2] points (x, y) in the picture.
    """

    picture: Picture
    is_train: bool
    size_hw: tuple[int, int]
    landmarks_xy: NDArray[np.float64]

    def in_picture_units(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (x, y) as shares of the picture's sides."""
        return np.asarray(points_xy / np.array(self.size_hw[::-1]))

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes in these units."""
        left, right = self.in_picture_units(self.landmarks_xy[:2])
        return float(np.linalg.norm(left - right))


def load_faces(root: Path) -> tuple[Face, ...]:
    """The faces that cover enough of their picture, in the order of the lists, those to regress on first.

    Where MAFL's lists are there, its training pictures are regressed on and its test pictures measured, as in SCOPS;
    else CelebA's own train and test partition. Faces whose two eyes are one point are left out.

    Args:
        root: the folder CelebA, or its parent.

    Raises:
        InputError: a file is missing, or lacks some of the pictures; no face of a split is large enough.
    """
    folder = next((each for each in (root, root / "CelebA", root / "celeba") if _pictures(each)), root)
    pictures = _pictures(folder)
    if pictures is None:
        raise InputError(
            f"'{root / 'img_celeba'}' is missing; expected {LAYOUT}; give the folder that holds it as --data"
        )
    landmarks = _table(_file(folder, "Anno", "list_landmarks_celeba.txt"), 2 * LANDMARKS)
    boxes = _table(_file(folder, "Anno", "list_bbox_celeba.txt"), 4)
    faces = []
    for is_train, names in _splits(folder):
        for name in names:
            for table, file in ((landmarks, "list_landmarks_celeba.txt"), (boxes, "list_bbox_celeba.txt")):
                if name not in table:
                    raise InputError(f"'{file}' lacks picture {name}; unpack the archive again")
            size_hw = size_of(pictures / name)
            box = Box(*boxes[name])
            points = np.array(landmarks[name]).reshape(LANDMARKS, 2)
            if box.width * box.height < LEAST_SHARE * size_hw[0] * size_hw[1] or (points[0] == points[1]).all():
                continue
            faces.append(Face(Picture(name, pictures / name), is_train, size_hw, points))
    for is_train, what in ((True, "train"), (False, "test")):
        if not any(face.is_train == is_train for face in faces):
            raise InputError(
                f"no face of the {what} pictures covers {LEAST_SHARE:.0%} of its picture; expected {LAYOUT}"
            )
    return tuple(faces)


def _pictures(folder: Path) -> Path | None:
    return first_existing(folder / name for name in ("img_celeba", "Img/img_celeba"))


def _file(folder: Path, inner: str, name: str) -> Path:
    return first_existing((folder / name, folder / inner / name)) or folder / inner / name


def _splits(folder: Path) -> list[tuple[bool, list[str]]]:
    """Names of the pictures to regress on and to measure."""
    lists = [_file(folder, "MAFL", name) for name in ("training.txt", "testing.txt")]
    if any(file.exists() for file in lists):
        return [(is_train, read_lines(file, LAYOUT)) for is_train, file in zip((True, False), lists, strict=True)]
    rows = [line.split() for line in read_lines(_file(folder, "Eval", "list_eval_partition.txt"), LAYOUT)]
    return [
        (is_train, [row[0] for row in rows if row[1:] == [split]])
        for is_train, split in ((True, _TRAIN), (False, _TEST))
    ]


def _table(file: Path, columns: int) -> dict[str, list[float]]:
    """Numbers by picture; the file begins with a line that counts them and one that names the columns."""
    found = {}
    for number, line in enumerate(read_lines(file, LAYOUT)[2:], start=3):
        name, *values = line.split()
        try:
            found[name] = [float(value) for value in values]
        except ValueError as error:
            raise InputError(f"'{file}' line {number} doesn't hold numbers: {error}; expected {LAYOUT}") from error
        if len(values) != columns:
            raise InputError(f"'{file}' line {number} has {len(values)} numbers, expected {columns}; expected {LAYOUT}")
    return found
