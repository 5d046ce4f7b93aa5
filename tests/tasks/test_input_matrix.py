"""Unusual inputs: each decodable frame once at its own time, or a one-line error.

`VIDPARTS_FUZZ_SEEDS` of 2000 (the nightly form) uses all real files, else the fast ones.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, with_values
from pipeline.errors import InputError
from pipeline.media.clip_reader import frame_times
from pipeline.media.label_store import open_labels
from pipeline.runs.record import InputResult
from pipeline.tasks.fit import fit
from pipeline.tasks.segment import segment
from pipeline.tasks.verify import verify

Film = Callable[..., Path]
Segment = Callable[[Path], InputResult]

EVERY_FILE = int(os.environ.get("VIDPARTS_FUZZ_SEEDS", "0")) >= 2000
QUICK_PIXELS = 1_500_000
"""Files with fewer pixels in all frames together take about a second."""

AVI = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "time_base": Fraction(1, 25), "options": {}}
WEBM = {"time_base": Fraction(1, 1000), "frames": 4}
LOSSLESS = {"codec": "ffv1", "options": {}, "frames": 2}
FILMS = {
    "variable frame rate": ("a.mp4", {"pts": [0, 512, 700, 701, 5000, 60000, 60001, 90000]}),
    "rotation": ("a.mp4", {"rotation": 90}),
    "mirrored": ("a.mp4", {"rotation": 180, "hflip": True}),
    "odd sides": ("a.mkv", {**LOSSLESS, "pix_fmt": "bgr0", "size_hw": (47, 63)}),
    "1x1": ("a.mkv", {**LOSSLESS, "pix_fmt": "bgr0", "size_hw": (1, 1)}),
    "4096x16": ("a.mkv", {**LOSSLESS, "pix_fmt": "bgr0", "size_hw": (16, 4096)}),
    "alpha": ("a.mkv", {**LOSSLESS, "pix_fmt": "bgra"}),
    "10 bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "4:4:4": ("a.mp4", {"pix_fmt": "yuv444p"}),
    "4:2:2": ("a.mp4", {"pix_fmt": "yuv422p"}),
    "HDR, PQ": ("a.mp4", {"pix_fmt": "yuv420p10le", "colour": (9, 1, 9, 16)}),
    "HDR, HLG": ("a.mp4", {"pix_fmt": "yuv420p10le", "colour": (9, 1, 9, 18)}),
    "full range": ("a.mp4", {"colour": (1, 2, 1, 1)}),
    "grey": ("a.mkv", {**LOSSLESS, "pix_fmt": "gray16le"}),
    "start behind zero": ("a.mp4", {"pts": [7000 + 512 * number for number in range(8)]}),
    "two video streams": ("a.mp4", {"videos": 2}),
    "sound": ("a.mp4", {"audio": "aac"}),
    "GIF": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "time_base": Fraction(1, 100), "options": {}}),
    "VP9 in WebM": ("a.webm", {**WEBM, "codec": "libvpx-vp9", "options": {"cpu-used": "8"}}),
    "AV1 in WebM": ("a.webm", {**WEBM, "codec": "libsvtav1", "options": {"preset": "13", "svtav1-params": "lp=1"}}),
    "MJPEG in AVI": ("a.avi", AVI),
    "MPEG-2 in TS": ("a.ts", {"codec": "mpeg2video", "time_base": Fraction(1, 25)}),
    "fragments": ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"bf": "0"}}),
}  # fmt: skip


@pytest.fixture(scope="module")
def quick(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, make_clip: Film) -> Segment:
    """Segment an input with the codebook of another video."""
    values = {"model": str(tiny_model), "features.load_size": 24, "features.stride": 8, "cluster.parts": 2,
              "cluster.sample_interval": 3, "cluster.restarts": 1, "saliency.threshold": 0.2, "run.device": "cpu",
              "crf.iterations": 1}  # fmt: skip
    settings = with_values(Settings(), values)
    folder = tmp_path_factory.mktemp("parts")
    fit([make_clip(folder / "walk.mp4", frames=4, size_hw=(48, 64))], folder / "parts.safetensors", settings)

    def run(path: Path) -> InputResult:
        shutil.rmtree(folder / "out", ignore_errors=True)
        result = segment([path], folder / "out", settings, codebook=folder / "parts.safetensors")
        result.raise_failures()
        return result.finished[0]

    return run


def decoded_times(path: Path) -> list[Fraction]:
    """Times in seconds of the frames that PyAV decodes."""
    with av.open(str(path)) as container:
        video = next(stream for stream in container.streams.video if stream.codec_context is not None)
        return [frame.pts * frame.time_base for frame in container.decode(video)]


def times_of(result: InputResult) -> list[Fraction]:
    """Times in seconds of a result's frames in its label store; the result is verified first."""
    store = open_labels(result.directory / "labels.zarr")
    assert verify(result.directory).frames == len(store) == result.record.source.frames
    times = [pts * store.time_base for pts in store.pts]
    assert len(list(frame_times(result.directory / "overlay.mp4"))) == len(times)
    return times


