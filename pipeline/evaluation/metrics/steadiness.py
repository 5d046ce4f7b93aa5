"""How steady a video's labels are in time: flicker along the optical flow, and parts that swap their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Rgb = NDArray[np.uint8]

CONSISTENCY_PX = 1.5
"""A pixel is followed only where flow forth and back ends this near to where it began; the rest is hidden or new."""

MIN_PART_SHARE = 0.001
"""A part smaller than this share of the picture is too small to say that it swapped its name."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """Two figures over the pairs of neighbouring frames; NaN with fewer than two frames.

    Attributes:
        flicker: share of the followed pixels that change their label.
        switches_per_100_frames: how often a part's pixels mostly become another part's.
    """

    flicker: float
    switches_per_100_frames: float


class SteadinessMeter:
    """Measures steadiness frame by frame, holding one frame back; needs no ground truth."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._last: tuple[Rgb, Labels] | None = None
        self._pairs = self._followed = self._changed = self._switches = 0
        self._flow: Any = None

    def add(self, rgb: Rgb, labels: Labels) -> None:
        """Take the next frame.

        Args:
            rgb: uint8 [h, w, 3]; all frames of one size.
            labels: uint8 [h, w] of the same size; 0 is the background.
        """
        if rgb.shape[:2] != labels.shape:
            raise ValueError(f"labels {labels.shape} for a picture of {rgb.shape[:2]}")
        if self._last is not None:
            self._compare(*self._last, rgb, labels)
        self._last = rgb, labels

    def result(self) -> Steadiness:
        """The figures of the frames so far."""
        if self._pairs == 0:
            return Steadiness(float("nan"), float("nan"))
        flicker = self._changed / self._followed if self._followed else float("nan")
        return Steadiness(flicker, 100 * self._switches / self._pairs)

    def _compare(self, last_rgb: Rgb, last_labels: Labels, rgb: Rgb, labels: Labels) -> None:
        rows, cols, kept = self._follow(last_rgb, rgb)
        before, after = last_labels[rows[kept], cols[kept]], labels[kept]
        self._pairs += 1
        self._followed += len(after)
        self._changed += int(np.count_nonzero(before != after))
        self._switches += count_switches(before, after, labels.size)

    def _follow(self, last_rgb: Rgb, rgb: Rgb) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """For each pixel of a frame where it was in the last one, and whether that is to be trusted."""
        import cv2

        if self._flow is None:
            self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (last_rgb, rgb)]
        back, forth = (self._flow.calc(grey[a], grey[b], None) for a, b in ((1, 0), (0, 1)))
        height, width = rgb.shape[:2]
        grid_rows, grid_cols = np.mgrid[:height, :width]
        rows = np.rint(grid_rows + back[..., 1]).astype(np.int64)
        cols = np.rint(grid_cols + back[..., 0]).astype(np.int64)
        kept = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        rows, cols = rows.clip(0, height - 1), cols.clip(0, width - 1)
        kept &= np.linalg.norm(back + forth[rows, cols], axis=2) <= CONSISTENCY_PX
        return rows, cols, kept


def count_switches(before: Labels, after: Labels, picture_px: int) -> int:
    """How many parts were mostly another part a frame ago; becoming background is no switch.

    Args:
        before: [n] labels of followed pixels in the last frame.
        after: [n] labels of the same pixels now.
        picture_px: number of pixels of the picture, which `MIN_PART_SHARE` refers to.
    """
    both = (before > 0) & (after > 0)
    joint = before[both].astype(np.int64) * 256 + after[both]
    table = np.bincount(joint, minlength=256 * 256).reshape(256, 256)
    large = table.sum(1) >= max(1.0, MIN_PART_SHARE * picture_px)
    parts = np.flatnonzero(large)
    # On a tie a part keeps its name.
    kept = table[parts, parts] >= table[parts].max(1, initial=0)
    return int(np.count_nonzero(~kept))


class IdentityMeter:
    """Counts how often an annotated part changes the predicted part that covers most of it."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._names: dict[int, int] = {}
        self._frames = self._switches = 0

    def add(self, partner: Mapping[int, int]) -> None:
        """Take the next annotated frame's true parts with the predicted parts that they were given.

        A part that is absent for a while is compared with its last name (as identity switches in tracking).
        """
        self._frames += 1
        for part, name in partner.items():
            self._switches += self._names.get(part, name) != name
            self._names[part] = name

    def switches_per_100_frames(self) -> float:
        """Switches per 100 frames that have one before them; NaN with fewer than two frames."""
        return 100 * self._switches / (self._frames - 1) if self._frames > 1 else float("nan")
