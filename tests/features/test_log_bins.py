"""Log-binned descriptors against a loop over positions and bins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.log_bins import BINS, log_bin, log_bin_at


def plain_log_bin(grid):
    """Plain twin: [rows, cols, c] to [rows, cols, bins * c], one position and bin at a time."""
    rows, cols, _ = grid.shape

    def mean(row, col, reach):
        return grid[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1].mean((0, 1))

    def bins(row, col):
        for level in (0, 1):
            for i in (row - 3**level, row, row + 3**level):
                for j in (col - 3**level, col, col + 3**level):
                    if level == 0 or (i, j) != (row, col):
                        yield mean(min(max(i, 0), rows - 1), min(max(j, 0), cols - 1), 3**level // 2)

    return np.array([[np.concatenate(list(bins(row, col))) for col in range(cols)] for row in range(rows)])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 3), st.integers(0, 99))
def test_bins_equal_the_definition(rows, cols, channels, seed):
    grid = np.random.default_rng(seed).normal(size=(2, rows, cols, channels)).astype(np.float32)
    found = log_bin(torch.from_numpy(grid)).numpy()
    for picture, binned in zip(grid, found, strict=True):
        assert binned == pytest.approx(plain_log_bin(picture), abs=1e-5)
    assert len(BINS) == 17
    assert BINS[9] == (1, -3, -3)


def test_single_positions_equal_the_grid() -> None:
    grid = torch.rand(7, 9, 5, generator=torch.Generator().manual_seed(1))
    positions = torch.cartesian_prod(torch.arange(7), torch.arange(9))
    assert torch.equal(log_bin_at(grid, positions).reshape(7, 9, -1), log_bin(grid[None])[0])