@pytest.mark.parametrize("kind", FILMS)
def test_each_frame_once_at_its_own_time(make_film: Film, quick: Segment, kind: str) -> None:
    name, film = FILMS[kind]
    try:
        path = make_film(name, **film)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg can't write {kind}")
    result = quick(path)
    assert times_of(result) == decoded_times(path)
    assert result.record.source.lost_frames == 0
    # Random weights find no object in some of these.
    assert not [each for each in result.record.warnings if "appears in no frame" not in each]


def test_times_before_zero_and_none_at_all(make_film: Film, quick: Segment) -> None:
    options = {"container_options": {"avoid_negative_ts": "disabled"}, "options": {"bf": "0"}}
    before = times_of(quick(make_film("a.mkv", pts=[512 * n - 1024 for n in range(5)], **options)))
    assert before == [Fraction(n - 2, 25) for n in range(5)]
    none = times_of(quick(make_film("film.h264", container="h264", options={"g": "4", "bf": "0"})))
    assert len(none) == 8
    assert len(set(np.diff(np.array(none)))) == 1


def test_a_size_that_changes_and_a_count_that_lies(make_film: Film, quick: Segment, tmp_path: Path) -> None:
    options = {"codec": "mpeg2video", "container": "mpegts", "time_base": Fraction(1, 25), "options": {"bf": "0"}}
    small, large = make_film("a.ts", **options), make_film("b.ts", size_hw=(96, 128), **options)
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    result = quick(tmp_path / "both.ts")
    times = times_of(result)
    assert len(times) >= 15
    assert sorted(set(times)) == times
    assert any("changes its picture size" in warning for warning in result.record.warnings)
    path = make_film("film.avi", **AVI)
    data = bytearray(path.read_bytes())
    for name, offset in ((b"avih", 16), (b"strh", 32)):
        place = data.index(name) + 8 + offset
        data[place : place + 4] = struct.pack("<I", 999)
    path.write_bytes(data)
    result = quick(path)
    assert len(times_of(result)) == 8
    assert result.record.source.missing_frames == 991


def test_a_discarded_first_frame_is_not_shown(make_film: Film, quick: Segment, tmp_path: Path) -> None:
    whole = make_film("whole.mp4", frames=12, options={"g": "4", "bf": "0"})
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                # Before zero: MP4's edit list hides the first frames.
                packet.pts -= 512 * 2
                packet.dts -= 512 * 2
                out.mux(packet)
    expected = decoded_times(path)
    assert len(expected) < 12 or expected[0] < 0
    assert len(times_of(quick(path))) == len(expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no moov.mp4", lambda data: data[: len(data) // 2]),
        ("empty.mp4", lambda data: b""),
        ("text.mp4", lambda data: b"no film\n" * 50),
        ("list.mp4", lambda data: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("zeros.mp4", lambda data: bytes(5000)),
    ],
)
def test_what_holds_no_frame_is_one_line(
    make_film: Film, quick: Segment, tmp_path: Path, name: str, content: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(content(make_film("whole.mp4").read_bytes()))
    with pytest.raises(InputError) as caught:
        quick(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_sound_alone_and_no_frame_are_one_line(make_film: Film, quick: Segment) -> None:
    with pytest.raises(InputError, match=r"no frame|no video"):
        quick(make_film("none.mp4", frames=0, audio="aac"))


def test_pictures_of_every_kind_under_every_name(quick: Segment, tmp_path: Path) -> None:
    folder = tmp_path / "frames\nof 'ä'"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.convert("CMYK").save(folder / "1.jpg")
    Image.fromarray(np.asarray(rgb)[..., 0].astype(np.uint16) * 257).save(folder / "new\nline.png")
    rgb.convert("RGBA").save(folder / "ünïcödé.png")
    rgb.quantize(8).save(folder / "\U0001f600.png")
    rgb.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    (folder / "notes.txt").write_text("no picture")
    (folder / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    result = quick(folder)
    assert times_of(result) == [Fraction(number, 25) for number in range(5)]
    assert "\n" not in result.directory.name
    names = open_labels(result.directory / "labels.zarr").attributes.frame_names
    assert set(names) == {"1.jpg", "new\nline.png", "turned.jpg", "ünïcödé.png", "\U0001f600.png"}
    rgb.resize((32, 32)).save(folder / "2.png")
    with pytest.raises(InputError, match=r"2\.png.* is 32x32 pixels") as caught:
        quick(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(3600)
def test_odd_real_files_from_end_to_end(shared_dir: Path, quick: Segment) -> None:
    rows = (shared_dir / "robust" / "PROBE.tsv").read_text(encoding="utf-8").splitlines()
    names = [row.split("\t")[0] for row in rows if EVERY_FILE or _pixels(row) <= QUICK_PIXELS]
    assert len(names) >= 10
    for name in names:
        path = shared_dir / name
        result = quick(path)
        source, times = result.record.source, times_of(result)
        if not source.lost_frames:
            assert times == decoded_times(path), name
        assert (source.lost_frames > 0) == (name == "robust/decord/corrupted.mp4"), name


def _pixels(row: str) -> int:
    width, height = row[row.index("[(") + 2 : row.index(")]")].split(",")
    frames = next(word for word in row.split() if word.startswith("n="))
    return int(width) * int(height) * int(frames.removeprefix("n="))
