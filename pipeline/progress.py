"""Progress of a run: tqdm bars, JSON lines for a program, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from pipeline.errors import one_line

_NAME_LETTERS = 23


class Progress:
    """What tasks report their progress to; each kind shows some of it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, standard error by default."""
        self._stream = stream or sys.stderr

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        """A pass begins; `total` frames, or whatever a unit is, are expected, None where that isn't known."""

    def advance(self, frames: int = 1, name: str = "") -> None:
        """More frames of the pass are done, the last of them of the picture or input `name`."""

    def finish(self) -> None:
        """The pass ends."""

    def say(self, message: str) -> None:
        """One line for the user: a warning, or what was chosen and why."""
        print(one_line(message), file=self._stream, flush=True)

    def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Figures for a program that reads the output."""


class Silent(Progress):
    """Shows no progress; messages are printed."""


class Bars(Progress):
    """One tqdm bar a pass, with frames a second, the time left, and where it is."""

    _bar: Any = None

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        """Open a bar."""
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc=name, unit=unit, file=self._stream, dynamic_ncols=True)

    def advance(self, frames: int = 1, name: str = "") -> None:
        """Move the bar."""
        if name:
            self._bar.set_postfix_str(_short(name), refresh=False)
        self._bar.update(frames)

    def finish(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, message: str) -> None:
        """Print the line above the bar."""
        from tqdm import tqdm

        tqdm.write(one_line(message), file=self._stream)

    def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Shards and their input beside the bar; nothing else is shown."""
        if event == "shards" and self._bar is not None:
            self._bar.set_postfix_str(f"{facts['done']} of {facts['total']} shards, {_short(facts['input'])}")


class JsonLines(Progress):
    """One JSON object a line: `{"event": "progress", "pass": ..., "done": ..., "total": ..., "fps": ...}`."""

    INTERVAL_S = 0.5

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, standard error by default."""
        super().__init__(stream)
        self._name, self._total, self._done = "", 0, 0
        self._started = self._written = 0.0

    def start(self, name: str, total: int | None, unit: str = "frame") -> None:
        """Tell that a pass begins."""
        self._name, self._total, self._done = name, total or 0, 0
        self._started = self._written = time.monotonic()
        self._write(event="start", total=total, unit=unit)

    def advance(self, frames: int = 1, name: str = "") -> None:
        """Tell how far it is, every half second at most."""
        self._done += frames
        now = time.monotonic()
        if now - self._written >= self.INTERVAL_S or self._done == self._total:
            self._written = now
            rate = self._done / max(now - self._started, 1e-9)
            where = {"name": name} if name else {}
            self._write(event="progress", done=self._done, total=self._total or None, fps=round(rate, 3), **where)

    def finish(self) -> None:
        """Tell that the pass ends."""
        self._write(event="end", done=self._done)

    def say(self, message: str) -> None:
        """Pass the line on as a message."""
        self._write(event="message", text=message)

    def tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """Write the figures as one line."""
        self._write(event=event, **facts)

    def _write(self, **fields: object) -> None:
        print(json.dumps({"pass": self._name, **fields}), file=self._stream, flush=True)


def _short(name: str) -> str:
    """A name that leaves room for the bar: its beginning and its end, which tells numbered files apart.

    >>> _short("walk"), _short("a-very-long-name-of-a-recording-0017")
    ('walk', 'a-very-long…ording-0017')
    """
    name = one_line(name)
    return name if len(name) <= _NAME_LETTERS else f"{name[:11]}…{name[-11:]}"


def progress_for(stream: TextIO, as_json: bool) -> Progress:
    """JSON lines where asked for, bars on a terminal, else only messages."""
    if as_json:
        return JsonLines(stream)
    return Bars(stream) if stream.isatty() else Silent(stream)
