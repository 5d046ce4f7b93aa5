from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import Settings, with_values
from pipeline.media.inputs import resolve_pictures
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine
from pipeline.stages.picture_set import open_album, random_crop


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1.0), st.integers(0, 9))
def test_a_crop_is_a_piece_of_the_picture(height: int, width: int, share: float, seed: int) -> None:
    image = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
    crop = random_crop(image, share, 8, np.random.default_rng(seed))
    assert crop.shape[0] == max(min(8, height), int(height * share))
    assert crop.shape[1] == max(min(8, width), int(width * share))
    top, left = divmod(int(crop[0, 0, 0]) // 3, width)
    assert np.array_equal(crop, image[top : top + crop.shape[0], left : left + crop.shape[1]])


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 48 + 16 * number, 3)).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    return [str(tmp_path / f"{number}.png") for number in range(3)]


def test_each_crop_joins_with_its_mirror_image_whatever_the_batch(files: list[str], small_settings: Settings) -> None:
    found = []
    for batch in (1, 3):
        engine = open_engine(with_values(small_settings, {"run.batch": batch}), Silent())
        with open_album(resolve_pictures(files), engine, Silent()) as album:
            assert album.fill(crops=2) == [0, 1, 2]
            assert (len(album.cache), len(album.crops)) == (3, 12)
            found.append([entry.descriptors for entry in album.crops])
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    # 0.95 of 48 pixels are 45: five patches of 8.
    assert found[0][0].shape[:2] == (5, 5)


def test_nothing_stays_behind(files: list[str], small_settings: Settings, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with open_album(resolve_pictures(files), open_engine(small_settings, Silent()), Silent(), work) as album:
        album.fill()
        assert any(work.rglob("features.cache"))
    assert not any(work.iterdir())
