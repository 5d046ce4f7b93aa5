"""Painting a finished result in another style, from its label store and its source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import PaletteName, Style
from pipeline.errors import InputError
from pipeline.geometry import resize_labels
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.inputs import open_source
from pipeline.media.label_store import LabelStore, open_labels
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Source
from pipeline.painting.palettes import part_colors
from pipeline.painting.styles import paint, painted_size
from pipeline.progress import Progress, Silent
from pipeline.runs.outputs import require_free
from pipeline.runs.record import LABELS, RunRecord, load_record
from pipeline.stages.engine import selection_of


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
    """Paint a finished result in another style.

    Args:
        result: the directory of a finished input, OUT/<name>.
        output: the clip to write.
        style: how to paint.
        alpha: opacity of the colours in [0, 1]; None: that of the run.
        palette: colours of the parts; None: those of the codebook.
        source: the input, if it has moved since.
        overwrite: replace a clip that exists.
        progress: receives progress and messages.

    Raises:
        InputError: the result or its source can't be read, or don't belong together.
        OutputError: the clip exists or can't be written.
    """
    progress = progress or Silent()
    require_free([output], overwrite)
    record, store = load_record(result), open_labels(result / LABELS)
    if store.parts > len(record.part_colors):
        raise InputError(f"'{result}' has {len(record.part_colors)} colours for {store.parts} parts; segment it again")
    origin = _find_source(record, store, source)
    colors = part_colors(len(record.part_colors), palette) if palette else _colors(record)
    alpha = record.settings.render.alpha if alpha is None else alpha
    progress.start("render", len(store))
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


def _colors(record: RunRecord) -> NDArray[np.uint8]:
    return np.array(record.part_colors, dtype=np.uint8).reshape(-1, 3)


def _pictures(folder: Path, store: LabelStore) -> list[Path] | None:
    return [folder / name for name in store.attributes.frame_names] or None


def _find_source(record: RunRecord, store: LabelStore, given: Path | None) -> Source:
    # An untrusted record may name anything: only a plain file or directory is opened, globs aren't expanded.
    path, fps, chosen = given or Path(record.source.path), record.settings.input.fps, record.settings.input
    origin: Source
    try:
        path.exists()
    except OSError as error:
        raise InputError(
            f"the input '{path}' can't be read: {error.strerror}; say with --source where it is"
        ) from error
    if path.is_dir():
        # Of a glob's pictures the directory may hold more.
        every = chosen.every == 1 and chosen.start is None and chosen.end is None
        origin = DirectorySource(path, path.name, fps, _pictures(path, store) if every else None)
    elif path.is_file():
        origin = open_source(path, path.stem, fps)
    else:
        raise InputError(f"the input '{path}' isn't there any more; say with --source where it is now")
    height, width = origin.probe().size_hw
    if (height, width) != (record.source.height, record.source.width):
        raise InputError(
            f"'{path}' is {width}x{height} pixels, the result was made of "
            f"{record.source.width}x{record.source.height}; give the input it was made of"
        )
    return origin
