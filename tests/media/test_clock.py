"""Joined recordings: every frame once, evenly, and the sound of each part in step with its picture."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.clip_writer import ClipWriter
from pipeline.media.clock import STEADY, Part
from pipeline.media.jumps import Stamps, find_clock
from pipeline.media.source import ALL_FRAMES, Selection
from pipeline.media.video_source import VideoSource

RATE = 25
SAMPLES = 48000
IN_STEP_S = 0.04


def write_part(
    path: Path,
    begin_s: float = 0.0,
    *,
    seconds: float = 3.0,
    sound_s: float | None = None,
    picture: str = "mpeg2video",
    sound: str | None = "mp2",
    container: str = "mpegts",
    options: dict[str, str] | None = None,
    bf: int = 0,
) -> Path:
    """A recording whose picture flashes for a frame, and whose sound beeps, at 0.48 s, 1.48 s, ..."""
    with av.open(str(path), "w", format=container, container_options=options or {}) as file:
        video = file.add_stream(picture, rate=RATE, options={"g": "12", "bf": str(bf), "sc_threshold": "0"})
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, RATE)
        items: list[tuple[float, int, object, object]] = []
        for number in range(round(seconds * RATE)):
            shade = 230 if number % RATE == 12 else 40
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            items.append((number / RATE, 0, video, frame))
        if sound is not None:
            track = file.add_stream(sound, rate=SAMPLES, layout="mono")
            items += [(at, 1, track, frame) for at, frame in _beeps(track, sound_s or seconds)]
        frames = [item[2:] for item in sorted(items, key=lambda item: item[:2])]
        for stream, frame in [*frames, *((stream, None) for stream in file.streams)]:
            for packet in stream.encode(frame):
                late = round(Fraction(str(begin_s)) / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                file.mux(packet)
    return path


def _beeps(track, seconds: float):
    size = track.codec_context.frame_size or 1024
    at = np.arange(round(seconds * SAMPLES)) / SAMPLES
    wave = np.where((at % 1 >= 0.48) & (at % 1 < 0.56), np.sin(2 * np.pi * 1000 * at) * 0.5, 0)
    kind = track.codec_context.format.name
    scale, dtype = {"s": (32767, np.int16), "f": (1, np.float32)}[kind[0]]
    for start in range(0, len(wave), size):
        chunk = np.ascontiguousarray((wave[None, start : start + size] * scale).astype(dtype))
        frame = av.AudioFrame.from_ndarray(chunk, format=kind, layout="mono")
        frame.sample_rate, frame.pts = SAMPLES, start
        frame.time_base = Fraction(1, SAMPLES)
        yield start / SAMPLES, frame


def join(folder: Path, name: str, begins: Sequence[float], **part) -> Path:
    path = folder / name
    with path.open("wb") as file:
        for begin in begins:
            file.write(write_part(folder / "part", begin, **part).read_bytes())
    return path


def copy(path: Path, out: Path, selection: Selection = ALL_FRAMES) -> tuple[VideoSource, ClipWriter]:
    source = VideoSource(path, "film")
    info = source.probe()
    with ClipWriter(out, info.size_hw, info, audio=path if info.audio else None, selection=selection) as clip:
        for frame in source.frames(selection):
            clip.write(frame.pts, frame.rgb)
    return source, clip


def flashes(path: Path) -> tuple[list[float], list[float]]:
    """Times of all frames, and of those that flash."""
    with av.open(str(path)) as file:
        shown = [(float(f.pts * f.time_base), f.to_ndarray(format="gray").mean()) for f in file.decode(video=0)]
    return [time for time, _ in shown], [time for time, light in shown if light > 135]


def beeps(path: Path) -> list[float]:
    """When the sound begins to beep."""
    found: list[float] = []
    last = -1.0
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            begin = float(frame.pts * frame.time_base)
            for at in np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.15):
                time = begin + at / frame.sample_rate
                if time - last > 0.15:
                    found.append(time)
                last = time
    return found


def require_in_step(path: Path, parts: int = 2, beeping: bool = True) -> None:
    times, lit = flashes(path)
    assert len(times) == 75 * parts
    assert {round(after - before, 3) for before, after in pairwise(times)} == {0.04}
    assert len(lit) == 3 * parts
    if beeping:
        heard = beeps(path)
        assert len(heard) == len(lit)
        assert max(abs(one - other) for one, other in zip(lit, heard, strict=True)) < IN_STEP_S


FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"

# The second part's clock begins this long after the first part's, which lasts 3 s.
BEGINS = [2.9, 2.5, 0.0, 10.0, 2.96, 2.99]


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("sound", ["mp2", "aac", "ac3", None])
def test_joined_transport_streams_are_one_clip(tmp_path: Path, sound: str | None, begin: float) -> None:
    path = join(tmp_path, "join.ts", [0.0, begin], sound=sound)
    source, clip = copy(path, tmp_path / "o.mp4")
    require_in_step(tmp_path / "o.mp4", beeping=sound is not None)
    assert source.count() == 150
    assert source.probe().duration_seconds == pytest.approx(6, abs=0.001)
    assert clip.warnings == []
    assert len(source.problems) <= 1
    if begin != 2.99:
        (warning,) = source.problems
        assert "the clock jumps once" in warning
        assert "at 3.000 s" in warning


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("join.ts", {"picture": "libx264", "sound": "aac", "bf": 2}),
        ("join.mpg", {"container": "mpeg"}),
        ("join.mkv", {"container": "matroska", "picture": "libx264", "sound": "aac"}),
        ("join.mkv", {"container": "matroska", "picture": "libx264", "sound": "libopus", "bf": 2}),
        ("join.mkv", {"container": "matroska", "picture": "libx264", "sound": "pcm_s16le"}),
        ("join.mp4", {"container": "mp4", "picture": "libx264", "sound": "aac", "options": {"movflags": FRAGMENTS}}),
    ],
)
def test_other_concatenated_recordings_are_one_clip(tmp_path: Path, name: str, part: dict) -> None:
    source, clip = copy(join(tmp_path, name, [0.0, 0.0], **part), tmp_path / "o.mp4")
    times, lit = flashes(tmp_path / "o.mp4")
    heard = beeps(tmp_path / "o.mp4")
    assert len(times) == source.count() == 150
    assert max(after - before for before, after in pairwise(times)) < 0.081
    assert len(lit) == len(heard) == 6
    assert max(abs(one - other) for one, other in zip(lit, heard, strict=True)) < IN_STEP_S
    assert clip.warnings == []
    assert len(source.problems) == 1


def test_several_joins_are_mended_each(tmp_path: Path) -> None:
    source, _ = copy(join(tmp_path, "join.ts", [0.0, 10.0, 2.5, 2.5]), tmp_path / "o.mp4")
    require_in_step(tmp_path / "o.mp4", parts=4)
    assert "3 times" in source.problems[0]


@pytest.mark.parametrize("sound_s", [2.5, 3.5])
@pytest.mark.parametrize("sound", ["mp2", "aac"])
def test_sound_that_ends_before_or_behind_its_picture_stays_in_step(tmp_path: Path, sound: str, sound_s: float) -> None:
    path = join(tmp_path, "join.ts", [0.0, 2.5], sound=sound, sound_s=sound_s)
    copy(path, tmp_path / "o.mp4")
    _, lit = flashes(tmp_path / "o.mp4")
    heard = beeps(tmp_path / "o.mp4")
    for time in lit:
        if sound_s > 3 or time % 3 < 2.4:
            assert min(abs(time - each) for each in heard) < IN_STEP_S


def test_a_span_behind_a_join_takes_its_own_sound(tmp_path: Path) -> None:
    copy(join(tmp_path, "join.ts", [0.0, 0.0]), tmp_path / "o.mp4", Selection(start_s=3.2, end_s=5.2))
    times, lit = flashes(tmp_path / "o.mp4")
    heard = beeps(tmp_path / "o.mp4")
    assert len(times) == 50
    assert len(lit) == len(heard) == 2
    assert max(abs(one - other) for one, other in zip(lit, heard, strict=True)) < IN_STEP_S


@pytest.mark.parametrize("name", ["join_mp2_2.97.ts", "join_aac_2.97.ts"])
def test_reported_joins_keep_sound_and_picture_together(shared_dir: Path, tmp_path: Path, name: str) -> None:
    path = shared_dir / "reports" / name
    if not path.is_file():
        pytest.skip(f"{path} isn't there")
    source, clip = copy(path, tmp_path / "o.mp4")
    times, _ = flashes(tmp_path / "o.mp4")
    assert len(times) == 150
    assert {round(after - before, 3) for before, after in pairwise(times)} == {0.04}
    assert clip.warnings == []
    assert len(source.problems) == 1
    with av.open(str(tmp_path / "o.mp4")) as file:
        spans = [(float(f.pts * f.time_base), f.samples / f.sample_rate) for f in file.decode(audio=0)]
    assert spans[0][0] == pytest.approx(times[0], abs=IN_STEP_S)
    assert sum(spans[-1]) == pytest.approx(times[-1] + 0.04, abs=2 * IN_STEP_S)
    assert max(abs(at + length - after) for (at, length), (after, _) in pairwise(spans)) < IN_STEP_S


@pytest.mark.parametrize("pause_s", [2, 30])
def test_a_pause_of_transcoded_sound_keeps_what_follows_in_its_place(tmp_path: Path, pause_s: int) -> None:
    path = write_part(tmp_path / "one.mkv", container="matroska", picture="libx264", sound="pcm_s16le")
    paused = tmp_path / "paused.mkv"
    with av.open(str(path)) as old, av.open(str(paused), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                if packet.pts * packet.time_base > Fraction(6, 5):
                    packet.pts, packet.dts = (
                        each + round(pause_s / packet.time_base) for each in (packet.pts, packet.dts)
                    )
                new.mux(packet)
    _, clip = copy(paused, tmp_path / "o.mp4")
    _, lit = flashes(tmp_path / "o.mp4")
    heard = beeps(tmp_path / "o.mp4")
    assert clip.warnings == []
    assert lit[1] - lit[0] == pytest.approx(pause_s + 1)
    assert max(abs(one - other) for one, other in zip(lit, heard, strict=True)) < IN_STEP_S


def stamps(
    index: int, times: Sequence[int], length: int = 40, place: Callable[[int], int] = lambda number: 10 * number
) -> Stamps:
    found = Stamps(index, Fraction(1, 1000))
    for number, time in enumerate(times):
        found.dts.append(time)
        found.pts.append(time)
        found.lengths.append(length)
        found.places.append(place(number) + index)
        found.numbers.append(number)
        found.count += 1
    return found


def steady(begin: int, end: int) -> list[int]:
    return list(range(begin, end, 40))


def shifts(format_name: str, picture: Sequence[int], *sounds: Sequence[int]) -> list[list[tuple[int, int]]]:
    streams = [stamps(number, times) for number, times in enumerate((picture, *sounds))]
    clock = find_clock(format_name, streams[0], streams[1:])
    return [[(part.first, part.shift) for part in clock.parts.get(each.index, ())] for each in streams]


def test_a_steady_clock_is_left_alone() -> None:
    picture = stamps(0, steady(0, 4000))
    assert find_clock("mpegts", picture, [stamps(1, steady(0, 4000))]) == STEADY
    assert find_clock("mpegts", stamps(0, []), []) == STEADY


def test_one_wrong_time_is_no_jump() -> None:
    for wrong in (0, 900, 10**9):
        assert shifts("mpegts", [*steady(0, 2000), wrong, *steady(2040, 4000)]) == [[]]
        sound = [*steady(0, 2000), wrong, *steady(2040, 4000)]
        assert shifts("mpegts", steady(0, 4000), sound)[1][2:] == [(51, 0)]


def test_a_leap_is_a_pause_where_recordings_are_not_joined_as_bytes() -> None:
    pause = [*steady(0, 2000), *steady(300_000, 302_000)]
    assert shifts("mov,mp4,m4a,3gp,3g2,mj2", pause) == [[]]
    assert shifts("mpegts", pause) == [[(0, 0), (50, -298_000)]]
    assert shifts("matroska,webm", [*steady(0, 2000), *steady(10**9, 10**9 + 2000)]) == [[(0, 0), (50, 2000 - 10**9)]]


def test_a_picture_held_while_the_sound_goes_on_is_no_jump() -> None:
    picture = stamps(0, [*steady(0, 2000), *steady(9000, 11_000)], place=lambda n: 10 * n if n < 50 else 10 * (n + 175))
    assert find_clock("mpegts", picture, [stamps(1, steady(0, 11_000))]) == STEADY


def test_the_sound_moves_with_the_picture_whatever_its_own_gap_is() -> None:
    picture = [*steady(0, 2000), *steady(500, 2500)]
    for begin in (500, 420, 560):
        sound = [*steady(0, 2000), *steady(begin, begin + 2000)]
        assert shifts("mpegts", picture, sound) == [[(0, 0), (50, 1500)], [(0, 0), (50, 1500)]]


def test_sound_that_alone_runs_back_goes_on_behind_what_was() -> None:
    assert shifts("mpegts", steady(0, 4000), [*steady(0, 2000), *steady(0, 2000)]) == [[], [(0, 0), (50, 2000)]]
    there_and_back = [*steady(0, 2000), *steady(1000, 2000), *steady(3000, 4000)]
    assert shifts("mpegts", steady(0, 4000), there_and_back)[1] == [(0, 0), (50, 1000), (75, 0)]


def test_sound_behind_the_next_parts_beginning_is_left_out() -> None:
    picture, sound = [*steady(0, 2000), *steady(0, 2000)], [*steady(0, 2400), *steady(0, 2000)]
    clock = find_clock("mpegts", stamps(0, picture), [stamps(1, sound, place=lambda n: n * 8)])
    first, second = clock.parts[1]
    assert first == Part(0, 0, until=2000)
    assert second == Part(60, 2000)
