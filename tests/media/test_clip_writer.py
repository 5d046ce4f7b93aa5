import hashlib
import logging
import os
import resource
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from av.stream import Disposition

from pipeline.errors import InputError, OutputError
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.colour import SRGB, Colour
from pipeline.media.orientation import UPRIGHT
from pipeline.media.source import ALL_FRAMES, Selection, SourceInfo
from pipeline.media.video_source import VideoSource

Film = Callable[..., Path]


def copy(path: Path, out: Path, selection: Selection = ALL_FRAMES, **options: int) -> ClipWriter:
    source = VideoSource(path, "film")
    info = source.probe()
    with ClipWriter(
        out, info.size_hw, info, audio=path if info.audio else None, selection=selection, **options
    ) as clip:
        for frame in source.frames(selection):
            clip.write(frame.pts, frame.rgb)
    return clip


def info_of(size_hw: tuple[int, int], base: Fraction = Fraction(1, 25), start: int = 0, **changes) -> SourceInfo:
    facts = {"average_rate": Fraction(25), "frames": 4, "end_pts": start + 4, "audio": False, "colour": SRGB}
    return SourceInfo(size_hw=size_hw, time_base=base, start_pts=start, **{**facts, **changes})


def write(path: Path, info: SourceInfo, pts: list[int], make_picture) -> None:
    with ClipWriter(path, info.size_hw, info) as clip:
        for number, time in enumerate(pts):
            clip.write(time, make_picture(number, info.size_hw))


@pytest.mark.parametrize(
    ("base", "pts"),
    [
        (Fraction(1, 25), [0, 1, 2, 3]),
        (Fraction(1, 12800), [0, 511, 512, 9000]),
        (Fraction(1001, 30000), [0, 1, 2, 7]),
        (Fraction(1, 1000), [33, 67, 100, 133]),
        (Fraction(1, 90000), [48600, 52200, 52201, 59400]),
        (Fraction(1, 1_000_000), [0, 33_333, 66_666, 60_000_000]),
        (Fraction(1, 10_000_000), [7, 333_333, 666_666, 999_999]),
        (Fraction(2, 1), [0, 1, 2, 500]),
        (Fraction(100, 2997), [0, 1, 2, 3]),
    ],
)
def test_every_frame_keeps_its_time(tmp_path: Path, make_picture, read_times, base: Fraction, pts: list[int]) -> None:
    write(tmp_path / "o.mp4", info_of((32, 48), base, pts[0]), pts, make_picture)
    assert read_times(tmp_path / "o.mp4") == [time * base for time in pts]


def test_times_too_fine_for_mp4_are_rounded_to_microseconds(tmp_path: Path, make_picture, read_times) -> None:
    write(tmp_path / "o.mp4", info_of((32, 48), Fraction(1, 10**9)), [0, 1, 2_000_500, 9_000_000_000], make_picture)
    assert read_times(tmp_path / "o.mp4") == [Fraction(n, 10**6) for n in (0, 1, 2000, 9_000_000)]


def test_negative_times_begin_at_zero(tmp_path: Path, make_picture, read_times) -> None:
    write(tmp_path / "o.mp4", info_of((32, 48), start=-10), [-10, -9, -7, 3], make_picture)
    assert read_times(tmp_path / "o.mp4") == [Fraction(n, 25) for n in (0, 1, 3, 13)]


