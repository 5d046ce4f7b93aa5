import gc
import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.media import container
from pipeline.media.source import Selection
from pipeline.media.video_source import VideoSource

Film = Callable[..., Path]


def source(path: Path) -> VideoSource:
    return VideoSource(path, "film")


def times(path: Path, **selection: float) -> list[int]:
    return [frame.pts for frame in source(path).frames(Selection(**selection))]


def test_yields_every_frame_once_with_its_own_time(make_film: Film) -> None:
    pts = [0, 512, 700, 701, 5000, 60000, 60001, 90000]
    path = make_film(pts=pts)
    film = source(path)
    frames = list(film.frames())
    assert [frame.pts for frame in frames] == pts
    assert [frame.index for frame in frames] == list(range(8))
    assert {frame.time_base for frame in frames} == {Fraction(1, 12800)}
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3)}
    assert [round(float(frame.rgb[5, 40].mean())) for frame in frames] == pytest.approx(
        [40 + 5 * number for number in range(8)], abs=3
    )
    assert not film.report.damaged
    assert film.problems == ()


def test_probe_says_what_the_frames_will_be(make_film: Film) -> None:
    info = source(make_film(audio="aac", aspect=Fraction(4, 3), colour=(1, 1, 1, 1))).probe()
    assert info.size_hw == (48, 64)
    assert info.time_base == Fraction(1, 12800)
    assert info.average_rate == 25
    assert info.frames == 8
    assert info.start_pts == 0
    assert info.duration_seconds == pytest.approx(8 / 25)
    assert info.audio
    assert (info.colour.matrix, info.colour.range, info.colour.primaries, info.colour.trc) == (1, 1, 1, 1)
    assert info.sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize(
    ("rotation", "hflip"),
    [(0, False), (90, False), (180, False), (270, False), (0, True), (90, True), (180, True), (270, True)],
)
def test_applies_every_display_matrix(make_film: Film, rotation: int, hflip: bool) -> None:
    path = make_film(rotation=rotation, hflip=hflip, aspect=Fraction(2, 1), colour=(6, 1, 6, 6))
    film = source(path)
    frame = next(film.frames())
    upright = np.rot90(_stored(path), rotation // 90)
    expected = upright[:, ::-1] if hflip else upright
    assert film.probe().size_hw == expected.shape[:2]
    assert film.probe().sample_aspect_ratio == (Fraction(1, 2) if rotation % 180 else 2)
    assert np.abs(frame.rgb.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (3, 180), (6, -90), (8, 90)])
