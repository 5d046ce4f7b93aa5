from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import Box, Picture, crop_slices, read_indices, read_rgb, size_of


def test_a_picture_is_read_whole_or_cropped(tmp_path: Path, write_picture: Callable[..., Path]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    file = write_picture(tmp_path / "a.png", pixels)
    assert np.array_equal(Picture("a", file).read(), pixels)
    assert np.array_equal(Picture("a", file, Box(2.0, 1.0, 4.0, 3.0)).read(), pixels[1:4, 2:6])
    assert size_of(file) == (6, 9)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "picture.tif"
    Image.new(mode, (4, 3)).save(file)
    assert read_rgb(file).shape == (3, 4, 3)
    assert read_rgb(file).dtype == np.uint8


def test_a_box_outside_of_the_picture_keeps_a_pixel() -> None:
    assert crop_slices(Box(-3, -3, 1, 1), (5, 5)) == (slice(0, 1), slice(0, 1))
    assert crop_slices(Box(9, 9, 4, 4), (5, 5)) == (slice(4, 5), slice(4, 5))
    assert crop_slices(Box(3, 3, 90, 90), (5, 6)) == (slice(3, 5), slice(3, 6))


def test_labels_are_palette_indices_grey_values_or_the_brightest_channel(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 255]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette([7, 7, 7] * 256)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(values).save(tmp_path / "grey.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([values * 0, values, values * 0])).save(tmp_path / "colour.png")
    Image.fromarray(np.dstack([values, values, values, values * 0 + 255])).save(tmp_path / "alpha.png")
    for name in ("palette", "grey", "deep", "colour", "alpha"):
        assert np.array_equal(read_indices(tmp_path / f"{name}.png"), values), name
    Image.fromarray(values > 1).save(tmp_path / "binary.png")
    assert read_indices(tmp_path / "binary.png").tolist() == [[0, 0, 255, 255]]


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.fromarray(np.array([[300]], np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"bad\.png"):
        read_rgb(tmp_path / "bad.png")
    with pytest.raises(InputError, match=r"missing\.png"):
        read_rgb(tmp_path / "missing.png")
    with pytest.raises(InputError, match=r"missing\.png"):
        size_of(tmp_path / "missing.png")
    with pytest.raises(InputError, match="label 300"):
        read_indices(tmp_path / "deep.png")
