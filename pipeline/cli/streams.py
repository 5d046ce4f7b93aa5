"""Standard output and error that never end a run: closed, full, or with a reader that has gone."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO

_DESCRIPTORS = (0, 1, 2)


class Lasting(io.TextIOBase):
    """A stream to which nothing more is written once that has failed.

    Attributes:
        error: why it failed; None where it didn't.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Write to `stream`; None: nowhere."""
        self._stream = stream
        self.error: OSError | ValueError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return self._stream is not None and self.error is None and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def _give_up(self, error: OSError | ValueError) -> None:
        self.error = error
        # Python would try once more at its exit, and complain.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[Lasting]:
    """Standard output and error as lasting streams; gives the output."""
    _occupy_descriptors()
    output = Lasting(sys.stdout)
    with redirect_stdout(output), redirect_stderr(Lasting(sys.stderr)):
        try:
            yield output
        finally:
            output.flush()
            sys.stderr.flush()


def _occupy_descriptors() -> None:
    """Take the places of closed standard streams, lest a file that is opened gets one and libraries write into it."""
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
