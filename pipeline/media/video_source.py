"""Video files as an input: every decodable frame once, upright, with its own integer time."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.media.colour import frame_colour, to_rgb
from pipeline.media.container import exact, open_container, read_packets, video_stream
from pipeline.media.damage import Tally, require_undamaged, warnings_of
from pipeline.media.orientation import UPRIGHT, Orientation, read_display_matrix, turned
from pipeline.media.scan import Scan, dump_scan, parse_scan, read_scan
from pipeline.media.seeking import SeekError, decode_at, decoded_count, entry_of
from pipeline.media.source import ALL_FRAMES, DecodeReport, Selection, Source, SourceInfo
from pipeline.media.timeline import Timeline, follows
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


@dataclass(frozen=True, slots=True)
class _Sought:
    """Frames that are decoded without all that lies before them.

    Attributes:
        scan: the file's packets.
        chosen: positions, among all frames shown, of the selected ones.
        indices: which of these are wanted, ascending.
        scattered: whether they are single frames, not all from one on.
    """

    scan: Scan
    chosen: range
    indices: Sequence[int]
    scattered: bool

    @property
    def positions(self) -> Iterator[int]:
        """Their positions among all frames shown."""
        return (self.chosen[index] for index in self.indices)

    @property
    def by_time(self) -> dict[int, int]:
        """Their indices by pts."""
        return {int(self.scan.pts[self.chosen[index]]): index for index in self.indices}


class VideoSource(Source):
    """The first video stream of a file."""

    def __init__(self, path: Path, name: str) -> None:
        """Say which file; it isn't opened yet."""
        super().__init__(path, name)
        self._reported: set[str] = set()
        self._first_orientation = 0, UPRIGHT
        self._intact = True

    def count(self, selection: Selection = ALL_FRAMES) -> int:
        """How many frames are selected, by the packets' times."""
        info, scan = self.probe(), self._scan
        timeline = self._timeline(info.time_base, info.average_rate)
        known = [timeline.place(None) for _ in range(scan.missing_before)]
        known += [timeline.place(int(pts)) for pts in scan.pts]
        known += [timeline.place(None) for _ in range(scan.missing_times - scan.missing_before)]
        inside = sum(1 for pts in known if selection.holds((pts - known[0]) * info.time_base))
        return -(-inside // selection.every)

    def frames(self, selection: Selection = ALL_FRAMES, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """The selected frames in order of time, each once, upright, uint8 RGB.

        Decoding continues behind damage; `report` then says what was lost. Where key frames allow it, what lies before
        the frames wanted is skipped: damage there isn't met, and indices count packets.

        Raises:
            InputError: the file can't be read or nothing in it can be decoded; at the end of a strict pass: something
                was lost.
        """
        info = self.probe()
        sought = self._sought(selection, wanted, info)
        done = -1
        if sought is not None and self._intact:
            try:
                for frame in self._frames_at(sought, info):
                    yield frame
                    done = frame.index
            except SeekError:
                self._intact = False
            else:
                return
        times = sought.by_time if sought is not None and sought.scattered else None
        for frame in self._frames_from_start(selection, wanted, info, times):
            if frame.index > done:
                yield frame
        if selection.strict:
            require_undamaged(self.path, self.report, selection.end_s)
        self._say_new_warnings()

    def times(self, selection: Selection) -> Sequence[int] | None:
        """Pts of the selected frames, where every packet has a time of its own that nothing mends."""
        chosen = self._chosen(selection, self.probe())
        return None if chosen is None else [int(self._scan.pts[position]) for position in chosen]

    def save_index(self) -> bytes | None:
        """What the packets say."""
        return dump_scan(self._scan)

    def load_index(self, content: bytes) -> None:
        """Take what the packets say, unless it is damaged."""
        scan = parse_scan(content)
        if scan is not None:
            self.__dict__["_scan"] = scan

    def decoded_frames(self, selection: Selection, wanted: Collection[int]) -> int:
        """How many frames `frames` decodes for the sake of those wanted, about."""
        sought = self._sought(selection, wanted, self.probe())
        if sought is None:
            return super().decoded_frames(selection, wanted)
        return decoded_count(self._scan, sought.positions)

    def _frames_at(self, sought: _Sought, info: SourceInfo) -> Iterator[Frame]:
        from av.video.reformatter import VideoReformatter

        tally, reformatter = Tally(), VideoReformatter()
        try:
            stored_hw = self._first_orientation[1].size(info.size_hw)
            found = decode_at(self.path, self._scan, sought.positions, stored_hw)
            for index, position, decoded in zip(sought.indices, sought.positions, found, strict=True):
                tally.frames += 1
                rgb = self._upright_rgb(decoded, info, tally, reformatter)
                yield Frame(index, int(self._scan.pts[position]), info.time_base, rgb, str(index))
        finally:
            self.report = DecodeReport(tally.frames)

    def _frames_from_start(
        self, selection: Selection, wanted: Container[int] | None, info: SourceInfo, times: Mapping[int, int] | None
    ) -> Iterator[Frame]:
        """The frames wanted; where `times` are given, their indices by pts: damage may have moved those of decoding."""
        from av.video.reformatter import VideoReformatter

        tally, timeline, reformatter = Tally(), self._timeline(info.time_base, info.average_rate), VideoReformatter()
        finished = False
        try:
            span = self._in_span(info, selection, tally, timeline)
            chosen = span if times is not None else islice(span, 0, None, selection.every)
            for number, (pts, decoded) in enumerate(chosen):
                index = number if times is None else times.get(pts, -1)
                if index >= 0 and (wanted is None or index in wanted):
                    rgb = self._upright_rgb(decoded, info, tally, reformatter)
                    yield Frame(index, pts, info.time_base, rgb, str(index))
            finished = True
        finally:
            self.report = self._report_of(tally, timeline, info, whole=finished and selection.end_s is None)
            self._intact &= not self.report.damaged

    def _sought(self, selection: Selection, wanted: Container[int] | None, info: SourceInfo) -> _Sought | None:
        """What is worth seeking; None where all is decoded from the start."""
        scan, chosen = self._scan, self._chosen(selection, info)
        if chosen is None:
            return None
        if wanted is None or (isinstance(wanted, range) and wanted.step == 1):
            indices = range(len(chosen)) if wanted is None else range(len(chosen))[wanted.start : wanted.stop]
            seen = bool(indices) and entry_of(scan, chosen[indices[0]]).packet > 0
            return _Sought(scan, chosen, indices, scattered=False) if seen else None
        if isinstance(wanted, Collection) and wanted:
            return _Sought(scan, chosen, sorted(index for index in wanted if 0 <= index < len(chosen)), scattered=True)
        return None

    def _chosen(self, selection: Selection, info: SourceInfo) -> range | None:
        """Positions of the selected frames among all that are shown, where the packets' times are the frames'."""
        pts = self._scan.pts
        if not self._scan.seekable or info.start_pts != pts[0] or not follows(pts, info.time_base):
            return None

        def offset(time: np.int64) -> Fraction:
            return (int(time) - info.start_pts) * info.time_base

        begin = bisect_left(pts, True, key=lambda time: not selection.starts_after(offset(time)))
        end = bisect_left(pts, True, key=lambda time: selection.ends_before(offset(time)))
        return range(begin, end, selection.every)

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
            orientation = _orientation(frame)
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

    def _read_info(self) -> SourceInfo:
        """From the packets and the first frame."""
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            first = next(self._decode("SLICE", Tally()), None)
            if first is None:
                raise InputError(f"{str(self.path)!r} holds no frame that can be decoded; expected at least one")
            return self._describe(container, stream, first)

    def _describe(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> SourceInfo:
        orientation = _orientation(first)
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
            colour=frame_colour(first, int(context.color_primaries), int(context.color_trc)),
            sample_aspect_ratio=1 / aspect if orientation.transpose else aspect,
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


def _orientation(frame: VideoFrame) -> Orientation:
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 refuses all side data where it has no name for a kind of it (EXIF); a mirror image is then missed.
        return turned(frame.rotation)
    return UPRIGHT if matrix is None else read_display_matrix(bytes(matrix))