def test_motion_jpeg_is_turned_as_its_exif_says(
    make_picture: Callable[..., np.ndarray], tmp_path: Path, orientation: int, degrees: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = make_picture(1, (48, 64))
    picture = io.BytesIO()
    Image.fromarray(stored).save(picture, "JPEG", exif=exif, quality=95, subsampling=0)
    path = tmp_path / "camera.mjpg"
    path.write_bytes(picture.getvalue() * 3)
    film = source(path)
    frames = list(film.frames())
    assert len(frames) == 3
    assert np.abs(frames[2].rgb.astype(int) - np.rot90(stored, degrees // 90)).mean() < 3


def test_ffmpegs_messages_are_off(make_film: Film) -> None:
    path = make_film()
    av.logging.set_level(av.logging.ERROR)
    source(path).probe()
    assert av.logging.get_level() is None


def test_tags_that_are_not_utf_8_do_not_matter(make_film: Film) -> None:
    path = make_film(audio="aac")
    data = path.read_bytes()
    for tag in (b"VideoHandler", b"SoundHandler", b"Lavf"):
        assert tag in data
        data = data.replace(tag, b"\xe9" + tag[1:])
    path.write_bytes(data)
    assert len(list(source(path).frames())) == 8


def _stored(path: Path) -> np.ndarray:
    with av.open(str(path)) as opened:
        return next(opened.decode(video=0)).to_ndarray(format="rgb24")


def test_selects_by_time_and_interval(make_film: Film) -> None:
    path = make_film(pts=[1280 * number for number in range(10)], frames=10)
    assert times(path, start_s=0.2, end_s=0.6) == [2560, 3840, 5120, 6400]
    assert times(path, every=3) == [0, 3840, 7680, 11520]
    assert times(path, every=2, start_s=0.15, end_s=0.75) == [2560, 5120, 7680]
    assert times(path, start_s=5.0) == []
    for selection in (Selection(3), Selection(2, 0.15, 0.75), Selection(1, 0.2, 0.6), Selection(1, 5.0)):
        film = source(path)
        assert film.count(selection) == len(list(film.frames(selection)))


def test_seconds_are_counted_from_the_first_frame(make_film: Film) -> None:
    path = make_film(pts=[5000 + 1280 * number for number in range(5)])
    assert times(path, start_s=0.2, end_s=0.4) == [7560, 8840]


def test_yields_only_wanted_frames_under_their_own_index(make_film: Film) -> None:
    film = source(make_film())
    every = list(film.frames())
    some = list(film.frames(wanted={1, 6}))
    assert [frame.index for frame in some] == [1, 6]
    assert all(np.array_equal(frame.rgb, every[frame.index].rgb) for frame in some)
    assert film.report.frames == 2


@pytest.mark.parametrize("size_hw", [(1, 1), (16, 4096), (47, 63), (241, 3)])
def test_reads_any_size(make_film: Film, size_hw: tuple[int, int]) -> None:
    path = make_film("film.mkv", size_hw=size_hw, codec="ffv1", pix_fmt="bgr0", frames=2, options={})
    film = source(path)
    assert {frame.rgb.shape[:2] for frame in film.frames()} == {size_hw}
    assert film.probe().size_hw == size_hw


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "bgra", "options": {}}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray", "options": {}, "grey": True}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray16le", "options": {}, "grey": True}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuva420p", "options": {}}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le", "options": {}}),
        ("a.mp4", {"pix_fmt": "yuv420p10le"}),
        ("a.mp4", {"pix_fmt": "yuv444p"}),
        ("a.mp4", {"pix_fmt": "yuv422p"}),
        ("a.mp4", {"pix_fmt": "yuvj420p"}),
        ("a.mp4", {"colour": (1, 2, 1, 1)}),
        ("a.mp4", {"colour": (6, 1, 6, 6)}),
        ("a.mp4", {"colour": (9, 1, 9, 14), "pix_fmt": "yuv420p10le"}),
        ("a.webm", {"codec": "libvpx-vp9", "time_base": Fraction(1, 1000)}),
        ("a.webm", {"codec": "libvpx-vp9", "time_base": Fraction(1, 1000), "pix_fmt": "yuva420p"}),
        ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "time_base": Fraction(1, 25), "options": {"qmax": "2"}}),
        ("a.avi", {"codec": "mpeg4", "time_base": Fraction(1, 25), "options": {"qmax": "2"}}),
        ("a.ts", {"codec": "mpeg2video", "time_base": Fraction(1, 25), "frames": 16, "options": {"qmax": "2"}}),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else "-".join(str(v) for v in value.values()).replace("/", ":")[:40]
    ),
)
def test_brings_every_kind_of_pixel_to_the_same_rgb(make_film: Film, make_picture, name: str, changes: dict) -> None:
    grey = changes.pop("grey", False)
    film = source(make_film(name, **{"frames": 4, **changes}))
    frames = list(film.frames())
    assert len(frames) == changes.get("frames", 4)
    for number, frame in enumerate(frames):
        expected = make_picture(number, (48, 64)).astype(float)
        if grey:
            expected = (expected @ [0.299, 0.587, 0.114])[..., None].repeat(3, 2)
        flat = [(5, 40), (5, 5), (44, 40)]
        got = np.array([frame.rgb[spot] for spot in flat], dtype=float)
        assert np.abs(got - [expected[spot] for spot in flat]).max() <= 8


