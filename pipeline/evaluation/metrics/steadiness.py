"""Temporal consistency of a video's labels: flicker along optical flow, and identity switches."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.optical_flow import fast_flow

Labels = NDArray[np.uint8]
Rgb = NDArray[np.uint8]
Grey = NDArray[np.uint8]

CONSISTENCY_PX = 1.5
"""Maximum forward-backward error of the flow; pixels above it are occluded and not compared."""

MIN_PART_SHARE = 0.001
"""Parts smaller than this share of the picture aren't checked for switches."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """Two scores over all pairs of neighbouring frames; NaN with fewer than two frames.

    Attributes:
        flicker: share of the compared pixels whose label changes.
        switches_per_100_frames: how often most of a part's pixels become another part.
    """

    flicker: float
    switches_per_100_frames: float


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """Which labels turned into which along the optical flow, as a table of four columns of one length.

    Attributes:
        frame: int64, the later frame of a pair.
        before: uint8, a label in the frame before.
        after: uint8, the label of the same pixels in the frame.
        pixels: int64, how many they are; never 0.
    """

    frame: NDArray[np.int64]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Transitions:
        """A table of its rows, in the order of the frames."""
        table = np.array(sorted(map(tuple, rows)), dtype=np.int64).reshape(-1, 4)
        return cls(table[:, 0], table[:, 1].astype(np.uint8), table[:, 2].astype(np.uint8), table[:, 3])

    def rows(self) -> list[tuple[int, int, int, int]]:
        """The table row by row."""
        columns = (column.tolist() for column in (self.frame, self.before, self.after, self.pixels))
        return list(zip(*columns, strict=True))


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Counts over pairs of neighbouring frames; those of a video's stretches add up to the video's.

    Attributes:
        pairs: pairs of frames.
        compared: pixels that were followed from one frame to the next.
        changed: those of them whose label changes.
        switches: parts most of whose pixels become another part.
    """

    pairs: int = 0
    compared: int = 0
    changed: int = 0
    switches: int = 0

    def __add__(self, other: PairCounts) -> PairCounts:
        """Both together."""
        return PairCounts(
            self.pairs + other.pairs,
            self.compared + other.compared,
            self.changed + other.changed,
            self.switches + other.switches,
        )


class SteadinessMeter:
    """Measures steadiness frame by frame, without ground truth; keeps one frame in memory.

    Attributes:
        counts: what was counted so far.
    """

    def __init__(self, counts: PairCounts | None = None) -> None:
        """Start before the first frame, with what was counted over others."""
        self.counts = counts or PairCounts()
        self._last: tuple[Grey, Labels] | None = None
        self._flow: Any = None
        self._index = -1
        # The columns of the transitions; the two labels are one number.
        self._frames, self._codes, self._pixels = array("I"), array("H"), array("I")

    def restart(self) -> None:
        """Compare the next frame with none."""
        self._last = None

    def add(self, rgb: Rgb, labels: Labels, index: int | None = None) -> None:
        """Add the next frame.

        Args:
            rgb: uint8 [h, w, 3]; all frames of one size.
            labels: uint8 [h, w] of the same size; 0 is the background.
            index: the frame's number; None: the next one.
        """
        if rgb.shape[:2] != labels.shape:
            raise ValueError(f"labels {labels.shape} for a picture of {rgb.shape[:2]}")
        self._index = self._index + 1 if index is None else index
        import cv2

        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if self._last is not None:
            self._compare(*self._last, grey, labels)
        self._last = grey, labels

    def result(self) -> Steadiness:
        """The scores of the frames so far."""
        found = self.counts
        if found.pairs == 0:
            return Steadiness(float("nan"), float("nan"))
        flicker = found.changed / found.compared if found.compared else float("nan")
        return Steadiness(flicker, 100 * found.switches / found.pairs)

    def transitions(self) -> Transitions:
        """Which labels turned into which, from each frame so far to the next."""
        codes = np.array(self._codes, dtype=np.uint16)
        frame, pixels = (np.array(column, dtype=np.int64) for column in (self._frames, self._pixels))
        return Transitions(frame, (codes >> 8).astype(np.uint8), (codes & 255).astype(np.uint8), pixels)

    def _compare(self, last_grey: Grey, last_labels: Labels, grey: Grey, labels: Labels) -> None:
        """Count which labels turn into which, over the pixels that pass the consistency check."""
        import cv2

        if self._flow is None:
            self._flow = fast_flow()
        backward, forward = self._flow.calc(grey, last_grey, None), self._flow.calc(last_grey, grey, None)
        height, width = grey.shape
        x = np.arange(width, dtype=np.float32) + backward[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + backward[..., 1]
        # Where a pixel comes from outside, its way doesn't lead back.
        returned = backward + cv2.remap(forward, x, y, cv2.INTER_NEAREST, borderValue=(np.inf, np.inf))
        kept = np.einsum("hwc,hwc->hw", returned, returned) <= CONSISTENCY_PX**2
        before = cv2.remap(last_labels, x, y, cv2.INTER_NEAREST)
        found = cv2.calcHist([before, labels], [0, 1], kept.astype(np.uint8), [256, 256], [0, 256, 0, 256])
        table = found.astype(np.int64)
        compared = int(table.sum())
        changed = compared - int(np.trace(table))
        self.counts += PairCounts(1, compared, changed, count_switches(table, labels.size))
        codes = np.flatnonzero(table)
        self._frames.extend([self._index] * len(codes))
        self._codes.extend(codes.tolist())
        self._pixels.extend(table.ravel()[codes].tolist())


def count_switches(table: NDArray[np.int64], picture_px: int) -> int:
    """Number of parts most of whose pixels become another part; pixels that become background don't count.

    Args:
        table: [labels, labels], how many of the compared pixels had a label in the last frame and have another now.
        picture_px: number of pixels of the picture, which `MIN_PART_SHARE` refers to.
    """
    parts = table[1:, 1:]
    large = np.flatnonzero(parts.sum(axis=1) >= max(1.0, MIN_PART_SHARE * picture_px))
    # A tie isn't a switch.
    kept = parts[large, large] >= parts[large].max(axis=1, initial=0)
    return int(np.count_nonzero(~kept))


class IdentityMeter:
    """Counts identity switches: annotated parts that are matched to another predicted part than before."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._partners: dict[int, int] = {}
        self._frames = self._switches = 0

    def add(self, partner: Mapping[int, int]) -> None:
        """Add the next annotated frame: a map of true parts to the predicted parts matched to them.

        A part that is missing in some frames is compared with its last match, as in tracking.
        """
        self._frames += 1
        for part, predicted in partner.items():
            self._switches += self._partners.get(part, predicted) != predicted
            self._partners[part] = predicted

    def switches_per_100_frames(self) -> float:
        """Switches per 100 pairs of successive frames; NaN with fewer than two frames."""
        return 100 * self._switches / (self._frames - 1) if self._frames > 1 else float("nan")
