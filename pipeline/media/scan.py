"""A scan of a video's packets without decoding: clock, frame times, end, missing frames."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media.avi import count_empty_chunks
from pipeline.media.clock import STEADY, Clock
from pipeline.media.container import open_container, read_packets, video_stream
from pipeline.media.jumps import Stamps, find_clock

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

_LARGEST_TIME = 2**60
_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d{1,9})?)")


@dataclass(frozen=True, slots=True)
class Scan:
    """Facts about the first video stream of a file.

    Attributes:
        clock: what mends its packets' times; all times here are mended.
        pts: times of the frames that are shown, in order.
        missing_times: frames of which no time is known.
        missing_before: those of them before the first one with a time.
        packets: packets that hold something.
        discarded: those of them that aren't to be shown.
        absent: frames that the header claims and the file doesn't hold.
        end_pts: where the last frame ends; None where nothing says it.
        keys: numbers of the packets that are key frames, and their times, both int64, in order.
    """

    clock: Clock
    pts: NDArray[np.int64]
    missing_times: int
    missing_before: int
    packets: int
    discarded: int
    absent: int
    end_pts: int | None
    keys: tuple[NDArray[np.int64], NDArray[np.int64]]

    @property
    def seekable(self) -> bool:
        """Whether every frame has a time of its own that nothing mends, and key frames follow each other in time."""
        whole = len(self.pts) == self.shown and not self.clock.parts and not self.absent and self.packets > 0
        return whole and all(bool((np.diff(times) > 0).all()) for times in (self.pts, *self.keys))

    @property
    def shown(self) -> int:
        """Frames that are to be shown."""
        return self.packets - self.discarded

    @property
    def longest(self) -> int:
        """The longest time that a frame is shown, in units of pts; 0 where no time is known."""
        ends = [] if self.end_pts is None else [self.end_pts]
        return int(np.diff(np.append(self.pts, ends)).max(initial=0))


def read_scan(path: Path) -> Scan:
    """Read all packets of a file's picture and sound.

    Raises:
        InputError: it can't be read, or holds no video stream.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        picture = _Picture(Stamps(stream.index, stream.time_base or Fraction(1)))
        sounds = {each.index: Stamps(each.index, each.time_base) for each in container.streams.audio if each.time_base}
        wanted: list[Any] = [stream, *(each for each in container.streams.audio if each.index in sounds)]
        for packet in read_packets(container, wanted, lambda _: None):
            if packet.stream_index == stream.index:
                picture.add(packet)
            else:
                sounds[packet.stream_index].add(packet)
        clock = _clock(container.format.name, picture.stamps, list(sounds.values()))
        scan = picture.scan(clock)
        empty = _empty(path, container, stream, picture.stamps) if stream.frames > scan.packets else 0
        ends = [scan.end_pts, _said_end(container, stream, scan)]
        if container.format.name == "avi" and empty:
            # Its times are numbers of chunks, and the last ones may be empty.
            ends.append(min(stream.frames, scan.packets + empty))
        known = [end for end in ends if end is not None]
        absent = max(0, stream.frames - scan.packets - empty)
        return replace(scan, absent=absent, end_pts=max(known) if known and len(scan.pts) else None)


def dump_scan(scan: Scan) -> bytes | None:
    """A scan as bytes, a line of JSON and the arrays; None where the clock jumps."""
    if scan.clock.parts or scan.clock.jumps:
        return None
    arrays = [np.asarray(each, "<i8") for each in (scan.pts, *scan.keys)]
    numbers = [scan.missing_times, scan.missing_before, scan.packets, scan.discarded, scan.absent, scan.end_pts]
    head = json.dumps({"numbers": numbers, "lengths": [len(each) for each in arrays]})
    return b"".join([head.encode(), b"\n", *(each.tobytes() for each in arrays)])


def parse_scan(content: bytes) -> Scan | None:
    """The scan that `dump_scan` wrote; None where the bytes are others."""
    head, _, rest = content.partition(b"\n")
    try:
        found = json.loads(head)
        times, before, packets, discarded, absent, end = found["numbers"]
        ends = np.cumsum([0, *found["lengths"]])
        pts, numbers, keys = np.split(np.frombuffer(rest, "<i8").astype(np.int64), ends[1:-1])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if [len(pts), len(numbers), len(keys)] != found["lengths"]:
        return None
    return Scan(STEADY, pts, times, before, packets, discarded, absent, end, (numbers, keys))


def _empty(path: Path, container: InputContainer, stream: VideoStream, stamps: Stamps) -> int:
    """Frames that the header counts and that hold nothing, on purpose."""
    if container.format.name != "avi":
        return sum(entry.size == 0 for entry in stream.index_entries)
    counted = count_empty_chunks(path, stream.index)
    return stamps.dts[-1] + 1 - stamps.count if counted is None and stamps.dts else counted or 0


@dataclass(slots=True)
class _Picture:
    """What is noted of the picture's packets."""

    stamps: Stamps
    timeless: list[int] = field(default_factory=list)
    discarded: list[int] = field(default_factory=list)

    def add(self, packet: Packet[Any]) -> None:
        if packet.is_discard:
            self.discarded.append(self.stamps.count)
        elif packet.pts is None:
            self.timeless.append(self.stamps.count)
        self.stamps.add(packet)

    def scan(self, clock: Clock) -> Scan:
        index, count = self.stamps.index, self.stamps.count
        # Behind a jump the mark that a frame isn't to be shown is taken off.
        discarded = [number for number in self.discarded if number < clock.first_jump(index, count)]
        kept = ~np.isin(self.stamps.numbers, [*self.timeless, *discarded])
        numbers = np.array(self.stamps.numbers, np.int64)[kept]
        pts = np.array(self.stamps.pts, np.int64)[kept] + clock.shifts(index, numbers)
        end = None
        if len(pts):
            last = int(pts.argmax())
            length = int(np.array(self.stamps.lengths)[kept][last]) or _usual_length(pts)
            end = int(pts[last]) + length if length else None
        before = sum(number < numbers[0] for number in self.timeless) if len(pts) else 0
        stamped = np.array(self.stamps.keys, np.int64)
        keys = np.array(self.stamps.numbers, np.int64)[stamped], np.array(self.stamps.pts, np.int64)[stamped]
        return Scan(clock, np.sort(pts), len(self.timeless), int(before), count, len(discarded), 0, end, keys)


def _usual_length(pts: NDArray[np.int64]) -> int:
    """The median of the frames' lengths; 0 where there is one frame."""
    steps = np.diff(np.sort(pts))
    return int(np.median(steps[steps > 0])) if (steps > 0).any() else 0


def _clock(format_name: str, picture: Stamps, sounds: list[Stamps]) -> Clock:
    every = [times for each in (picture, *sounds) for times in (each.dts, each.pts) if times]
    if any(max(abs(min(times)), abs(max(times))) > _LARGEST_TIME for times in every):
        return STEADY
    return find_clock(format_name, picture, sounds)


def _said_end(container: InputContainer, stream: VideoStream, scan: Scan) -> int | None:
    """Where the picture ends by the words of a container that gives its packets no lengths (Matroska), or None."""
    said = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if said is None or scan.clock.jumps or not stream.time_base or "matroska" not in container.format.name:
        return None
    seconds = 3600 * int(said[1]) + 60 * int(said[2]) + Fraction(said[3])
    return int(seconds / stream.time_base)
