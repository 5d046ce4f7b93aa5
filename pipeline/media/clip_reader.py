"""Reading a finished clip back: frame times by decoding, packet sizes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.container import exact, open_container, video_stream


def packet_bytes(clip: Path) -> list[int]:
    """Bytes of each packet of a clip, in decoding order; nothing is decoded.

    Raises:
        InputError: the clip can't be read.
    """
    with open_container(clip) as container:
        stream = video_stream(container, clip)
        return [packet.size for packet in container.demux(stream) if packet.size]


def sound_bytes(file: Path) -> float:
    """Bytes a second of a file's sound, as far as its streams say.

    Raises:
        InputError: the file can't be read.
    """
    with open_container(file) as container:
        return sum((stream.bit_rate or 0) / 8 for stream in container.streams.audio)


def frame_times(clip: Path) -> Iterator[Fraction]:
    """Presentation time in seconds of each frame of a clip, in order; nothing is converted to RGB.

    Raises:
        InputError: the clip can't be read, or a frame of it can't be decoded or has no time.
    """
    import av

    with open_container(clip) as container:
        stream = video_stream(container, clip)
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                unit = exact(frame.time_base)
                if frame.pts is None or unit is None:
                    raise InputError(f"{str(clip)!r} has a frame without a time")
                yield frame.pts * unit
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{str(clip)!r} is damaged: a frame can't be decoded") from error
