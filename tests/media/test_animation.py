"""Pictures in tiles and pictures that move: what a file holds decides, whatever it is called."""

import re
import shutil
import struct
import sys
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.media.animation import AnimationSource
from pipeline.media.inputs import resolve_inputs, resolve_pictures, resolve_visuals
from pipeline.media.kinds import Kind, kind_of
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.pictures import read_picture
from pipeline.media.source import Selection
from pipeline.media.video_source import VideoSource

SHADES = (20, 90, 160, 230)


def still(shade: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.full((size[1], size[0], 3), shade, np.uint8))


def save(path: Path, kind: str, durations: Sequence[float] = (100, 100, 100, 3000), **options: object) -> Path:
    first, *rest = [still(shade) for shade in SHADES]
    first.save(path, kind, save_all=True, append_images=rest, duration=list(durations), **options)
    return path


def shades(source) -> list[int]:
    return [round(float(frame.rgb.mean()) / 70 - 0.3) for frame in source.frames()]


def times(source) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in source.frames()]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("a.webp", "WEBP", {"lossless": True}),
        ("a.png", "PNG", {}),
        ("a.apng", "PNG", {}),
        ("a.jpg", "PNG", {}),
        ("a.mp4", "WEBP", {"lossless": True}),
        ("a.avif", "AVIF", {}),
        ("a", "AVIF", {}),
        ("a.gif", "GIF", {}),
        ("a.png", "GIF", {}),
    ],
)
def test_animations_give_all_their_frames_at_their_times(tmp_path: Path, name: str, kind: str, options: dict) -> None:
    (source,) = resolve_inputs([str(save(tmp_path / name, kind, **options))], fps=25)
    assert isinstance(source, VideoSource if kind == "GIF" else AnimationSource)
    assert times(source) == [0, Fraction(1, 10), Fraction(2, 10), Fraction(3, 10)]
    assert shades(source) == [0, 1, 2, 3]
    info = source.probe()
    assert (info.size_hw, info.frames, info.duration_seconds) == ((48, 64), 4, pytest.approx(3.3))
    assert source.count(Selection(2)) == 2
    assert [frame.index for frame in source.frames(Selection(1, 0.1), {1, 2})] == [1, 2]
    assert [visual.path for visual in resolve_visuals([str(source.path)])] == [source.path]


def test_times_of_a_png_are_exact_fractions(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png", "PNG").read_bytes()
    for control in re.findall(rb"fcTL.{26}", data, re.DOTALL):
        thirtieth = control[:24] + struct.pack(">HH", 1, 30) + control[28:]
        checksums = [struct.pack(">I", zlib.crc32(each)) for each in (control, thirtieth)]
        data = data.replace(control + checksums[0], thirtieth + checksums[1])
    (tmp_path / "a.png").write_bytes(data)
    source = AnimationSource(tmp_path / "a.png", "a", 25)
    assert times(source) == [0, Fraction(1, 30), Fraction(2, 30), Fraction(3, 30)]
    zero = AnimationSource(save(tmp_path / "z.png", "PNG", durations=[0, 0, 0, 0]), "z", 25)
    assert times(zero) == [0, Fraction(1, 10), Fraction(2, 10), Fraction(3, 10)]


def test_the_default_picture_of_a_png_is_no_frame(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "PNG", durations=[100, 200, 300], default_image=True)
    source = AnimationSource(tmp_path / "a.png", "a", 25)
    assert shades(source) == [1, 2, 3]
    assert times(source) == [0, Fraction(1, 10), Fraction(3, 10)]


def test_a_tiff_stack_gives_its_pages_at_the_rate_asked_for(tmp_path: Path) -> None:
    first, *rest = [still(shade) for shade in SHADES]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=rest)
    (source,) = resolve_inputs([str(tmp_path / "stack.tif")], fps=10)
    assert times(source) == [0, Fraction(1, 10), Fraction(2, 10), Fraction(3, 10)]
    assert shades(source) == [0, 1, 2, 3]
    first.save(tmp_path / "mixed.tif", save_all=True, append_images=[still(9, (32, 48))])
    with pytest.raises(InputError, match="different sizes: number 1 is 32x48, the first 64x48"):
        list(resolve_inputs([str(tmp_path / "mixed.tif")], fps=10)[0].frames())


