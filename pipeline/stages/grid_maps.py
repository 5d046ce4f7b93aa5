"""Maps of values on the grid, painted: PNG files for pictures, clips with times and sound for videos.

    decode -> resize and batch -> describe -> { one file each }

What a map is and how it is painted is the task's business (`pca`, `similarity`, `saliency`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.frame_sampling import spread_frames
from pipeline.errors import InputError, VidpartsError
from pipeline.failures import Failure, noted
from pipeline.graph import Graph
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.inputs import Still
from pipeline.media.pictures import save_png
from pipeline.media.source import ALL_FRAMES, Selection, Source, selection_of
from pipeline.progress import Progress
from pipeline.records import GridMap, Prepared
from pipeline.stages.batches import prepare
from pipeline.stages.engine import Engine

Floats = NDArray[np.float32]
Describe = Callable[[list[Prepared]], Iterable[Floats]]
"""Gives the values of each frame of a batch."""
Paint = Callable[[GridMap], NDArray[np.uint8]]
"""Paints a frame's values at the frame's own size."""


@dataclass(frozen=True, slots=True)
class Painting:
    """A file that is painted: its path without suffix, and how."""

    stem: Path
    paint: Paint


def painted_file(stem: Path, source: Source) -> Path:
    """A result's file: .png for a picture, .mp4 for a video."""
    # Names may contain dots, so the suffix is appended.
    return stem.with_name(stem.name + (".png" if isinstance(source, Still) else ".mp4"))


def frames_of(source: Source, engine: Engine) -> Selection:
    """The frames that the settings pick of a video; a picture has only one."""
    return ALL_FRAMES if isinstance(source, Still) else selection_of(engine.settings)


def sample_frames(
    sources: Sequence[Source], engine: Engine, budget: int, failures: list[Failure]
) -> list[tuple[Source, list[int]]]:
    """Evenly spread frames of inputs, `budget` of them in all.

    Inputs that can't be read are added to `failures`, and left out.
    """
    counted: list[tuple[Source, int]] = []
    for source in sources:
        with noted(source.name, failures):
            frames = source.count(frames_of(source, engine))
            if not frames:
                raise InputError(f"'{source.path}' has no frame between --start and --end; give a span inside the clip")
            counted.append((source, frames))
    spread = spread_frames([frames for _, frames in counted], budget)
    return [(source, indices) for (source, _), indices in zip(counted, spread, strict=True)]


def map_frames(
    source: Source, engine: Engine, describe: Describe, consume: Callable[[Iterator[GridMap]], None], indices: list[int]
) -> None:
    """Describe some frames of an input, decoding and resizing while the ViT works.

    Raises:
        InputError: the input can't be read.
    """
    graph = Graph(engine.settings.run.queue_depth)
    frames = graph.source("decode", source.frames(frames_of(source, engine), set(indices)))
    batches = graph.stage("resize", frames, lambda items: prepare(items, engine.extractor, engine.settings.run.batch))
    graph.sink("describe", batches, lambda items: consume(_described(items, describe)))
    graph.run()


def paint_each(
    sources: Sequence[Source],
    engine: Engine,
    progress: Progress,
    failures: list[Failure],
    paint: Callable[[Source], Iterable[Path]],
) -> list[Path]:
    """Paint inputs one after the other under one progress bar, by calls of `paint_frames`, and return the files.

    Inputs that fail are added to `failures`, and the others go on.
    """
    files: list[Path] = []
    progress.start("paint", sum(_frames(source, engine) for source in sources), unit_of(sources))
    try:
        for source in sources:
            with noted(source.name, failures):
                files += paint(source)
    finally:
        progress.finish()
    return files


def unit_of(sources: Sequence[Source]) -> str:
    """What a progress bar over inputs counts."""
    return "picture" if all(isinstance(source, Still) for source in sources) else "frame"


def _frames(source: Source, engine: Engine) -> int:
    try:
        return source.count(frames_of(source, engine))
    except VidpartsError:
        # It is said when the input is painted.
        return 0


def paint_frames(
    source: Source,
    engine: Engine,
    describe: Describe,
    paintings: Sequence[Painting],
    progress: Progress,
    keep: Callable[[GridMap], None],
) -> list[Path]:
    """Describe every frame of an input, paint the maps within a pass of `progress`, and return the files.

    `keep` is given each frame's values, in order.

    Raises:
        InputError: the input can't be read.
        OutputError: a file can't be written.
    """

    def watch(items: Iterator[GridMap]) -> None:
        for item in items:
            keep(item)
            progress.advance(name=source.name)

    graph = Graph(engine.settings.run.queue_depth)
    frames = graph.source("decode", source.frames(frames_of(source, engine)))
    batches = graph.stage("resize", frames, lambda items: prepare(items, engine.extractor, engine.settings.run.batch))
    maps = graph.stage("describe", batches, lambda items: _described(items, describe))
    graph.sink("watch", maps, watch)
    for painting in paintings:
        graph.sink(painting.stem.name, maps, partial(_write, painting=painting, source=source, engine=engine))
    graph.run()
    for problem in source.problems:
        progress.say(f"warning: {source.name}: {problem}")
    return [painted_file(painting.stem, source) for painting in paintings]


def _described(batches: Iterator[list[Prepared]], describe: Describe) -> Iterator[GridMap]:
    for batch in batches:
        for item, values in zip(batch, describe(batch), strict=True):
            yield GridMap(item.frame, values)


def _write(items: Iterator[GridMap], painting: Painting, source: Source, engine: Engine) -> None:
    file = painted_file(painting.stem, source)
    if isinstance(source, Still):
        for item in items:
            save_png(file, painting.paint(item))
        return
    info = source.probe()
    file.parent.mkdir(parents=True, exist_ok=True)
    clip = ClipWriter(
        file,
        info.size_hw,
        info,
        crf=engine.settings.render.crf,
        audio=source.path if info.audio else None,
        selection=frames_of(source, engine),
    )
    with clip:
        for item in items:
            clip.write(item.frame.pts, painting.paint(item))
