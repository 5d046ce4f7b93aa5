import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.media import pictures
from pipeline.media.pictures import picture_size, read_picture

RGB = np.random.default_rng(3).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_reads_rgb_as_it_is(tmp_path: Path, suffix: str) -> None:
    assert np.array_equal(read_picture(saved(tmp_path / f"a{suffix}", Image.fromarray(RGB))), RGB)


@pytest.mark.parametrize("pixels", [1, 20, 54])
def test_bands_of_pixels_join(tmp_path: Path, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "BAND_PX", pixels)
    assert np.array_equal(read_picture(saved(tmp_path / "a.png", Image.fromarray(RGB))), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.swapaxes(0, 1),
        6: np.rot90(RGB, -1),
        7: np.rot90(RGB.swapaxes(0, 1), 2),
        8: np.rot90(RGB),
    }[orientation]
    assert np.array_equal(read_picture(path), turned)
    assert picture_size(path) == turned.shape[:2]


def test_reads_grey_palette_alpha_and_bits(tmp_path: Path) -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    assert np.array_equal(read_picture(saved(tmp_path / "l.png", Image.fromarray(GREY))), grey)
    both = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(RGB[..., 1])))
    assert np.array_equal(read_picture(saved(tmp_path / "la.png", both)), grey)
    alpha = Image.fromarray(np.dstack([RGB, np.zeros((6, 9), np.uint8)]))
    assert np.array_equal(read_picture(saved(tmp_path / "rgba.png", alpha)), RGB)
    palette = Image.fromarray(RGB).quantize(256)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read_picture(saved(tmp_path / "p.png", palette)), expected)
    assert np.array_equal(read_picture(saved(tmp_path / "pt.png", palette, transparency=0)), expected)
    bits = Image.fromarray(GREY > 127)
    assert np.array_equal(read_picture(saved(tmp_path / "1.png", bits))[..., 0], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_scales_16_bits_to_8(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 257, 32896, 65535, 128, 129]], dtype=np.uint16)
    got = read_picture(saved(tmp_path / f"a{suffix}", Image.fromarray(deep)))
    assert got[0, :, 0].tolist() == [0, 1, 128, 255, 0, 1]
    assert (got[..., 0] == got[..., 2]).all()


def test_reads_cmyk(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100)
    assert np.abs(read_picture(path).astype(int) - [255, 0, 0]).max() < 8


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (8, 8)))
    header = b"IHDR" + struct.pack(">II", 40000, 40000) + path.read_bytes()[24:29]
    path.write_bytes(path.read_bytes()[:12] + header + struct.pack(">I", zlib.crc32(header)) + path.read_bytes()[33:])
    for read in (read_picture, picture_size):
        with pytest.raises(InputError, match="claims more than"):
            read(path)
    monkeypatch.setattr(pictures, "MAX_PICTURE_PIXELS", 50)
    with pytest.raises(InputError, match="claims more than"):
        read_picture(saved(tmp_path / "b.png", Image.fromarray(RGB)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", "not a picture"),
        ("a.png", b"\x89PNG\r\n\x1a\n1234", "broken|not a picture"),
        ("a.jpg", b"x" * 99, "not a"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_float_and_deep_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(InputError, match="floating-point"):
        read_picture(saved(tmp_path / "f.tiff", Image.fromarray(GREY.astype(np.float32))))
    with pytest.raises(InputError, match="beyond 16 bits"):
        read_picture(saved(tmp_path / "i.tiff", Image.fromarray(GREY.astype(np.int32) * 70000 + 1)))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp", ".webp", ".ppm"])
def test_flipped_bytes_never_raise_anything_but_input_errors(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", Image.fromarray(RGB))
    good, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(good)
        for place in random.integers(0, len(data), 6):
            data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            assert read_picture(path).ndim == 3
        except InputError as error:
            assert "\n" not in str(error)
