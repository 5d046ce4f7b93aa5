"""Decoding single frames of a video without all that lies before them.

The rule that gave the frames of a whole decode in every kind of file: count packets instead of seeking by time; decode
the first packet (encoders leave settings there); skip to one key frame *before* the last one at or before the frame,
so that what an open GOP or an intra-refresh still borrows from its predecessor is there; decode on. Each frame that
comes out is checked against the packets' times. A file that doesn't hold to them is decoded from its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Never

import numpy as np

from pipeline.media.container import open_container, read_packets, video_stream
from pipeline.media.scan import Scan

if TYPE_CHECKING:
    from av import VideoFrame


class SeekError(Exception):
    """The file isn't what its packets say: it must be decoded from its start."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where decoding begins for the sake of a frame.

    Attributes:
        packet: number of the packet; what lies before it is skipped.
        checked: position of the first frame that is whole: from it on every frame must come.
    """

    packet: int
    checked: int


def entry_of(scan: Scan, position: int) -> _Entry:
    """Where decoding begins for the frame at a position among those shown."""
    numbers, times = scan.keys
    key = int(np.searchsorted(times, scan.pts[position], side="right")) - 1
    if key < 1:
        return _Entry(0, 0)
    return _Entry(int(numbers[key - 1]), int(np.searchsorted(scan.pts, times[key])))


def decoded_count(scan: Scan, positions: Iterable[int]) -> int:
    """Frames that `decode_at` decodes, about: packets and frames are taken to be in one order."""
    count = end = 0
    for position in positions:
        count += max(0, position + 1 - max(end, entry_of(scan, position).packet))
        end = position + 1
    return count


def decode_at(path: Path, scan: Scan, positions: Iterable[int], size_hw: tuple[int, int]) -> Iterator[VideoFrame]:
    """The frames at some positions.

    Args:
        path: the file.
        scan: its packets, `scan.seekable`.
        positions: numbers of frames in order of time, ascending.
        size_hw: height and width of the first frame, as it is stored.

    Raises:
        SeekError: a frame isn't where the packets say, is damaged, or has another size than the first one.
        InputError: the file can't be opened.
    """
    import av

    remaining = iter(positions)
    target = next(remaining, None)
    if target is None:
        return
    entry = entry_of(scan, target)
    begin, expected, running = entry.packet, entry.checked, False
    with open_container(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        # The last one is the end of the stream: what the decoder still holds comes out.
        for number, packet in enumerate(chain(read_packets(container, [stream], _give_up), [None])):
            if packet is not None and 0 < number < begin:
                continue
            try:
                frames = packet.decode() if packet is not None else stream.codec_context.decode(None)
            except (av.FFmpegError, OSError) as error:
                raise SeekError from error
            for frame in frames:
                if frame.pts is not None and frame.pts < scan.pts[expected] and not running:
                    continue
                _check(frame, int(scan.pts[expected]), size_hw, key=not running and expected > 0)
                running, expected = True, expected + 1
                if expected <= target:
                    continue
                yield frame
                target = next(remaining, None)
                if target is None:
                    return
                entry = entry_of(scan, target)
                if entry.packet > number:
                    begin, expected, running = entry.packet, entry.checked, False
    raise SeekError


def _check(frame: VideoFrame, pts: int, size_hw: tuple[int, int], *, key: bool) -> None:
    if frame.pts != pts or frame.is_corrupt or (frame.height, frame.width) != size_hw or (key and not frame.key_frame):
        raise SeekError


def _give_up(error: Exception) -> Never:
    raise SeekError from error
