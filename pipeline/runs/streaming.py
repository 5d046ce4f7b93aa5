"""Pass 2: every frame of one input through the stages, into a result's directory.

    decode -> energies of the parts -> CRF -> { label store, overlay clip, steadiness }

Everything is written into a directory of the run's own, which becomes OUT/<name> when it is complete. Where an
interrupted run has left labels there, their frames are painted first, from them, and the stages go on behind
them: the clip's bytes are those of a run that wasn't interrupted, because the encoder sees the same pictures.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.errors import InputError, OutputError
from pipeline.evaluation.metrics.steadiness import SteadinessMeter
from pipeline.files import output_errors, remove, sha256, sync
from pipeline.geometry import processed_size, shrink
from pipeline.graph import Graph, Node, StageReport
from pipeline.media.clip_writer import ClipWriter
from pipeline.media.label_store import LabelStore, LabelWriter, open_labels
from pipeline.media.pictures import write_picture
from pipeline.media.source import Selection, Source
from pipeline.painting.styles import painted_size
from pipeline.progress import Progress
from pipeline.records import EnergyMap, Frame, PartMap
from pipeline.runs.integrity import clip_problem, result_checksums
from pipeline.runs.manifest import Plan
from pipeline.runs.record import (
    FILE_NAME,
    FRAMES,
    LABELS,
    OVERLAY,
    ModelRecord,
    RunRecord,
    SourceRecord,
    SteadinessRecord,
    load_record,
    save_record,
    stage_records,
)
from pipeline.runs.result import InputResult
from pipeline.runs.workspace import Workspace
from pipeline.stages.energies import energy_steps, key_frames_of
from pipeline.stages.engine import Engine, selection_of
from pipeline.stages.fit import Fitted
from pipeline.stages.refinement import paint_parts, refine


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What the frames of one input are painted on, and what watches how steady they are."""

    clip: ClipWriter
    folder: Path
    meter: SteadinessMeter = field(default_factory=SteadinessMeter)

    def measure(self, items: Iterator[PartMap]) -> None:
        for part in items:
            self.meter.add(shrink(part.frame.rgb, part.labels.shape), part.labels)

    def steadiness(self) -> SteadinessRecord:
        found = self.meter.result()
        figures = [None if math.isnan(value) else value for value in (found.flicker, found.switches_per_100_frames)]
        return SteadinessRecord(flicker=figures[0], switches_per_100_frames=figures[1])


