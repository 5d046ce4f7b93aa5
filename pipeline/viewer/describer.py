"""The model in a child process: similarity of one point to a frame, or to all frames of a clip."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import VidpartsError, one_line

_KEPT = 4
"""Frames whose descriptors are kept: further clicks on them take milliseconds."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the child is asked.

    Attributes:
        result: OUT/<name>.
        frame: the frame with the point.
        x: of the point, as a share of the picture's width.
        y: as a share of its height.
        whole: compare with every frame of the clip, not with this one alone.
        source: the input, if it has moved since.
    """

    result: Path
    frame: int
    x: float
    y: float
    whole: bool = False
    source: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Similarities on the grid of one frame.

    Attributes:
        frame: the frame.
        values: uint8 [rows, cols], cosine similarity from -1 to 1 as 0 to 255; one 0 where there is no answer.
        box: left, top, width and height of the grid as shares of the picture.
        error: one line where there is no answer.
    """

    frame: int
    values: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((1, 1), dtype=np.uint8))
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    error: str = ""


class Describer:
    """Starts the child at the first question, and asks it one question at a time."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None
        self._stop: Any = None

    def ask(self, question: Question, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Answer]:
        """The answers, one for each frame, as they come; ends early where it is cancelled."""
        with self._lock:
            pipe = self._started()
            self._stop.clear()
            try:
                pipe.send(question)
                while True:
                    while not pipe.poll(0.1):
                        if not self._process.is_alive():
                            yield Answer(question.frame, error="the model's process has ended; click again")
                            return
                        if cancelled():
                            self._stop.set()
                    answer = pipe.recv()
                    if answer is None:
                        return
                    if cancelled():
                        self._stop.set()
                    yield answer
            except (EOFError, OSError):
                self._process = None
                yield Answer(question.frame, error="the model's process has ended; click again")
            except GeneratorExit:
                self._stop.set()
                while self._process.is_alive() and pipe.recv() is not None:
                    pass
                raise

    def close(self) -> None:
        """End the child."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
            self._process.join(5)
        self._process = None

    def _started(self) -> Connection:
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._stop = context.Event()
            self._process = context.Process(target=_serve, args=(theirs, self._stop), daemon=True)
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        return self._pipe


def _serve(pipe: Connection, stop: Any) -> None:
    """Answer until the parent is gone."""
    import signal

    # Ctrl-C ends the parent, which ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clip: _Clip | None = None
    while True:
        try:
            question = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if clip is None or clip.result != question.result:
                # One model is in memory at a time.
                clip = None
                clip = _Clip(question.result, question.source)
            for answer in clip.answers(question, stop):
                pipe.send(answer)
        except VidpartsError as error:
            pipe.send(Answer(question.frame, error=one_line(str(error))))
        except Exception as error:
            pipe.send(Answer(question.frame, error=one_line(f"{type(error).__name__}: {error}")))
            raise
        pipe.send(None)


class _Clip:
    """A result's input and the model that described it."""

    def __init__(self, result: Path, source: Path | None = None) -> None:
        from pipeline.media.label_store import open_labels
        from pipeline.media.source import selection_of
        from pipeline.progress import Silent
        from pipeline.runs.origin import find_source
        from pipeline.runs.record import LABELS, load_record
        from pipeline.stages.engine import open_engine

        self.result = result
        record = load_record(result)
        store = open_labels(result / LABELS)
        self._source = find_source(record, store, source)
        self._selection = selection_of(record.settings)
        self._engine = open_engine(record.settings, Silent())
        self._described = lru_cache(_KEPT)(self._describe)

    def answers(self, question: Question, stop: Any) -> Iterator[Answer]:
        grid, size_hw = self._described(question.frame)
        rows, cols, _ = grid.shape
        left, top, width, height = self._box(size_hw, rows, cols)
        row = min(rows - 1, max(0, int((question.y - top) / height * rows)))
        col = min(cols - 1, max(0, int((question.x - left) / width * cols)))
        wanted = grid[row, col]
        if not question.whole:
            yield self._answer(question.frame, grid, wanted, size_hw)
            return
        for frame in self._source.frames(self._selection):
            if stop.is_set():
                return
            yield self._answer(frame.index, self._extract(frame.rgb), wanted, frame.size_hw)

    def _answer(
        self, frame: int, grid: NDArray[np.float32], wanted: NDArray[np.float32], size_hw: tuple[int, int]
    ) -> Answer:
        values = np.rint((np.clip(grid @ wanted, -1, 1) + 1) * 127.5).astype(np.uint8)
        return Answer(frame, values, self._box(size_hw, *values.shape))

    def _box(self, size_hw: tuple[int, int], rows: int, cols: int) -> tuple[float, float, float, float]:
        """The squares of a stride's side around the patches' centres, all together, as shares of the picture."""
        stride, patch = self._engine.settings.features.stride, self._engine.extractor.identity.patch_px
        height, width = self._engine.settings.features.processed_size(size_hw)
        edge = (patch - stride) / 2
        return edge / width, edge / height, cols * stride / width, rows * stride / height

    def _describe(self, index: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
        frame = next(self._source.frames(self._selection, range(index, index + 1)))
        return self._extract(frame.rgb), frame.size_hw

    def _extract(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        from pipeline.cluster.assignment import normalise

        extractor = self._engine.extractor
        found = normalise(extractor.extract([extractor.preprocess(rgb)]).descriptors[0])
        return np.asarray(found.cpu().numpy(), dtype=np.float32)
