"""Where label maps end, computed or replayed: clip, painted pictures, steadiness meter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cluster.codebook import Codebook
from pipeline.config import RenderSettings
from pipeline.evaluation.metrics.steadiness import PairCounts, SteadinessMeter, Transitions
from pipeline.files import output_errors, sync
from pipeline.geometry import shrink
from pipeline.graph import side_by_side
from pipeline.media.clip_writer import ClipWriter, is_encodable
from pipeline.media.pictures import writable_name, write_picture
from pipeline.media.source import Source, selection_of
from pipeline.painting.styles import painted_size
from pipeline.records import Frame, PartMap
from pipeline.runs.measures import MeasureTaker, absence
from pipeline.runs.record import FRAMES, OVERLAY, StageRecord, SteadinessRecord
from pipeline.stages.engine import Engine
from pipeline.stages.refinement import paint_parts, painters

_NO_CLIP = f"frames are too large for H.264: they are in {FRAMES}/, and there is no {OVERLAY}"


@dataclass(frozen=True, slots=True)
class Joined:
    """What is known of an input whose labels were computed elsewhere.

    Attributes:
        counts: how steady its labels are, over `counted`.
        counted: frames that were compared with the frame before each.
        stages: where the time went.
        warnings: what a person should know of it.
        transitions: which labels turned into which at `counted`, a row of `Transitions` each.
    """

    counts: PairCounts = field(default_factory=PairCounts)
    counted: tuple[range, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    transitions: tuple[tuple[int, int, int, int], ...] = ()


NOTHING = Joined()


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where the label maps of one input go.

    Attributes:
        source: the input.
        codebook: the colours of the parts.
        render: how they are painted.
        clip: the overlay clip; None where frames are too large for one, and only pictures are written.
        frames_folder: where painted frames are written as pictures too; None: nowhere.
        measures: areas and small pictures for the report.
        painters: frames that are painted in parallel.
        joined: what is known of the labels already.
        meter: how steady the labels are.
    """

    source: Source
    codebook: Codebook
    render: RenderSettings
    clip: ClipWriter | None
    frames_folder: Path | None
    measures: MeasureTaker
    painters: int
    joined: Joined
    meter: SteadinessMeter

    @classmethod
    def of(
        cls, source: Source, folder: Path, engine: Engine, codebook: Codebook, joined: Joined, *, save_frames: bool
    ) -> Sinks:
        """The sinks of an input whose result grows in `folder`."""
        info, render, selection = source.probe(), engine.settings.render, selection_of(engine.settings)
        size_hw, clip = painted_size(info.size_hw, render.style), None
        if is_encodable(size_hw) or not save_frames:
            audio = source.path if info.audio else None
            clip = ClipWriter(folder / OVERLAY, size_hw, info, crf=render.crf, audio=audio, selection=selection)
        return cls(
            source,
            codebook,
            render,
            clip,
            folder / FRAMES if save_frames else None,
            MeasureTaker(source.count(selection)),
            painters(engine.extractor.device),
            joined,
            SteadinessMeter(joined.counts),
        )

    def open(self) -> AbstractContextManager[object]:
        """The clip, while it is written."""
        return nullcontext() if self.clip is None else self.clip

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the clip and its parts."""
        return (*((_NO_CLIP,) if self.clip is None else self.clip.warnings), *self._missing())

    def paint(self, items: Iterator[PartMap]) -> None:
        """Paint each frame into the clip, and as a picture where that was asked for."""
        pairs = side_by_side(items, lambda part: (part, paint_parts(part, self.codebook, self.render)), self.painters)
        for part, painted in pairs:
            if self.clip is not None:
                self.clip.write(part.frame.pts, painted)
            if self.frames_folder is not None:
                name = writable_name(file_name(self.source, part.frame) or f"{part.frame.index:06d}.png")
                write_picture(self.frames_folder / name, painted)

    def measure(self, items: Iterator[PartMap]) -> None:
        """Compare each frame's labels with those of the frame before, and take what the report shows."""
        for part in items:
            index = part.frame.index
            self.measures.add(part.frame.rgb, part.labels, self.codebook.parts)
            known, next_known = self._is_counted(index), self._is_counted(index + 1)
            if known:
                self.meter.restart()
            if not (known and next_known):
                self.meter.add(shrink(part.frame.rgb, part.labels.shape), part.labels, index)

    def all_transitions(self) -> Transitions:
        """Which labels turned into which, over all frames."""
        return Transitions.of([*self.joined.transitions, *self.meter.transitions().rows()])

    def _is_counted(self, index: int) -> bool:
        return any(index in frames for frames in self.joined.counted)

    def _missing(self) -> list[str]:
        missing = [label for label in range(1, self.codebook.parts + 1) if not self.measures.found[label]]
        if len(missing) == self.codebook.parts:
            return ["nothing was found: no part appears in any frame"]
        return [absence(label) for label in missing]

    def steadiness(self) -> SteadinessRecord:
        """What the meter has found; None for a single frame."""
        found = self.meter.result()
        figures = [None if math.isnan(value) else value for value in (found.flicker, found.switches_per_100_frames)]
        return SteadinessRecord(flicker=figures[0], switches_per_100_frames=figures[1])

    def sync_pictures(self) -> None:
        """Wait until the pictures are on the disk.

        Raises:
            OutputError: they can't be written.
        """
        if self.frames_folder is not None and self.frames_folder.is_dir():
            with output_errors(self.frames_folder):
                for file in (*self.frames_folder.iterdir(), self.frames_folder):
                    sync(file)


def file_name(source: Source, frame: Frame) -> str:
    """The name of a directory's picture; empty for a video's frame."""
    return source.file_names.get(frame.name, "")
