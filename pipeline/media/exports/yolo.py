"""YOLO's segmentation format: a text file of polygons for each picture, and data.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.files import output_errors, write_file
from pipeline.media.label_store import LabelStore
from pipeline.records import Part

Points = NDArray[np.int64]

IMAGES, LABELS = "images/train", "labels/train"

# Readers multiply by the picture's size, then some round and some cut off: a quarter of a pixel survives both.
_INSIDE_PX = 0.25
_FEWEST_POINTS = 3


def export_yolo(store: LabelStore, folder: Path, stems: Sequence[str], parts: Sequence[Part]) -> Path:
    """Write labels/train/<stem>.txt of each frame and data.yaml; classes are the parts in their order, from 0.

    A line is a class and one connected piece of it, as x and y of each vertex by the picture's width and height. A hole
    is joined to the outline by a cut of no width, so that filling by the even-odd rule leaves it open. `stems` are the
    pictures' names without a suffix.

    Returns:
        data.yaml.
    """
    target = folder / LABELS
    with output_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    for index, full in store.full_frames():
        lines = [_line(number, piece, full.shape) for number, part in enumerate(parts) for piece in _pieces(full, part)]
        file = target / f"{stems[index]}.txt"
        with output_errors(file):
            file.write_text("".join(lines), encoding="utf-8")
    # Without `path`, trainers take the folder of this file. One clip is both: its frames are too alike to be split.
    content = {"train": IMAGES, "val": IMAGES, "names": {number: part.name for number, part in enumerate(parts)}}
    described = folder / "data.yaml"
    write_file(described, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    return described


def _pieces(labels: NDArray[np.uint8], part: Part) -> Iterator[Points]:
    if (labels == part.label).any():
        yield from mask_polygons(labels == part.label)


def mask_polygons(mask: NDArray[np.bool_]) -> list[Points]:
    """The connected pieces of a mask [height, width] as polygons, int [n, 2] (x, y) of pixels on their edges.

    >>> [polygon.tolist() for polygon in mask_polygons(np.ones((2, 3), dtype=bool))]
    [[[0, 0], [0, 1], [2, 1], [2, 0]]]
    """
    import cv2

    # All border pixels, so that cuts to holes can be short; of straight stretches only the ends are kept below.
    found, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours = [contour[:, 0].astype(np.int64) for contour in found]
    polygons = []
    for number, outline in enumerate(contours):
        _, _, child, parent = (int(value) for value in hierarchy[0][number])
        if parent >= 0:
            continue
        polygon = outline
        while child >= 0:
            polygon = _join(polygon, contours[child])
            child = int(hierarchy[0][child][0])
        polygons.append(_corners(polygon))
    return polygons


def _join(outline: Points, hole: Points) -> Points:
    """One polygon of an outline and a hole, by the shortest cut between two of their vertices."""
    from scipy.spatial import cKDTree

    distances, nearest = cKDTree(outline).query(hole)
    at = int(np.argmin(distances))
    place = int(nearest[at])
    around = np.concatenate([hole[at:], hole[: at + 1]])
    return np.concatenate([outline[: place + 1], around, outline[place:]])


def _corners(polygon: Points) -> Points:
    """A polygon without the vertices inside of straight stretches; one of fewer than three is filled up."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    kept = polygon[(before != after).any(axis=1)]
    kept = kept if len(kept) else polygon[:1]
    return kept if len(kept) >= _FEWEST_POINTS else kept[np.resize(np.arange(len(kept)), _FEWEST_POINTS)]


def _line(number: int, polygon: Points, size_hw: tuple[int, ...]) -> str:
    scaled = (polygon + _INSIDE_PX) / np.array([size_hw[1], size_hw[0]])
    return f"{number} " + " ".join(f"{value:.7f}" for value in scaled.ravel()) + "\n"
