"""What there is to tell of a run, collected from its files: of each input and of the fit, with the edits applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.codebook import Codebook, load_codebook
from pipeline.errors import VidpartsError
from pipeline.failures import Failure, load_failures
from pipeline.media.clip_reader import frame_times
from pipeline.media.label_store import LabelStore, open_labels
from pipeline.media.source import selection_of
from pipeline.records import Part
from pipeline.runs.edits import EditedParts, edited_parts
from pipeline.runs.measures import Measures, load_measures
from pipeline.runs.record import CODEBOOK, OVERLAY, RunRecord, load_record
from pipeline.runs.record import LABELS as LABEL_STORE

CORRECTED = "corrected.mp4"
"""The clip as the edits paint it, beside the one of the run."""

_PRESENT = 1e-4
"""Share of the picture from which on a part counts as there."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class InputFacts:
    """One finished input.

    Attributes:
        directory: OUT/<name>.
        record: its run.json.
        edited: the parts that are left.
        store: its labels, with the edits.
        measures: areas, transitions and small pictures.
        shares: float64 [frames, 256], share of the picture that each label has, with the edits.
        flicker: float64 [frames], share of followed pixels whose label changes; None where that isn't known.
        seconds: float64 [frames], each frame's time in the source.
    """

    directory: Path
    record: RunRecord
    edited: EditedParts
    store: LabelStore
    measures: Measures
    shares: Floats
    flicker: Floats | None
    seconds: Floats

    @property
    def name(self) -> str:
        """The input's name."""
        return self.directory.name

    @property
    def frames(self) -> int:
        """Frames that were processed."""
        return len(self.store)

    def share(self, part: Part) -> float:
        """Mean share of the picture that a part has."""
        return float(self.shares[:, part.label].mean())

    def present(self, part: Part) -> NDArray[np.int64]:
        """The frames that show a part."""
        return np.flatnonzero(self.shares[:, part.label] >= _PRESENT)

    @property
    def foreground(self) -> float:
        """Mean share of the picture that all parts have together."""
        return float(1 - self.shares[:, 0].mean())

    @property
    def mean_flicker(self) -> float | None:
        """Flicker over all frames, with the edits; None where it isn't known or there is one frame."""
        moves = self.measures.transitions
        if moves is None or not len(moves.frame):
            return None
        table = self.edited.table
        changed = moves.pixels[table[moves.before] != table[moves.after]].sum()
        return float(changed / moves.pixels.sum())

    def clip(self) -> Path | None:
        """The clip to show: the corrected one where edits change what is painted, if it is there, else the run's."""
        for name in (CORRECTED, OVERLAY) if self.repainted else (OVERLAY,):
            if (self.directory / name).is_file():
                return self.directory / name
        return None

    @property
    def repainted(self) -> bool:
        """Whether the edits change what pictures look like."""
        count = len(self.record.part_colors)
        same = np.array_equal(self.edited.table[: count + 1], np.arange(count + 1))
        return not same or not np.array_equal(self.edited.colors, np.array(self.record.part_colors).reshape(-1, 3))

    def clip_start(self) -> float:
        """Seconds that the clip's times are behind the source's: a span of an input begins where the input does."""
        first, clip = self.store.pts[0] * self.store.time_base, self.clip()
        if clip is None or (selection_of(self.record.settings).whole and first >= 0):
            return 0.0
        shown: Fraction = next(iter(frame_times(clip)), first)
        return float(shown - first)


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """A run.

    Attributes:
        output: OUT.
        inputs: its finished inputs, by name.
        codebook: its parts; None where the file is gone or can't be read.
        failures: inputs that couldn't be finished.
        unfinished: whether an interrupted run is there that could be continued.
    """

    output: Path
    inputs: tuple[InputFacts, ...]
    codebook: Codebook | None
    failures: tuple[Failure, ...]
    unfinished: bool

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are left; the same in all inputs."""
        return self.inputs[0].edited.parts

    @property
    def frames(self) -> int:
        """Frames of all inputs."""
        return sum(each.frames for each in self.inputs)

    def share(self, part: Part) -> float:
        """Mean share of the picture that a part has, over all frames of all inputs."""
        return sum(each.share(part) * each.frames for each in self.inputs) / self.frames

    @property
    def flicker(self) -> float | None:
        """Mean flicker of the inputs, by frames; None where it isn't known of any."""
        known = [(each.mean_flicker, each.frames) for each in self.inputs]
        pairs = [(value, frames) for value, frames in known if value is not None]
        return sum(value * frames for value, frames in pairs) / sum(frames for _, frames in pairs) if pairs else None


def input_facts(result: Path) -> InputFacts:
    """The facts of a finished input, OUT/<name>.

    Raises:
        InputError: it can't be read.
    """
    record = load_record(result)
    edited = edited_parts(record, result)
    store = open_labels(result / LABEL_STORE, edited.table)
    measures = load_measures(result, open_labels(result / LABEL_STORE))
    seconds = np.array([float(pts * store.time_base) for pts in store.pts])
    shares, flicker = measures.shares(edited.table), measures.flicker(edited.table)
    return InputFacts(result, record, edited, store, measures, shares, flicker, seconds)


def run_facts(output: Path, results: Sequence[Path]) -> RunFacts:
    """The facts of a run into OUT, of which at least one input is finished.

    Raises:
        InputError: one can't be read.
    """
    run = output / ".run"
    try:
        codebook = load_codebook(output / CODEBOOK) if (output / CODEBOOK).is_file() else None
        failures = load_failures(run / "failures.json") if (run / "failures.json").is_file() else ()
    except VidpartsError:
        codebook, failures = None, ()
    unfinished = (run / "manifest.json").is_file() and not (run / "failures.json").is_file()
    return RunFacts(output, tuple(map(input_facts, results)), codebook, failures, unfinished)