@pytest.mark.parametrize("size_hw", [(1, 1), (47, 63), (48, 64), (16, 4096), (241, 3)])
def test_odd_sides_get_a_copy_of_the_last_row_or_column(tmp_path: Path, make_picture, size_hw: tuple[int, int]) -> None:
    write(tmp_path / "o.mp4", info_of(size_hw), [0, 1, 2], make_picture)
    frames = list(VideoSource(tmp_path / "o.mp4", "x").frames())
    height, width = size_hw
    assert [frame.size_hw for frame in frames] == [(height + height % 2, width + width % 2)] * 3
    expected = np.pad(make_picture(2, size_hw), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    assert np.abs(frames[2].rgb.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    "colour", [Colour(1, 1, 1, 1), Colour(6, 1, 6, 6), Colour(5, 2, 5, 6), Colour(9, 1, 9, 14), Colour()]
)
def test_colours_come_back_and_are_tagged(tmp_path: Path, make_picture, colour: Colour) -> None:
    info = info_of((48, 64), colour=colour, sample_aspect_ratio=Fraction(4, 3))
    write(tmp_path / "o.mp4", info, [0, 1], make_picture)
    source = VideoSource(tmp_path / "o.mp4", "x")
    assert source.probe().colour == colour
    assert source.probe().sample_aspect_ratio == Fraction(4, 3)
    frame = next(source.frames())
    for spot in ((5, 40), (5, 5), (44, 40)):
        assert np.abs(frame.rgb[spot].astype(int) - make_picture(0, (48, 64))[spot]).max() <= 5


def test_is_h264_yuv420p_with_its_index_in_front(make_film: Film, tmp_path: Path) -> None:
    copy(make_film(pix_fmt="yuv444p"), tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert not {"creation_time", "encoder"} & set(container.metadata)
    data = (tmp_path / "o.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_painted_in(make_film: Film, tmp_path: Path, rotation: int) -> None:
    path = make_film(rotation=rotation)
    copy(path, tmp_path / "o.mp4")
    before, after = VideoSource(path, "a"), VideoSource(tmp_path / "o.mp4", "b")
    assert after.probe().size_hw == before.probe().size_hw
    assert after._first_orientation[1] == UPRIGHT != before._first_orientation[1]
    assert np.abs(next(after.frames()).rgb.astype(int) - next(before.frames()).rgb).mean() < 4


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_sound_is_copied_packet_by_packet(make_film: Film, tmp_path: Path, read_audio, name: str) -> None:
    path = make_film(name, audio="aac", audio_seconds=1.0)
    clip = copy(path, tmp_path / "o.mp4")
    (before,), (after,) = read_audio(path), read_audio(tmp_path / "o.mp4")
    assert [data for _, data in after] == [data for _, data in before]
    assert max(abs(a - b) for (a, _), (b, _) in zip(before, after, strict=True)) <= Fraction(1, 48000)
    assert clip.warnings == []


def test_sound_that_mp4_players_do_not_know_becomes_aac(make_film: Film, tmp_path: Path) -> None:
    path = make_film("film.mkv", audio="pcm_s16le", audio_seconds=1.0)
    copy(path, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert abs(len(wave) / 48000 - 1.0) < 0.06
    assert 0.1 < np.abs(wave).mean() < 0.3


def test_a_span_takes_its_sound_along(make_film: Film, tmp_path: Path, read_times, read_audio) -> None:
    path = make_film(frames=25, audio="aac", audio_seconds=1.0)
    copy(path, tmp_path / "o.mp4", Selection(1, 0.4, 0.8))
    assert read_times(tmp_path / "o.mp4") == [Fraction(n, 25) for n in range(10)]
    kept = [data for _, data in read_audio(tmp_path / "o.mp4")[0]]
    times = {data: time for time, data in read_audio(path)[0]}
    packet = Fraction(1024, 48000)
    spans = [times[data] for data in kept]
    assert Fraction(2, 5) - packet < spans[0] <= Fraction(2, 5)
    assert Fraction(4, 5) - packet <= spans[-1] < Fraction(4, 5)
    assert read_audio(tmp_path / "o.mp4")[0][0][0] == pytest.approx(float(spans[0] - Fraction(2, 5)), abs=1e-4)


def test_an_end_alone_keeps_the_sound_before_the_first_frame(make_film: Film, tmp_path: Path, read_audio) -> None:
    path = make_film(frames=25, pts=[2560 + 512 * n for n in range(25)], audio="aac", audio_seconds=1.0)
    copy(path, tmp_path / "o.mp4", Selection(end_s=0.4))
    kept, all_of_it = read_audio(tmp_path / "o.mp4")[0], read_audio(path)[0]
    assert kept == all_of_it[: len(kept)]
    assert kept[-1][0] < Fraction(1, 5) + Fraction(2, 5) <= all_of_it[len(kept)][0]


def test_every_nth_frame_keeps_its_time_and_all_sound(make_film: Film, tmp_path: Path, read_times, read_audio) -> None:
    path = make_film(frames=25, audio="aac", audio_seconds=1.0)
    copy(path, tmp_path / "o.mp4", Selection(5))
    assert read_times(tmp_path / "o.mp4") == [Fraction(n, 25) for n in range(0, 25, 5)]
    assert len(read_audio(tmp_path / "o.mp4")[0]) == len(read_audio(path)[0])


def test_same_frames_give_the_same_bytes(make_film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_film(frames=12, size_hw=(96, 128), audio="pcm_s16le")
    digests = set()
    for number in range(3):
        out = tmp_path / f"o{number}.mp4"
        copy(path, out)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        copy(path, tmp_path / "single.mp4")
    finally:
        os.sched_setaffinity(0, cores)
    digests.add(hashlib.sha256((tmp_path / "single.mp4").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_an_error_leaves_nothing_and_the_old_clip_untouched(make_film: Film, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "o.mp4").write_text("earlier result")
    source = VideoSource(make_film(audio="aac"), "film")
    with (
        pytest.raises(KeyboardInterrupt),
        ClipWriter(folder / "o.mp4", (48, 64), source.probe(), audio=source.path) as clip,
    ):
        for frame in source.frames():
            clip.write(frame.pts, frame.rgb)
            if frame.index == 5:
                raise KeyboardInterrupt
    assert [file.name for file in folder.iterdir()] == ["o.mp4"]
    assert (folder / "o.mp4").read_text() == "earlier result"


def test_a_clip_of_no_frames_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="no frame was selected"),
        ClipWriter(tmp_path / "o.mp4", (8, 8), info_of((8, 8))),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_sound_file_are_told(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="folder doesn't exist"),
        ClipWriter(tmp_path / "no" / "o.mp4", (8, 8), info_of((8, 8))),
    ):
        pass
    gone = tmp_path / "gone.mp4"
    with (
        pytest.raises(InputError, match="doesn't exist"),
        ClipWriter(tmp_path / "o.mp4", (8, 8), info_of((8, 8)), audio=gone),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        small = ClipWriter(tmp_path / "o.mp4", (240, 320), info_of((240, 320)), crf=1)
        with pytest.raises(OutputError, match="larger than allowed"), small as clip:
            for number in range(200):
                clip.write(number, noise.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_refuses_frames_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"), ClipWriter(tmp_path / "o.mp4", (8, 8), info_of((8, 8))) as clip:
        clip.write(0, np.zeros((8, 10, 3), np.uint8))


def test_crf_changes_the_size(make_film: Film, tmp_path: Path) -> None:
    path = make_film(size_hw=(96, 128))
    copy(path, tmp_path / "fine.mp4", crf=5)
    copy(path, tmp_path / "coarse.mp4", crf=45)
    assert (tmp_path / "fine.mp4").stat().st_size > (tmp_path / "coarse.mp4").stat().st_size


def test_damaged_sound_does_not_stop_the_clip(
    make_film: Film, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_film("film.mkv", audio="flac", audio_seconds=1.0, frames=25)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = bytes(600)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        copy(path, tmp_path / "o.mp4")
    assert len(list(VideoSource(tmp_path / "o.mp4", "x").frames())) >= 10


@pytest.mark.parametrize(
    ("name", "film", "there", "instead"),
    [
        # Opus without its header: MP4 refuses that when the clip is finished.
        (
            "film.webm",
            {"codec": "libvpx-vp9", "time_base": Fraction(1, 1000), "audio": "libopus"},
            b"\x63\xa2",
            b"\x63\xa3",
        ),
        # No packet says a rate: MP4 refuses that when the clip is begun.
        ("film.ts", {"codec": "mpeg2video", "time_base": Fraction(1, 25), "audio": "mp2"}, b"\xff\xfd", b"\0\0"),
    ],
)
def test_sound_of_which_nothing_is_known_is_left_out(
    make_film: Film, tmp_path: Path, name: str, film: dict, there: bytes, instead: bytes
) -> None:
    path = make_film(name, **film)
    data = path.read_bytes()
    assert there in data
    path.write_bytes(data.replace(there, instead))
    clip = copy(path, tmp_path / "o.mp4")
    assert len(list(VideoSource(tmp_path / "o.mp4", "x").frames())) == VideoSource(path, "x").probe().frames
    assert [warning for warning in clip.warnings if "left out" in warning]


def write_tracks(path: Path, tracks: list[dict]) -> Path:
    """A short clip with sound tracks; each with its codec and layout, and what it says of itself."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25, options={"g": "4"})
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        streams = []
        for track in tracks:
            stream = file.add_stream(track.get("codec", "pcm_s16le"), rate=48000, layout=track.get("layout", "stereo"))
            stream.metadata.update({key: track[key] for key in ("language", "title") if key in track})
            stream.disposition = track.get("disposition", 0)
            streams.append(stream)
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * number, np.uint8), format="rgb24")
            file.mux(video.encode(frame))
        for stream in streams:
            kind, channels = stream.codec_context.format.name, stream.layout.nb_channels
            for start in range(0, 48000, 960):
                at = (start + np.arange(960)) / 48000
                # Each channel has a tone of its own.
                wave = np.stack([np.sin(2 * np.pi * 200 * (1 + channel) * at) * 0.2 for channel in range(channels)])
                if kind == "s16":
                    wave = (wave.T.reshape(1, -1) * 32767).astype(np.int16)
                tone = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave.astype(np.int16 if kind == "s16" else np.float32)),
                    format=kind,
                    layout=stream.layout.name,
                )
                tone.sample_rate, tone.pts, tone.time_base = 48000, start, Fraction(1, 48000)
                file.mux(stream.encode(tone))
        for stream in file.streams:
            file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1"])
def test_channels_become_aac_of_the_same_layout(tmp_path: Path, layout: str) -> None:
    clip = copy(write_tracks(tmp_path / "film.mkv", [{"layout": layout}]), tmp_path / "o.mp4")
    assert clip.warnings == []
    with av.open(str(tmp_path / "o.mp4")) as file:
        stream = file.streams.audio[0]
        assert stream.layout.nb_channels == av.AudioLayout(layout).nb_channels
        # Interleaved: PyAV sees a ninth plane behind eight.
        flat = AudioResampler(format="flt", layout=stream.layout, rate=48000)
        pieces = [each.to_ndarray()[0] for frame in file.decode(audio=0) for each in flat.resample(frame)]
        waves = np.concatenate(pieces).reshape(-1, stream.layout.nb_channels).T[:, 9600:33600]
    loudest = np.abs(np.fft.rfft(waves * np.hanning(waves.shape[1]), axis=1)).argmax(axis=1) * 48000 / waves.shape[1]
    expected = {200.0 * (1 + channel) for channel in range(len(waves))}
    # A low-frequency channel passes only what is low.
    assert len(expected & set(np.round(loudest, -1))) >= len(waves) - 1


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_languages_titles_and_the_default_track_are_kept(tmp_path: Path, codec: str) -> None:
    tracks = [
        {"codec": codec, "language": "deu", "title": "Ton"},
        {"codec": codec, "language": "fra", "title": "Commentaire", "disposition": Disposition.default},
        {"codec": codec, "language": "eng"},
    ]
    copy(write_tracks(tmp_path / "film.mkv", tracks), tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as file:
        found = file.streams.audio
        assert [stream.metadata.get("language") for stream in found] == ["deu", "fra", "eng"]
        # FFmpeg 9 calls it `name`.
        titles = [stream.metadata.get("title") or stream.metadata.get("name") for stream in found]
        assert titles == ["Ton", "Commentaire", None]
        assert [bool(stream.disposition & Disposition.default) for stream in found] == [False, True, False]
