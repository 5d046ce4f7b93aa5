"""What flows between stages: frozen records that check their own shapes.

A record holds the record it was made from, so that a frame, its time and what was computed from it stay together; the
queues between stages are bounded, so the frames in memory at any moment are too. How a record is made is the stages'
business, not this module's.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

MAX_PARTS = 255
"""Labels are stored as uint8, and 0 is the background."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a result, as it is shown and exported.

    Attributes:
        label: its value in label maps, 1..K.
        name: what a person calls it.
        color: RGB, 0 to 255 each.
    """

    label: int
    name: str
    color: tuple[int, int, int]


def _require(condition: bool, message: str) -> None:
    # Only this program builds records: a wrong shape is a bug, not a user's mistake.
    if not condition:
        raise ValueError(message)


def _require_picture(name: str, picture: NDArray[np.uint8]) -> None:
    _require(
        picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8 and picture.size > 0,
        f"{name}: got {picture.dtype} {picture.shape}, expected uint8 (height, width, 3), not empty",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One upright picture of an input.

    Attributes:
        index: position among the processed frames of its input, from 0.
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
        _require_picture("Frame.rgb", self.rgb)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A frame and its picture at the processed size, ready for the ViT.

    Attributes:
        frame: the frame.
        image: uint8 [h, w, 3], the frame at the processed size: what the ViT and the CRF see.
    """

    frame: Frame
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Check the picture's shape and type."""
        _require_picture("Prepared.image", self.image)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Processed height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class SampledBatch:
    """Frames that the fit samples, with their motion where saliency needs it.

    Attributes:
        items: frames of one processed size.
        motion: float32 [frames, rows, cols], saliency from motion; None where only attention counts.
    """

    items: tuple[Prepared, ...]
    motion: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that each frame has its map."""
        _require(
            self.motion is None or (self.motion.ndim == 3 and len(self.motion) == len(self.items)),
            f"SampledBatch.motion: got {None if self.motion is None else tuple(self.motion.shape)}, "
            f"expected ({len(self.items)}, rows, cols)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class DescribedBatch:
    """What the ViT says of a batch for the fit.

    Attributes:
        descriptors: float32 [frames, rows, cols, channels], L2-normalised.
        saliency: float32 [frames, rows, cols] in [0, 1].
        cls: float32 [frames, channels], descriptors of the class tokens, not normalised; None where motion alone is
            the saliency.
    """

    descriptors: Tensor
    saliency: Tensor
    cls: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that both are of the same grid."""
        _require(
            self.descriptors.ndim == 4 and self.descriptors.shape[:3] == self.saliency.shape,
            f"DescribedBatch: got descriptors {tuple(self.descriptors.shape)} and saliency "
            f"{tuple(self.saliency.shape)}, expected (frames, rows, cols, channels) and (frames, rows, cols)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """A frame's descriptors on the ViT's grid.

    Attributes:
        frame: the frame they were computed from.
        image: uint8 [h, w, 3], the frame at the processed size.
        descriptors: float32 [rows, cols, channels], on any device.
        saliency: float32 [rows, cols] in [0, 1], on the same; None where only the fit needs it.
    """

    frame: Frame
    image: NDArray[np.uint8]
    descriptors: Tensor
    saliency: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        _require_picture("FeatureMap.image", self.image)
        _require(
            self.descriptors.ndim == 3,
            f"FeatureMap.descriptors: got {tuple(self.descriptors.shape)}, expected (rows, cols, channels)",
        )
        _require(
            self.saliency is None or self.saliency.shape == self.descriptors.shape[:2],
            f"FeatureMap.saliency: got {None if self.saliency is None else tuple(self.saliency.shape)}, "
            f"expected {self.grid_hw}",
        )

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.descriptors.shape[0], self.descriptors.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class GridMap:
    """A frame and one map of values on the ViT's grid, such as its saliency.

    Attributes:
        frame: the frame.
        values: float32 [rows, cols, ...].
    """

    frame: Frame
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that there is a grid."""
        _require(self.values.ndim >= 2, f"GridMap.values: got {self.values.shape}, expected (rows, cols, ...)")


@dataclass(frozen=True, slots=True, eq=False)
class EnergyMap:
    """A frame's unary energies: how badly each label fits each place (paper section 4).

    Attributes:
        frame: the frame.
        image: uint8 [h, w, 3], the frame at the processed size.
        energies: float32 [1 + K, rows, cols], the background first; of the grid, of cells (`crf.unary_px`), or of
            pixels between key frames. On the ViT's device.
    """

    frame: Frame
    image: NDArray[np.uint8]
    energies: Tensor

    def __post_init__(self) -> None:
        """Check the picture's and the energies' shapes."""
        _require_picture("EnergyMap.image", self.image)
        _require(
            self.energies.ndim == 3,
            f"EnergyMap.energies: got {tuple(self.energies.shape)}, expected (labels, rows, cols)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class PartMap:
    """A frame's parts.

    Attributes:
        frame: the frame they belong to.
        labels: uint8 [h, w] at the processed size; 0 is the background, 1..K the parts.
        note: what a person should know of how they were found; mostly nothing.
    """

    frame: Frame
    labels: NDArray[np.uint8]
    note: str = ""

    def __post_init__(self) -> None:
        """Check the label map's shape and type."""
        _require(
            self.labels.ndim == 2 and self.labels.dtype == np.uint8,
            f"PartMap.labels: got {self.labels.dtype} {self.labels.shape}, expected uint8 (h, w)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """What a model knows of parts before a fit: the mean descriptor of each body region, and which kinds have it.

    Attributes:
        keys: float32 [regions, channels], means of L2-normalised descriptors.
        kinds: bool [kinds, regions]; the regions of each kind of body.
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
