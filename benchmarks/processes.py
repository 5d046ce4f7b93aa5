"""A run of the program, or of its plain twin, as a process of its own: seconds, peak memory, what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.media.label_store import open_labels
from pipeline.runs.record import LABELS, StageRecord, load_record


@dataclass(frozen=True, slots=True)
class Run:
    """What a process did.

    Attributes:
        frames: frames that it processed.
        seconds: from its start to its end, imports and the model's load included.
        processor_s: seconds of the processors, which other programs on the machine disturb less.
        peak_mb: its largest resident memory, 10^6 bytes.
        fit_s: seconds of the fit among them, where there was one.
        stages: what each stage did; empty for the twin.
        labels: uint8 [frame, row, column].
    """

    frames: int
    seconds: float
    processor_s: float
    peak_mb: float
    fit_s: float
    stages: tuple[StageRecord, ...]
    labels: NDArray[np.uint8]

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


def run_program(clip: Path, folder: Path, options: Sequence[str]) -> Run:
    """`vidparts segment CLIP` with options."""
    spent = _run(["-m", "pipeline", "segment", str(clip), "-o", str(folder), *options])
    directory = next(path.parent for path in folder.glob("*/run.json"))
    record, store = load_record(directory), open_labels(directory / LABELS)
    labels = np.stack([labels for _, _, labels in store.frames()])
    return Run(len(labels), *spent, record.fit_seconds or 0.0, record.stages, labels)


def run_paper(clip: Path, folder: Path, options: Sequence[str], frames: int) -> Run:
    """`benchmarks.paper` on the first frames of a clip."""
    file = folder / "paper.npy"
    spent = _run(["-m", "benchmarks.paper", str(clip), "-o", str(file), "--frames", str(frames), *options])
    labels = np.load(file)
    return Run(len(labels), *spent, 0.0, (), labels)


def _run(arguments: Sequence[str]) -> tuple[float, float, float]:
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
