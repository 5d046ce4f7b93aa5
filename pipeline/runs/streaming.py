"""Pass 2: every frame of one input through the stages, into the directory of its result.

    decode -> energies of the parts -> CRF -> { label store, overlay clip, steadiness }

Everything is written into a directory of the run, which is renamed to OUT/<name> when it is complete. Where an
interrupted run has left labels there, their frames are replayed first (`pipeline.runs.replay`), and the stages go on
behind them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.cluster.codebook import codebook_sha256
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.errors import InputError, OutputError
from pipeline.files import sync
from pipeline.graph import Graph, Node, StageReport
from pipeline.media.label_store import LabelStore, LabelWriter, open_labels
from pipeline.media.source import Selection, Source, selection_of
from pipeline.progress import Progress
from pipeline.records import EnergyMap, Frame, PartMap
from pipeline.runs.integrity import clip_problem, result_checksums
from pipeline.runs.manifest import Manifest
from pipeline.runs.measures import MEASURES
from pipeline.runs.record import (
    LABELS,
    OVERLAY,
    RECORD,
    InputResult,
    ModelRecord,
    RunRecord,
    SourceRecord,
    Tools,
    add_records,
    load_record,
    save_record,
    stage_records,
)
from pipeline.runs.replay import finished_labels, replay
from pipeline.runs.sinks import NOTHING, Joined, Sinks, file_name
from pipeline.runs.workspace import Workspace
from pipeline.stages.energies import energy_steps, span_of
from pipeline.stages.engine import Engine
from pipeline.stages.fit import Fitted
from pipeline.stages.refinement import refine


@dataclass(frozen=True, slots=True)
class Streaming:
    """Pass 2, with all that the inputs of a run share.

    Attributes:
        work: where results grow and go.
        manifest: what the run was begun with.
        engine: model and settings.
        fitted: the codebook, and what pass 1 warned of.
        cache: the descriptors that pass 1 computed.
        progress: receives progress and messages.
    """

    work: Workspace
    manifest: Manifest
    engine: Engine
    fitted: Fitted
    cache: FeatureCache
    progress: Progress

    def run(self, number: int, source: Source) -> InputResult:
        """Stream one input, the `number`th of the run; its directory appears when everything in it is complete.

        Raises:
            InputError: the input can't be read.
            OutputError: the result can't be written; what was finished of it stays.
        """
        self.produce(number, source)
        return self.publish(source)

    def produce(self, number: int, source: Source, joined: Joined = NOTHING) -> None:
        """Complete an input's result in its directory of the run.

        Args:
            number: of the input among all of the run.
            source: the input.
            joined: what is known of its steadiness and of the time that its labels took.

        Raises:
            InputError: the input can't be read.
            OutputError: the result can't be written; what was finished of it stays.
        """
        folder = self.work.partial(source.name)
        try:
            if not (folder / RECORD).is_file():
                save_record(self._produce(number, source, folder, joined), folder)
        except InputError:
            self.work.empty(source.name)
            raise

    def publish(self, source: Source) -> InputResult:
        """Give a complete result its place, and tell its warnings.

        Raises:
            InputError, OutputError: it isn't complete, or can't be moved.
        """
        record = load_record(self.work.partial(source.name))
        target = self.work.publish(source.name)
        said = {*self.fitted.warnings, *self.engine.extractor.warnings}
        for warning in record.warnings:
            if warning not in said:
                self.progress.say(f"warning: {source.name}: {warning}")
        return InputResult(source.name, target, record)

    def _produce(self, number: int, source: Source, folder: Path, joined: Joined) -> RunRecord:
        inputs = len(self.manifest.inputs)
        place = f" ({number + 1} of {inputs})" if inputs > 1 else ""
        self.progress.start(source.name + place, source.count(self.selection))
        save_frames = self.manifest.save_frames
        sinks = Sinks.of(source, folder, self.engine, self.fitted.codebook, joined, save_frames=save_frames)
        try:
            reports = self._write(number, source, folder, sinks)
        finally:
            self.progress.finish()
        store = open_labels(folder / LABELS)
        problem = clip_problem(folder / OVERLAY, store, self.selection) if sinks.clip else ""
        if problem:
            raise OutputError(f"'{self.work.output / source.name}' is not complete: {problem}; check the disk")
        sinks.sync_pictures()
        sinks.measures.save(folder / MEASURES, sinks.all_transitions())
        identity, codebook, settings = self.engine.extractor.identity, self.fitted.codebook, self.manifest.settings
        warnings = dict.fromkeys([*joined.warnings, *self.engine.extractor.warnings])
        return RunRecord(
            **self.manifest.model_dump(include={*Tools.model_fields}),
            source=_source_record(source, self.manifest.inputs[number].sha256, store),
            settings=settings,
            model=ModelRecord(name=identity.name, fingerprint=identity.fingerprint, notes=identity.notes),
            codebook_sha256=codebook_sha256(codebook),
            seed=settings.run.seed,
            part_colors=tuple(tuple(color) for color in codebook.part_colors.tolist()),
            part_names=codebook.part_names,
            files=result_checksums(folder),
            steadiness=sinks.steadiness(),
            fit_seconds=self.fitted.seconds,
            stages=add_records([*joined.stages, *stage_records(reports)]),
            warnings=(*self.fitted.warnings, *warnings, *source.problems, *sinks.warnings),
        )

    def _write(self, number: int, source: Source, folder: Path, sinks: Sinks) -> list[StageReport]:
        """Labels and clip, or, where an interrupted run has finished the labels, the clip alone."""
        depth = self.engine.settings.run.queue_depth
        finished = finished_labels(folder / LABELS)
        if finished is not None:
            with sinks.open():
                stored = ((pts, labels) for _, pts, labels in finished.frames())
                return replay(source.frames(self.selection), stored, sinks, self.progress, depth)
        writer = self.label_writer(source, folder)
        writer.resume()
        with writer, sinks.open():
            sync(folder)
            if writer.frames:
                count = writer.frames
                frames = islice(source.frames(self.selection, range(count)), count)
                replay(frames, writer.stored(), sinks, self.progress, depth)
            reports = self._graph(number, source, writer, sinks).run()
            if not writer.frames:
                raise InputError(f"no frame of '{source.path}' can be decoded; give another file")
        return reports

    def _graph(self, number: int, source: Source, writer: LabelWriter, sinks: Sinks) -> Graph:
        done = writer.frames
        kept = range(done, sys.maxsize)
        # Windows and batches are those of an uninterrupted run: frames that have labels already are dropped.
        frames = source.frames(self.selection, span_of(self.engine, writer.size_hw, kept).decoded)
        graph = Graph(self.engine.settings.run.queue_depth)
        parts = self.part_maps(graph, number, frames, writer.size_hw, kept)
        graph.sink("labels", parts, lambda items: self._store(items, source, writer))
        graph.sink("overlay", parts, sinks.paint)
        graph.sink("steadiness", parts, sinks.measure)
        return graph

    def part_maps(
        self, graph: Graph, number: int, frames: Iterator[Frame], size_hw: tuple[int, int], kept: range
    ) -> Node[PartMap]:
        """Add the stages that turn frames into label maps.

        Args:
            graph: gets the stages.
            number: of the input among all of the run.
            frames: those that `span_of` names for `kept`.
            size_hw: their processed size.
            kept: the frames that get labels; the others are there for their windows, batches and stretches.
        """
        settings, device = self.engine.settings, self.engine.extractor.device
        node: Node[Any] = graph.source("decode", frames)
        described = span_of(self.engine, size_hw, kept).described
        for step in energy_steps(self.engine, self.fitted.codebook, self.cache, number, size_hw, described):
            node = graph.stage(step.name, node, step.work)
        return graph.stage("crf", node, lambda items: refine(_within(items, kept), settings.crf, device))

    def _store(self, items: Iterator[PartMap], source: Source, writer: LabelWriter) -> None:
        try:
            for part in items:
                writer.write(part.frame.pts, part.labels, file_name(source, part.frame))
                self.progress.advance()
        except BaseException:
            # On an interrupt this must not wait until the other stages have ended theirs.
            with suppress(OutputError):
                writer.checkpoint()
            raise

    @property
    def selection(self) -> Selection:
        """Which frames are processed."""
        return selection_of(self.engine.settings)

    def label_writer(self, source: Source, folder: Path) -> LabelWriter:
        """The writer of an input's labels in a directory."""
        info = source.probe()
        size_hw = self.engine.settings.features.processed_size(info.size_hw)
        parts = self.fitted.codebook.parts
        return LabelWriter(folder / LABELS, size_hw, info.size_hw, info.time_base, parts, keep_partial=True)


def _source_record(source: Source, checksum: str | None, store: LabelStore) -> SourceRecord:
    info, report = source.probe(), source.report
    if checksum is None:
        raise InputError(f"'{source.path}' changed while it was read; give a file that stays as it is")
    return SourceRecord(
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
    )


def _within(items: Iterator[EnergyMap], kept: range) -> Iterator[EnergyMap]:
    return (item for item in items if item.frame.index in kept)
