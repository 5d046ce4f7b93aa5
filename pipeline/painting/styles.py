"""The styles that parts are painted in; each turns a picture and its label map into a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Style
from pipeline.kernels import blend
from pipeline.painting.palettes import checkerboard

Image = NDArray[np.uint8]

OUTLINE_SHARE = 1 / 240
"""Width of an outline as a share of the picture's short side."""
CHECKER_PX, CHECKER_GREYS = 16, (255, 204)
"""Side of the squares that a cut-out lies on, pixels, and their greys."""


def paint(rgb: Image, labels: Image, colors: Image, style: Style = "overlay", alpha: float = 0.6) -> Image:
    """Paint the parts of one picture.

    Args:
        rgb: uint8 [height, width, 3].
        labels: uint8 [height, width]; 0 is the background, 1..K the parts.
        colors: uint8 [K, 3].
        style: how to paint.
        alpha: opacity of the colours, for overlay, outline and side-by-side.

    Returns:
        uint8 [height, width, 3]; twice as wide for side-by-side.
    """
    return _STYLES[style](rgb, labels, colors, alpha)


def painted_size(size_hw: tuple[int, int], style: Style) -> tuple[int, int]:
    """Height and width of what `paint` makes of a picture of that size."""
    return size_hw[0], size_hw[1] * (2 if style == "side-by-side" else 1)


def _overlay(rgb: Image, labels: Image, colors: Image, alpha: float) -> Image:
    return blend(rgb, labels, _table(colors), alpha)


def _parts(rgb: Image, labels: Image, colors: Image, alpha: float) -> Image:
    return _table(colors)[labels]


def _outline(rgb: Image, labels: Image, colors: Image, alpha: float) -> Image:
    import cv2

    width = max(1, round(min(labels.shape) * OUTLINE_SHARE))
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    border = cv2.erode(labels, kernel) != labels
    return _overlay(rgb, np.where(border, labels, 0).astype(np.uint8), colors, max(alpha, 0.9))


def _cutout(rgb: Image, labels: Image, colors: Image, alpha: float) -> Image:
    height, width = labels.shape
    return np.where(labels[..., None] > 0, rgb, checkerboard((height, width), CHECKER_PX, CHECKER_GREYS)[..., None])


def _side_by_side(rgb: Image, labels: Image, colors: Image, alpha: float) -> Image:
    return np.concatenate([rgb, _overlay(rgb, labels, colors, alpha)], axis=1)


def _table(colors: Image) -> Image:
    """A colour for every label, uint8 [256, 3]."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[1 : len(colors) + 1] = colors
    return table


_STYLES: Mapping[Style, Callable[[Image, Image, Image, float], Image]] = {
    "overlay": _overlay,
    "parts": _parts,
    "outline": _outline,
    "cutout": _cutout,
    "side-by-side": _side_by_side,
}
