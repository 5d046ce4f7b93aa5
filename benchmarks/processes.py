"""Run the program or `benchmarks.paper` as a subprocess: time, peak memory, labels."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.media.label_store import open_labels
from pipeline.runs.record import LABELS, StageRecord, load_record


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """Time, memory and labels of a finished process.

    Attributes:
        frames: number of frames.
        seconds: wall time from start to exit, including imports and loading the model.
        processor_s: CPU seconds, which other load on the machine disturbs less.
        peak_mb: peak resident memory, 10^6 bytes.
        fit_s: seconds of the fit; 0 without one.
        stages: timings of each stage; empty for `benchmarks.paper`.
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
        """Frames per second."""
        return self.frames / self.seconds

    def beyond(self, shorter: ProcessRun) -> ProcessRun:
        """What the frames took that a shorter run of the same didn't have: without start and end of a process."""
        frames = self.frames - shorter.frames
        return replace(
            self,
            frames=frames,
            seconds=self.seconds - shorter.seconds,
            processor_s=self.processor_s - shorter.processor_s,
            labels=self.labels[-frames:],
        )


def run_program(clip: Path, folder: Path, options: Sequence[str]) -> ProcessRun:
    """Run `vidparts segment CLIP` with options."""
    spent = _run(["-m", "pipeline", "segment", str(clip), "-o", str(folder), *options])
    directory = next(path.parent for path in folder.glob("*/run.json"))
    record, store = load_record(directory), open_labels(directory / LABELS)
    labels = np.stack([labels for _, _, labels in store.frames()])
    return ProcessRun(len(labels), *spent, record.fit_seconds or 0.0, record.stages, labels)


def run_paper(clip: Path, folder: Path, options: Sequence[str], frames: int) -> ProcessRun:
    """Run `benchmarks.paper` on the first frames of a clip."""
    file = folder / "paper.npy"
    spent = _run(["-m", "benchmarks.paper", str(clip), "-o", str(file), "--frames", str(frames), *options])
    labels = np.load(file)
    return ProcessRun(len(labels), *spent, 0.0, (), labels)


def _run(arguments: Sequence[str]) -> tuple[float, float, float]:
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"'{' '.join(arguments)}' exited with code {process.returncode}, expected 0")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
