"""How long the last picture is shown, and which frames a file lacks, by its packets."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.avi import count_empty_chunks
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.pictures import write_picture
from pipeline.media.source import ALL_FRAMES, Selection, Source
from pipeline.media.video_source import VideoSource

Film = Callable[..., Path]
MILLI = Fraction(1, 1000)


def shown(source: Source, out: Path, selection: Selection = ALL_FRAMES) -> list[tuple[Fraction, Fraction]]:
    """When each picture of a copied clip is shown, and until when, in seconds."""
    info = source.probe()
    audio = source.path if info.audio else None
    with ClipWriter(out, info.size_hw, info, audio=audio, selection=selection) as clip:
        for frame in source.frames(selection):
            clip.write(frame.pts, frame.rgb)
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        packets = [(packet.pts, packet.pts + packet.duration) for packet in file.demux(stream) if packet.size]
        assert stream.duration == packets[-1][1] - packets[0][0]
        return [(begin * stream.time_base, end * stream.time_base) for begin, end in packets]


def write_held(path: Path, held_ms: int, audio: bool = False) -> Path:
    """Frames at 0, 0.1 and 0.3 s, the last one shown for `held_ms`."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=10, options={"bf": "0"})
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.codec_context.time_base = MILLI
        sound = file.add_stream("aac", rate=48000) if audio else None
        packets = []
        for number, pts in enumerate((0, 100, 300)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, MILLI
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet, length in zip(packets, (100, 200, held_ms), strict=True):
            packet.duration = length
            file.mux(packet)
        if sound is not None:
            for start in range(0, 9600, 1024):
                wave = np.zeros((sound.layout.nb_channels, 1024), np.float32)
                tone = av.AudioFrame.from_ndarray(wave, format="fltp", layout=sound.layout.name)
                tone.sample_rate, tone.pts, tone.time_base = 48000, start, Fraction(1, 48000)
                file.mux(sound.encode(tone))
            file.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("audio", [False, True])
def test_the_last_frame_lasts_as_long_as_the_source_says(tmp_path: Path, name: str, audio: bool) -> None:
    source = VideoSource(write_held(tmp_path / name, 2500, audio), "film")
    times = shown(source, tmp_path / "o.mp4")
    assert [begin for begin, _ in times] == [0, Fraction(1, 10), Fraction(3, 10)]
    assert times[-1][1] == Fraction(28, 10)
    assert source.probe().duration_seconds == pytest.approx(2.8)


def test_where_nothing_says_it_lasts_as_long_as_its_usual_frame(make_film: Film, tmp_path: Path) -> None:
    path = make_film("film.ts", codec="mpeg2video", time_base=Fraction(1, 25))
    times = shown(VideoSource(path, "film"), tmp_path / "o.mp4")
    assert times[-1][1] - times[-1][0] == Fraction(1, 25)
    assert times[-1][1] - times[0][0] == Fraction(8, 25)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8, 100])
def test_with_an_interval_the_clip_is_as_long_as_the_source(make_film: Film, tmp_path: Path, every: int) -> None:
    times = shown(VideoSource(make_film(frames=9), "film"), tmp_path / "o.mp4", Selection(every))
    assert times[-1][1] == Fraction(9, 25)
    files = []
    for number in range(9):
        files.append(tmp_path / f"{number}.png")
        write_picture(files[-1], np.full((16, 16, 3), 20 * number, np.uint8))
    times = shown(DirectorySource(tmp_path, "pictures", 12, files), tmp_path / "p.mp4", Selection(every))
    assert times[-1][1] == Fraction(9, 12)


def test_a_span_ends_where_it_was_said(make_film: Film, tmp_path: Path) -> None:
    source = VideoSource(make_film(frames=25), "film")
    assert shown(source, tmp_path / "a.mp4", Selection(5, 0.2, 0.7))[-1][1] == Fraction(1, 2)
    assert shown(source, tmp_path / "b.mp4", Selection(2, None, 0.3))[-1][1] == Fraction(3, 10)
    assert shown(source, tmp_path / "c.mp4", Selection(1, 0.8, 99.0))[-1][1] == Fraction(1, 5)


def test_one_frame_lasts(make_film: Film, tmp_path: Path) -> None:
    assert shown(VideoSource(make_film(frames=1), "film"), tmp_path / "o.mp4") == [(0, Fraction(1, 25))]
    path = make_film("one.mkv", frames=1, codec="ffv1", pix_fmt="bgr0", options={})
    assert shown(VideoSource(path, "film"), tmp_path / "m.mp4") == [(0, Fraction(1, 25))]


