"""Damage that one pass over a video meets: counts, the strict check, warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError
from pipeline.media.source import DecodeReport

if TYPE_CHECKING:
    from av import VideoFrame


@dataclass(slots=True)
class Tally:
    """What a pass has met so far.

    Attributes:
        packets: packets that should be shown.
        frames: frames decoded.
        failures: times that reading or decoding failed.
        corrupt: frames decoded with visible damage.
        resized: frames of another size than the first.
    """

    packets: int = 0
    frames: int = 0
    failures: int = 0
    corrupt: int = 0
    resized: int = 0
    _last_pts: int | None = None
    _damage_pts: int | None = None

    def restart(self) -> None:
        """Reset what was counted while decoding: it starts again."""
        self.packets = self.frames = self.failures = self.corrupt = 0
        self._last_pts = self._damage_pts = None

    def count_frame(self, frame: VideoFrame) -> None:
        """A frame was decoded."""
        self.frames += 1
        self._last_pts = frame.pts
        if frame.is_corrupt:
            self.corrupt += 1
            self._note_damage(frame.pts)

    def count_failure(self, pts: int | None) -> None:
        """A packet of time `pts` couldn't be read or decoded; None: nobody knows which."""
        self.failures += 1
        self._note_damage(pts)

    def lost(self, whole: bool) -> int:
        """Frames that damage made undecodable; `whole`: the pass went to the end."""
        # Some codecs hold packets that show nothing: fewer frames than packets mean a loss only after an error.
        return max(self.failures, self.packets - self.frames if whole else 0) if self.failures else 0

    def damage_s(self, start_pts: int, time_base: Fraction) -> float | None:
        """Where the first damage is, in seconds from the first frame."""
        if self._damage_pts is None:
            return None
        return max(0.0, float((self._damage_pts - start_pts) * time_base))

    def _note_damage(self, pts: int | None) -> None:
        if self._damage_pts is None:
            # What has no time of its own lies behind the last frame.
            self._damage_pts = self._last_pts if pts is None else pts


def require_undamaged(path: Path, report: DecodeReport, end_s: float | None) -> None:
    """Refuse a video of which something was lost; what lies behind `end_s`, seconds, doesn't matter.

    Raises:
        InputError: says what was lost, and where.
    """
    if end_s is not None:
        behind = report.damage_s is not None and report.damage_s >= end_s
        report = DecodeReport() if behind else replace(report, missing_frames=0)
    if report.damaged:
        damage = "; ".join(_damage(report))
        raise InputError(f"{str(path)!r} {damage}; without --strict all else of it is used")


def warnings_of(path: Path, report: DecodeReport, resized: int) -> Iterator[str]:
    """One line for each thing that the user should know of a pass."""
    name = repr(str(path))
    yield from (f"{name} {damage}" for damage in _damage(report))
    times = list(_mended_times(report))
    if times:
        yield f"{name}: {' and '.join(times)}, which was mended"
    if resized:
        yield f"{name} changes its picture size: {resized} frames were scaled to the first one's size"


def _mended_times(report: DecodeReport) -> Iterator[str]:
    if report.jumps:
        count, first = len(report.jumps), report.jumps[0]
        number = "once" if count == 1 else f"{count} times, first"
        yield f"the clock jumps {number} by {float(first.by_s):+.3f} s at {float(first.at_s):.3f} s"
    if report.repaired_times:
        yield f"{report.repaired_times} frames had a missing, doubled or backward time"


def _damage(report: DecodeReport) -> Iterator[str]:
    """What was lost and where, as the ends of sentences about a file."""
    place = "" if report.damage_s is None else f", first at {report.damage_s:.3f} s"
    if report.lost_frames:
        yield f"is damaged: {report.lost_frames} frames can't be decoded and are left out{place}"
    if report.corrupt_frames:
        yield f"is damaged: {report.corrupt_frames} frames are only partly intact{place}"
    if report.missing_frames:
        yield f"ends early: its header claims {report.missing_frames} frames more than it holds"
