"""Maps of the ViT's grid as pictures: grey, coloured, or laid over the picture they belong to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.geometry import GridPlace

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

ALL_ROWS = slice(None)
BAND_PX = 2**20
"""Pixels that are painted at once: several float32 copies of a large picture would fill the memory."""


def spread_map(values: Floats, place: GridPlace, band: slice = ALL_ROWS) -> Floats:
    """Resize a map to the picture: each value at its patch's centre, bilinear in between.

    Args:
        values: [rows, cols, ...].
        place: where the grid lies.
        band: rows of the picture to bring it to.

    Returns:
        float32 [height, width, ...]; constant beyond the outermost centres.
    """
    height, width = place.size_hw
    rows = ((np.arange(height)[band] + 0.5) * place.processed_hw[0] / height - place.patch_px / 2) / place.stride_px
    cols = ((np.arange(width) + 0.5) * place.processed_hw[1] / width - place.patch_px / 2) / place.stride_px
    by_row = _interpolate(np.asarray(values, dtype=np.float32), rows)
    by_col: Floats = _interpolate(by_row.swapaxes(0, 1), cols).swapaxes(0, 1)
    return by_col


def to_levels(values: Floats, low: ArrayLike, high: ArrayLike) -> Image:
    """Grey levels 0..255 of values between `low` and `high`; what lies beyond is clipped.

    Where `low` equals `high`, all levels are 0.
    """
    low, spread = np.asarray(low), np.asarray(high) - np.asarray(low)
    share = (values - low) / np.where(spread > 0, spread, np.inf)
    levels: Image = (share.clip(0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return levels


def grey_map(values: Floats, place: GridPlace, low: float, high: float) -> Image:
    """A map [rows, cols] as a grey picture, uint8 [height, width, 3]."""
    return _by_bands(place, lambda band: to_levels(spread_map(values, place, band), low, high)[:, :, None])


def color_map(values: Floats, place: GridPlace, low: ArrayLike, high: ArrayLike) -> Image:
    """A map of three channels [rows, cols, 3] as red, green and blue, each on its own scale [3]."""
    return _by_bands(place, lambda band: to_levels(spread_map(values, place, band), low, high))


def heat_map(rgb: Image, values: Floats, place: GridPlace, low: float, high: float, alpha: float = 0.6) -> Image:
    """A map [rows, cols] in colours over its picture: blue is low, red is high (paper, figure 4).

    Args:
        rgb: uint8 [height, width, 3].
        values: the map.
        place: where its grid lies.
        low: the value that becomes the darkest blue.
        high: the value that becomes the darkest red.
        alpha: opacity of the colours.
    """
    colors, weight = heat_colors(), round(alpha * 256)

    def paint(band: slice) -> Image:
        heat = colors[to_levels(spread_map(values, place, band), low, high)]
        mixed = rgb[band].astype(np.uint16) * (256 - weight) + heat.astype(np.uint16) * weight
        painted: Image = ((mixed + 128) >> 8).astype(np.uint8)
        return painted

    return _by_bands(place, paint)


def heat_colors() -> Image:
    """RGB colours of the levels 0..255, uint8 [256, 3], from blue to red."""
    import cv2

    levels = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, 0, ::-1])


def _by_bands(place: GridPlace, paint: Callable[[slice], Image]) -> Image:
    """A picture, uint8 [height, width, 3], of what `paint` gives for bands of its rows."""
    height, width = place.size_hw
    painted = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, BAND_PX // width)
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height))
        painted[band] = paint(band)
    return painted


def _interpolate(values: Floats, positions: NDArray[np.float64]) -> Floats:
    """Values at fractional positions of the first axis."""
    inside = positions.clip(0, len(values) - 1)
    low = np.floor(inside).astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    weight = (inside - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    between: Floats = values[low] * (1 - weight) + values[high] * weight
    return between
