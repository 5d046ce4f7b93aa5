"""What flows between the stages: frozen records that check their own shapes.

A record holds the record it was made from, so that a frame, its time and what was computed from it never
part; the queues are bounded, so the frames held at any moment are too. This module knows nothing of how
a record is made, and of no other module but `errors` and `geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND = 0
"""The label of what belongs to no part; parts are 1..K."""

MAX_PARTS = 255
"""Labels are stored as uint8, and 0 is the background."""


def _require(condition: bool, message: str) -> None:
    # Records are built by this program alone: a wrong shape is a fault of it, not of its user.
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One upright picture of an input.

    Attributes:
        index: position among the frames that are processed of its input, from 0.
        pts: presentation time in units of `time_base`; an integer, so that it never drifts.
        time_base: seconds per unit of `pts`.
        rgb: uint8 [height, width, 3], at the source's size, rotation applied.
        name: the file's stem for a frame of a directory, else the index.
    """

    index: int
    pts: int
    time_base: Fraction
    rgb: NDArray[np.uint8]
    name: str = ""

    def __post_init__(self) -> None:
        """Check the picture's shape and type."""
        _require(
            self.rgb.ndim == 3 and self.rgb.shape[2] == 3 and self.rgb.dtype == np.uint8,
            f"Frame.rgb: got {self.rgb.dtype} {self.rgb.shape}, expected uint8 (height, width, 3)",
        )
        _require(self.rgb.shape[0] > 0 and self.rgb.shape[1] > 0, "Frame.rgb: the picture is empty")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """A frame's descriptors on the ViT's grid.

    Attributes:
        frame: the frame they were computed from.
        image: uint8 [h, w, 3], the frame at the processed size: what the ViT and the CRF see.
        descriptors: float32 [rows, cols, channels], on any device.
    """

    frame: Frame
    image: NDArray[np.uint8]
    descriptors: Tensor

    def __post_init__(self) -> None:
        """Check the picture's and the descriptors' shapes."""
        _require(
            self.image.ndim == 3 and self.image.shape[2] == 3 and self.image.dtype == np.uint8,
            f"FeatureMap.image: got {self.image.dtype} {self.image.shape}, expected uint8 (h, w, 3)",
        )
        _require(
            self.descriptors.ndim == 3,
            f"FeatureMap.descriptors: got {tuple(self.descriptors.shape)}, expected (rows, cols, channels)",
        )

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.descriptors.shape[0], self.descriptors.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class PartMap:
    """A frame's parts.

    Attributes:
        frame: the frame they belong to.
        labels: uint8 [h, w] at the processed size; 0 is the background, 1..K the parts.
    """

    frame: Frame
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Check the label map's shape and type."""
        _require(
            self.labels.ndim == 2 and self.labels.dtype == np.uint8,
            f"PartMap.labels: got {self.labels.dtype} {self.labels.shape}, expected uint8 (h, w)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """What a model knows beforehand of parts: the mean descriptor of each region of a body, and which kinds have it.

    Attributes:
        keys: float32 [regions, channels], means of descriptors of unit length.
        kinds: bool [kinds, regions]; of a kind of body the regions that it has.
    """

    keys: NDArray[np.float32]
    kinds: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check that the tables fit together."""
        _require(
            self.keys.ndim == 2 and self.kinds.ndim == 2 and self.kinds.shape[1] == len(self.keys),
            f"Regions: got keys {self.keys.shape} and kinds {self.kinds.shape}, expected (regions, channels) and "
            "(kinds, regions)",
        )
        _require(bool(self.kinds.any(axis=1).all()) and len(self.kinds) > 0, "Regions: a kind has no region")
