"""Pass 2: every frame of one input through the stages, into a result's directory.

    decode -> resize and batch -> describe -> assign -> CRF -> { label store, overlay clip }

Everything is written into OUT/.<name>.partial, which becomes OUT/<name> when it is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.assign import PartAssigner
from pipeline.cluster.cache import FeatureCache
from pipeline.config import CrfSettings, Settings
from pipeline.errors import InputError
from pipeline.files import publish
from pipeline.geometry import processed_size, resize_labels
from pipeline.graph import Graph, StageReport
from pipeline.media.clip import ClipWriter
from pipeline.media.contract import Source
from pipeline.media.labels import LabelWriter
from pipeline.media.pictures import write_picture
from pipeline.records import FeatureMap, Frame, PartMap
from pipeline.refine.crf import refine_labels
from pipeline.render.styles import paint, painted_size
from pipeline.tasks.engine import Engine, describe, prepare
from pipeline.tasks.fit import Fitted, selection_of
from pipeline.tasks.progress import Progress
from pipeline.tasks.record import (
    ModelRecord,
    RunRecord,
    SourceRecord,
    installed_packages,
    save_record,
    sha256,
    stage_records,
)

LABELS = "labels.zarr"
OVERLAY = "overlay.mp4"
FRAMES = "frames"

Energies = tuple[Frame, NDArray[np.uint8], NDArray[np.float32]]
"""A frame, its processed picture, and its unary energies [1 + K, rows, cols]."""


@dataclass(frozen=True, slots=True)
class InputResult:
    """A finished input: its directory with overlay, labels and record."""

    name: str
    directory: Path
    record: RunRecord


@dataclass(slots=True)
class _Span:
    """The frames that have passed, for the record."""

    frames: int = 0
    first_pts: int | None = None
    last_pts: int | None = None

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.first_pts = frame.pts if self.first_pts is None else self.first_pts
        self.last_pts = frame.pts


def assign(features: Iterator[FeatureMap], assigner: PartAssigner) -> Iterator[Energies]:
    """Energies of the parts; a frame's descriptors end here."""
    for feature in features:
        yield feature.frame, feature.image, assigner.energies(feature.descriptors).cpu().numpy()


def refine(items: Iterator[Energies], settings: CrfSettings) -> Iterator[PartMap]:
    """Label maps that follow the pictures' edges."""
    for frame, image, energies in items:
        yield PartMap(frame, refine_labels(energies, image, settings))


@dataclass(frozen=True, slots=True)
class Streaming:
    """Pass 2, with all that the inputs of a run share.

    Attributes:
        output: directory that the results' directories are made in.
        engine: model and settings.
        fitted: the codebook, and what pass 1 warned of.
        codebook_file: where the codebook is.
        cache: the descriptors that pass 1 computed.
        save_frames: whether the painted frames are written too.
        progress: told how far it is.
    """

    output: Path
    engine: Engine
    fitted: Fitted
    codebook_file: Path
    cache: FeatureCache
    save_frames: bool
    progress: Progress

    def run(self, number: int, source: Source) -> InputResult:
        """Stream one input, the `number`th of the run; its directory appears when everything in it is complete.

        Raises:
            InputError: the input can't be read.
            OutputError: the result can't be written.
        """
        target = self.output / source.name
        partial = self.output / f".{source.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self.progress.start(source.name, source.count(selection_of(self.engine.settings)))
            span = _Span()
            reports = self._graph(number, source, partial, span).run()
            if not span.frames:
                raise InputError(f"no frame of '{source.path}' can be decoded; give another file")
            record = self._record(source, reports, span)
            save_record(record, partial)
            publish(partial, target)
        finally:
            self.progress.finish()
            shutil.rmtree(partial, ignore_errors=True)
        for problem in source.problems:
            self.progress.say(f"warning: {source.name}: {problem}")
        return InputResult(source.name, target, record)

    def _graph(self, number: int, source: Source, folder: Path, span: _Span) -> Graph:
        settings, extractor = self.engine.settings, self.engine.extractor
        assigner = PartAssigner.of(self.fitted.codebook, extractor.device)
        graph = Graph(settings.run.queue_depth)
        frames = graph.source("decode", source.frames(selection_of(settings)))
        batches = graph.stage("resize", frames, lambda items: prepare(items, extractor, settings.run.batch))
        features = graph.stage("describe", batches, lambda items: describe(items, extractor, self.cache, number))
        energies = graph.stage("assign", features, lambda items: assign(items, assigner))
        parts = graph.stage("crf", energies, lambda items: refine(items, settings.crf))
        graph.sink("labels", parts, lambda items: self._store(items, source, folder / LABELS, span))
        graph.sink("overlay", parts, lambda items: self._paint(items, source, folder))
        return graph

    def _store(self, items: Iterator[PartMap], source: Source, file: Path, span: _Span) -> None:
        info = source.probe()
        load_size, parts = self.engine.settings.features.load_size, self.fitted.codebook.parts
        size_hw = processed_size(info.size_hw, load_size)
        with LabelWriter(file, size_hw, info.size_hw, info.time_base, parts) as writer:
            for part in items:
                writer.write(part.frame.pts, part.labels, _file_name(source, part.frame))
                span.add(part.frame)
                self.progress.advance()

    def _paint(self, items: Iterator[PartMap], source: Source, folder: Path) -> None:
        settings, info = self.engine.settings, source.probe()
        clip = ClipWriter(
            folder / OVERLAY,
            painted_size(info.size_hw, settings.render.style),
            info,
            crf=settings.render.crf,
            audio=source.path if info.audio else None,
            selection=selection_of(settings),
        )
        with clip:
            for part in items:
                painted = self._painted(part, settings)
                clip.write(part.frame.pts, painted)
                if self.save_frames:
                    name = _file_name(source, part.frame) or f"{part.frame.index:06d}.png"
                    write_picture(folder / FRAMES / name, painted)

    def _painted(self, part: PartMap, settings: Settings) -> NDArray[np.uint8]:
        labels = resize_labels(part.labels, part.frame.size_hw)
        colors = self.fitted.codebook.part_colors
        return paint(part.frame.rgb, labels, colors, settings.render.style, settings.render.alpha)

    def _record(self, source: Source, reports: list[StageReport], span: _Span) -> RunRecord:
        identity, info, report = self.engine.extractor.identity, source.probe(), source.report
        return RunRecord(
            packages=installed_packages(),
            source=SourceRecord(
                path=str(source.path.absolute()),
                frames=span.frames,
                width=info.size_hw[1],
                height=info.size_hw[0],
                time_base=str(info.time_base),
                first_pts=span.first_pts,
                last_pts=span.last_pts,
                lost_frames=report.lost_frames,
                corrupt_frames=report.corrupt_frames,
                missing_frames=report.missing_frames,
            ),
            settings=self.engine.settings,
            model=ModelRecord(name=identity.name, fingerprint=identity.fingerprint, notes=identity.notes),
            codebook_sha256=sha256(self.codebook_file),
            seed=self.engine.settings.run.seed,
            part_colors=tuple(tuple(color) for color in self.fitted.codebook.part_colors.tolist()),
            fit_seconds=self.fitted.seconds,
            stages=stage_records(reports),
            warnings=(*self.fitted.warnings, *source.problems),
        )


def _file_name(source: Source, frame: Frame) -> str:
    """The name of a directory's picture; empty for a video's frame."""
    return source.file_names.get(frame.name, "")
