"""Tracks as tables, read by pandas and pyarrow."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.media.exports import tracks
from pipeline.media.exports.tracks import COLUMNS, export_csv, export_parquet, track_rows
from pipeline.media.label_store import LabelStore, LabelWriter, open_labels
from pipeline.records import Part

pandas = pytest.importorskip("pandas", reason="pandas is a test dependency")

PARTS = (Part(2, "legs, all", (1, 2, 3)), Part(1, 'the "head"', (4, 5, 6)))
PTS = (3, 7, 8, 20)
BASE = Fraction(1, 10)


def maps() -> list[NDArray[np.uint8]]:
    """A square of part 1 that moves right by 2, is gone in the third frame and smaller in the last; part 2 stays."""
    found = [np.zeros((10, 20), dtype=np.uint8) for _ in PTS]
    for number, left in ((0, 1), (1, 3), (3, 5)):
        found[number][2:6, left : left + (4 if number < 3 else 2)] = 1
    for labels in found:
        labels[8:, 10:] = 2
    return found


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    with LabelWriter(tmp_path / "labels.zarr", (10, 20), (30, 40), BASE, 2, chunk_frames=3) as writer:
        for pts, labels in zip(PTS, maps(), strict=True):
            writer.write(pts, labels)
    return open_labels(tmp_path / "labels.zarr")


def test_pandas_reads_the_csv(store: LabelStore, tmp_path: Path) -> None:
    export_csv(store, tmp_path / "tracks.csv", PARTS)
    table = pandas.read_csv(tmp_path / "tracks.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["part_name"].unique().tolist() == ["legs, all", 'the "head"']
    head = table[table["part"] == 1].set_index("frame")
    assert head["time_s"].tolist() == [0.3, 0.7, 0.8, 2.0]
    assert head["pts"].tolist() == list(PTS)
    # A processed pixel is 2 by 3 of the source.
    assert head["area_px"].tolist() == [96, 96, 0, 48]
    assert head["area_share"].tolist() == [0.08, 0.08, 0, 0.04]
    assert head["visible_share"].tolist() == [1, 1, 0, 0.5]
    seen = head.loc[[0, 1, 3]]
    assert seen["centroid_x_px"].tolist() == [6, 10, 12]
    assert seen["centroid_y_px"].tolist() == [12, 12, 12]
    boxes = seen[["box_left_px", "box_top_px", "box_width_px", "box_height_px"]].to_numpy().tolist()
    assert boxes == [[2, 6, 8, 12], [6, 6, 8, 12], [10, 6, 4, 12]]
    # 4 pixels in 0.4 s; none where the frame before doesn't show it.
    assert head["speed_px_per_s"][1] == 10
    assert head["speed_px_per_s"].isna().tolist() == [True, False, True, True]
    assert head[["centroid_x_px", "box_left_px"]].loc[2].isna().all()
    legs = table[table["part"] == 2]["speed_px_per_s"]
    assert legs.tolist()[1:] == [0, 0, 0]


def test_parquet_holds_the_same(store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is a test dependency")
    monkeypatch.setattr(tracks, "_ROWS", 3)
    export_csv(store, tmp_path / "tracks.csv", PARTS)
    export_parquet(store, tmp_path / "tracks.parquet", PARTS)
    found, expected = pandas.read_parquet(tmp_path / "tracks.parquet"), pandas.read_csv(tmp_path / "tracks.csv")
    assert (found["frame_name"] == "").all()
    pandas.testing.assert_frame_equal(
        found.drop(columns="frame_name"), expected.drop(columns="frame_name"), check_dtype=False
    )


def test_parquet_without_pyarrow_says_what_to_do(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'vidparts\[parquet\]'"):
        export_parquet(store, tmp_path / "tracks.parquet", PARTS)
    assert not (tmp_path / "tracks.parquet").exists()


def test_measures_are_those_of_a_plain_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (13, 17)).astype(np.uint8)
    with LabelWriter(tmp_path / "l.zarr", (13, 17), (13, 17), BASE, 3) as writer:
        writer.write(0, labels)
    parts = [Part(label, str(label), (0, 0, 0)) for label in (1, 2, 3)]
    for row in track_rows(open_labels(tmp_path / "l.zarr"), parts):
        y, x = np.nonzero(labels == row.part)
        assert row.area_px == len(x)
        assert (row.centroid_x_px, row.centroid_y_px) == pytest.approx((x.mean() + 0.5, y.mean() + 0.5), abs=1e-4)
        assert (row.box_left_px, row.box_top_px) == (x.min(), y.min())
        assert (row.box_width_px, row.box_height_px) == (np.ptp(x) + 1, np.ptp(y) + 1)