def test_a_thumbnail_beside_a_tiff_is_no_page(tmp_path: Path) -> None:
    from PIL.TiffImagePlugin import AppendingTiffWriter

    with AppendingTiffWriter(tmp_path / "a.tif", True) as file:
        still(90).save(file, "TIFF")
        file.newFrame()
        still(9, (16, 12)).save(file, "TIFF", tiffinfo={254: 1})
    assert kind_of(tmp_path / "a.tif") is Kind.PICTURE
    assert read_picture(tmp_path / "a.tif").shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "BMP", "JPEG"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".dat"])
def test_a_still_picture_is_one_whatever_its_name(tmp_path: Path, kind: str, suffix: str) -> None:
    if kind == "BMP" and suffix == ".dat":
        pytest.skip("two letters at the beginning of a file of any name don't make it a BMP")
    still(90).save(tmp_path / f"a{suffix}", kind)
    (source,) = resolve_inputs([str(tmp_path / f"a{suffix}")], fps=25)
    assert isinstance(source, DirectorySource)
    assert shades(source) == [1]


def test_a_video_is_one_whatever_its_name(make_film, tmp_path: Path) -> None:
    for film in (make_film("a.mp4"), make_film("b.mkv"), make_film("c.avi", codec="mpeg4", time_base=Fraction(1, 25))):
        shutil.copy(film, tmp_path / "film.png")
        (source,) = resolve_inputs([str(tmp_path / "film.png")], fps=25)
        assert len(list(source.frames())) == 8


def test_a_preview_beside_a_photograph_is_no_frame(tmp_path: Path) -> None:
    still(90).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[still(9, (16, 12))])
    (source,) = resolve_inputs([str(tmp_path / "a.jpg")], fps=25)
    assert [frame.rgb.shape for frame in source.frames()] == [(48, 64, 3)]


def test_where_one_picture_is_expected_an_animation_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.webp", "WEBP")
    with pytest.raises(InputError, match=r"holds 4 pictures \(WEBP\)"):
        read_picture(path)
    with pytest.raises(InputError, match="several pictures"):
        resolve_pictures([str(path)])
    still(3).save(tmp_path / "b.webp")
    with pytest.raises(InputError, match="holds 4 pictures"):
        resolve_inputs([str(tmp_path)], fps=25)[0].probe()


def test_a_broken_animation_is_one_line(tmp_path: Path) -> None:
    for name, kind in (("a.png", "PNG"), ("a.webp", "WEBP"), ("a.avif", "AVIF")):
        data = save(tmp_path / name, kind).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        (source,) = resolve_inputs([str(tmp_path / name)], fps=25)
        with pytest.raises(InputError, match=r"broken|not a picture"):
            list(source.frames())


def test_heic_is_read_where_its_library_is_there(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, the extra `heif`, isn't installed")
    heif.register_heif_opener()
    still(90).save(tmp_path / "a.heic", "HEIF", quality=90)
    (source,) = resolve_inputs([str(tmp_path / "a.heic")], fps=25)
    assert shades(source) == [1]
    shutil.copy(tmp_path / "a.heic", tmp_path / "b.mp4")
    assert shades(resolve_inputs([str(tmp_path / "b.mp4")], fps=25)[0]) == [1]
    stack = heif.HeifFile()
    for shade in SHADES:
        stack.add_from_pillow(still(shade))
    stack.save(tmp_path / "several.heic", quality=90)
    with pytest.raises(InputError, match="holds 4 pictures"):
        read_picture(tmp_path / "several.heic")


def test_heic_without_its_library_is_one_line_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (source,) = resolve_inputs([str(tmp_path / "a.heic")], fps=25)
    with pytest.raises(InputError, match=r"pip install 'vidparts\[heif\]'"):
        source.probe()


def reported(shared_dir: Path, name: str) -> Path:
    path = shared_dir / "reports" / name
    if not path.is_file():
        pytest.skip(f"{path} isn't there")
    return path


def test_the_reported_grid_is_the_whole_picture(shared_dir: Path) -> None:
    path = reported(shared_dir, "grid.avif")
    (source,) = resolve_inputs([str(path)], fps=25)
    (frame,) = source.frames()
    with Image.open(path) as image:
        assert np.array_equal(frame.rgb, np.asarray(image.convert("RGB")))
    assert frame.rgb.shape == (768, 1024, 3)


@pytest.mark.parametrize("name", ["anim.webp", "anim.png"])
def test_the_reported_animations_are_whole(shared_dir: Path, name: str) -> None:
    (source,) = resolve_inputs([str(reported(shared_dir, name))], fps=25)
    assert times(source) == [0, Fraction(1, 10), Fraction(2, 10), Fraction(3, 10)]
    assert source.probe().duration_seconds == pytest.approx(3.3)
