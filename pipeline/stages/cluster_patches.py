"""What the clusters of a fit look like: patches of the sampled frames, as a sheet with a row for each cluster."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.typical import TypicalPlace, typical_places
from pipeline.files import output_errors, replaced_file
from pipeline.geometry import shrink, with_short_side
from pipeline.media.pictures import read_picture

PATCHES = 8
"""Patches of a cluster."""
PATCH_PX = 64
"""Side of a patch on the sheet."""

_SIDE_SHARE = 0.2
"""Side of the square around a member, as a share of the picture's short side: enough to see what it belongs to."""
_SHORT_SIDE_PX = 320
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class SampledPictures:
    """Small pictures of the frames that a fit samples, as files of a folder, where a resumed fit finds them."""

    folder: Path

    def keep(self, key: Hashable, rgb: NDArray[np.uint8]) -> None:
        """Write a frame's picture, uint8 [height, width, 3].

        Raises:
            OutputError: it can't be written.
        """
        height, width = with_short_side((rgb.shape[0], rgb.shape[1]), min(_SHORT_SIDE_PX, *rgb.shape[:2]))
        file = self._file(key)
        with output_errors(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shrink(rgb, (height, width))).save(file, "JPEG", quality=_QUALITY)

    def __contains__(self, key: Hashable) -> bool:
        """Whether a frame's picture was kept."""
        return self._file(key).is_file()

    def __getitem__(self, key: Hashable) -> NDArray[np.uint8]:
        """A frame's picture, uint8 [height, width, 3]."""
        return read_picture(self._file(key))

    def _file(self, key: Hashable) -> Path:
        return self.folder / f"{key}.jpg"


def draw_clusters(cache: FeatureCache, pictures: SampledPictures, centroids: NDArray[np.float32], file: Path) -> None:
    """Write a sheet with the typical patches of each cluster, a row for each; grey where it has fewer members.

    Raises:
        OutputError: it can't be written.
    """
    sheet = np.full((len(centroids) * PATCH_PX, PATCHES * PATCH_PX, 3), 128, dtype=np.uint8)
    for row, places in enumerate(typical_places(cache, centroids, PATCHES)):
        for col, place in enumerate(places):
            if place.key in pictures:
                rows, cols, _ = cache.get(place.key).descriptors.shape
                tile = _patch(pictures[place.key], place, (rows, cols))
                sheet[row * PATCH_PX : (row + 1) * PATCH_PX, col * PATCH_PX : (col + 1) * PATCH_PX] = tile
    with replaced_file(file) as partial:
        Image.fromarray(sheet).save(partial, "JPEG", quality=_QUALITY)


def _patch(rgb: NDArray[np.uint8], place: TypicalPlace, grid_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    side = max(1, min(height, width, round(min(height, width) * _SIDE_SHARE)))
    # Up to half a stride from the patch's own centre, which the square is much larger than.
    left = round((place.col + 0.5) / grid_hw[1] * width - side / 2)
    top = round((place.row + 0.5) / grid_hw[0] * height - side / 2)
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    square = Image.fromarray(rgb[top : top + side, left : left + side])
    return np.asarray(square.resize((PATCH_PX, PATCH_PX), Image.Resampling.LANCZOS))