@pytest.mark.parametrize(
    ("name", "ends"), [("held.mp4", 6), ("held_silent.mp4", 6), ("lastlong.gif", 3.3), ("pause10MHz.mp4", 300.133333)]
)
def test_reported_ends(shared_dir: Path, tmp_path: Path, name: str, ends: float) -> None:
    path = shared_dir / "reports" / name
    if not path.is_file():
        pytest.skip(f"{path} isn't there")
    source = VideoSource(path, "film")
    for every in (1, 2, 3):
        times = shown(source, tmp_path / "o.mp4", Selection(every))
        assert float(times[-1][1]) == pytest.approx(ends, abs=1e-6)
        expected = [float(frame.pts * frame.time_base) for frame in source.frames(Selection(every))]
        assert [float(begin) for begin, _ in times] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("pause_s", [300, 3000, 40_000])
def test_a_long_pause_at_a_fine_time_base_gets_a_coarser_unit(
    make_film: Film, tmp_path: Path, make_picture, pause_s: int
) -> None:
    tick = 10**7
    pts = [0, 333_333, 666_666, 666_666 + pause_s * tick, 999_999 + pause_s * tick]
    path = make_film("film.mkv", frames=5, pts=[round(each / 10_000) for each in pts], time_base=MILLI)
    source = VideoSource(path, "film")
    times = shown(source, tmp_path / "o.mp4")
    assert [float(begin) for begin, _ in times] == pytest.approx(
        [round(each / 10_000) / 1000 for each in pts], abs=1e-4
    )
    info = VideoSource(path, "film").probe()
    fine = type(info)(
        **{field: getattr(info, field) for field in info.__dataclass_fields__}
        | {"time_base": Fraction(1, tick), "end_pts": pts[-1] + 333_333, "longest": pause_s * tick}
    )
    with ClipWriter(tmp_path / "fine.mp4", info.size_hw, fine) as clip:
        for number, each in enumerate(pts):
            clip.write(each, make_picture(number, info.size_hw))
    with av.open(str(tmp_path / "fine.mp4")) as file:
        found = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    assert found == pytest.approx([each / tick for each in pts], abs=5e-5)


def avi_with_empty_chunks(make_film: Film, trailing: int) -> Path:
    """Frames at 0, 1, 4 and 5, and empty chunks between and behind them, as the format has it."""
    path = make_film(
        "film.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25), options={}, frames=4, pts=[0, 1, 4, 5]
    )
    data = bytearray(path.read_bytes())
    index = data.index(b"idx1")
    size = struct.unpack("<I", data[index + 4 : index + 8])[0]
    last = data[index + 8 + size - 16 : index + 8 + size]
    offset = struct.unpack("<I", last[8:12])[0]
    entries = b"".join(b"00dc" + struct.pack("<III", 0, offset + 8, 0) for _ in range(trailing))
    data[index + 8 + size : index + 8 + size] = entries
    data[index + 4 : index + 8] = struct.pack("<I", size + len(entries))
    data[index:index] = b"00dc\0\0\0\0" * trailing
    movi = data.index(b"movi") - 4
    data[movi : movi + 4] = struct.pack("<I", struct.unpack("<I", data[movi : movi + 4])[0] + 8 * trailing)
    for name, place in ((b"avih", 16), (b"strh", 32)):
        at = data.index(name) + 8 + place
        data[at : at + 4] = struct.pack("<I", 6 + trailing)
    data[4:8] = struct.pack("<I", len(data) - 8)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("trailing", [0, 1, 10])
def test_empty_chunks_of_avi_are_the_frame_before_again(make_film: Film, tmp_path: Path, trailing: int) -> None:
    path = avi_with_empty_chunks(make_film, trailing)
    assert count_empty_chunks(path, 0) == 2 + trailing
    source = VideoSource(path, "film")
    times = shown(source, tmp_path / "o.mp4", Selection(strict=True))
    assert [begin * 25 for begin, _ in times] == [0, 1, 4, 5]
    assert times[-1][1] * 25 == 6 + trailing
    assert source.problems == ()


def test_a_cut_off_avi_still_lacks_its_tail(make_film: Film) -> None:
    path = make_film(
        "film.avi",
        codec="mjpeg",
        pix_fmt="yuvj420p",
        time_base=Fraction(1, 25),
        options={},
        frames=10,
        pts=[*range(9), 11],
    )
    data = path.read_bytes()
    places = [at for at in range(len(data)) if data.startswith(b"00dc", at)]
    path.write_bytes(data[: places[5]])
    source = VideoSource(path, "film")
    left = len(list(source.frames()))
    assert 0 < left < 9
    assert count_empty_chunks(path, 0) is None
    assert source.report.missing_frames == 12 - left


def test_the_reported_avi_lacks_nothing(shared_dir: Path) -> None:
    path = shared_dir / "reports" / "beep_mp3.avi"
    if not path.is_file():
        pytest.skip(f"{path} isn't there")
    source = VideoSource(path, "film")
    assert len(list(source.frames(Selection(strict=True)))) == 125
    assert source.problems == ()
