"""Opening a media file safely (PyAV 18 and 19), and demuxing its packets past damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pipeline.errors import InputError

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

    _Stream = TypeVar("_Stream", VideoStream, AudioStream)

# Demuxers that read other files than the one given, that draw text, or that make pictures out of nothing.
_REFUSED_FORMATS = frozenset(
    {"hls", "concat", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest", "image2", "lavfi", "tty", "vapoursynth"}
)
_MAX_FAILURES_IN_A_ROW = 64

MAX_FRAME_PIXELS = 16384 * 8192
"""Larger frames are refused before they are decoded: a small file can claim any size."""


class Rational(Protocol):
    """What PyAV gives for a time base, a rate or an aspect: 18 a `Fraction`, 19 an `AVRational`."""

    @property
    def numerator(self) -> int:
        """The number above the line."""

    @property
    def denominator(self) -> int:
        """The number below the line; PyAV 19 has 0 there too."""


def exact(value: Rational | None) -> Fraction | None:
    """A number of PyAV's; None where the file doesn't say: PyAV 18 has None or 0 there, 19 has 0/1, 0/0 or 1/0.

    >>> exact(Fraction(1, 25)), exact(Fraction(0)), exact(None)
    (Fraction(1, 25), None, None)
    """
    return Fraction(value.numerator, value.denominator) if value else None


def lenient_tags() -> dict[str, Any]:
    """The arguments with which `av.open` takes a file whose tags (title, language) aren't UTF-8."""
    import av

    # PyAV 19 always takes them, and has no such argument.
    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def silence_ffmpeg() -> None:
    """Turn FFmpeg's log callback off; importing some torchvision (0.24) turns it on for the whole process.

    A decoder's thread with a message waits for the GIL, while the thread that closes the decoder holds the GIL and
    waits for it.
    """
    import av.logging

    av.logging.set_level(None)


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """A media file, opened for reading.

    Raises:
        InputError: it is missing, unreadable, truncated or not a media file.
    """
    import av

    _require_file(path)
    silence_ffmpeg()
    try:
        # The prefix and the list keep FFmpeg from reading a name as an address, and a file from naming others.
        opened = av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"}, **lenient_tags())
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise _explain(path, error) from error
    with opened as container:
        if not _REFUSED_FORMATS.isdisjoint(container.format.name.split(",")):
            raise InputError(
                f"{str(path)!r} is not a video but a {container.format.name} text or playlist; give the video itself"
            )
        yield container


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that isn't cover art.

    Raises:
        InputError: there is none, or its codec is unknown.
    """
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        cover = " (only cover art)" if container.streams.video else ""
        kind = f"holds sound but no video{cover}" if container.streams.audio else f"holds no video stream{cover}"
        raise InputError(f"{str(path)!r} {kind}; give a video file or a directory of frames")
    stream = streams[0]
    # A stream of a codec that this build of FFmpeg can't decode has no context, whatever its type says.
    context: object = stream.codec_context
    if context is None:
        raise InputError(
            f"{str(path)!r} is in a video codec that can't be decoded here; convert it, for example to H.264"
        )
    if stream.codec_context.width * stream.codec_context.height > MAX_FRAME_PIXELS:
        raise InputError(f"{str(path)!r} claims frames of more than {MAX_FRAME_PIXELS:,} pixels; scale it down first")
    # The size can change behind the header, too.
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
    return stream


def read_packets(
    container: InputContainer, streams: Sequence[_Stream], on_failure: Callable[[Exception], None]
) -> Iterator[Packet[_Stream]]:
    """The packets of streams, without the empty flush packets; demuxing continues behind damage.

    `on_failure` is told of each place that couldn't be read.
    """
    import av

    failures = 0
    while failures < _MAX_FAILURES_IN_A_ROW:
        try:
            for packet in container.demux(list(streams)):
                if packet.size:
                    failures = 0
                    yield cast("Packet[_Stream]", packet)
        except (av.FFmpegError, OSError) as error:
            on_failure(error)
            failures += 1
        else:
            return


def _require_file(path: Path) -> None:
    try:
        is_file = path.is_file()
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} can't be read: {error}") from error
    if not exists:
        raise InputError(f"{str(path)!r} doesn't exist; give a video file, a directory of frames, a glob or a list")
    if not is_file:
        raise InputError(f"{str(path)!r} is not a regular file; give a video file or a directory of frames")
    if path.stat().st_size == 0:
        raise InputError(f"{str(path)!r} is empty (0 bytes); expected a video")


def _explain(path: Path, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{str(path)!r} can't be read: permission denied")
    if _has_mp4_start(path):
        return InputError(
            f"{str(path)!r} is truncated or broken: its index (moov) can't be read; copy it again from its origin"
        )
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    return InputError(
        f"{str(path)!r} is not a video that can be read ({reason}); give a video file or a directory of frames"
    )


def _has_mp4_start(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
    except OSError:
        return False
