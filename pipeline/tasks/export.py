"""Export: a finished result's label maps in formats of other tools, with the edits of its run applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ExportFormat
from pipeline.errors import UsageError
from pipeline.files import output_errors
from pipeline.media.exports.annotation_tools import export_cvat, export_label_studio
from pipeline.media.exports.masks import export_coco, export_davis, export_npz
from pipeline.media.exports.pictures import PictureFormat, frame_stems, picture_names, write_pictures
from pipeline.media.exports.tracks import export_csv, export_parquet
from pipeline.media.exports.yolo import IMAGES, export_yolo
from pipeline.media.inputs import safe_name
from pipeline.media.label_store import LabelStore, open_labels
from pipeline.media.source import selection_of
from pipeline.painting.palettes import davis_palette
from pipeline.progress import Progress, Silent
from pipeline.runs.edits import EditedParts, edited_parts
from pipeline.runs.origin import find_source
from pipeline.runs.outputs import require_empty
from pipeline.runs.record import LABELS, RunRecord, load_record


def export(
    result: Path,
    output: Path,
    format: ExportFormat,
    *,
    images: PictureFormat | None = None,
    source: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Export a finished result.

    Args:
        result: the directory of a finished input, OUT/<name>.
        output: the directory to write into.
        format: davis: palette PNGs with DAVIS' palette; coco: RLE JSON; npz: arrays; yolo: polygons; cvat: masks to
            upload; label-studio: brush RLE; csv, parquet: where each part is in each frame.
        images: also write the pictures that the annotations name, as PNG or JPEG.
        source: the input, if it has moved since; for the pictures.
        overwrite: write into a directory that isn't empty.
        progress: receives progress and messages.

    Returns:
        What was written: a directory for davis, else a file.

    Raises:
        InputError: the result can't be read, or for pictures its source.
        OutputError: the directory isn't empty or can't be written.
        UsageError: pictures are asked for where nothing names them, or pyarrow is missing.
    """
    progress = progress or Silent()
    record = load_record(result)
    edited = edited_parts(record, result)
    job = _Job(open_labels(result / LABELS, edited.table), output, edited, _title(record, result), images)
    if images and format in _WITHOUT_PICTURES:
        named = ", ".join(name for name in _WRITERS if name not in _WITHOUT_PICTURES)
        raise UsageError(f"--format {format} names no pictures; leave --images out, or export one of {named}")
    origin = find_source(record, job.store, source) if images else None
    require_empty(output, overwrite)
    with output_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    written = _WRITERS[format](job)
    if origin is not None:
        progress.start("pictures", len(job.store))
        frames = origin.frames(selection_of(record.settings))
        for _ in write_pictures(job.store, frames, origin.path, output, _PICTURES[format](job)):
            progress.advance()
        progress.finish()
    return written


@dataclass(frozen=True, slots=True)
class _Job:
    """What a format's writer is given."""

    store: LabelStore
    output: Path
    edited: EditedParts
    title: str
    images: PictureFormat | None

    def titled(self) -> list[str]:
        """Names of pictures in a folder of the input's name."""
        return [f"{self.title}/{name}" for name in picture_names(self.store, self.images)]

    def cvat_stems(self) -> list[str]:
        return frame_stems(self.store, "frame_{:06d}")

    def yolo_stems(self) -> list[str]:
        return frame_stems(self.store, "{:06d}")


def _davis(job: _Job) -> Path:
    export_davis(job.store, job.output, frame_stems(job.store), davis_palette())
    return job.output


def _coco(job: _Job) -> Path:
    file = job.output / "annotations.json"
    export_coco(job.store, file, job.titled(), job.edited.parts, f"parts of {job.title}")
    return file


def _npz(job: _Job) -> Path:
    file = job.output / "labels.npz"
    export_npz(job.store, file)
    return file


def _cvat(job: _Job) -> Path:
    palette, objects = distinct_palette(job.edited.colors), davis_palette()
    return export_cvat(job.store, job.output, job.cvat_stems(), job.edited.parts, palette, objects)


def _csv(job: _Job) -> Path:
    file = job.output / "tracks.csv"
    export_csv(job.store, file, job.edited.parts)
    return file


def _parquet(job: _Job) -> Path:
    file = job.output / "tracks.parquet"
    export_parquet(job.store, file, job.edited.parts)
    return file


_WRITERS: Mapping[ExportFormat, Callable[[_Job], Path]] = {
    "davis": _davis,
    "coco": _coco,
    "npz": _npz,
    "yolo": lambda job: export_yolo(job.store, job.output, job.yolo_stems(), job.edited.parts),
    "cvat": _cvat,
    "label-studio": lambda job: export_label_studio(job.store, job.output, job.titled(), job.edited.parts),
    "csv": _csv,
    "parquet": _parquet,
}
_PICTURES: Mapping[ExportFormat, Callable[[_Job], list[str]]] = {
    "davis": lambda job: [f"images/{stem}.{job.images}" for stem in frame_stems(job.store)],
    "coco": _Job.titled,
    "yolo": lambda job: [f"{IMAGES}/{stem}.{job.images}" for stem in job.yolo_stems()],
    "cvat": lambda job: [f"images/{stem}.{job.images}" for stem in job.cvat_stems()],
    "label-studio": _Job.titled,
}
_WITHOUT_PICTURES = _WRITERS.keys() - _PICTURES.keys()


def distinct_palette(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A palette, uint8 [256, 3], with the colours of the labels 1..K that are given if they differ, else DAVIS'."""
    palette = davis_palette()
    shown = {(0, 0, 0), *map(tuple, colors.tolist())}
    if len(shown) == len(colors) + 1:
        palette[1 : len(colors) + 1] = colors
    return palette


def _title(record: RunRecord, result: Path) -> str:
    """The name of the folder that the frames' pictures are in; a video's are taken to be in one of its own name."""
    source, names = Path(record.source.path), open_labels(result / LABELS).attributes.frame_names
    if not names:
        return safe_name(source.stem)
    return safe_name(source.parent.name if names == (source.name,) else source.name)
