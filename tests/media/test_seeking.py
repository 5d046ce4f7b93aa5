"""Seeking: each frame that is decoded without all that lies before it is, bit by bit, that of a whole decode."""

import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.media import seeking, video_source
from pipeline.media.source import ALL_FRAMES, Selection
from pipeline.media.video_source import VideoSource
from pipeline.records import Frame

Film = Callable[..., Path]
Facts = tuple[int, int, str]
"""A frame's index, pts and checksum."""

FRAMES = 60
H265 = "log-level=none:pools=1:keyint=8:min-keyint=8"
FILMS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"g": "8", "bf": "2"}, "audio": "aac"},
    "vfr.mp4": {"options": {"g": "8"}, "pts": [number * 512 + number % 3 * 100 for number in range(FRAMES)]},
    "fragments.mp4": {"options": {"g": "8", "bf": "2"}, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "open.mp4": {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3"}},
    "refresh.mp4": {"options": {"g": "10", "x264-params": "intra-refresh=1:keyint=10"}},
    "refresh.ts": {"options": {"x264-params": "intra-refresh=1:keyint=10"}, "time_base": Fraction(1, 25)},
    "444.mp4": {"options": {"g": "8", "x264-params": "bframes=2"}, "pix_fmt": "yuv444p"},
    "444.mkv": {"options": {"g": "8"}, "pix_fmt": "yuv444p", "time_base": Fraction(1, 1000)},
    "lossless.mp4": {"options": {"g": "8", "qp": "0"}, "pix_fmt": "yuv444p"},
    "open.hevc.mp4": {"codec": "libx265", "options": {"x265-params": f"{H265}:open-gop=1:bframes=3"}},
    "open.ts": {"options": {"x264-params": "open-gop=1:keyint=8:bframes=2"}, "time_base": Fraction(1, 25)},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}, "time_base": Fraction(1, 25)},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"g": "8", "bf": "2"}, "time_base": Fraction(1, 25)},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "8"}, "time_base": Fraction(1, 25)},
    "packed.avi": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}, "time_base": Fraction(1, 25)},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}, "time_base": Fraction(1, 25)},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "8", "cpu-used": "8"}, "time_base": Fraction(1, 1000)},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "8", "auto-alt-ref": "1"}, "time_base": Fraction(1, 1000)},
    "theora.ogg": {"codec": "libtheora", "options": {"g": "8"}, "time_base": Fraction(1, 25)},
    "wmv.asf": {"codec": "wmv2", "options": {"g": "8"}, "time_base": Fraction(1, 25)},
    "h264.flv": {"options": {"g": "8", "bf": "2"}, "time_base": Fraction(1, 1000)},
    "raw.h264": {"options": {"g": "8", "bf": "0"}, "time_base": Fraction(1, 25)},
    "ffv1.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p", "options": {"g": "8"}, "time_base": Fraction(1, 1000)},
    "one.mp4": {"options": {"g": "1000"}},
}
NOT_SOUGHT = {"raw.h264"}
"""Without times, every frame is decoded from the start."""

CLIPS = (
    "clips/kitten_vfr/test-sample2.mp4",
    "clips/asl/asl_gestures/again.mkv",
    "clips/asl/asl_gestures/brother.mkv",
    "clips/squirrel/squirrel.mp4",
)


def scenes() -> Iterator[np.ndarray]:
    """Blocks of noise that move: a frame made of wrong references looks it."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 255, (6, 40, 3), dtype=np.uint8).repeat(12, 0).repeat(8, 1)
    for number in range(FRAMES):
        picture = np.roll(blocks, 5 * number, axis=1)[:48, :64].copy()
        picture[number % 40 : number % 40 + 8, 10:20] = random.integers(0, 255, (8, 10, 3))
        yield picture


def facts(frames: Iterator[Frame]) -> list[Facts]:
    return [(frame.index, frame.pts, hashlib.sha256(frame.rgb.tobytes()).hexdigest()) for frame in frames]


def require_equal(path: Path, whole: list[Facts], seed: int, selection: Selection = ALL_FRAMES) -> None:
    random, count = Random(seed), len(whole)
    some = set(random.sample(range(count), min(count, random.randint(1, 6))))
    first = random.randrange(count)
    last = random.randint(first, count)
    for wanted in (some, range(first, last), range(first, 2**40)):
        expected = [each for each in whole if each[0] in wanted]
        found = facts(VideoSource(path, "x").frames(selection, wanted))
        assert found == expected, (path.name, wanted)


@pytest.fixture
def skipped(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each file that was sought in: whether it held to its packets."""
    outcomes: list[bool] = []
    real = seeking.decode_at

    def counted(*arguments: Any) -> Iterator[Any]:
        try:
            yield from real(*arguments)
        except seeking.SeekError:
            outcomes.append(False)
            raise
        outcomes.append(True)

    monkeypatch.setattr(video_source, "decode_at", counted)
    return outcomes


