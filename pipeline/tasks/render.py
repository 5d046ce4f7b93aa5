"""Painting a finished result in another style, from its label store and its source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import PaletteName, Style
from pipeline.errors import InputError
from pipeline.geometry import resize_labels
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.label_store import open_labels
from pipeline.media.source import selection_of
from pipeline.painting.palettes import part_colors
from pipeline.painting.styles import paint, painted_size
from pipeline.progress import Progress, Silent
from pipeline.runs.edits import edited_parts
from pipeline.runs.origin import find_source
from pipeline.runs.outputs import require_free
from pipeline.runs.record import LABELS, load_record


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """A clip that was painted, and how many frames it has."""

    file: Path
    frames: int


def render(
    result: Path,
    output: Path,
    *,
    style: Style = "overlay",
    alpha: float | None = None,
    palette: PaletteName | None = None,
    source: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RenderedClip:
    """Paint a finished result in another style, with the edits of its run applied.

    Args:
        result: the directory of a finished input, OUT/<name>.
        output: the clip to write.
        style: how to paint.
        alpha: opacity of the colours in [0, 1]; None: that of the run.
        palette: colours of the parts; None: those of the codebook and the edits.
        source: the input, if it has moved since.
        overwrite: replace a clip that exists.
        progress: receives progress and messages.

    Raises:
        InputError: the result or its source can't be read, or don't belong together.
        OutputError: the clip exists or can't be written.
    """
    progress = progress or Silent()
    require_free([output], overwrite)
    record = load_record(result)
    edited = edited_parts(record, result)
    store = open_labels(result / LABELS, edited.table)
    if store.parts > len(record.part_colors):
        raise InputError(f"'{result}' has {len(record.part_colors)} colours for {store.parts} parts; segment it again")
    origin = find_source(record, store, source)
    colors = part_colors(len(record.part_colors), palette) if palette else edited.colors
    alpha = record.settings.render.alpha if alpha is None else alpha
    progress.start(f"render {result.absolute().name}", len(store))
    selection = selection_of(record.settings)
    info = origin.probe()
    writer = ClipWriter(
        output,
        painted_size(info.size_hw, style),
        info,
        crf=record.settings.render.crf,
        audio=origin.path if info.audio else None,
        selection=selection,
    )
    with writer as clip:
        frames = origin.frames(selection)
        for (_, pts, labels), frame in zip(store.frames(), frames, strict=False):
            if frame.pts != pts:
                raise InputError(f"'{origin.path}' is not what '{result}' was made of: pts {frame.pts}, expected {pts}")
            clip.write(pts, paint(frame.rgb, resize_labels(labels, frame.size_hw), colors, style, alpha))
            progress.advance()
        if clip.frames < len(store):
            raise InputError(f"'{origin.path}' has {clip.frames} frames, '{result}' was made of {len(store)}")
    progress.finish()
    return RenderedClip(output, len(store))
