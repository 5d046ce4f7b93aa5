"""Cuts and flips: whatever of a damaged file can be decoded is decoded, and all else is counted.

`VIDPARTS_FUZZ_SEEDS` of 2000 (the nightly form) does 24 cuts and 24 flips of each real clip, else 2 of each are done.
"""

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from random import Random

import av
import pytest

from pipeline.errors import InputError
from pipeline.media.container import lenient_tags
from pipeline.media.video_source import VideoSource

Film = Callable[..., Path]
REAL_ROUNDS = 24 if int(os.environ.get("VIDPARTS_FUZZ_SEEDS", "0")) >= 2000 else 2
FRAMES = 40

FILMS = {
    "film.mp4": {"options": {"g": "8"}, "container_options": {"movflags": "+faststart"}},
    "film.mkv": {"options": {"g": "8"}, "time_base": Fraction(1, 1000)},
    "film.ts": {"codec": "mpeg2video", "time_base": Fraction(1, 25)},
    "film.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "time_base": Fraction(1, 25), "options": {}},
    "film.webm": {"codec": "libvpx-vp9", "time_base": Fraction(1, 1000), "options": {"cpu-used": "8"}},
}
CLIPS = {
    "clips/kitten_vfr/test-sample2.mp4": "kitten.mp4",
    "clips/asl/asl_gestures/again.mkv": "again.mkv",
    "clips/squirrel/squirrel.mp4": "squirrel.ts",
    "clips/dog_and_person/01_dog.mp4": "dog.mp4",
}


def flipped(random: Random, data: bytes) -> bytes:
    """Some bytes turned over, none of them in the header."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 4, 20))):
        changed[random.randrange(len(data) // 50, len(data))] ^= random.randrange(1, 256)
    return bytes(changed)


def cut(random: Random, data: bytes) -> bytes:
    """The end, or a piece of the middle, is lost."""
    start = random.randrange(len(data) // 4, len(data))
    return data[:start] + (data[start + random.randrange(1, 3000) :] if random.random() < 0.3 else b"")


def decodable(path: Path) -> list[int | None] | None:
    """Times of all frames that PyAV decodes, one at a time and past every error; None where it can't open the file."""
    try:
        container = av.open(str(path), **lenient_tags())
    except (av.FFmpegError, ValueError):
        return None
    with container:
        if not container.streams.video or container.streams.video[0].codec_context is None:
            return None
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        frames = list(_decoded(container, stream))
    return [frame.pts for frame in frames]


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for _ in range(64):
        try:
            for packet in container.demux(stream):
                try:
                    yield from packet.decode()
                except (av.FFmpegError, ValueError):
                    continue
        except (av.FFmpegError, OSError):
            continue
        return


def require_nothing_lost(path: Path, frames: int | None = None) -> None:
    """Hold what is read of a file against what PyAV decodes, and against what it had before the damage."""
    expected = decodable(path)
    source = VideoSource(path, "x")
    try:
        found = sum(1 for _ in source.frames(wanted=()))
    except InputError as error:
        assert "\n" not in str(error)
        assert not expected, f"{len(expected or ())} frames could be decoded, and {error}"
        return
    report = source.report
    assert found == 0
    assert report.frames >= len(expected or ()), (report, len(expected or ()))
    if report.frames + _left_out_on_purpose(path) < (frames or 0):
        assert report.damaged or path.suffix in _KNOWS_NO_NUMBER, report


def _left_out_on_purpose(path: Path) -> int:
    """Packets that an edit list leaves out; a damaged time can lie outside of it."""
    with av.open(str(path), **lenient_tags()) as container:
        try:
            return sum(packet.is_discard for packet in container.demux(video=0) if packet.size)
        except av.FFmpegError:
            return 0


_KNOWS_NO_NUMBER = frozenset({".mkv", ".ts", ".webm"})
"""Where a file doesn't say how many frames it should have, nobody can know that its tail is lost."""


@pytest.mark.parametrize("name", FILMS)
def test_every_frame_behind_a_cut_or_a_flip_is_read(make_film: Film, name: str) -> None:
    random = Random(name)
    path = make_film(name, frames=FRAMES, **FILMS[name])
    data = path.read_bytes()
    for damage in [cut] * 12 + [flipped] * 12:
        path.write_bytes(damage(random, data))
        require_nothing_lost(path, FRAMES)


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_of_a_damaged_real_clip_is_read(shared_dir: Path, tmp_path: Path, name: str) -> None:
    random = Random(name)
    path = tmp_path / CLIPS[name]
    data = _beginning(shared_dir / name, path)
    frames = VideoSource(path, "x").probe().frames
    for damage in [cut] * REAL_ROUNDS + [flipped] * REAL_ROUNDS:
        path.write_bytes(damage(random, data))
        require_nothing_lost(path, frames)


def _beginning(clip: Path, path: Path, packets: int = 60) -> bytes:
    """The first packets of a real clip as they are, in a file whose index lies in front of them."""
    with av.open(str(clip)) as source, av.open(str(path), "w", container_options={"movflags": "+faststart"}) as out:
        video = source.streams.video[0]
        stream = out.add_stream_from_template(video)
        for packet in islice((packet for packet in source.demux(video) if packet.size), packets):
            packet.stream = stream
            out.mux(packet)
    return path.read_bytes()