def test_leaves_no_frame_to_the_garbage_collector(make_film: Film) -> None:
    film = source(make_film(frames=40))
    film.probe()
    gc.collect()
    gc.disable()
    try:
        for _ in film.frames():
            pass
        assert gc.collect() < 40
    finally:
        gc.enable()


def test_reads_gif(tmp_path: Path) -> None:
    from PIL import Image

    pictures = [Image.new("RGB", (20, 10), (50 * n, 100, 10)) for n in range(4)]
    pictures[0].save(
        tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 200, 100, 100], loop=0
    )
    frames = list(source(tmp_path / "a.gif").frames())
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4])
    assert [tuple(frame.rgb[0, 0]) for frame in frames] == [(50 * n, 100, 10) for n in range(4)]


@pytest.mark.parametrize("trc", [16, 18])
def test_hdr_keeps_order_and_ends_of_brightness(make_film: Film, trc: int) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    path = make_film(pictures=[ramp] * 2, frames=2, pix_fmt="yuv420p10le", colour=(9, 1, 9, trc), options={"crf": "4"})
    film = source(path)
    row = next(film.frames()).rgb[20, :, 1].astype(int)
    assert film.probe().colour.hdr
    assert not film.probe().colour.displayed().hdr
    assert row[0] <= 4
    assert row[-1] >= 225
    assert (np.diff(row) >= -2).all()


def test_takes_the_first_video_stream_that_is_no_cover(make_film: Film) -> None:
    frames = list(source(make_film(videos=2)).frames())
    assert len(frames) == 8
    assert frames[0].rgb[5, 5, 0] > 180


def _with_cover(path: Path, film: Path | None) -> Path:
    """An MP4 whose first video stream is cover art, with the sound and, if there is a film, its video."""
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(data, "PNG")
    with av.open(str(path), "w") as out:
        cover = out.add_stream("png", rate=1)
        cover.height = cover.width = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=48000)
        inputs = av.open(str(film)) if film else None
        video = out.add_stream_from_template(inputs.streams.video[0]) if inputs else None
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        frame.pts = 0
        out.mux(cover.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts = 48000, 0
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
        if inputs:
            for packet in inputs.demux(video=0):
                if packet.size:
                    packet.stream = video
                    out.mux(packet)
            inputs.close()
    return path


def test_cover_art_is_no_video(make_film: Film, tmp_path: Path) -> None:
    film = source(_with_cover(tmp_path / "song_and_film.mp4", make_film()))
    assert len(list(film.frames())) == 8
    assert film.probe().size_hw == (48, 64)
    with pytest.raises(InputError, match="only cover art"):
        source(_with_cover(tmp_path / "song.mp4", None)).probe()


def test_start_may_lie_before_or_behind_zero(make_film: Film) -> None:
    assert times(make_film(pts=[7000 + 512 * n for n in range(8)]))[0] == 7000
    # Matroska can't say what lies before zero: such frames have no time, and get it back by counting.
    options = {"container_options": {"avoid_negative_ts": "disabled"}, "options": {"bf": "0"}}
    assert times(make_film("a.mkv", pts=[512 * n - 1024 for n in range(5)], **options)) == [-80, -40, 0, 40, 80]


def test_missing_times_are_filled_in(make_film: Film) -> None:
    path = make_film("film.h264", container="h264", options={"g": "4", "bf": "0"})
    film = source(path)
    frames = list(film.frames())
    steps = np.diff([frame.pts for frame in frames])
    assert len(frames) == 8
    assert len(set(steps)) == 1
    assert float(steps[0] * frames[0].time_base) == pytest.approx(1 / film.probe().average_rate)
    assert film.count() == 8


def test_frame_count_is_counted_not_believed(make_film: Film) -> None:
    path = make_film("film.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25), options={})
    data = bytearray(path.read_bytes())
    header = data.index(b"avih") + 8
    data[header + 16 : header + 20] = struct.pack("<I", 999)
    stream = data.index(b"strh") + 8
    data[stream + 32 : stream + 36] = struct.pack("<I", 999)
    path.write_bytes(data)
    film = source(path)
    assert film.probe().frames == 8
    assert len(list(film.frames())) == 8
    assert film.report.missing_frames == 991
    assert "claims 991 frames more" in film.problems[0]


def test_size_that_changes_is_scaled_to_the_first(make_film: Film, tmp_path: Path) -> None:
    options = {"codec": "mpeg2video", "container": "mpegts", "time_base": Fraction(1, 25), "options": {"bf": "0"}}
    small = make_film("a.ts", **options)
    large = make_film("b.ts", size_hw=(96, 128), **options)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    film = source(joined)
    frames = list(film.frames())
    assert len(frames) >= 15
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3)}
    assert (np.diff([frame.pts for frame in frames]) > 0).all()
    assert any("changes its picture size" in problem for problem in film.problems)