@pytest.mark.parametrize("name", FILMS)
def test_frames_of_every_kind_of_file_are_those_of_a_whole_decode(
    make_film: Film, name: str, skipped: list[bool]
) -> None:
    try:
        path = make_film(name, frames=FRAMES, pictures=list(scenes()), **FILMS[name])
    except ValueError:
        pytest.skip(f"this build of FFmpeg has no encoder for {name}")
    whole = facts(VideoSource(path, "x").frames())
    assert len(whole) >= FRAMES - 1
    for seed in range(5):
        require_equal(path, whole, seed)
    assert bool(skipped) == (name not in NOT_SOUGHT)
    # Where the picture is refreshed piece by piece, no frame but the first can be begun at.
    assert all(skipped) or name.startswith("refresh.")


def sparse(source: VideoSource) -> Selection:
    """Every third frame of a large video: all are decoded, but to turn one into RGB takes longer than that."""
    height, width = source.probe().size_hw
    return Selection(3 if height * width > 640 * 480 else 1)


@pytest.mark.parametrize("name", CLIPS)
def test_frames_of_real_clips_are_those_of_a_whole_decode(shared_dir: Path, name: str, skipped: list[bool]) -> None:
    path = shared_dir / name
    chosen = sparse(VideoSource(path, "x"))
    whole = facts(VideoSource(path, "x").frames(chosen))
    require_equal(path, whole, len(whole), chosen)
    assert all(skipped) and skipped


def test_frames_of_odd_files_are_those_of_a_whole_decode(shared_dir: Path) -> None:
    lines = (shared_dir / "robust" / "PROBE.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines:
        path = shared_dir / line.split("\t")[0]
        source = VideoSource(path, "x")
        # Longer ones are containers and codecs of which FILMS has a small one.
        if source.count() < 130:
            chosen = sparse(source)
            whole = facts(source.frames(chosen))
            if not source.report.damaged:
                require_equal(path, whole, len(whole), chosen)


@pytest.mark.parametrize(("start", "end", "every"), [(1.0, None, 1), (1.3, 2.0, 1), (0.5, None, 3), (1.98, None, 7)])
def test_a_span_is_that_of_a_whole_decode(make_film: Film, start: float, end: float | None, every: int) -> None:
    path = make_film("film.ts", frames=FRAMES, pictures=list(scenes()), **{**FILMS["open.ts"]})
    whole = facts(VideoSource(path, "x").frames())
    selection = Selection(every, start, end)
    base = VideoSource(path, "x").probe().time_base
    inside = [
        each
        for each in whole
        if start <= (each[1] - whole[0][1]) * base and (end is None or (each[1] - whole[0][1]) * base < end)
    ]
    expected = [(number, pts, picture) for number, (_, pts, picture) in enumerate(inside[::every])]
    assert facts(VideoSource(path, "x").frames(selection)) == expected
    for seed in range(5):
        require_equal(path, expected, seed, selection)


def test_what_lies_before_a_frame_is_not_decoded(make_film: Film) -> None:
    path = make_film("film.mp4", frames=FRAMES, pictures=list(scenes()), options={"g": "5", "sc_threshold": "0"})
    source = VideoSource(path, "x")
    # One GOP before, and the key frame itself.
    assert source.decoded_frames(ALL_FRAMES, {50}) == 6
    assert source.decoded_frames(ALL_FRAMES, {0, 1, 50}) == 2 + 6
    assert source.decoded_frames(ALL_FRAMES, range(FRAMES)) == FRAMES


@pytest.mark.parametrize("wanted", [{3, 30, 55}, range(20, 60), range(44, 60)])
def test_damage_that_is_met_ends_the_seeking_and_gives_what_a_whole_decode_gives(
    make_film: Film, wanted: Any, skipped: list[bool]
) -> None:
    path = make_film("film.mp4", frames=FRAMES, pictures=list(scenes()), **FILMS["h264.mp4"])
    data = bytearray(path.read_bytes())
    for place in range(len(data) * 6 // 10, len(data) * 6 // 10 + 3000):
        data[place] ^= 0x5A
    path.write_bytes(data)
    source = VideoSource(path, "x")
    try:
        whole = {pts: picture for _, pts, picture in facts(source.frames())}
    except InputError:
        pytest.fail("the rest of the film should be read")
    assert source.report.damaged
    found = facts(VideoSource(path, "x").frames(ALL_FRAMES, wanted))
    assert found
    assert all(whole.get(pts) == picture for _, pts, picture in found)
    again = facts(VideoSource(path, "x").frames(ALL_FRAMES, wanted))
    assert found == again


def test_a_key_frame_that_is_none_is_noticed(make_film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_film("film.mp4", frames=FRAMES, pictures=list(scenes()), options={"g": "60"})
    whole = facts(VideoSource(path, "x").frames())
    source = VideoSource(path, "x")
    numbers = np.arange(FRAMES)
    scan = source._scan
    lying = type(scan)(**{**{name: getattr(scan, name) for name in scan.__slots__}, "keys": (numbers, scan.pts)})
    monkeypatch.setitem(source.__dict__, "_scan", lying)
    assert facts(source.frames(ALL_FRAMES, {40})) == [whole[40]]
