"""Video files as an input: every decodable frame once, upright, with its own integer time."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.media.colour import Colour, frame_colour, to_rgb
from pipeline.media.container import exact, open_container, read_packets, video_stream
from pipeline.media.damage import Tally, require_undamaged, warnings_of
from pipeline.media.orientation import UPRIGHT, Orientation, read_display_matrix, turned
from pipeline.media.scan import Scan, read_scan
from pipeline.media.source import ALL_FRAMES, DecodeReport, Selection, Source, SourceInfo
from pipeline.media.timeline import Timeline
from pipeline.records import Frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

_Threads = Literal["AUTO", "SLICE"]


class _DamageError(Exception):
    """Decoding with frame threads met something broken."""


class VideoSource(Source):
    """The first video stream of a file."""

    def __init__(self, path: Path, name: str) -> None:
        """Say which file; it isn't opened yet."""
        super().__init__(path, name)
        self._reported: set[str] = set()
        self._first_orientation = 0, UPRIGHT

    def probe(self) -> SourceInfo:
        """Facts about the video, from its packets and its first frame.

        Raises:
            InputError: it can't be read, holds no video stream or no decodable frame.
        """
        return self._info

    def count(self, selection: Selection = ALL_FRAMES) -> int:
        """How many frames are selected, by the packets' times."""
        info, scan = self.probe(), self._scan
        timeline = self._timeline(info.time_base, info.average_rate)
        known = [timeline.place(None) for _ in range(scan.missing_before)]
        known += [timeline.place(int(pts)) for pts in scan.pts]
        known += [timeline.place(None) for _ in range(scan.missing_times - scan.missing_before)]
        inside = sum(1 for pts in known if _within((pts - known[0]) * info.time_base, selection))
        return -(-inside // selection.every)

    def frames(self, selection: Selection = ALL_FRAMES, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """The selected frames in order of time, each once, upright, uint8 RGB.

        Decoding continues behind damage; `report` then says what was lost.

        Raises:
            InputError: the file can't be read or nothing in it can be decoded; at the end of a strict pass: something
                was lost.
        """
        from av.video.reformatter import VideoReformatter

        info = self.probe()
        tally, timeline, reformatter = Tally(), self._timeline(info.time_base, info.average_rate), VideoReformatter()
        finished = False
        try:
            chosen = islice(self._in_span(info, selection, tally, timeline), 0, None, selection.every)
            for index, (pts, decoded) in enumerate(chosen):
                if wanted is None or index in wanted:
                    rgb = self._upright_rgb(decoded, info, tally, reformatter)
                    yield Frame(index, pts, info.time_base, rgb, str(index))
            finished = True
        finally:
            self.report = self._report_of(tally, timeline, info, whole=finished and selection.end_s is None)
        if selection.strict:
            require_undamaged(self.path, self.report, selection.end_s)
        self._say_new_warnings()

    def _in_span(
        self, info: SourceInfo, selection: Selection, tally: Tally, timeline: Timeline
    ) -> Iterator[tuple[int, VideoFrame]]:
        first_pts: int | None = None
        for decoded in self._decoded(tally):
            pts = timeline.place(decoded.pts, decoded.dts)
            first_pts = pts if first_pts is None else first_pts
            offset = (pts - first_pts) * info.time_base
            if selection.ends_before(offset):
                return
            if not selection.starts_after(offset):
                yield pts, decoded

    def _decoded(self, tally: Tally) -> Iterator[VideoFrame]:
        """All frames in order of presentation; behind the first damage one frame is decoded at a time.

        With frame threads an error can't be attributed to a frame and may lose its neighbours; so the pass starts again
        with slice threads, behind the frames already yielded.
        """
        try:
            yield from self._decode("AUTO", tally)
        except _DamageError:
            done = tally.frames
            tally.restart()
            yield from islice(self._decode("SLICE", tally), done, None)
        if tally.frames == 0:
            raise InputError(f"{str(self.path)!r} holds no frame that can be decoded")

    def _decode(self, threads: _Threads, tally: Tally) -> Iterator[VideoFrame]:
        import av

        def fail(error: Exception, pts: int | None = None) -> None:
            if threads == "AUTO":
                raise _DamageError from error
            tally.count_failure(pts)

        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            stream.thread_type = threads
            for packet in self._scan.clock.mended(read_packets(container, [stream], fail)):
                tally.packets += not packet.is_discard
                try:
                    yield from self._counted(packet.decode(), tally)
                except (av.FFmpegError, OSError) as error:
                    fail(error, packet.pts)
            try:
                yield from self._counted(stream.codec_context.decode(None), tally)
            except (av.FFmpegError, OSError) as error:
                fail(error)
        if threads == "AUTO" and tally.frames < tally.packets:
            raise _DamageError

    def _counted(self, frames: list[VideoFrame], tally: Tally) -> Iterator[VideoFrame]:
        for frame in frames:
            tally.count_frame(frame)
            yield frame

    def _upright_rgb(
        self, frame: VideoFrame, info: SourceInfo, tally: Tally, reformatter: VideoReformatter
    ) -> NDArray[np.uint8]:
        # Reading a matrix ties its frame into a cycle that only the garbage collector frees, hundreds of frames
        # later; so it is read again only where it is another one.
        rotation, orientation = self._first_orientation
        if frame.rotation != rotation:
            orientation, _ = _orientation(frame)
        stored_hw = orientation.size(info.size_hw)
        tally.resized += (frame.height, frame.width) != stored_hw
        colour = frame_colour(frame, info.colour.primaries, info.colour.trc)
        try:
            return orientation.apply(to_rgb(frame, colour, stored_hw, reformatter))
        except (ValueError, OSError) as error:
            raise InputError(
                f"{str(self.path)!r}: pixel format {frame.format.name} can't be turned into RGB; convert it to yuv420p"
            ) from error

    @cached_property
    def _scan(self) -> Scan:
        return read_scan(self.path)

    @cached_property
    def _info(self) -> SourceInfo:
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            first = next(self._decode_first(), None)
            if first is None:
                raise InputError(f"{str(self.path)!r} holds no frame that can be decoded; expected at least one")
            return self._describe(container, stream, first)

    def _decode_first(self) -> Iterator[VideoFrame]:
        yield from self._decode("SLICE", Tally())

    def _describe(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> SourceInfo:
        orientation, degrees = _orientation(first)
        self._first_orientation = first.rotation, orientation
        time_base = exact(first.time_base) or exact(stream.time_base) or Fraction(1, 25)
        rate = exact(stream.average_rate)
        context = stream.codec_context
        timeline = self._timeline(time_base, rate)
        start_pts = timeline.place(first.pts, first.dts)
        aspect = exact(stream.sample_aspect_ratio) or Fraction(1)
        end = self._scan.end_pts if self._scan.end_pts is not None else start_pts + self._scan.shown * timeline.step
        end = max(end, start_pts + 1)
        return SourceInfo(
            size_hw=orientation.size((first.height, first.width)),
            time_base=time_base,
            average_rate=rate,
            frames=self._scan.shown,
            start_pts=start_pts,
            end_pts=end,
            longest=max(1, self._scan.longest),
            clock=self._scan.clock,
            audio=bool(container.streams.audio),
            colour=_stream_colour(first, context.color_primaries, context.color_trc),
            sample_aspect_ratio=1 / aspect if orientation.transpose else aspect,
            rotation_degrees=degrees,
        )

    def _timeline(self, time_base: Fraction, rate: Fraction | None) -> Timeline:
        known = int(self._scan.pts[0]) if len(self._scan.pts) else 0
        return Timeline(time_base, rate, known, self._scan.missing_before if len(self._scan.pts) else 0)

    def _report_of(self, tally: Tally, timeline: Timeline, info: SourceInfo, *, whole: bool) -> DecodeReport:
        place = tally.damage_s(info.start_pts, info.time_base)
        report = DecodeReport(
            tally.frames,
            tally.lost(whole),
            tally.corrupt,
            self._scan.absent,
            timeline.repaired,
            place,
            self._scan.clock.jumps,
        )
        return replace(report, warnings=tuple(warnings_of(self.path, report, tally.resized)))

    def _say_new_warnings(self) -> None:
        for warning in self.report.warnings:
            if warning not in self._reported:
                _log.warning("%s", warning)
                self._reported.add(warning)


def _within(offset: Fraction, selection: Selection) -> bool:
    return not selection.starts_after(offset) and not selection.ends_before(offset)


def _orientation(frame: VideoFrame) -> tuple[Orientation, int]:
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 refuses all side data where it has no name for a kind of it (EXIF); a mirror image is then missed.
        return turned(frame.rotation)
    return (UPRIGHT, 0) if matrix is None else read_display_matrix(bytes(matrix))


def _stream_colour(first: VideoFrame, primaries: int, trc: int) -> Colour:
    return frame_colour(first, int(primaries), int(trc))
