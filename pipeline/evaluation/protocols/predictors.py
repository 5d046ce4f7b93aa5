"""What the protocols measure: callables that `tasks` makes from the method, and tests by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Facet
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.metrics.masks import Mask

if TYPE_CHECKING:
    from torch import Tensor

Labels = NDArray[np.uint8]

CosegmentPictures = Callable[[Sequence[Picture]], Sequence[Mask]]
"""The common foreground of the pictures of one set, bool [h, w] each at the picture's own size."""


@dataclass(frozen=True, slots=True, eq=False)
class PartLabels:
    """A picture's parts.

    Attributes:
        labels: uint8 [h, w] at the picture's own size; 0 is the background.
        nearest: uint8 [h, w], the nearest part of every pixel, the background's too; never 0.
    """

    labels: Labels
    nearest: Labels

    def __post_init__(self) -> None:
        """Check that both speak of one picture."""
        if self.labels.shape != self.nearest.shape or self.labels.ndim != 2:
            raise ValueError(f"PartLabels: labels {self.labels.shape}, nearest {self.nearest.shape}")


SegmentParts = Callable[[Sequence[Picture]], Iterator[PartLabels]]
"""The parts of pictures one by one, with the same parts in all of them."""

FitParts = Callable[[Sequence[Picture]], SegmentParts]
"""Find the parts that a set of pictures shares."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of descriptor.

    Attributes:
        layer: block that it is read from, counted from 0.
        facet: key, query, value or token.
        log_bin: whether the context of log-spaced bins is added.
    """

    layer: int
    facet: Facet
    log_bin: bool

    def __str__(self) -> str:
        """For a table's line."""
        return f"layer {self.layer} {self.facet} {'with' if self.log_bin else 'without'} bins"


class Described(Protocol):
    """A picture's descriptors of every variant, from one extraction."""

    patch_px: int
    stride_px: int
    processed_hw: tuple[int, int]
    picture_hw: tuple[int, int]

    def grid(self, variant: Variant) -> Tensor:
        """Descriptors float [rows, cols, channels] of the whole grid."""

    def at(self, variant: Variant, positions_ij: NDArray[np.int64]) -> Tensor:
        """Descriptors float [n, channels] at positions [n, 2] of the grid; cheaper than the grid with bins."""


Describe = Callable[[Picture], Described]
"""Extract a picture's descriptors, of all variants in one pass."""

SegmentVideo = Callable[[Sequence[Path]], Iterator[Labels]]
"""The parts of a video's frames one by one, uint8 [h, w] at the frame's own size; 0 is the background."""
