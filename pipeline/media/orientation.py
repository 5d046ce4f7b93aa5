"""Display matrices: rotation and mirroring that make a stored picture upright."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay a rectangle down.

    Attributes:
        transpose: rows and columns change places first,
        flip_rows: then the picture is mirrored top to bottom,
        flip_cols: and left to right.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_cols: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The stored picture [height, width, ...] upright."""
        turned = picture.swapaxes(0, 1) if self.transpose else picture
        return np.ascontiguousarray(turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_cols else 1])

    def size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Upright height and width of a stored picture; its own inverse."""
        return (size_hw[1], size_hw[0]) if self.transpose else size_hw


UPRIGHT = Orientation()


def read_display_matrix(data: bytes) -> Orientation:
    """The orientation in a display matrix.

    A stored point (p, q) is shown at (a p + c q, b p + d q); the matrix holds a, b, u, c, d, v, x, y, w
    (ISO/IEC 14496-12). Angles between quarter turns go to the nearest one.

    Args:
        data: nine native-endian 32-bit integers; anything else counts as upright.
    """
    if len(data) < 36:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", data[:36])
    return _orientation(a, b, c, d)


def turned(degrees: float) -> Orientation:
    """That of a picture that is turned counter-clockwise, and not mirrored."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _orientation(cosine, -sine, sine, cosine)


def _orientation(a: float, b: float, c: float, d: float) -> Orientation:
    if a * d - b * c == 0:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)
