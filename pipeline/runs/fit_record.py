"""The record of a finished fit (fit.json), so that a resumed run needn't fit again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pipeline.cluster.codebook import codebook_sha256, load_codebook
from pipeline.documents import Document
from pipeline.errors import CodebookError
from pipeline.failures import Failure, FailureRecord
from pipeline.files import write_file
from pipeline.stages.fit import Fitted

_FILE = "fit.json"


class _FitRecord(Document):
    codebook_sha256: str
    warnings: tuple[str, ...]
    seconds: float | None
    failures: tuple[FailureRecord, ...]
    """Inputs that couldn't be read, and why: the codebook was fitted without them."""


def save_fit(folder: Path, fitted: Fitted, failures: list[Failure]) -> None:
    """Write that the fit is done, and which codebook is its own.

    Raises:
        OutputError: it can't be written.
    """
    record = _FitRecord(
        codebook_sha256=codebook_sha256(fitted.codebook),
        warnings=fitted.warnings,
        seconds=fitted.seconds,
        failures=tuple(FailureRecord.of(failure) for failure in failures),
    )
    write_file(folder / _FILE, record.model_dump_json(indent=2).encode())


def load_fit(folder: Path, codebook_file: Path) -> tuple[Fitted, list[Failure]] | None:
    """The fit that was done and the inputs it couldn't read; None where it must be done again."""
    if not ((folder / _FILE).is_file() and codebook_file.is_file()):
        # Reading a named pipe in place of either would never end.
        return None
    try:
        record = _FitRecord.model_validate_json((folder / _FILE).read_bytes())
        codebook = load_codebook(codebook_file)
    except (OSError, ValidationError, CodebookError):
        return None
    if codebook_sha256(codebook) != record.codebook_sha256:
        return None
    failures = [failed.failure() for failed in record.failures]
    return Fitted(codebook, record.warnings, record.seconds), failures
