"""Points of a picture and positions of the ViT's grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.geometry import GridPlace
from pipeline.stages.engine import Engine

Point = tuple[float, float]


def require_inside(point: Point, rgb: NDArray[np.uint8], name: str) -> None:
    """Refuse a point that isn't in a picture.

    Raises:
        UsageError: with the picture's size.
    """
    height, width = rgb.shape[:2]
    if not (0 <= point[0] <= width and 0 <= point[1] <= height):
        raise UsageError(
            f"point {point[0]:g},{point[1]:g} is outside of '{name}', which is {width}x{height} pixels; "
            f"give x from 0 to {width} and y from 0 to {height}"
        )


def nearest_places(values: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """Rows and columns [top, 2] of the largest values of a map, the largest first; fewer where there are no more.

    >>> nearest_places(np.array([[0.1, 0.9], [0.5, 0.2]], dtype=np.float32), 2).tolist()
    [[0, 1], [1, 0]]
    """
    order = np.argsort(-values.ravel(), kind="stable")[:top]
    return np.stack(np.divmod(order, values.shape[1]), axis=1)


def place_on(engine: Engine, size_hw: tuple[int, int]) -> GridPlace:
    """Where the ViT's grid lies in a picture of that size."""
    features = engine.settings.features
    processed_hw = features.processed_size(size_hw)
    return GridPlace(engine.extractor.identity.patch_px, features.stride, processed_hw, size_hw)
