"""Runs many fuzz cases in parallel processes and reports findings."""

from __future__ import annotations

import contextlib
import gc
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tests.fuzz.cases import KINDS, builder
from tests.fuzz.corpus import make_corpus
from tests.fuzz.sandbox import Outcome, Running, forget


class Report:
    """Counts cases and findings; prints findings at once."""

    def __init__(self, stream: TextIO) -> None:
        """Print to a stream."""
        self.findings = 0
        self._stream = stream
        self._done: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._codes: dict[str, Counter[int]] = defaultdict(Counter)
        self._largest = 0
        self._slowest = 0.0
        self._started = time.monotonic()

    def add(self, seed: int, kind: str, outcome: Outcome) -> None:
        """Count a case; a finding is printed with its seed and commands."""
        self._done[kind] += 1
        self._codes[kind].update(outcome.codes)
        self._largest = max(self._largest, outcome.mib)
        self._slowest = max(self._slowest, outcome.seconds)
        if outcome.wrong:
            self.findings += 1
            self._wrong[kind] += 1
            print(f"seed {seed} ({kind}): python -m tests.fuzz --seed {seed}", file=self._stream)
            for number, words in enumerate(outcome.commands):
                code = outcome.codes[number] if number < len(outcome.codes) else "none"
                print(f"  vidparts {words}   -> {code}", file=self._stream)
            for line in outcome.wrong:
                print(f"  ! {line}", file=self._stream)
            self._stream.flush()

    def summary(self) -> str:
        """Cases, findings and exit codes by kind; the last line has the totals."""
        lines = []
        for kind in sorted(self._done):
            codes = ", ".join(f"{code}: {count}" for code, count in sorted(self._codes[kind].items()))
            lines.append(f"{kind:<11}{self._done[kind]:6} cases{self._wrong[kind]:5} findings   exit codes {codes}")
        seconds = time.monotonic() - self._started
        lines.append(
            f"{sum(self._done.values())} cases, {self.findings} findings, {seconds:.0f} s; "
            f"the largest took {self._largest} MiB more than none, the longest {self._slowest:.1f} s"
        )
        return "\n".join(lines)


def fuzz(first: int, count: int, kind: str | None, jobs: int, folder: Path, keep: Path | None, report: Report) -> None:
    """Run the cases of `count` seeds from `first` on, of one kind only if given, `jobs` in parallel.

    This process imports and compiles all that the commands need; it is single-threaded, so that it can fork.
    """
    _use_one_thread()
    corpus = make_corpus(folder / "corpus")
    # Free codecs before: in a forked process their destructors would wait for threads that don't exist there.
    gc.collect()
    gc.freeze()
    waiting = _seeds(first, count, kind)
    running: dict[int, Running] = {}
    while running or waiting is not None:
        while waiting is not None and len(running) < jobs:
            seed = next(waiting, None)
            if seed is None:
                waiting = None
                break
            running[seed] = Running(builder(seed, corpus), folder / f"case-{seed}")
        for seed, case in list(running.items()):
            outcome = case.poll()
            if outcome is not None:
                del running[seed]
                report.add(seed, KINDS[seed % len(KINDS)], outcome)
                _put_away(folder / f"case-{seed}", keep if outcome.wrong else None)
        time.sleep(0.01)


def _seeds(first: int, count: int, kind: str | None) -> Iterator[int]:
    seed = first
    while count > 0:
        if kind is None or KINDS[seed % len(KINDS)] == kind:
            count -= 1
            yield seed
        seed += 1


def _put_away(folder: Path, keep: Path | None) -> None:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        # Pipes can't be copied; all other files are by then.
        with contextlib.suppress(shutil.Error):
            shutil.copytree(folder, keep / folder.name, symlinks=True, dirs_exist_ok=True)
    forget(folder)


def _use_one_thread() -> None:
    # Threads of a pool don't survive fork.
    import cv2
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    Image.init()
    import pipeline.cli
    import pipeline.tasks.coseg
    import pipeline.tasks.export
    import pipeline.tasks.features
    import pipeline.tasks.parts
    import pipeline.tasks.render
    import pipeline.tasks.verify  # noqa: F401
