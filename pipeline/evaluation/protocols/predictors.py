"""Types of the callables that the protocols measure; `tasks.evaluate` implements them."""

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
from pipeline.geometry import GridPlace

if TYPE_CHECKING:
    from torch import Tensor

Labels = NDArray[np.uint8]

CosegmentPictures = Callable[[Sequence[Picture]], Sequence[Mask]]
"""Foreground masks of the pictures of one set, bool [h, w] at each picture's own size."""


@dataclass(frozen=True, slots=True, eq=False)
class PartLabels:
    """A picture's parts.

    Attributes:
        labels: uint8 [h, w] at the picture's own size; 0 is the background.
        nearest: uint8 [h, w], the nearest part of every pixel, background pixels included; never 0.
    """

    labels: Labels
    nearest: Labels

    def __post_init__(self) -> None:
        """Check that both maps have the same size."""
        if self.labels.shape != self.nearest.shape or self.labels.ndim != 2:
            raise ValueError(f"PartLabels: labels {self.labels.shape}, nearest {self.nearest.shape}")


SegmentParts = Callable[[Sequence[Picture]], Iterator[PartLabels]]
"""Yields each picture's parts; a part has the same label in all pictures."""

FitParts = Callable[[Sequence[Picture]], SegmentParts]
"""Finds the parts that a set of pictures shares."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of descriptor.

    Attributes:
        layer: transformer block that it is taken from, counted from 0.
        facet: key, query, value or token.
        log_bin: whether log-binning adds spatial context.
    """

    layer: int
    facet: Facet
    log_bin: bool

    def __str__(self) -> str:
        """The name shown in tables."""
        return f"layer {self.layer} {self.facet} {'with' if self.log_bin else 'without'} bins"


class Described(Protocol):
    """Descriptors of a picture in all variants, from one extraction."""

    @property
    def place(self) -> GridPlace:
        """Where their grid lies in the picture."""

    def grid(self, variant: Variant) -> Tensor:
        """Descriptors of the whole grid, float [rows, cols, channels]."""

    def at(self, variant: Variant, positions_ij: NDArray[np.int64]) -> Tensor:
        """Descriptors at grid positions [n, 2], float [n, channels]; cheaper than the whole grid with log-bins."""


Describe = Callable[[Picture], Described]
"""Extracts a picture's descriptors, all variants in one pass."""

SegmentVideo = Callable[[Sequence[Path]], Iterator[Labels]]
"""Yields label maps of a video's frames, uint8 [h, w] at the frame's own size; 0 is the background."""
