"""What tests find in the files that were written."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest


@pytest.fixture
def read_times() -> Callable[..., list[Fraction]]:
    """A function that gives the times of a file's frames, or of its first ones, in seconds, as PyAV decodes them."""

    def times(path: Path, first: int | None = None) -> list[Fraction]:
        with av.open(str(path)) as container:
            frames = itertools.islice(container.decode(video=0), first)
            return [frame.pts * frame.time_base for frame in frames]

    return times


@pytest.fixture
def read_audio() -> Callable[[Path], list[list[tuple[Fraction, bytes]]]]:
    """A function that gives each audio stream's packets with their times in seconds."""

    def packets(path: Path) -> list[list[tuple[Fraction, bytes]]]:
        with av.open(str(path)) as container:
            found: dict[int, list[tuple[Fraction, bytes]]] = {stream.index: [] for stream in container.streams.audio}
            for packet in container.demux(*container.streams.audio):
                if packet.size:
                    found[packet.stream_index].append((packet.pts * packet.time_base, bytes(packet)))
            return list(found.values())

    return packets
