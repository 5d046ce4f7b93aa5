"""Log-binned descriptors: each with the context around it (paper section 4, correspondences)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bin_offsets(levels: int) -> list[tuple[int, int, int]]:
    """Level, row offset and column offset of each bin, in the order of the paper's code.

    >>> len(bin_offsets(2))
    17
    >>> bin_offsets(2)[9]
    (1, -3, -3)
    """
    return [
        (level, down * 3**level, right * 3**level)
        for level in range(levels)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if level == 0 or (down, right) != (0, 0)
    ]


def log_bin(descriptors: Tensor, levels: int = 2) -> Tensor:
    """Put the neighbours of each position beside it: nearby ones as they are, farther ones averaged.

    Args:
        descriptors: float [batch, rows, cols, channels].
        levels: level l reads at distance 3**l the mean of 3**l by 3**l positions; positions outside of the
            grid are brought to its edge.

    Returns:
        [batch, rows, cols, (1 + 8 * levels) * channels]: bin by bin, level 0 (centre included) first.
    """
    batch, rows, cols, channels = descriptors.shape
    offsets = bin_offsets(levels)
    binned = descriptors.new_empty((batch, rows, cols, len(offsets), channels))
    row_index = torch.arange(rows, device=descriptors.device)
    col_index = torch.arange(cols, device=descriptors.device)
    averages = [_average(descriptors, 3**level) for level in range(levels)]
    for slot, (level, down, right) in enumerate(offsets):
        from_rows = (row_index + down).clamp(0, rows - 1)
        from_cols = (col_index + right).clamp(0, cols - 1)
        binned[:, :, :, slot] = averages[level][:, from_rows][:, :, from_cols]
    return binned.flatten(3)


def log_bin_at(descriptors: Tensor, positions_ij: Tensor, levels: int = 2) -> Tensor:
    """What `log_bin` gives at some positions of one grid, without computing the others.

    Args:
        descriptors: float [rows, cols, channels].
        positions_ij: int64 [n, 2] rows and columns.
        levels: as of `log_bin`.

    Returns:
        [n, (1 + 8 * levels) * channels].
    """
    limits = torch.tensor(descriptors.shape[:2], device=descriptors.device) - 1
    averages = [_average(descriptors[None], 3**level)[0] for level in range(levels)]
    bins = []
    for level, down, right in bin_offsets(levels):
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
