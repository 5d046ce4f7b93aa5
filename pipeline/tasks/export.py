"""Export: a finished result's label maps in formats of other tools."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import ExportFormat
from pipeline.files import output_errors
from pipeline.media.exports import export_coco, export_davis, export_npz
from pipeline.media.label_store import LabelStore, open_labels
from pipeline.painting.palettes import davis_palette
from pipeline.runs.outputs import require_empty
from pipeline.runs.record import LABELS, load_record


def export(result: Path, output: Path, format: ExportFormat, *, overwrite: bool = False) -> Path:
    """Export a finished result.

    Args:
        result: the directory of a finished input, OUT/<name>.
        output: the directory to write into.
        format: davis: palette PNGs with DAVIS' palette; coco: RLE JSON; npz: arrays.
        overwrite: write into a directory that isn't empty.

    Returns:
        What was written: a directory for davis, else a file.

    Raises:
        InputError: the result can't be read.
        OutputError: the directory isn't empty or can't be written.
    """
    source, store = Path(load_record(result).source.path), open_labels(result / LABELS)
    require_empty(output, overwrite)
    if format == "davis":
        export_davis(store, output, davis_palette())
        return output
    file = output / ("annotations.json" if format == "coco" else "labels.npz")
    with output_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    if format == "coco":
        export_coco(store, file, _title(source, store))
    else:
        export_npz(store, file)
    return file


def _title(source: Path, store: LabelStore) -> str:
    """The name of the folder that the frames' pictures are in; a video's are taken to be in one of its own name."""
    names = store.attributes.frame_names
    if not names:
        return source.stem
    return source.parent.name if names == (source.name,) else source.name
