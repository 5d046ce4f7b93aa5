"""Sound: audio packets of an input, copied into a clip, or transcoded to AAC where MP4 can't take them."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.media.clock import STEADY, Clock
from pipeline.media.container import open_container, read_packets
from pipeline.media.wave import Wave

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

# What players of MP4 files know; all else is transcoded.
_COPIED = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "flac", "alac"})
_AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350})
_AAC_BITS_PER_CHANNEL = 96_000
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@dataclass(slots=True)
class _Track:
    """A stream of the input and its counterpart in the clip; without a wave its packets are copied."""

    source: AudioStream
    target: AudioStream
    wave: Wave | None = None
    last_dts: int | None = None
    failed: bool = False


class AudioCopier:
    """Muxes into a clip the sound that belongs to the pictures written so far.

    Attributes:
        warnings: one line for each stream that could not be carried over.
    """

    def __init__(self, path: Path, output: OutputContainer, clock: Clock = STEADY) -> None:
        """Declare the input's audio streams in a clip whose header isn't written yet.

        Raises:
            InputError: the input can't be opened.
        """
        self.path = path
        self.warnings: list[str] = []
        self._output = output
        self._clock = clock
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
            if track.wave is not None and not track.failed:
                self._transcode(track, track.wave, None)

    def _declare(self) -> Iterator[_Track]:
        for stream in self._container.streams.audio:
            context: object = stream.codec_context
            if context is None or not stream.time_base:
                self._warn("sound in an unknown codec is left out")
            elif not (stream.codec_context.sample_rate and stream.codec_context.layout.nb_channels):
                self._warn("sound whose rate or channels aren't known is left out")
            elif stream.codec_context.name in _COPIED:
                problem = _rehearse(self.path, stream.index)
                if problem:
                    self._leave_out(stream, problem)
                else:
                    yield _described(_Track(stream, self._output.add_stream_from_template(stream)))
            else:
                track = self._declare_transcoded(stream)
                if track is not None:
                    yield _described(track)

    def _declare_transcoded(self, stream: AudioStream) -> _Track | None:
        import av

        context = stream.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        layout, channels = _aac_layout(stream)
        if channels != context.layout.nb_channels:
            was = f"{context.layout.nb_channels} channels"
            self._warn(f"AAC doesn't take the sound's {was}, which become {layout}")
        try:
            bits = _AAC_BITS_PER_CHANNEL * channels
            target = self._output.add_stream("aac", rate=rate, layout=layout, bit_rate=bits)
        except (av.FFmpegError, ValueError) as error:
            self._leave_out(stream, error)
            return None
        return _Track(stream, target, Wave(target))

    def _read(self) -> Generator[Packet[AudioStream], None, None]:
        streams = [track.source for track in self._tracks.values()]
        if streams:
            yield from self._clock.mended(read_packets(self._container, streams, lambda _: None))

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
        if track.wave is None:
            self._copy(track, packet)
        else:
            self._transcode(track, track.wave, packet)

    def _copy(self, track: _Track, packet: Packet[AudioStream]) -> None:
        import av

        unit = track.target.time_base or packet.time_base
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            dts = 0 if track.last_dts is None else track.last_dts + 1
        else:
            dts = round((stamp * packet.time_base + self._shift) / unit)
        if track.last_dts is not None and dts <= track.last_dts:
            # MP4 takes no sample that begins with or before the previous one.
            dts = track.last_dts + 1
        delay = (
            0
            if packet.pts is None or packet.dts is None
            else round((packet.pts - packet.dts) * packet.time_base / unit)
        )
        length = round((packet.duration or 0) * packet.time_base / unit)
        packet.time_base = unit
        packet.dts, packet.pts, packet.duration = dts, dts + max(0, delay), length
        packet.stream = track.target
        try:
            self._output.mux_one(packet)
            track.last_dts = dts
        except (ValueError, av.FFmpegError) as error:
            self._refuse(track, "copied", error)

    def _transcode(self, track: _Track, wave: Wave, packet: Packet[AudioStream] | None) -> None:
        import av

        try:
            for encoded in wave.flush() if packet is None else wave.encode(packet, self._shift):
                self._output.mux_one(encoded)
        except (ValueError, av.FFmpegError) as error:
            self._refuse(track, "transcoded to AAC", error)

    def _refuse(self, track: _Track, deed: str, error: Exception) -> None:
        if isinstance(error, OSError):
            # What the disk does to a clip; all else is the encoder's or the muxer's word on the sound.
            raise error
        track.failed = True
        name = track.source.codec_context.name
        self._warn(f"sound in {name} can't be {deed} ({error}); it ends early")

    def _leave_out(self, stream: AudioStream, problem: object) -> None:
        self._warn(f"sound in {stream.codec_context.name} can't be put into MP4 ({problem}); it is left out")

    def _warn(self, message: str) -> None:
        self.warnings.append(f"{str(self.path)!r}: {message}")


def _described(track: _Track) -> _Track:
    """The track with what its source says of itself: language, title, whether it is the one to play."""
    said = track.source.metadata
    # FFmpeg 9 calls the title of a track of MP4 its name.
    known = {"language": said.get("language"), "title": said.get("title") or said.get("name")}
    track.target.metadata.update({key: text for key, text in known.items() if text})
    track.target.disposition = track.source.disposition
    return track


def _aac_layout(stream: AudioStream) -> tuple[str, int]:
    """The channels that AAC takes of a stream's: their layout's name and number; stereo where it takes none of them."""
    import av

    given = stream.codec_context.layout
    for layout in (given.name, _USUAL_LAYOUTS.get(given.nb_channels, "stereo")):
        try:
            with av.open(io.BytesIO(), "w", format="mp4") as scratch:
                scratch.add_stream("aac", rate=48000, layout=layout)
                scratch.start_encoding()
        except (av.FFmpegError, ValueError):
            continue
        return layout, av.AudioLayout(layout).nb_channels
    return "stereo", 2


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
