"""Finding where a file's clock jumps: joined recordings, restarted encoders.

Jumps are found in the demuxed times of the video stream; packets behind a jump are shifted so that their first frame
follows the last one before it. Sound that belongs to them is shifted by the same time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media.clock import Clock, Jump, Part

if TYPE_CHECKING:
    from av import Packet

# Transport and program streams are cut and joined as bytes; elsewhere a long step is a pause.
_JOINED_FORMATS = frozenset({"mpegts", "mpeg"})
_WITHOUT_DTS = frozenset({"matroska", "webm"})
_LEAP_S = 1
_LEAP_FRAMES = 10
_LONGEST_PAUSE_S = 24 * 3600
_SOUND_STEP_BACK_S = Fraction(1, 10)
_FOLLOWERS = 8
_LONGEST_REORDER = 16
_SOUND_NEAR = 100
"""Packets of sound before and behind a jump of the picture among which its own is looked for."""


@dataclass(slots=True)
class Stamps:
    """What the packets of one stream say of their times, in units of `time_base`.

    Attributes:
        index: the stream's index in its file.
        time_base: seconds of a unit.
        dts: when each is decoded; where the file doesn't say, when it is shown.
        pts: when each is shown.
        lengths: how long each lasts; 0 where the file doesn't say.
        places: where each is in the file, in bytes.
        numbers: which of the stream's packets each is: those without any time aren't here.
        keys: those that can be decoded without another.
        count: all packets of the stream.
    """

    index: int
    time_base: Fraction
    dts: array[int] = field(default_factory=lambda: array("q"))
    pts: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q"))
    count: int = 0

    def add(self, packet: Packet[Any]) -> None:
        """Note what a packet says."""
        number, self.count = self.count, self.count + 1
        known = packet.dts if packet.dts is not None else packet.pts
        if known is None:
            return
        if packet.is_keyframe:
            self.keys.append(len(self.dts))
        place = packet.pos if packet.pos is not None and packet.pos >= 0 else None
        self.dts.append(known)
        self.pts.append(packet.pts if packet.pts is not None else known)
        self.lengths.append(max(0, packet.duration or 0))
        self.places.append(place if place is not None else self.places[-1] if self.places else 0)
        self.numbers.append(number)

    def reordered(self) -> Stamps:
        """The same with times of decoding that are the times of showing in order, between each two key frames.

        For containers that don't store times of decoding; what FFmpeg makes up for them is wrong behind a jump.
        """
        dts, farthest = np.array(self.pts, np.int64), _LONGEST_REORDER * self.usual()
        for begin, end in pairwise([0, *self.keys, len(dts)]):
            if np.diff(dts[begin:end]).min(initial=0) >= -farthest:
                dts[begin:end].sort()
        return replace(self, dts=array("q", dts))

    def usual(self) -> int:
        """The usual distance of two packets; at least 1."""
        steps = np.diff(np.frombuffer(self.dts, dtype=np.int64)) if len(self.dts) > 1 else np.empty(0, np.int64)
        steps = steps[steps > 0]
        return max(1, int(np.median(steps))) if steps.size else max([1, *self.lengths[-1:]])


def find_clock(format_name: str, picture: Stamps, sounds: Sequence[Stamps]) -> Clock:
    """The clock of a file, from what its packets say.

    Args:
        format_name: the container's, as FFmpeg names it.
        picture: the video stream's packets.
        sounds: those of the audio streams.
    """
    if not _WITHOUT_DTS.isdisjoint(format_name.split(",")):
        picture = picture.reordered()
    usual = picture.usual()
    joined = not _JOINED_FORMATS.isdisjoint(format_name.split(","))
    leap_s = max(Fraction(_LEAP_S), _LEAP_FRAMES * usual * picture.time_base) if joined else Fraction(_LONGEST_PAUSE_S)
    leap = int(leap_s / picture.time_base)
    found = _jumps(picture.dts, usual, leap, least=0 if joined else 1)
    cuts = [at for at in found if _is_cut(picture, sounds, at)]
    seams = _seams(picture, cuts, usual)
    parts: dict[int, list[Part]] = {}
    if seams:
        parts[picture.index] = [Part(0, 0), *(Part(picture.numbers[seam.at], seam.shift) for seam in seams)]
    for sound in sounds:
        heard = _sound_parts(sound, picture, seams)
        if len(heard) > 1 or heard[0].shift:
            parts[sound.index] = heard
    start = min(picture.pts, default=0)
    jumps = [Jump((seam.begin - start) * picture.time_base, seam.by * picture.time_base) for seam in seams]
    return Clock(MappingProxyType(parts), tuple(jumps))


@dataclass(frozen=True, slots=True)
class _Seam:
    """Where a part of the picture begins: packet, its whole shift, its beginning after that, and the step before it."""

    at: int
    shift: int
    begin: int
    by: int


def _jumps(dts: array[int], usual: int, leap: int, least: int) -> list[int]:
    """Packets before which the clock runs back by at least `least`, or leaps by more than `leap`, and stays there."""
    steps = np.diff(np.frombuffer(dts, dtype=np.int64)) if len(dts) > 1 else np.empty(0, np.int64)
    lengths = np.full(len(dts), usual, dtype=np.int64)
    found, right_again = [], 0
    for at in map(int, np.flatnonzero((steps <= -least) | (steps > leap)) + 1):
        back = _comes_back(dts, lengths, at)
        if back is not None:
            right_again = at + back
        elif at > right_again or not right_again:
            found.append(at)
    return found


def _comes_back(dts: array[int], lengths: NDArray[np.int64], at: int) -> int | None:
    """Packets from a wrong time to the next right one; None where the clock stays where it has jumped to."""
    expected = dts[at - 1] + int(lengths[at - 1])
    off = abs(dts[at] - expected)
    behind = []
    for later in range(at + 1, min(at + 1 + _FOLLOWERS, len(dts))):
        expected += int(lengths[later - 1])
        behind.append(abs(dts[later] - expected))
    if not behind or median(behind) > off / 2:
        return None
    return 1 + next(number for number, each in enumerate(behind) if each <= off / 2)


def _is_cut(picture: Stamps, sounds: Sequence[Stamps], at: int) -> bool:
    """Whether the sound agrees that a jump of the picture is one of the file's clock.

    A leap may be a picture that is held while the sound goes on, and one of two frames at one time a doubled one.
    """
    step = picture.dts[at] - picture.dts[at - 1]
    if step < 0 or not sounds:
        return True
    if step == 0:
        return any(_breaks(sound, picture, at) for sound in sounds)
    first, last = picture.places[at - 1], picture.places[at]
    between = (
        sum(length for length, place in zip(sound.lengths, sound.places, strict=True) if first < place <= last)
        * sound.time_base
        for sound in sounds
    )
    return not any(seconds >= step * picture.time_base / 2 for seconds in between)


def _breaks(sound: Stamps, picture: Stamps, at: int) -> bool:
    """Whether a sound's clock runs back between two packets of the picture."""
    low = bisect_right(sound.places, picture.places[at - 1])
    high = bisect_right(sound.places, picture.places[at])
    return any(
        _step(sound, each) < -sound.lengths[each] // 2 for each in range(max(1, low), min(len(sound.dts), high + 1))
    )


