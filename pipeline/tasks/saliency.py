"""Saliency of pictures and videos as heat maps (paper section 4: attention of the class token)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.failures import Failure
from pipeline.features.extractor import Extractor
from pipeline.media.inputs import resolve_visuals
from pipeline.media.npz import open_npz
from pipeline.media.source import Source
from pipeline.painting.heatmaps import heat_map
from pipeline.progress import Progress, Silent
from pipeline.records import GridMap, Prepared
from pipeline.runs.outputs import Outcome, require_free
from pipeline.stages.engine import Engine, open_engine
from pipeline.stages.grid_maps import Painting, paint_each, paint_frames, painted_file
from pipeline.stages.grid_points import place_on

Floats = NDArray[np.float32]


def saliency(
    inputs: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Paint what the class token attends to, and write it as arrays.

    For each input a heat map over the picture, <name>.png, or over every frame of a video, <name>.mp4, from 0
    (blue) to 1 (red); and <name>.npz with float32 [rows, cols] `saliency` of a picture, or `<frame's number>` of
    each frame of a video, from 000000.

    This is the map that votes for the foreground: by default that of the picture at half size (`saliency.half_size`).
    Where no load size is given, the authors' code fails; here half of the picture's own size is used.

    Args:
        inputs: pictures, videos, directories of pictures, globs or text files of paths.
        output: directory of the results.
        settings: the defaults if None.
        overwrite: replace files that exist.
        progress: receives progress and messages.

    Returns:
        The files, and the inputs that couldn't be finished.

    Raises:
        InputError: no input can be read; one that fails among others is listed in the result's `failures`.
        OutputError: a file exists or can't be written.
        ModelError: the model can't be loaded.
    """
    settings, progress = settings or Settings(), progress or Silent()
    sources = resolve_visuals([str(item) for item in inputs])
    require_free((file for source in sources for file in _files(source, output)), overwrite)
    engine = open_engine(settings, progress)
    failures: list[Failure] = []
    files = paint_each(sources, engine, progress, failures, lambda source: _paint(source, output, engine, progress))
    outcome = Outcome(tuple(files), tuple(failures))
    if not files:
        outcome.raise_failures()
    return outcome


def _files(source: Source, output: Path) -> tuple[Path, Path]:
    return painted_file(output / source.name, source), output / f"{source.name}.npz"


def _describe(batch: list[Prepared], extractor: Extractor) -> Floats:
    """The saliency that the settings ask for, of the frames of a batch."""
    if extractor.half_size:
        maps = extractor.saliency_half([item.frame.rgb for item in batch])
    else:
        found = extractor.extract([item.image for item in batch], saliency=True).saliency
        assert found is not None
        maps = found
    values: Floats = maps.cpu().numpy()
    return values


def _paint(source: Source, output: Path, engine: Engine, progress: Progress) -> list[Path]:
    picture, arrays = _files(source, output)
    still = picture.suffix == ".png"

    def heat(item: GridMap) -> NDArray[np.uint8]:
        place = place_on(engine, item.frame.size_hw)
        return heat_map(item.frame.rgb, item.values, place, 0.0, 1.0, engine.settings.render.alpha)

    with open_npz(arrays) as archive:

        def keep(item: GridMap) -> None:
            archive.write("saliency" if still else f"{item.frame.index:06d}", item.values)

        describe = partial(_describe, extractor=engine.extractor)
        files = paint_frames(source, engine, describe, [Painting(output / source.name, heat)], progress, keep)
    return [*files, arrays]
