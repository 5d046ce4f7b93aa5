"""Temporal consistency of a video's labels: flicker along optical flow, and identity switches."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Rgb = NDArray[np.uint8]

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
        self._last: tuple[Rgb, Labels] | None = None
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
        if self._last is not None:
            self._compare(*self._last, rgb, labels)
        self._last = rgb, labels

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

    def _compare(self, last_rgb: Rgb, last_labels: Labels, rgb: Rgb, labels: Labels) -> None:
        rows, cols, kept = self._match_pixels(last_rgb, rgb)
        before, after = last_labels[rows[kept], cols[kept]], labels[kept]
        changed, switches = int(np.count_nonzero(before != after)), count_switches(before, after, labels.size)
        self.counts += PairCounts(1, len(after), changed, switches)
        table = np.bincount(before.astype(np.int64) * 256 + after)
        codes = np.flatnonzero(table)
        self._frames.extend([self._index] * len(codes))
        self._codes.extend(codes.tolist())
        self._pixels.extend(table[codes].tolist())

    def _match_pixels(self, last_rgb: Rgb, rgb: Rgb) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Row and column of each pixel in the last frame by backward flow, and which pass the consistency check."""
        import cv2

        if self._flow is None:
            self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (last_rgb, rgb)]
        backward, forward = (self._flow.calc(grey[a], grey[b], None) for a, b in ((1, 0), (0, 1)))
        height, width = rgb.shape[:2]
        grid_rows, grid_cols = np.mgrid[:height, :width]
        rows = np.rint(grid_rows + backward[..., 1]).astype(np.int64)
        cols = np.rint(grid_cols + backward[..., 0]).astype(np.int64)
        kept = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        rows, cols = rows.clip(0, height - 1), cols.clip(0, width - 1)
        kept &= np.linalg.norm(backward + forward[rows, cols], axis=2) <= CONSISTENCY_PX
        return rows, cols, kept


def count_switches(before: Labels, after: Labels, picture_px: int) -> int:
    """Number of parts most of whose pixels become another part; pixels that become background don't count.

    Args:
        before: [n] labels of the compared pixels in the last frame.
        after: [n] labels of the same pixels now.
        picture_px: number of pixels of the picture, which `MIN_PART_SHARE` refers to.
    """
    both = (before > 0) & (after > 0)
    joint = before[both].astype(np.int64) * 256 + after[both]
    table = np.bincount(joint, minlength=256 * 256).reshape(256, 256)
    large = table.sum(1) >= max(1.0, MIN_PART_SHARE * picture_px)
    parts = np.flatnonzero(large)
    # A tie isn't a switch.
    kept = table[parts, parts] >= table[parts].max(1, initial=0)
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