def _seams(picture: Stamps, cuts: Sequence[int], usual: int) -> list[_Seam]:
    seams: list[_Seam] = []
    shift = 0
    pts, lengths = np.frombuffer(picture.pts, np.int64), np.frombuffer(picture.lengths, np.int64)
    bounds = [0, *cuts, len(pts)]
    for before, at, after in zip(bounds, cuts, bounds[2:], strict=False):
        shown = lengths[before:at]
        end = int((pts[before:at] + np.where(shown > 0, np.minimum(shown, _LEAP_FRAMES * usual), usual)).max())
        begin = int(pts[at:after].min())
        shift += end - begin
        seams.append(_Seam(at, shift, begin + shift, begin - end))
    return seams


def _sound_parts(sound: Stamps, picture: Stamps, seams: Sequence[_Seam]) -> list[Part]:
    """The parts of a sound stream: those of the picture, and where its own clock alone jumps, one for that."""
    scale = picture.time_base / sound.time_base
    shifts = {0: 0}
    tails: dict[int, int] = {}
    for seam in seams:
        at = _sound_seam(sound, picture, seam, scale)
        if at is not None:
            shifts[at] = round(seam.shift * scale)
            tails[at] = sound.pts[at] + shifts[at]
    _add_own_jumps(sound, shifts)
    firsts = sorted(shifts)
    return [
        Part(sound.numbers[first] if first else 0, shifts[first], tails.get(behind))
        for first, behind in zip(firsts, [*firsts[1:], -1], strict=True)
    ]


def _sound_seam(sound: Stamps, picture: Stamps, seam: _Seam, scale: Fraction) -> int | None:
    """The packet of sound at which the picture's jump is; None where the sound doesn't have it."""
    places, by = sound.places, seam.by * scale
    low = bisect_right(places, picture.places[seam.at - 1])
    high = bisect_right(places, picture.places[seam.at])
    near = range(max(1, low), min(len(places), high + 1))
    if not near:
        return 0 if low == 0 and len(places) else None
    found = max(near, key=lambda at: abs(_step(sound, at)))
    if abs(_step(sound, found)) > max(1, sound.lengths[found]):
        return found
    wide = range(max(1, low - _SOUND_NEAR), min(len(places), high + _SOUND_NEAR))
    far = min(wide, key=lambda at: abs(_step(sound, at) - by))
    if abs(_step(sound, far) - by) <= abs(by) / 2:
        return far
    # A short jump may hide in the gap between the two recordings' sound.
    return found if abs(by) * sound.time_base < _LEAP_S else None


def _step(sound: Stamps, at: int) -> int:
    """How far a packet is behind the end of the one before it; negative: it overlaps."""
    return sound.dts[at] - sound.dts[at - 1] - sound.lengths[at - 1]


def _add_own_jumps(sound: Stamps, shifts: dict[int, int]) -> None:
    """Where the sound alone runs back it goes on behind what was before; a single wrong time is put right."""
    if len(sound.dts) < 2:
        return
    back, leap = (round(limit / sound.time_base) for limit in (_SOUND_STEP_BACK_S, Fraction(_LONGEST_PAUSE_S)))
    lengths = np.frombuffer(sound.lengths, np.int64)
    beyond = np.diff(np.frombuffer(sound.dts, np.int64)) - lengths[:-1]
    given, own, right_again = dict(shifts), 0, 0
    for at in sorted({*given, *map(int, np.flatnonzero(np.abs(beyond) > back) + 1)}):
        if at in given:
            own = 0
            continue
        if at <= right_again:
            continue
        base = given[max(first for first in given if first <= at)]
        off = int(beyond[at - 1])
        length = _comes_back(sound.dts, lengths, at)
        if length is not None:
            right_again = at + length
            shifts[at] = base + own - off
            shifts[right_again] = base + own
        elif off < 0 or off > leap or (own and abs(off - own) <= back):
            own -= off
            shifts[at] = base + own
