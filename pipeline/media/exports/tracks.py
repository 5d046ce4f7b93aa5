"""Tracks: where each part is in each frame, as a table for analysis; units are in the columns' names."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.files import replaced_file
from pipeline.media.label_store import LabelStore
from pipeline.records import Part

_ROWS = 65_536
"""Rows of a Parquet file's row group at most."""
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class TrackRow:
    """One part in one frame, in pixels of the source; None where it isn't seen.

    Attributes:
        frame: the frame's number from 0, among those that were processed.
        frame_name: the picture's name; empty for a video.
        time_s: the frame's time.
        pts: the same, exact, in units of the source's time base.
        part: the part's label.
        part_name: its name.
        area_px: area.
        area_share: area by the picture's area.
        visible_share: area by the part's largest area in this clip.
        centroid_x_px: centre of its area; the centre of the first pixel is at 0.5.
        centroid_y_px: as above.
        box_left_px: the smallest box around it.
        box_top_px: as above.
        box_width_px: as above.
        box_height_px: as above.
        speed_px_per_s: distance that the centroid has moved since the frame before, by the time between both.
    """

    frame: int
    frame_name: str
    time_s: float
    pts: int
    part: int
    part_name: str
    area_px: float
    area_share: float
    visible_share: float
    centroid_x_px: float | None
    centroid_y_px: float | None
    box_left_px: float | None
    box_top_px: float | None
    box_width_px: float | None
    box_height_px: float | None
    speed_px_per_s: float | None


COLUMNS = tuple(each.name for each in fields(TrackRow))


def track_rows(store: LabelStore, parts: Sequence[Part]) -> Iterator[TrackRow]:
    """A row for each frame and part, frame by frame; the store is read twice.

    Labels are measured at the processed size and scaled to the source's, so that a length is good to about one
    processed pixel.

    Raises:
        InputError: the store is damaged.
    """
    largest: NDArray[np.int64] = np.zeros(256, dtype=np.int64)
    for _, _, labels in store.frames():
        largest = np.maximum(largest, np.bincount(labels.ravel(), minlength=256))
    scale_y, scale_x = (source / size for source, size in zip(store.source_size_hw, store.size_hw, strict=True))
    names = store.attributes.frame_names
    before: dict[int, tuple[Fraction, float, float]] = {}
    for index, pts, labels in store.frames():
        time_s, found = pts * store.time_base, _measure(labels)
        now: dict[int, tuple[Fraction, float, float]] = {}
        for part in parts:
            area = found.area[part.label]
            place: list[float | None] = [None] * 6
            speed = None
            if area:
                x, y = found.x[part.label] * scale_x, found.y[part.label] * scale_y
                left, top, right, bottom = found.boxes[part.label]
                place = [x, y, left * scale_x, top * scale_y, (right - left) * scale_x, (bottom - top) * scale_y]
                now[part.label] = time_s, x, y
                if part.label in before:
                    then, last_x, last_y = before[part.label]
                    speed = float(np.hypot(x - last_x, y - last_y)) / float(time_s - then)
            yield TrackRow(
                index,
                names[index] if names else "",
                round(float(time_s), 9),
                pts,
                part.label,
                part.name,
                round(area * scale_x * scale_y, _DECIMALS),
                round(area / labels.size, 8),
                round(area / max(1, int(largest[part.label])), 8),
                *(None if value is None else round(value, _DECIMALS) for value in (*place, speed)),
            )
        before = now


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Areas, centroids and boxes by label, in pixels of the label map."""

    area: list[int]
    x: list[float]
    y: list[float]
    boxes: dict[int, tuple[int, int, int, int]]


def _measure(labels: NDArray[np.uint8]) -> _Measured:
    height, width = labels.shape
    # How many pixels of each label are in each row and in each column.
    rows = np.stack([np.bincount(row, minlength=256) for row in labels])
    cols = np.stack([np.bincount(col, minlength=256) for col in labels.T])
    area = rows.sum(axis=0)
    counted = np.maximum(area, 1)
    y, x = (np.arange(height) + 0.5) @ rows / counted, (np.arange(width) + 0.5) @ cols / counted
    boxes = {}
    for label in np.flatnonzero(area).tolist():
        in_rows, in_cols = np.flatnonzero(rows[:, label]), np.flatnonzero(cols[:, label])
        boxes[label] = int(in_cols[0]), int(in_rows[0]), int(in_cols[-1]) + 1, int(in_rows[-1]) + 1
    return _Measured(area.tolist(), x.tolist(), y.tolist(), boxes)


def export_csv(store: LabelStore, file: Path, parts: Sequence[Part]) -> None:
    """Write the tracks as CSV with a head line; a cell is empty where a part isn't seen."""
    with replaced_file(file) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in track_rows(store, parts):
            writer.writerow(astuple(row))


def export_parquet(store: LabelStore, file: Path, parts: Sequence[Part]) -> None:
    """Write the tracks as Parquet.

    Raises:
        UsageError: pyarrow isn't installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "--format parquet needs pyarrow: pip install 'vidparts[parquet]'; csv needs nothing"
        ) from error
    integer, number, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    kinds: dict[str, Any] = {"frame": integer, "pts": integer, "part": integer, "frame_name": text, "part_name": text}
    schema = pyarrow.schema([(name, kinds.get(name, number)) for name in COLUMNS])
    with replaced_file(file) as partial, pyarrow.parquet.ParquetWriter(partial, schema) as writer:
        group: list[TrackRow] = []
        for row in track_rows(store, parts):
            group.append(row)
            if len(group) == _ROWS:
                writer.write_table(_table(group, schema))
                group = []
        if group:
            writer.write_table(_table(group, schema))


def _table(rows: Sequence[TrackRow], schema: Any) -> Any:
    import pyarrow

    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pyarrow.Table.from_pydict(columns, schema=schema)
