"""Palettes: which colour each part has."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from pipeline.config import PaletteName

_VIVID = ["e6194b", "3cb44b", "4363d8", "ffe119", "f58231", "911eb4", "42d4f4", "f032e6", "bfef45", "fabed4"]
# Okabe and Ito's colours, which people with any common colour blindness tell apart; black is left out.
_COLORBLIND = ["e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7"]


def part_colors(parts: int, palette: PaletteName = "vivid") -> NDArray[np.uint8]:
    """RGB colours of the parts 1..K, uint8 [parts, 3]; the first ones don't depend on how many are asked for.

    >>> part_colors(2, "vivid").tolist()
    [[230, 25, 75], [60, 180, 75]]
    """
    if palette == "davis":
        return davis_palette()[1 : parts + 1]
    if palette == "pastel":
        return np.array([_hue(index, 0.45, 1.0) for index in range(parts)], dtype=np.uint8).reshape(-1, 3)
    chosen = _VIVID if palette == "vivid" else _COLORBLIND
    colors = [tuple(bytes.fromhex(code)) for code in chosen[:parts]]
    colors += [_hue(index, 0.8, 0.9) for index in range(len(colors), parts)]
    return np.array(colors, dtype=np.uint8).reshape(-1, 3)


def checkerboard(size_hw: tuple[int, int], side_px: int, greys: tuple[int, int]) -> NDArray[np.uint8]:
    """A checkerboard for transparency: squares of two greys, uint8 [height, width], the first in the corner.

    >>> checkerboard((2, 4), 2, (9, 7)).tolist()
    [[9, 9, 7, 7], [9, 9, 7, 7]]
    """
    odd_row, odd_col = (np.arange(length) // side_px % 2 > 0 for length in size_hw)
    first, second = np.array(greys, dtype=np.uint8)
    board: NDArray[np.uint8] = np.where(odd_row[:, None] == odd_col, first, second)
    return board


def davis_palette() -> NDArray[np.uint8]:
    """The palette of DAVIS and PASCAL VOC, uint8 [256, 3]: a label's bits dealt out to the channels' high bits.

    >>> davis_palette()[:3].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def _hue(index: int, saturation: float, value: float) -> tuple[int, int, int]:
    # Steps of the golden ratio spread any number of hues evenly.
    red, green, blue = colorsys.hsv_to_rgb((index * 0.6180339887) % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
