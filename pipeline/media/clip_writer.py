"""Clips: H.264 in MP4, every frame at its own time, in the source's colours, with its sound."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OutputError, TooLargeError
from pipeline.files import output_errors, partial_path, publish, remove, sync
from pipeline.geometry import even
from pipeline.media.audio import AudioCopier
from pipeline.media.colour import from_rgb
from pipeline.media.container import silence_ffmpeg
from pipeline.media.source import ALL_FRAMES, Selection, SourceInfo, exact_seconds

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

# MP4 stores a frame's length in 31 bits: at 10 MHz the longest is 214 s, at 24 kHz a day.
_LONGEST_UNITS = 2**31 - 1
_MAX_TIMESCALE = 10_000_000
_COARSE_TIMESCALES = (1_000_000, 24_000)
_MAX_MOVIE_TIMESCALE = 2**31 - 1

MAX_SIDE_PX = 16384
"""The widest and highest picture that the encoder takes."""

_X264_OPTIONS = {
    "preset": "medium",
    # Without B-frames decoding order is presentation order: times need no offset, and all players agree.
    "bf": "0",
    # The number of threads shapes the result; fixed, it is the same on every machine.
    "threads": "4",
    "x264-params": "cpu-independent=1:lookahead-threads=1:sliced-threads=0",
}

PREVIEW = {"preset": "veryfast", "g": "12"}
"""Encoder options of a clip that is made to be stepped through at once and thrown away: a third of the time, and a key
frame within 12 frames, so that a step back decodes few."""


def is_encodable(size_hw: tuple[int, int]) -> bool:
    """Whether a clip can hold frames of a height and width, pixels."""
    return max(map(even, size_hw)) <= MAX_SIDE_PX


def require_encodable(size_hw: tuple[int, int], path: Path) -> None:
    """Refuse frames of `path` that a clip can't hold, before the work.

    Raises:
        TooLargeError: a side is too long for H.264.
    """
    height, width = size_hw
    if not is_encodable(size_hw):
        raise TooLargeError(
            f"a clip of {str(path)!r} would be {width}x{height} pixels, and H.264 takes {MAX_SIDE_PX} a side at most; "
            "give segment --save-frames, which writes pictures, choose a smaller --style, or scale the input down"
        )


class ClipWriter:
    """Writes one clip; a context manager that leaves a complete file or none.

    The file is written aside, and renamed when it is complete and synced. Same frames, same
    bytes: no date goes in, and the encoder's result depends neither on the number of threads nor on the CPU.
    Sides of an odd length get one more row or column, a copy of the last one: 4:2:0 has no odd sides.

    With a selection that starts later than the source, frames and sound move together so that the clip begins
    where the source does; without, every frame keeps its time. Negative times, which MP4 would hide, are
    moved so that the first frame is at 0.

    Attributes:
        warnings: one line each, for example for sound that couldn't be carried over.
    """

    def __init__(
        self,
        path: Path,
        size_hw: tuple[int, int],
        info: SourceInfo,
        *,
        crf: int = 18,
        audio: Path | None = None,
        selection: Selection = ALL_FRAMES,
        encoder: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Say what the clip will be; nothing is written before it is entered.

        Args:
            path: the clip's place; an existing file is replaced when the new one is complete.
            size_hw: height and width of the frames that will be written.
            info: facts of the source: time base, colours, aspect.
            crf: constant rate factor of the encoder, 0 to 51.
            audio: the file whose sound is carried over.
            selection: the span of the source that the frames were taken from.
            encoder: options of x264 that replace the usual ones, such as `PREVIEW`.
        """
        self.path = path
        self.size_hw = size_hw
        self.info = info
        self.warnings: list[str] = []
        self.frames = 0
        self._audio_path = audio
        self._selection = selection
        self._options = {**_X264_OPTIONS, "crf": str(crf), **encoder}
        self._tick = _clip_time_base(info, selection)
        self._colour = info.colour.displayed()
        self._partial = partial_path(path)
        self._shift = Fraction(0)
        self._last_tick: int | None = None
        self._last_time = Fraction(0)
        self._end: Fraction | None = None
        self._held: Packet[VideoStream] | None = None

    def __enter__(self) -> Self:
        """Open the file and write its header.

        Raises:
            OutputError: it can't be written.
            InputError: the sound's file can't be read.
        """
        from av.video.reformatter import VideoReformatter

        require_encodable(self.size_hw, self.path)
        remove(self._partial)
        self._audio: AudioCopier | None = None
        self._reformatter = VideoReformatter()
        try:
            with output_errors(self.path):
                self._container = self._open()
                self._stream = self._add_video(self._container)
                if self._audio_path is not None:
                    self._audio = AudioCopier(self._audio_path, self._container, self.info.clock)
                with _encoder_errors(self.path):
                    self._container.start_encoding()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the clip and give it its name; after an error remove what was written.

        Raises:
            OutputError: it can't be written, or holds no frame.
        """
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except BaseException:
            self._abandon()
            raise

    def write(self, pts: int, rgb: NDArray[np.uint8]) -> None:
        """Append one frame.

        Args:
            pts: its time in the source's time base, later than the previous frame's.
            rgb: uint8 [height, width, 3] of the clip's size.

        Raises:
            OutputError: it can't be written.
        """
        if rgb.shape != (*self.size_hw, 3):
            raise ValueError(f"ClipWriter.write: got {rgb.shape}, expected {(*self.size_hw, 3)}")
        time = pts * self.info.time_base
        if self.frames == 0:
            self._place_first(time)
        frame = from_rgb(_even_sides(rgb), self._colour, self._reformatter)
        frame.pts = self._next_tick(time)
        frame.time_base = self._tick
        with output_errors(self.path), _encoder_errors(self.path):
            if self._audio is not None:
                self._audio.advance(time)
            self._mux(self._stream.encode(frame))
        self.frames += 1

    def _open(self) -> OutputContainer:
        import av

        movie = math.lcm(self._tick.denominator, 48000)
        options = {
            "movflags": "+faststart",
            "video_track_timescale": str(self._tick.denominator),
            # In this unit MP4 says when a stream begins; its usual 1/1000 s would round that.
            "movie_timescale": str(movie if movie <= _MAX_MOVIE_TIMESCALE else self._tick.denominator),
            "fflags": "+bitexact",
        }
        name = f"file:{self._partial.absolute()}"
        silence_ffmpeg()
        return av.open(name, "w", format="mp4", container_options=options)

    def _add_video(self, container: OutputContainer) -> VideoStream:
        rate = (self.info.average_rate or Fraction(25)).limit_denominator(100_000)
        stream = container.add_stream("libx264", rate=rate or Fraction(25), options=self._options)
        stream.height, stream.width = even(self.size_hw[0]), even(self.size_hw[1])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._tick
        context.sample_aspect_ratio = self.info.sample_aspect_ratio
        context.color_range = self._colour.range
        context.colorspace = self._colour.matrix
        context.color_primaries = self._colour.primaries
        context.color_trc = self._colour.trc
        return stream

    def _place_first(self, time: Fraction) -> None:
        begin = self.info.start_pts * self.info.time_base
        start, end = None, None
        self._end = self.info.end_pts * self.info.time_base
        if self._selection.start_s:
            start = time
            self._shift = begin - time
        if self._selection.end_s is not None:
            end = begin + exact_seconds(self._selection.end_s)
            self._end = min(self._end, end)
        if time + self._shift < 0:
            self._shift = -time
        if self._audio is not None:
            self._audio.place(self._shift, start, end)

    def _next_tick(self, time: Fraction) -> int:
        tick = round((time + self._shift) / self._tick)
        if self._last_tick is not None and tick <= self._last_tick:
            tick = self._last_tick + 1
        self._last_tick, self._last_time = tick, time
        return tick

    def _mux(self, packets: Iterable[Packet[VideoStream]]) -> None:
        """Write packets but the last one, whose length shows only when the next one is there."""
        for packet in packets:
            if self._held is not None:
                self._container.mux_one(self._held)
            self._held = packet

    def _mux_last(self) -> None:
        """Write the last packet, with the length that the source says, or a frame's usual one."""
        if self._held is not None:
            assert self._end is not None
            left = (self._end - self._last_time) / self._tick
            usual = 1 / ((self.info.average_rate or Fraction(25)) * self._tick)
            self._held.duration = min(_LONGEST_UNITS, max(1, round(left if left > 0 else usual)))
            self._container.mux_one(self._held)
            self._held = None

    def _finish(self) -> None:
        if self.frames == 0:
            raise OutputError(f"{str(self.path)!r} is not written: no frame was selected; widen --start and --end")
        with output_errors(self.path), _encoder_errors(self.path):
            self._mux(self._stream.encode(None))
            self._mux_last()
            if self._audio is not None:
                self._audio.finish()
                self._audio.close()
                self.warnings += self._audio.warnings
            self._container.close()
            sync(self._partial)
            publish(self._partial, self.path)
        for warning in self.warnings:
            _log.warning("%s", warning)

    def _abandon(self) -> None:
        # The disk may be full: closing then fails as well, and the file goes away all the same.
        try:
            if self._audio is not None:
                self._audio.close()
            if getattr(self, "_container", None) is not None:
                self._container.close()
        except OSError as error:
            _log.debug("closing an unfinished clip: %s", error)
        finally:
            remove(self._partial)


@contextmanager
def _encoder_errors(path: Path) -> Iterator[None]:
    """Turn the encoder's or the muxer's refusal into an OutputError; what the system says of the disk passes by."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        reason = " ".join(str(error.strerror).split())
        raise OutputError(f"{str(path)!r} can't be written as MP4 ({reason}); convert the input first") from error


def _clip_time_base(info: SourceInfo, selection: Selection) -> Fraction:
    """The unit of the clip's times: one in which the source's are whole numbers, unless it is too fine for MP4."""
    # A frame's length must be a unit at least, or the last one would get none and be cut off.
    base = info.time_base
    units = base.denominator * math.ceil((info.average_rate or Fraction(25)) / base.denominator)
    longest = min(info.longest * selection.every, max(1, info.end_pts - info.start_pts)) * base
    possible = [units if units <= _MAX_TIMESCALE else 0, *(each for each in _COARSE_TIMESCALES if each < units), 1]
    return Fraction(1, next(each for each in possible if each and (longest * each <= _LONGEST_UNITS or each == 1)))


def _even_sides(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return rgb
    return np.pad(rgb, ((0, even(height) - height), (0, even(width) - width), (0, 0)), mode="edge")