def test_goes_on_behind_damage_and_counts_what_is_lost(make_film: Film) -> None:
    path = make_film("film.mov", frames=40, codec="png", pix_fmt="rgb24", options={})
    packets = _packets(path)
    data = bytearray(path.read_bytes())
    for number in (10, 11, 25):
        data[packets[number] : packets[number] + 40] = bytes(40)
    path.write_bytes(data)
    film = source(path)
    frames = list(film.frames())
    assert [(frame.rgb[5, 40, 0] - 40) // 5 for frame in frames] == [n for n in range(40) if n not in (10, 11, 25)]
    assert [frame.index for frame in frames] == list(range(37))
    assert film.report.lost_frames == 3
    assert film.report.damaged
    assert "3 frames can't be decoded" in film.problems[0]


def test_a_strict_pass_says_what_was_lost_and_where(make_film: Film) -> None:
    path = make_film("film.mov", frames=40, codec="png", pix_fmt="rgb24", options={})
    packets = _packets(path)
    data = bytearray(path.read_bytes())
    for number in (20, 21):
        data[packets[number] : packets[number] + 40] = bytes(40)
    path.write_bytes(data)
    seen = []
    with pytest.raises(
        InputError, match=r"2 frames can't be decoded and are left out, first at 0\.800 s; without --strict"
    ):
        seen.extend(frame.index for frame in source(path).frames(Selection(strict=True)))
    assert seen == list(range(38))
    before = list(source(path).frames(Selection(end_s=0.8, strict=True)))
    assert len(before) == 20


def test_a_strict_pass_takes_a_lost_tail_for_damage_only_where_it_was_wanted(make_film: Film) -> None:
    path = make_film("film.avi", codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25), options={}, frames=10)
    data = bytearray(path.read_bytes())
    for name, offset in ((b"avih", 16), (b"strh", 32)):
        place = data.index(name) + 8 + offset
        data[place : place + 4] = struct.pack("<I", 15)
    path.write_bytes(data)
    with pytest.raises(InputError, match="claims 5 frames more"):
        list(source(path).frames(Selection(strict=True)))
    assert len(list(source(path).frames(Selection(end_s=0.2, strict=True)))) == 5


def _packets(path: Path) -> list[int]:
    """Where the packets' payloads begin in the file."""
    data = path.read_bytes()
    with av.open(str(path)) as opened:
        return [data.index(bytes(packet)) for packet in opened.demux(video=0) if packet.size]


