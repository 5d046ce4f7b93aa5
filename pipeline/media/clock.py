"""Correcting the times of a file's packets where its clock jumps, for picture and sound alike.

A recording that was appended to another has a clock of its own in all streams; `jumps` finds where it begins. Single
wrong times of frames are corrected by `timeline`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

    _Stream = TypeVar("_Stream", VideoStream, AudioStream)


@dataclass(frozen=True, slots=True)
class Part:
    """Packets of a stream that share a clock.

    Attributes:
        first: the number of the first one in its stream.
        shift: what is added to their times, in the stream's units.
        until: where the next part's sound begins, after its shift; what lies behind that overlaps. None: no such.
    """

    first: int
    shift: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Jump:
    """A jump of the clock: where it is in the mended time, from the first frame, and how far it went."""

    at_s: Fraction
    by_s: Fraction


@dataclass(frozen=True, slots=True)
class Clock:
    """What mends the times of a file's packets.

    Attributes:
        parts: of each stream whose clock jumps, by its index.
        jumps: the jumps of the picture's clock.
    """

    parts: Mapping[int, Sequence[Part]] = field(default_factory=lambda: MappingProxyType({}))
    jumps: tuple[Jump, ...] = ()

    def shifts(self, index: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is added to the times of a stream's packets with these numbers, in the stream's units."""
        found = np.zeros(len(numbers), dtype=np.int64)
        for part in self.parts.get(index, ()):
            found[numbers >= part.first] = part.shift
        return found

    def first_jump(self, index: int, count: int) -> int:
        """The number of the first of a stream's `count` packets behind a jump, or `count`."""
        return min((part.first for part in self.parts.get(index, ()) if part.first), default=count)

    def mended(self, packets: Iterable[Packet[_Stream]]) -> Iterator[Packet[_Stream]]:
        """All packets of some streams with mended times; sound behind the beginning of the next part is left out."""
        counts: dict[int, int] = {}
        for packet in packets:
            index = packet.stream_index
            number = counts[index] = counts.get(index, -1) + 1
            parts = self.parts.get(index)
            if parts is None:
                yield packet
                continue
            part = _part_of(parts, number)
            kept = _wanted(packet) if part.first else packet
            if _move(kept, part):
                yield kept


STEADY = Clock()
"""The clock of a file that needs no mending."""


def _part_of(parts: Sequence[Part], number: int) -> Part:
    return parts[bisect_right(parts, number, key=lambda part: part.first) - 1]


def _wanted(packet: Packet[_Stream]) -> Packet[_Stream]:
    """The packet without the mark that it isn't to be shown: FFmpeg sets that in MP4 where the clock runs back."""
    if not packet.is_discard:
        return packet
    import av

    again = cast("Packet[_Stream]", av.Packet(bytes(packet)))
    again.stream, again.time_base, again.duration = packet.stream, packet.time_base, packet.duration
    again.pts, again.dts, again.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return again


def _move(packet: Packet[_Stream], part: Part) -> bool:
    """Move a packet to its part's time; whether it is before the next part."""
    if packet.pts is not None:
        packet.pts += part.shift
    if packet.dts is not None:
        packet.dts += part.shift
    stamp = packet.pts if packet.pts is not None else packet.dts
    return part.until is None or stamp is None or stamp + (packet.duration or 0) // 2 < part.until
