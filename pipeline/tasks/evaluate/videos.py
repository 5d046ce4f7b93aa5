"""DAVIS and annotated clips: each video is fitted and labelled by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.config import InputSettings
from pipeline.evaluation.datasets.davis import load_davis
from pipeline.evaluation.datasets.layout import pictures_in
from pipeline.evaluation.datasets.parts import PartClip, load_part_clips
from pipeline.evaluation.protocols.davis import evaluate_davis
from pipeline.evaluation.protocols.parts import evaluate_parts
from pipeline.evaluation.reports import Summary
from pipeline.failures import Failure
from pipeline.geometry import resize_labels
from pipeline.media.inputs import resolve_inputs
from pipeline.media.picture_sequence import DirectorySource
from pipeline.media.source import Source
from pipeline.progress import Progress
from pipeline.stages.energies import energy_steps
from pipeline.stages.engine import Engine
from pipeline.stages.fit import fit_codebook
from pipeline.stages.refinement import refine
from pipeline.tasks.evaluate.request import Request, with_notes

Labels = NDArray[np.uint8]

FPS = InputSettings().fps
"""Frame rate of folders of frames; no figure depends on it."""


def evaluate_foreground(request: Request) -> Summary:
    """DAVIS: the union of a video's parts against its masks."""
    sequences = load_davis(request.data, request.year)
    engine = _engine(request)
    run = request.open_run(engine, year=request.year)

    def segment(frames: Sequence[Path]) -> Iterator[Labels]:
        source = DirectorySource(frames[0].parent, frames[0].parent.name, FPS, frames)
        return (labels for _, labels in segment_source(source, engine, request.aside))

    return with_notes(run, evaluate_davis(sequences, segment, run), engine, [_parts_note(engine)])


def evaluate_part_clips(request: Request) -> Summary:
    """Annotated clips: their parts against the annotated ones, and how steady they are."""
    clips = load_part_clips(request.data)
    engine = _engine(request)
    run = request.open_run(engine)

    def segment(clip: PartClip) -> Iterator[tuple[NDArray[np.uint8], Labels]]:
        return segment_source(_source(clip), engine, request.aside)

    return with_notes(run, evaluate_parts(clips, segment, run), engine, [_parts_note(engine)])


def segment_source(
    source: Source, engine: Engine, progress: Progress
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """A video's frames and their parts at the frames' own size, one frame in memory at a time.

    The same two passes as `segment`, without its files; the parts are those of this video alone.

    Raises:
        InputError: the video can't be read.
    """
    settings = engine.settings
    with tempfile.TemporaryDirectory(prefix="vidparts-") as folder, FeatureCache(Path(folder)) as cache:
        failures: list[Failure] = []
        fitted = fit_codebook([source], engine, cache, progress, failures)
        if failures:
            raise failures[0].error
        for warning in fitted.warnings:
            progress.say(f"warning: {source.name}: {warning}")
        size_hw = settings.features.processed_size(source.probe().size_hw)
        items: Iterator[Any] = source.frames()
        for step in energy_steps(engine, fitted.codebook, cache, 0, size_hw):
            items = step.work(items)
        for part in refine(items, settings.crf, engine.extractor.device):
            yield part.frame.rgb, resize_labels(part.labels, part.frame.size_hw)


def _engine(request: Request) -> Engine:
    engine = request.open_engine()
    # An evaluation takes all frames, whatever a config file says of spans and steps.
    return Engine(engine.extractor, engine.settings.model_copy(update={"input": InputSettings()}))


def _source(clip: PartClip) -> Source:
    if clip.source.is_dir():
        # Annotations count the frames in the order of the data set's loader.
        return DirectorySource(clip.source, clip.name, FPS, pictures_in(clip.source))
    (source,) = resolve_inputs([str(clip.source)], FPS)
    return source


def _parts_note(engine: Engine) -> str:
    cluster, features = engine.settings.cluster, engine.settings.features
    read = f"layer {features.layer} {features.facet}"
    return f"{cluster.parts} parts from {read}, fitted on at most {cluster.frames} frames of each video."
