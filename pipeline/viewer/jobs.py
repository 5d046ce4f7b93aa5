"""Work that goes on beside the page: clips that browsers play, and the similarity of a point over a whole clip."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import VidpartsError, one_line
from pipeline.media.clip_writer import PREVIEW, ClipWriter
from pipeline.media.label_store import LabelStore
from pipeline.media.source import Source, selection_of
from pipeline.runs.record import RunRecord
from pipeline.viewer.describer import Answer, Describer, Question

_PROXY_CRF = 20


@dataclass(slots=True)
class Job:
    """A piece of work in a thread.

    Attributes:
        total: frames that it takes.
        done: frames so far.
        state: running, done, failed or cancelled.
        error: one line where it failed.
        answers: similarities by frame.
    """

    total: int
    done: int = 0
    state: str = "running"
    error: str = ""
    answers: dict[int, Answer] = field(default_factory=dict)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, work: Callable[[Job], None]) -> Job:
        """Do the work in a thread."""

        def run() -> None:
            try:
                work(self)
                self.state = "cancelled" if self.cancelled else "failed" if self.error else "done"
            except VidpartsError as error:
                self.error, self.state = one_line(str(error)), "failed"
            except BaseException as error:
                self.error, self.state = one_line(f"{type(error).__name__}: {error}"), "failed"
                raise

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        return self

    @property
    def cancelled(self) -> bool:
        """Whether it is to stop."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask it to stop."""
        self._cancelled.set()

    def require_wanted(self) -> None:
        """Leave the work where it is to stop."""
        if self.cancelled:
            raise _StoppedError

    def join(self) -> None:
        """Wait until it has stopped."""
        if self._thread is not None:
            self._thread.join(10)

    def describe(self) -> dict[str, Any]:
        """What the page is told."""
        return {"state": self.state, "done": self.done, "total": self.total, "error": self.error}


class _StoppedError(Exception):
    """The job was cancelled; the writer leaves no file."""


def make_proxy(file: Path, source: Source, record: RunRecord, store: LabelStore) -> Job:
    """Begin to write an input's frames as a clip that browsers play, each at its own time."""
    info, selection = source.probe(), selection_of(record.settings)

    def work(job: Job) -> None:
        try:
            with ClipWriter(file, info.size_hw, info, crf=_PROXY_CRF, selection=selection, encoder=PREVIEW) as clip:
                for frame in source.frames(selection):
                    job.require_wanted()
                    clip.write(frame.pts, frame.rgb)
                    job.done += 1
        except _StoppedError:
            return

    return Job(len(store)).start(work)


def compare_clip(describer: Describer, question: Question, frames: int) -> Job:
    """Begin to compare a point with every frame of a clip."""

    def work(job: Job) -> None:
        for answer in describer.ask(question, lambda: job.cancelled):
            if answer.error:
                job.error = answer.error
                return
            job.answers[answer.frame] = answer
            job.done += 1

    return Job(frames).start(work)