def test_h264_damaged_in_the_middle_gives_the_same_frames_each_time(make_film: Film) -> None:
    path = make_film(frames=40, size_hw=(64, 96), options={"g": "8"})
    positions = _packets(path)
    data = bytearray(path.read_bytes())
    for number in (12, 13, 30):
        data[positions[number] : positions[number] + 12] = b"\xff" * 12
    path.write_bytes(data)
    film = source(path)
    first = [(frame.pts, frame.rgb.tobytes()) for frame in film.frames()]
    lost = film.report
    assert len(first) + lost.lost_frames == 40
    assert lost.damaged
    for _ in range(2):
        assert [(frame.pts, frame.rgb.tobytes()) for frame in film.frames()] == first
        assert film.report == lost


def test_lost_tail_yields_what_is_left(make_film: Film) -> None:
    path = make_film(frames=40, container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    film = source(path)
    frames = list(film.frames())
    assert 3 < len(frames) < 40
    assert film.report.damaged
    assert film.problems


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "changes", "damage", "message"),
    [
        ("no_moov.mp4", {}, _truncated, "truncated or broken"),
        ("no_frame.mp4", {"frames": 0, "audio": "aac"}, None, "no frame|no video"),
        ("text.mp4", {}, lambda path: path.write_text("not a film\n" * 40), "not a video"),
        ("empty.mp4", {}, lambda path: path.write_bytes(b""), "empty"),
        ("zeros.mp4", {}, lambda path: path.write_bytes(bytes(5000)), "not a video"),
        ("gone.mp4", {}, lambda path: path.unlink(), "doesn't exist"),
        ("folder.mp4", {}, lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(
    make_film: Film, name: str, changes: dict, damage, message: str
) -> None:
    path = make_film(name, **changes)
    if damage:
        damage(path)
    for use in (lambda film: film.probe(), lambda film: list(film.frames())):
        with pytest.raises(InputError, match=message) as caught:
            use(source(path))
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_frames_too_large_to_be_true_are_refused(make_film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_film()
    monkeypatch.setattr(container, "MAX_FRAME_PIXELS", 48 * 64 - 1)
    with pytest.raises(InputError, match="claims frames of more than"):
        source(path).probe()


def test_size_that_grows_behind_the_header_is_refused(
    make_film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"codec": "mpeg2video", "container": "mpegts", "time_base": Fraction(1, 25), "options": {"bf": "0"}}
    parts = [make_film("a.ts", **options), make_film("b.ts", size_hw=(960, 1280), **options)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    monkeypatch.setattr(container, "MAX_FRAME_PIXELS", 100_000)
    film = source(joined)
    frames = list(film.frames())
    # The decoder holds one frame back, which may go down with the first one refused.
    assert len(frames) in (7, 8)
    assert len(frames) + film.report.lost_frames == 16


def test_audio_only_is_refused(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    with pytest.raises(InputError, match="sound but no video"):
        source(tmp_path / "a.wav").probe()


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile film.mp4\n",
    ],
)
def test_files_that_name_other_files_are_refused(make_film: Film, tmp_path: Path, content: str) -> None:
    make_film()
    (tmp_path / "list.mp4").write_text(content)
    with pytest.raises(InputError):
        source(tmp_path / "list.mp4").probe()


@pytest.mark.parametrize("name", ["a:b.mp4", "http:.mp4", "-i.mp4", "näme\nmit.mp4", "%03d.mp4", "a b'c.mp4"])
def test_any_file_name_is_a_file_name(make_film: Film, name: str) -> None:
    assert len(list(source(make_film(name, frames=2)).frames())) == 2


def test_flipped_bytes_never_raise_anything_but_input_errors(make_film: Film) -> None:
    path = make_film(frames=12, audio="aac")
    good = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(good)
        for place in random.integers(0, len(data), 12):
            data[place] = random.integers(256)
        path.write_bytes(data[: random.integers(1, len(data) + 1)] if random.random() < 0.3 else data)
        film = source(path)
        try:
            frames = list(film.frames())
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert (np.diff([frame.pts for frame in frames]) > 0).all()
            assert len({frame.rgb.shape for frame in frames}) == 1
