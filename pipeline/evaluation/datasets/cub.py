"""CUB-200-2011: birds with a bounding box and 15 landmarks (Wah et al., 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import Box, Picture, read_numbers, read_table, require_root

LANDMARKS = 15

LAYOUT = (
    "CUB_200_2011/ with images/, images.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt "
    "and parts/part_locs.txt"
)


@dataclass(frozen=True, slots=True, eq=False)
class Bird:
    """One picture with its annotation.

    Attributes:
        picture: the whole picture, named as in images.txt.
        class_id: 1..200.
        is_train: whether it belongs to the train split.
        box: bounding box of the bird.
        landmarks_xy: float64 [15, 2] points (x, y) in the picture.
        visible: bool [15].
    """

    picture: Picture
    class_id: int
    is_train: bool
    box: Box
    landmarks_xy: NDArray[np.float64]
    visible: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check the landmarks' shapes."""
        if self.landmarks_xy.shape != (LANDMARKS, 2) or self.visible.shape != (LANDMARKS,):
            raise ValueError(f"Bird: landmarks {self.landmarks_xy.shape}, visible {self.visible.shape}")

    @property
    def cropped(self) -> Picture:
        """The picture cropped to the bounding box."""
        return Picture(self.picture.name, self.picture.path, self.box)

    def in_box_units(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (x, y) of the picture as shares of the box's sides, from its top left corner."""
        corner, extent = np.array([self.box.left, self.box.top]), np.array([self.box.width, self.box.height])
        return np.asarray((points_xy - corner) / extent)


def load_birds(root: Path) -> tuple[Bird, ...]:
    """All pictures of CUB-200-2011, in the order of images.txt.

    Args:
        root: the folder CUB_200_2011, or its parent.

    Raises:
        InputError: a file is missing, or lacks some of the pictures.
    """
    folder = require_root(root, ["CUB_200_2011"], "images.txt", LAYOUT)
    names = {int(number): name for number, name in read_table(folder / "images.txt", 2, LAYOUT)}
    classes = _by_picture(folder / "image_class_labels.txt", 2, names)
    splits = _by_picture(folder / "train_test_split.txt", 2, names)
    boxes = _by_picture(folder / "bounding_boxes.txt", 5, names)
    landmarks = _landmarks(folder / "parts" / "part_locs.txt", names)
    return tuple(
        Bird(
            picture=Picture(name, folder / "images" / name),
            class_id=int(classes[number][0]),
            is_train=bool(splits[number][0]),
            box=Box(*(float(value) for value in boxes[number])),
            landmarks_xy=landmarks[number][:, :2],
            visible=landmarks[number][:, 2] > 0.5,
        )
        for number, name in names.items()
    )


def _by_picture(file: Path, columns: int, names: dict[int, str]) -> dict[int, NDArray[np.float64]]:
    table = {int(row[0]): row[1:] for row in read_numbers(file, columns, LAYOUT)}
    for number in names:
        if number not in table:
            raise InputError(f"'{file}' lacks picture {number} of images.txt; unpack the archive again")
    return table


def _landmarks(file: Path, names: dict[int, str]) -> dict[int, NDArray[np.float64]]:
    found = {number: np.zeros((LANDMARKS, 3)) for number in names}
    lines = dict.fromkeys(names, 0)
    for number, part, *values in read_numbers(file, 5, LAYOUT):
        if int(number) in found and 1 <= part <= LANDMARKS:
            found[int(number)][int(part) - 1] = values
            lines[int(number)] += 1
    for number, count in lines.items():
        if count != LANDMARKS:
            raise InputError(f"'{file}' has {count} landmarks of picture {number}, expected {LANDMARKS}")
    return found
