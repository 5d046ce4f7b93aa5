import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import OutputError
from pipeline.media.npz import open_npz
from pipeline.media.pictures import write_palette_png


def test_a_palette_png_holds_labels_and_colours(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    colors = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    write_palette_png(tmp_path / "a.png", labels, colors)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(np.asarray(image.convert("RGB")), np.concatenate([[[0, 0, 0]], colors])[labels])
    with pytest.raises(OutputError):
        write_palette_png(tmp_path / "none" / "a.png", labels, colors)


def test_an_archive_is_a_plain_npz_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    maps = {f"x{n}/labels": np.full((2, n + 1), n, np.uint8) for n in range(3)}
    for name in ("a.npz", "b.npz"):
        with open_npz(tmp_path / name, zipfile.ZIP_DEFLATED) as archive:
            for key, labels in maps.items():
                archive.write(key, labels)
    with np.load(tmp_path / "a.npz") as arrays:
        assert sorted(arrays) == sorted(maps)
        assert all(np.array_equal(arrays[key], labels) for key, labels in maps.items())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), open_npz(tmp_path / "file" / "a.npz"):
        pass
