"""Constants of the permutohedral lattice A*_d that the compiled filter and its torch twin share.

The scale of the positions, the order of the axes and the gain are those of Krähenbühl and Koltun's fully connected
CRF, so that labels agree with theirs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def axis_scales(dims: int) -> list[float]:
    """Factors that make the blur a filter of standard deviation one (Adams et al., section 3.1)."""
    return [math.sqrt(2 / 3) * (dims + 1) / math.sqrt((axis + 1) * (axis + 2)) for axis in range(dims)]


def key_strides(dims: int) -> NDArray[np.int64]:
    """Factors of the coordinates in a vertex's hash key; keys add up like coordinates, modulo 2^64.

    Keys are unique while coordinates differ by less than 2^(64 / dims): more than 10,000 pixels at the paper's kernels.
    """
    return np.array([1 << (min(64 // dims, 31) * axis) for axis in range(dims)], dtype=np.int64)


def axis_steps(dims: int) -> NDArray[np.int64]:
    """The difference of keys from a vertex to its neighbour along each of the d + 1 axes."""
    strides = np.append(key_strides(dims), 0)
    return np.asarray((dims + 1) * strides - strides.sum(), dtype=np.int64)


def filter_gain(dims: int) -> float:
    """The factor after slicing (Krähenbühl and Koltun's convention)."""
    return 1 / (1 + 2.0**-dims)
