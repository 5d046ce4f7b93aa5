"""Outcome of a task, and refusing to replace earlier outputs before any work is done."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.failures import Failure, raise_failures
from pipeline.files import output_errors, write_file
from pipeline.runs.notebook import files_html


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task over several inputs wrote.

    Attributes:
        files: the results, in the order they were written.
        failures: the inputs that couldn't be finished.
    """

    files: tuple[Path, ...]
    failures: tuple[Failure, ...] = ()

    def raise_failures(self) -> None:
        """Raise an error of the first failure's kind that names every failed input; nothing if none failed."""
        done = f" (the other inputs are finished: {len(self.files)} files)" if self.files else ""
        raise_failures(self.failures, done)

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return files_html(f"{len(self.files)} files", self.files)

    def summary(self) -> str:
        """The files, one a line."""
        return "\n".join(map(str, self.files))


def require_free(files: Iterable[Path], overwrite: bool) -> None:
    """Refuse to touch earlier results, before any work is done.

    Raises:
        OutputError: one exists and `overwrite` is false, or a directory is in its way.
    """
    for file in files:
        with output_errors(file):
            is_there, is_dir = file.exists(), file.is_dir()
        if is_dir:
            raise OutputError(f"'{file}' is a directory, and a file is to be written there; give another --output")
        if is_there and not overwrite:
            raise OutputError(f"'{file}' exists; give another --output, or --overwrite to replace it")


def require_empty(output: Path, overwrite: bool, *, hidden: bool = False) -> None:
    """Refuse to write among other files, before any work is done.

    Args:
        output: a directory, or where one can be made.
        overwrite: whether other files may be there.
        hidden: whether hidden ones may, such as a run's lock.

    Raises:
        OutputError: the directory isn't empty and `overwrite` is false, or a file is in its way.
    """
    with output_errors(output):
        if output.exists() and not output.is_dir():
            raise OutputError(f"'{output}' is a file; give a directory as --output")
        others = output.iterdir() if output.is_dir() and not overwrite else ()
        if any(not (hidden and file.name.startswith(".")) for file in others):
            raise OutputError(f"'{output}' isn't empty; give another --output, or --overwrite to write into it")


@contextlib.contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """A temporary directory on the output's own disk, for descriptors; /tmp may be memory.

    Raises:
        OutputError: the output's directory can't be made.
    """
    with output_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".vidparts-", dir=output)
    with folder as name:
        yield Path(name)


def save_json(file: Path, content: Mapping[str, Any]) -> Path:
    """Write JSON.

    Raises:
        OutputError: it can't be written.
    """
    write_file(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return file
