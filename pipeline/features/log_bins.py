"""Log-binned descriptors: each with the context around it (paper section 4, correspondences)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 2
"""Level l reads at distance 3**l the mean of 3**l by 3**l positions."""

BINS = tuple(
    (level, down * 3**level, right * 3**level)
    for level in range(LEVELS)
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if level == 0 or (down, right) != (0, 0)
)
"""Level, row offset and column offset of each bin, in the order of the paper's code."""


def log_bin(descriptors: Tensor) -> Tensor:
    """Put the neighbours of each position beside it: nearby ones as they are, farther ones averaged.

    Args:
        descriptors: float [batch, rows, cols, channels]; positions outside of the grid are brought to its edge.

    Returns:
        [batch, rows, cols, 17 * channels]: bin by bin, level 0 (centre included) first.
    """
    batch, rows, cols, channels = descriptors.shape
    binned = descriptors.new_empty((batch, rows, cols, len(BINS), channels))
    row_index = torch.arange(rows, device=descriptors.device)
    col_index = torch.arange(cols, device=descriptors.device)
    averages = [_average(descriptors, 3**level) for level in range(LEVELS)]
    for slot, (level, down, right) in enumerate(BINS):
        from_rows = (row_index + down).clamp(0, rows - 1)
        from_cols = (col_index + right).clamp(0, cols - 1)
        binned[:, :, :, slot] = averages[level][:, from_rows][:, :, from_cols]
    return binned.flatten(3)


def log_bin_at(descriptors: Tensor, positions_ij: Tensor) -> Tensor:
    """What `log_bin` gives at some positions of one grid, without computing the others.

    Args:
        descriptors: float [rows, cols, channels].
        positions_ij: int64 [n, 2] rows and columns.

    Returns:
        [n, 17 * channels].
    """
    limits = torch.tensor(descriptors.shape[:2], device=descriptors.device) - 1
    averages = [_average(descriptors[None], 3**level)[0] for level in range(LEVELS)]
    bins = []
    for level, down, right in BINS:
        moved = positions_ij + torch.tensor((down, right), device=descriptors.device)
        rows, cols = torch.minimum(moved.clamp_min(0), limits).T
        bins.append(averages[level][rows, cols])
    return torch.cat(bins, dim=1)


def _average(descriptors: Tensor, window: int) -> Tensor:
    if window == 1:
        return descriptors
    planes = descriptors.permute(0, 3, 1, 2)
    means = F.avg_pool2d(planes, window, stride=1, padding=window // 2, count_include_pad=False)
    return means.permute(0, 2, 3, 1).contiguous()
