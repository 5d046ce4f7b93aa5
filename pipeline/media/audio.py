"""Sound: the packets of an input's audio streams, carried over to a clip as they are or, where MP4 can't, as AAC."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.media.container import open_container, read_packets

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

# What players of MP4 files know; all else is transcoded.
_COPIED = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "flac", "alac"})
_AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350})
_AAC_BITS_PER_CHANNEL = 96_000


@dataclass(slots=True)
class _Track:
    source: AudioStream
    target: AudioStream
    copied: bool
    last_dts: int | None = None
    failed: bool = False


class AudioCopier:
    """Feeds a clip with the sound that belongs to the pictures written so far.

    Attributes:
        warnings: one line for each stream that could not be carried over.
    """

    def __init__(self, path: Path, output: OutputContainer) -> None:
        """Declare the input's audio streams in a clip whose header isn't written yet.

        Raises:
            InputError: the input can't be opened.
        """
        self.path = path
        self.warnings: list[str] = []
        self._output = output
        self._stack = ExitStack()
        self._container = self._stack.enter_context(open_container(path))
        self._tracks = {track.source.index: track for track in self._declare()}
        self._packets = self._read()
        self._waiting: Packet[AudioStream] | None = None
        self._shift = Fraction(0)
        self._start: Fraction | None = None
        self._end: Fraction | None = None

    def close(self) -> None:
        """Close the input."""
        self._packets.close()
        self._stack.close()

    def place(self, shift: Fraction, start: Fraction | None, end: Fraction | None) -> None:
        """Say which span of the input's time is wanted, and the seconds to add to it in the clip."""
        self._shift, self._start, self._end = shift, start, end

    def advance(self, until: Fraction | None) -> None:
        """Write the sound up to a time of the input in seconds; None: all that is left.

        Raises:
            OSError: the clip can't be written.
        """
        while (packet := self._next()) is not None:
            time = _time(packet)
            if until is not None and time is not None and time > until:
                self._waiting = packet
                return
            if self._end is not None and time is not None and time >= self._end:
                continue
            if not self._is_before_start(packet, time):
                self._carry(self._tracks[packet.stream_index], packet)

    def finish(self) -> None:
        """Write what is left, the encoders' last packets included.

        Raises:
            OSError: the clip can't be written.
        """
        self.advance(None)
        for track in self._tracks.values():
            if not track.copied and not track.failed:
                self._encode(track, None)

    def _declare(self) -> Iterator[_Track]:
        for stream in self._container.streams.audio:
            context: object = stream.codec_context
            if context is None or not stream.time_base:
                self._warn(f"{str(self.path)!r}: sound in an unknown codec is left out")
            elif not (stream.codec_context.sample_rate and stream.codec_context.layout.nb_channels):
                self._warn(f"{str(self.path)!r}: sound whose rate or channels aren't known is left out")
            elif stream.codec_context.name in _COPIED:
                problem = _rehearse(self.path, stream.index)
                if problem:
                    name = stream.codec_context.name
                    self._warn(f"{str(self.path)!r}: sound in {name} can't be put into MP4 ({problem}); it is left out")
                else:
                    yield _Track(stream, self._output.add_stream_from_template(stream), copied=True)
            else:
                track = self._declare_transcoded(stream)
                if track is not None:
                    yield track

    def _declare_transcoded(self, stream: AudioStream) -> _Track | None:
        import av

        context = stream.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        layout = {1: "mono", 2: "stereo"}.get(context.layout.nb_channels, "stereo")
        bits = _AAC_BITS_PER_CHANNEL * (1 if layout == "mono" else 2)
        try:
            target = self._output.add_stream("aac", rate=rate, layout=layout, bit_rate=bits)
        except (av.FFmpegError, ValueError) as error:
            self._warn(f"{str(self.path)!r}: sound in {context.name} can't be put into MP4 ({error}); it is left out")
            return None
        return _Track(stream, target, copied=False)

    def _read(self) -> Generator[Packet[AudioStream], None, None]:
        streams = [track.source for track in self._tracks.values()]
        if streams:
            yield from read_packets(self._container, streams, lambda _: None)

    def _next(self) -> Packet[AudioStream] | None:
        waiting, self._waiting = self._waiting, None
        return waiting if waiting is not None else next(self._packets, None)

    def _is_before_start(self, packet: Packet[AudioStream], time: Fraction | None) -> bool:
        if self._start is None or time is None:
            return False
        return time + (packet.duration or 0) * packet.time_base <= self._start

    def _carry(self, track: _Track, packet: Packet[AudioStream]) -> None:
        if track.failed:
            return
        if track.copied:
            self._copy(track, packet)
        else:
            self._transcode(track, packet)

    def _copy(self, track: _Track, packet: Packet[AudioStream]) -> None:
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is None:
            dts = 0 if track.last_dts is None else track.last_dts + 1
        shift = round(self._shift / packet.time_base)
        pts = (packet.pts if packet.pts is not None else dts) + shift
        dts += shift
        if track.last_dts is not None and dts <= track.last_dts:
            # MP4 takes no sample that begins with or before the previous one.
            dts = track.last_dts + 1
        track.last_dts = dts
        packet.dts, packet.pts = dts, max(pts, dts)
        packet.stream = track.target
        try:
            self._output.mux_one(packet)
        except ValueError as error:
            # What the disk does to a clip is an OSError; this is the muxer's word on the packet.
            self._fail(track, "copied", error)

    def _transcode(self, track: _Track, packet: Packet[AudioStream]) -> None:
        import av

        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError):
            # A broken packet is a gap in the sound; what follows keeps its time.
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                frame.pts += round(self._shift / frame.time_base)
            self._encode(track, frame)

    def _encode(self, track: _Track, frame: AudioFrame | None) -> None:
        import av

        try:
            packets = track.target.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            self._fail(track, "transcoded to AAC", error)
            return
        self._output.mux(packets)

    def _fail(self, track: _Track, deed: str, error: Exception) -> None:
        track.failed = True
        name = track.source.codec_context.name
        self._warn(f"{str(self.path)!r}: sound in {name} can't be {deed} ({error}); it ends early")

    def _warn(self, message: str) -> None:
        self.warnings.append(message)


def _rehearse(path: Path, index: int) -> str:
    """Why MP4 can't take a stream's packets as they are; empty if it can.

    What a damaged header says of a stream shows only when a clip is begun or, worse, finished.
    """
    import av

    with open_container(path) as container:
        stream = container.streams[index]
        assert isinstance(stream, av.AudioStream)
        try:
            with av.open(io.BytesIO(), "w", format="mp4") as scratch:
                target = scratch.add_stream_from_template(stream)
                for number, packet in enumerate(islice(read_packets(container, [stream], lambda _: None), 4)):
                    packet.pts = packet.dts = number * max(1, packet.duration or 1)
                    packet.stream = target
                    scratch.mux_one(packet)
        except (av.FFmpegError, ValueError) as error:
            return " ".join(str(getattr(error, "strerror", None) or error).split())
    return ""


def _time(packet: Packet[AudioStream]) -> Fraction | None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None else stamp * packet.time_base