@dataclass(frozen=True, slots=True)
class Streaming:
    """Pass 2, with all that the inputs of a run share.

    Attributes:
        work: where results grow and go.
        plan: what the run was begun with.
        engine: model and settings.
        fitted: the codebook, and what pass 1 warned of.
        codebook_file: where the codebook is.
        cache: the descriptors that pass 1 computed.
        progress: told how far it is.
    """

    work: Workspace
    plan: Plan
    engine: Engine
    fitted: Fitted
    codebook_file: Path
    cache: FeatureCache
    progress: Progress

    def run(self, number: int, source: Source) -> InputResult:
        """Stream one input, the `number`th of the run; its directory appears when everything in it is complete.

        Raises:
            InputError: the input can't be read.
            OutputError: the result can't be written; what was finished of it stays.
        """
        folder = self.work.partial(source.name)
        try:
            if not (folder / FILE_NAME).is_file():
                save_record(self._produce(number, source, folder), folder)
            record = load_record(folder)
        except InputError:
            self.work.empty(source.name)
            raise
        target = self.work.publish(source.name)
        said = {*self.fitted.warnings, *self.engine.extractor.warnings}
        for warning in record.warnings:
            if warning not in said:
                self.progress.say(f"warning: {source.name}: {warning}")
        return InputResult(source.name, target, record)

    def _produce(self, number: int, source: Source, folder: Path) -> RunRecord:
        self.progress.start(source.name, source.count(selection_of(self.engine.settings)))
        canvas = _Canvas(self._clip(source, folder), folder)
        try:
            reports = self._write(number, source, folder, canvas)
        finally:
            self.progress.finish()
        store = open_labels(folder / LABELS)
        problem = clip_problem(folder / OVERLAY, store, selection_of(self.engine.settings))
        if problem:
            raise OutputError(f"'{self.work.output / source.name}' is not whole: {problem}; check the disk")
        _sync_files(folder / FRAMES)
        return self._record(number, source, reports, canvas, store)

    def _write(self, number: int, source: Source, folder: Path, canvas: _Canvas) -> list[StageReport]:
        """Labels and clip, or, where an interrupted run has finished the labels, the clip."""
        finished = _finished_labels(folder / LABELS)
        if finished is not None:
            with canvas.clip:
                stored = ((pts, labels) for _, pts, labels in finished.frames())
                return self._replay(source, source.frames(self._selection), stored, canvas).run()
        writer = self._label_writer(source, folder)
        writer.resume()
        with writer, canvas.clip:
            sync(folder)
            if writer.frames:
                frames = _first_frames(source, self._selection, writer.frames)
                self._replay(source, frames, writer.stored(), canvas).run()
            reports = self._graph(number, source, writer, canvas).run()
            if not canvas.clip.frames:
                raise InputError(f"no frame of '{source.path}' can be decoded; give another file")
        return reports

    def _graph(self, number: int, source: Source, writer: LabelWriter, canvas: _Canvas) -> Graph:
        settings, device, done = self.engine.settings, self.engine.extractor.device, writer.frames
        # Batches are those of a run that wasn't interrupted: what is computed twice of the first one is dropped.
        wanted = range(done - done % key_frames_of(self.engine, writer.size_hw).chunk, sys.maxsize)
        graph = Graph(settings.run.queue_depth)
        node: Node[Any] = graph.source("decode", source.frames(self._selection, wanted))
        for step in energy_steps(self.engine, self.fitted.codebook, self.cache, number, writer.size_hw):
            node = graph.stage(step.name, node, step.work)
        parts = graph.stage("crf", node, lambda items: refine(_from(items, done), settings.crf, device))
        graph.sink("labels", parts, lambda items: self._store(items, source, writer))
        graph.sink("overlay", parts, lambda items: self._paint(items, source, canvas))
        graph.sink("steadiness", parts, canvas.measure)
        return graph

    def _replay(
        self,
        source: Source,
        frames: Iterator[Frame],
        stored: Iterator[tuple[int, NDArray[np.uint8]]],
        canvas: _Canvas,
    ) -> Graph:
        """Paint frames from labels that are there already."""
        graph = Graph(self.engine.settings.run.queue_depth)
        decoded = graph.source("decode", frames)
        parts = graph.stage("labels", decoded, lambda items: _labelled(items, stored, source))
        graph.sink("overlay", parts, lambda items: self._paint(self._counted(items), source, canvas))
        graph.sink("steadiness", parts, canvas.measure)
        return graph

    def _counted(self, items: Iterator[PartMap]) -> Iterator[PartMap]:
        for part in items:
            self.progress.advance()
            yield part

    def _store(self, items: Iterator[PartMap], source: Source, writer: LabelWriter) -> None:
        try:
            for part in items:
                writer.write(part.frame.pts, part.labels, _file_name(source, part.frame))
                self.progress.advance()
        except BaseException:
            # Whoever interrupts may not wait until the other stages have ended theirs.
            with suppress(OutputError):
                writer.checkpoint()
            raise

    def _paint(self, items: Iterator[PartMap], source: Source, canvas: _Canvas) -> None:
        for part in items:
            painted = paint_parts(part, self.fitted.codebook, self.engine.settings.render)
            canvas.clip.write(part.frame.pts, painted)
            if self.plan.save_frames:
                name = _file_name(source, part.frame) or f"{part.frame.index:06d}.png"
                write_picture(canvas.folder / FRAMES / name, painted)

    @property
    def _selection(self) -> Selection:
        return selection_of(self.engine.settings)

    def _label_writer(self, source: Source, folder: Path) -> LabelWriter:
        info = source.probe()
        size_hw = processed_size(info.size_hw, self.engine.settings.features.load_size)
        parts = self.fitted.codebook.parts
        return LabelWriter(folder / LABELS, size_hw, info.size_hw, info.time_base, parts, keep_partial=True)

    def _clip(self, source: Source, folder: Path) -> ClipWriter:
        settings, info = self.engine.settings.render, source.probe()
        return ClipWriter(
            folder / OVERLAY,
            painted_size(info.size_hw, settings.style),
            info,
            crf=settings.crf,
            audio=source.path if info.audio else None,
            selection=self._selection,
        )

    def _record(
        self, number: int, source: Source, reports: list[StageReport], canvas: _Canvas, store: LabelStore
    ) -> RunRecord:
        identity, info, report = self.engine.extractor.identity, source.probe(), source.report
        checksum = self.plan.inputs[number].sha256
        if checksum is None:
            raise InputError(f"'{source.path}' changed while it was read; give a file that stays as it is")
        return RunRecord(
            packages=self.plan.packages,
            device=self.plan.device,
            source=SourceRecord(
                path=str(source.path.absolute()),
                sha256=checksum,
                frames=len(store),
                width=info.size_hw[1],
                height=info.size_hw[0],
                time_base=str(info.time_base),
                first_pts=store.pts[0],
                last_pts=store.pts[-1],
                lost_frames=report.lost_frames,
                corrupt_frames=report.corrupt_frames,
                missing_frames=report.missing_frames,
            ),
            settings=self.plan.settings,
            model=ModelRecord(name=identity.name, fingerprint=identity.fingerprint, notes=identity.notes),
            codebook_sha256=sha256(self.codebook_file),
            seed=self.plan.settings.run.seed,
            part_colors=tuple(tuple(color) for color in self.fitted.codebook.part_colors.tolist()),
            files=result_checksums(canvas.folder),
            steadiness=canvas.steadiness(),
            fit_seconds=self.fitted.seconds,
            stages=stage_records(reports),
            warnings=(
                *self.fitted.warnings,
                *self.engine.extractor.warnings,
                *source.problems,
                *canvas.clip.warnings,
            ),
        )


def _finished_labels(path: Path) -> LabelStore | None:
    """The labels that an interrupted run has finished; None where there are none, or none that can be read."""
    if not path.exists():
        return None
    try:
        store = open_labels(path)
        for _ in store.frames():
            pass
    except InputError:
        remove(path)
        return None
    return store


def _first_frames(source: Source, selection: Selection, count: int) -> Iterator[Frame]:
    yield from islice(source.frames(selection, range(count)), count)


def _from(items: Iterator[EnergyMap], first: int) -> Iterator[EnergyMap]:
    return (item for item in items if item.frame.index >= first)


def _labelled(
    frames: Iterator[Frame], stored: Iterator[tuple[int, NDArray[np.uint8]]], source: Source
) -> Iterator[PartMap]:
    for frame, (pts, labels) in zip(frames, stored, strict=True):
        if frame.pts != pts:
            raise InputError(f"'{source.path}' is not what it was: a frame has pts {frame.pts}, expected {pts}")
        yield PartMap(frame, labels)


def _sync_files(folder: Path) -> None:
    with output_errors(folder):
        if folder.is_dir():
            for file in (*folder.iterdir(), folder):
                sync(file)


def _file_name(source: Source, frame: Frame) -> str:
    """The name of a directory's picture; empty for a video's frame."""
    return source.file_names.get(frame.name, "")
