"""The pixel-centre convention: grid to pixels and back, and the processed size.

Pixel (row r, column c) covers the square from (c, r) to (c + 1, r + 1); its centre is (c + 0.5, r + 0.5). A
patch at grid position (i, j) covers `patch` pixels from (j * stride, i * stride), so its centre is
(j * stride + patch / 2, i * stride + patch / 2). Points are (x, y) unless a name says otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def processed_size(size_hw: tuple[int, int], load_size: int | None) -> tuple[int, int]:
    """Height and width after the short side is brought to `load_size` pixels (paper's code: Resize).

    The long side is rounded down, as the paper's code does it. None keeps the size.

    >>> processed_size((480, 854), 224)
    (224, 398)
    >>> processed_size((480, 854), None)
    (480, 854)
    """
    height, width = size_hw
    if load_size is None:
        return height, width
    if height <= width:
        return load_size, max(1, load_size * width // height)
    return max(1, load_size * height // width), load_size


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


def grid_to_pixels(
    points_ij: NDArray[np.float64],
    patch_px: int,
    stride_px: int,
    size_hw: tuple[int, int],
    target_hw: tuple[int, int],
) -> NDArray[np.float64]:
    """Centres of grid positions as points in a picture of another size.

    Args:
        points_ij: [n, 2] rows and columns on the grid.
        patch_px: side of a patch in processed pixels.
        stride_px: distance of neighbouring patches in processed pixels.
        size_hw: the processed size.
        target_hw: the size of the picture that the points are wanted in.

    Returns:
        [n, 2] points (x, y) in the target picture.
    """
    scale_yx = np.array(target_hw, dtype=np.float64) / np.array(size_hw, dtype=np.float64)
    centres_yx = np.asarray(points_ij, dtype=np.float64) * stride_px + patch_px / 2
    return np.ascontiguousarray((centres_yx * scale_yx)[:, ::-1])


def pixels_to_grid(
    points_xy: NDArray[np.float64],
    patch_px: int,
    stride_px: int,
    size_hw: tuple[int, int],
    target_hw: tuple[int, int],
) -> NDArray[np.int64]:
    """The grid positions whose patch centres are nearest to points; the inverse of `grid_to_pixels`.

    Args:
        points_xy: [n, 2] points (x, y) in a picture of `target_hw` pixels.
        patch_px: side of a patch in processed pixels.
        stride_px: distance of neighbouring patches in processed pixels.
        size_hw: the processed size.
        target_hw: the size of the picture that the points are given in.

    Returns:
        [n, 2] rows and columns, clamped to the grid.
    """
    scale_yx = np.array(size_hw, dtype=np.float64) / np.array(target_hw, dtype=np.float64)
    centres_yx = np.asarray(points_xy, dtype=np.float64)[:, ::-1] * scale_yx
    nearest = np.floor((centres_yx - patch_px / 2) / stride_px + 0.5).astype(np.int64)
    limits = np.array(grid_size(size_hw, patch_px, stride_px)) - 1
    return np.clip(nearest, 0, limits)


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
