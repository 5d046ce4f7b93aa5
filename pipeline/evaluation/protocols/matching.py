"""Transfer of key-points between pictures: nearest descriptors by cosine similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.protocols.predictors import Described, Variant

if TYPE_CHECKING:
    from torch import Tensor


def transfer_points(
    source: Described, target: Described, variant: Variant, points_xy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Find key-points of a source in a target (paper section 5.3).

    The descriptor of the patch nearest to a point is compared with all descriptors of the target; the result is the
    centre of the most similar patch.

    Args:
        source: the picture with the key-points.
        target: the picture in which they are searched.
        variant: which descriptors are compared.
        points_xy: [n, 2] points (x, y) in the source.

    Returns:
        [n, 2] points (x, y) in the target.
    """
    positions = source.place.positions(points_xy)
    return target.place.pixels(nearest_positions(source.at(variant, positions), target.grid(variant)))


def nearest_positions(descriptors: Tensor, grid: Tensor) -> NDArray[np.int64]:
    """Grid position with the largest cosine similarity to each descriptor.

    Args:
        descriptors: float [n, channels].
        grid: float [rows, cols, channels].

    Returns:
        [n, 2] rows and columns; the first in row-major order on a tie.
    """
    flat = grid.flatten(0, 1)
    # The norm of `descriptors` doesn't change the argmax.
    similarity = descriptors.to(flat.dtype) @ flat.T / flat.norm(dim=1).clamp_min(1e-12)
    best = similarity.argmax(dim=1).cpu().numpy()
    return np.stack(np.divmod(best, grid.shape[1]), axis=1).astype(np.int64)
