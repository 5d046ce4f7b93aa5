"""Frame times made strictly increasing: missing, doubled and backward pts are corrected."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_LONGEST_GAP_S = 24 * 3600
_LONGEST_STEP_BACK_S = 1


def follows(pts: NDArray[np.int64], time_base: Fraction) -> bool:
    """Whether a `Timeline` keeps all of these increasing times as they are."""
    return int(np.diff(pts).max(initial=0)) <= round(_LONGEST_GAP_S / time_base)


class Timeline:
    """Turns the times that a decoder gives into strictly increasing ones; keeps those that are fine.

    A missing time is the previous one plus a frame's length; a doubled one, or one that runs back by up to a
    second, is moved to one unit behind the previous frame. After a longer step back, or a leap of more than a
    day, the clock was set anew (joined recordings, a broken time stamp): what follows is carried on one frame's
    length behind.

    Attributes:
        step: a frame's usual length in units.
        repaired: how many times were changed.
    """

    def __init__(
        self, time_base: Fraction, average_rate: Fraction | None, known_pts: int = 0, frames_before: int = 0
    ) -> None:
        """Say what is known beforehand.

        Args:
            time_base: seconds of a unit.
            average_rate: frames per second; 25 is taken where that isn't known.
            known_pts: the earliest time that any frame has.
            frames_before: frames before that one, none of which has a time.
        """
        self.repaired = 0
        self.step = max(1, round(1 / ((average_rate or Fraction(25)) * time_base)))
        self._longest_gap = max(1, round(_LONGEST_GAP_S / time_base))
        self._longest_step_back = round(_LONGEST_STEP_BACK_S / time_base)
        self._first = known_pts - frames_before * self.step
        self._last: int | None = None
        self._shift = 0

    def place(self, pts: int | None, dts: int | None = None) -> int:
        """The time of the next frame, from what its decoder says."""
        wanted = self._wanted(pts, dts)
        if self._last is not None and not self._follows(wanted):
            self.repaired += 1
            wanted = self._mended(wanted)
        elif pts is None:
            self.repaired += 1
        self._last = wanted
        return wanted

    def _wanted(self, pts: int | None, dts: int | None) -> int:
        if pts is not None:
            return pts + self._shift
        if self._last is None:
            return self._first if dts is None else dts
        if dts is not None and dts + self._shift > self._last:
            return dts + self._shift
        return self._last + self.step

    def _follows(self, wanted: int) -> bool:
        return self._last is not None and self._last < wanted <= self._last + self._longest_gap

    def _mended(self, wanted: int) -> int:
        assert self._last is not None
        if self._last - self._longest_step_back <= wanted <= self._last:
            return self._last + 1
        self._shift += self._last + self.step - wanted
        return self._last + self.step
