"""What a run measures for its report."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.media.label_store import open_labels
from pipeline.runs.measures import MEASURES, load_measures
from pipeline.tasks.segment import segment
from pipeline.tasks.verify import verify


@pytest.fixture
def result(make_clip: Callable[..., Path], small_settings: Settings, tmp_path: Path) -> Path:
    done = segment([make_clip(tmp_path / "clip.mp4", frames=20)], tmp_path / "out", small_settings)
    return done.finished[0].directory


def test_areas_and_flicker_are_those_of_the_labels(result: Path) -> None:
    from pipeline.runs.record import load_record

    store = open_labels(result / "labels.zarr")
    found = load_measures(result, store)
    maps = np.stack([labels for _, _, labels in store.frames()])
    keep = np.arange(256, dtype=np.uint8)
    shares = found.shares(keep)
    for label in range(4):
        assert shares[:, label] == pytest.approx((maps == label).mean(axis=(1, 2)))
    flicker = found.flicker(keep)
    assert flicker is not None
    assert np.isnan(flicker[0])
    assert np.isfinite(flicker[1:]).all()
    # The run's own figure is over all pairs together.
    moves = found.transitions
    assert moves is not None
    recorded = load_record(result).steadiness.flicker
    assert recorded == pytest.approx(moves.pixels[moves.before != moves.after].sum() / moves.pixels.sum())


def test_an_edit_changes_areas_and_flicker_as_it_changes_labels(result: Path) -> None:
    found = load_measures(result, open_labels(result / "labels.zarr"))
    merged = np.array([0, 1, 1, 0] + [0] * 252, dtype=np.uint8)
    keep = np.arange(256, dtype=np.uint8)
    assert found.shares(merged)[:, 1] == pytest.approx(found.shares(keep)[:, [1, 2]].sum(axis=1))
    assert np.nanmax(found.flicker(np.zeros(256, dtype=np.uint8))) == 0  # type: ignore[arg-type]
    assert np.nanmean(found.flicker(merged)) <= np.nanmean(found.flicker(keep))  # type: ignore[arg-type]


def test_small_pictures_are_spread_from_the_first_to_the_last(result: Path) -> None:
    found = load_measures(result, open_labels(result / "labels.zarr"))
    assert list(found.thumbnails) == [0, 2, 3, 5, 7, 9, 10, 12, 14, 16, 17, 19]
    assert all(Image.open(io.BytesIO(code)).size == (64, 48) for code in found.thumbnails.values())


def test_without_them_areas_are_counted_and_nothing_else_is_made_up(result: Path) -> None:
    kept = load_measures(result, open_labels(result / "labels.zarr"))
    (result / MEASURES).unlink()
    found = load_measures(result, open_labels(result / "labels.zarr"))
    assert np.array_equal(found.areas, kept.areas)
    assert found.flicker(np.arange(256, dtype=np.uint8)) is None
    assert not found.thumbnails
    assert verify(result).frames == 20


def test_they_are_no_part_of_the_checksums(result: Path) -> None:
    (result / MEASURES).write_bytes(b"other")
    assert verify(result).frames == 20


@pytest.mark.parametrize("harm", ["cut", "shape", "range", "bomb", "text"])
def test_a_damaged_or_hostile_file_is_one_line(result: Path, harm: str) -> None:
    file = result / MEASURES
    with np.load(file) as arrays:
        values = dict(arrays)
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:2000])
    elif harm == "bomb":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("areas.npy", "w") as member:
            for _ in range(1100):
                member.write(bytes(2**20))
    elif harm == "text":
        file.write_text("no archive")
    else:
        change = {"shape": ("areas", values["areas"][:3]), "range": ("frame", values["frame"] + 50)}[harm]
        np.savez(file, **{**values, change[0]: change[1]})
    with pytest.raises(InputError, match=r"is damaged \(.*remove it") as told:
        load_measures(result, open_labels(result / "labels.zarr"))
    assert "\n" not in str(told.value)
