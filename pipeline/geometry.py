"""The pixel-centre convention: grid to pixels and back, and the processed size.

Pixel (row r, column c) covers the square from (c, r) to (c + 1, r + 1); its centre is (c + 0.5, r + 0.5). A
patch at grid position (i, j) covers `patch` pixels from (j * stride, i * stride), so its centre is
(j * stride + patch / 2, i * stride + patch / 2). Points are (x, y) unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def with_short_side(size_hw: tuple[int, int], short_px: int) -> tuple[int, int]:
    """Height and width of a picture after its short side is brought to `short_px` pixels (paper's code: Resize).

    The long side is rounded down, as the paper's code does it.

    >>> with_short_side((480, 854), 224)
    (224, 398)
    """
    height, width = size_hw
    if height <= width:
        return short_px, max(1, short_px * width // height)
    return max(1, short_px * height // width), short_px


def fitted_size(size_hw: tuple[int, ...], most_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width of a picture's shape within others.

    >>> fitted_size((480, 854), (240, 1000))
    (240, 427)
    """
    height, width = size_hw
    scale = min(most_hw[0] / height, most_hw[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def grid_size(size_hw: tuple[int, int], patch_px: int, stride_px: int) -> tuple[int, int]:
    """Rows and columns of overlapping patches in a picture of `size_hw` pixels (paper section 4).

    Raises:
        InputError: the picture is smaller than one patch.

    >>> grid_size((224, 398), patch_px=8, stride_px=4)
    (55, 98)
    """
    if min(size_hw) < patch_px:
        raise InputError(
            f"a picture of {size_hw[1]}x{size_hw[0]} pixels is smaller than one patch of "
            f"{patch_px}x{patch_px}; give larger pictures or a larger --load-size"
        )
    return 1 + (size_hw[0] - patch_px) // stride_px, 1 + (size_hw[1] - patch_px) // stride_px


@dataclass(frozen=True, slots=True)
class GridPlace:
    """Where a grid's positions lie in a picture.

    Attributes:
        patch_px: side of a patch, processed pixels.
        stride_px: distance of neighbouring patches, processed pixels.
        processed_hw: height and width of the processed picture.
        size_hw: height and width of the picture itself, whose points are meant.
    """

    patch_px: int
    stride_px: int
    processed_hw: tuple[int, int]
    size_hw: tuple[int, int]

    def at_height(self, height_px: int) -> GridPlace:
        """The same grid in the picture at another height, but at most twice as wide as high."""
        return replace(self, size_hw=fitted_size(self.size_hw, (height_px, 2 * height_px)))

    def pixels(self, positions_ij: NDArray[np.int64]) -> NDArray[np.float64]:
        """Points (x, y) [n, 2] of the patch centres at rows and columns [n, 2]."""
        scale_yx = np.array(self.size_hw, dtype=np.float64) / np.array(self.processed_hw, dtype=np.float64)
        centres_yx = positions_ij.astype(np.float64) * self.stride_px + self.patch_px / 2
        return np.ascontiguousarray((centres_yx * scale_yx)[:, ::-1])

    def positions(self, points_xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows and columns [n, 2], clamped to the grid, of the patches whose centres are nearest to points (x, y)."""
        scale_yx = np.array(self.processed_hw, dtype=np.float64) / np.array(self.size_hw, dtype=np.float64)
        centres_yx = np.asarray(points_xy, dtype=np.float64)[:, ::-1] * scale_yx
        nearest = np.floor((centres_yx - self.patch_px / 2) / self.stride_px + 0.5).astype(np.int64)
        limits = np.array(grid_size(self.processed_hw, self.patch_px, self.stride_px)) - 1
        return np.clip(nearest, 0, limits)


def between_patches(grid: Tensor, size_hw: tuple[int, int], patch_px: int, stride_px: int, cell_px: int) -> Tensor:
    """Interpolate a map of patches bilinearly between their centres, to cells that divide the picture evenly.

    Args:
        grid: float32 [channels, rows, cols], a value of each patch.
        size_hw: height and width of the picture.
        patch_px: side of a patch, pixels.
        stride_px: distance of neighbouring patches, pixels.
        cell_px: side of a cell, pixels; the nearest side that divides the picture's is taken for each.

    Returns:
        As `grid`, [channels, height / cell_px, width / cell_px]. Beyond the outermost centres values stay as they are.
    """
    for axis, pixels in enumerate(size_hw, start=1):
        before, after, share = _neighbours(pixels, grid.shape[axis], patch_px, stride_px, cell_px, grid.device)
        grid = grid.index_select(axis, before).lerp(
            grid.index_select(axis, after), share if axis == 2 else share[:, None]
        )
    return grid


@lru_cache(maxsize=8)
def _neighbours(
    pixels: int, patches: int, patch_px: int, stride_px: int, cell_px: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Along one side, for each cell the patches before and after it, and how far it lies on the way between them."""
    import torch

    cells = max(1, round(pixels / cell_px))
    places = ((np.arange(cells) + 0.5) * (pixels / cells) - patch_px / 2) / stride_px
    places = np.clip(places, 0, patches - 1)
    before = places.astype(np.int64)
    after, share = np.minimum(before + 1, patches - 1), (places - before).astype(np.float32)
    first, second, way = (torch.from_numpy(each).to(device) for each in (before, after, share))
    return first, second, way


def nearest_index(length: int, target_length: int) -> NDArray[np.int64]:
    """For each of `target_length` cells the source cell it is read from (torch's `nearest`).

    >>> nearest_index(2, 5).tolist()
    [0, 0, 0, 1, 1]
    """
    scale = np.float32(length) / np.float32(target_length)
    index = np.floor(np.arange(target_length, dtype=np.float32) * scale).astype(np.int64)
    return np.asarray(np.minimum(index, length - 1), dtype=np.int64)


def resize_nearest(grid: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize a grid [rows, cols, ...] to `size_hw` by nearest neighbour, as the paper's code does."""
    import torch

    rows = torch.from_numpy(nearest_index(grid.shape[0], size_hw[0])).to(grid.device)
    cols = torch.from_numpy(nearest_index(grid.shape[1], size_hw[1])).to(grid.device)
    return grid[rows][:, cols]


def resize_labels(labels: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map with smooth edges: each label's indicator is resized, the largest wins.

    Args:
        labels: uint8 [h, w].
        size_hw: height and width wanted.

    Returns:
        uint8 [height, width]; only labels that `labels` holds occur in it.
    """
    import cv2

    if labels.shape == size_hw:
        return labels
    # A step edge resized bilinearly keeps the blocks' stair steps; a blur as wide as one processed
    # pixel turns them into a line. Growing a picture needs it, shrinking one does not.
    grows = size_hw[0] > labels.shape[0]
    best_score = np.full(size_hw, -1.0, dtype=np.float32)
    best_label = np.zeros(size_hw, dtype=np.uint8)
    for label in np.unique(labels):
        score = (labels == label).astype(np.float32)
        if grows:
            score = cv2.GaussianBlur(score, (5, 5), 1.0)
        score = cv2.resize(score, size_hw[::-1], interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA)
        np.putmask(best_label, score > best_score, label)
        np.maximum(best_score, score, out=best_score)
    return best_label


def shrink(rgb: NDArray[np.uint8], size_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    """Resize a picture uint8 [height, width, 3] quickly by area means, for measuring."""
    import cv2

    if rgb.shape[:2] == size_hw:
        return rgb
    return np.asarray(cv2.resize(rgb, size_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


def even(length: int) -> int:
    """The smallest even number that is not below `length` (4:2:0 video has even sides)."""
    return math.ceil(length / 2) * 2
