"""Inputs that couldn't be finished, and why: as a value and as a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.documents import Document
from pipeline.errors import (
    CodebookError,
    DeviceMemoryError,
    InputError,
    ModelError,
    OutputError,
    TooLargeError,
    UsageError,
    VidpartsError,
)
from pipeline.files import write_file

_KINDS = (UsageError, InputError, OutputError, TooLargeError, ModelError, CodebookError, DeviceMemoryError)
_KindName = Literal[
    "UsageError", "InputError", "OutputError", "TooLargeError", "ModelError", "CodebookError", "DeviceMemoryError"
]


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that couldn't be finished, and why."""

    name: str
    error: VidpartsError


def raise_failures(failures: Sequence[Failure], rest: str = "") -> None:
    """Raise an error of the first failure's kind that names every failed input; nothing if none failed."""
    if failures:
        lines = "; ".join(f"{failure.name}: {failure.error}" for failure in failures)
        raise type(failures[0].error)(lines + rest)


@contextmanager
def noted(
    name: str, failures: list[Failure], kinds: tuple[type[VidpartsError], ...] = (VidpartsError,)
) -> Iterator[None]:
    """Note an error of some kinds, by default of any, as the failure of an input, so that the others go on."""
    try:
        yield
    except kinds as error:
        failures.append(Failure(name, error))


class FailureRecord(Document):
    """A failure as it is written: the input, the kind of error and its one line."""

    name: str
    kind: _KindName
    message: str

    @classmethod
    def of(cls, failure: Failure) -> FailureRecord:
        """What is written of a failure."""
        return cls.model_validate(
            {"name": failure.name, "kind": type(failure.error).__name__, "message": str(failure.error)}
        )

    def failure(self) -> Failure:
        """The failure as it was."""
        (kind,) = [kind for kind in _KINDS if kind.__name__ == self.kind]
        return Failure(self.name, kind(self.message))


_FILE = TypeAdapter(tuple[FailureRecord, ...])


def save_failures(file: Path, failures: Sequence[Failure]) -> None:
    """Write failures as JSON.

    Raises:
        OutputError: the file can't be written.
    """
    records = tuple(FailureRecord.of(failure) for failure in failures)
    write_file(file, _FILE.dump_json(records, indent=2))


def load_failures(file: Path) -> tuple[Failure, ...]:
    """Read what `save_failures` has written.

    Raises:
        OutputError: the file can't be read; the run can't be resumed then.
    """
    try:
        return tuple(record.failure() for record in _FILE.validate_json(file.read_bytes()))
    except (OSError, ValidationError) as error:
        raise OutputError(f"'{file}' is damaged or of another version; start again with --overwrite") from error
