"""A finished input, as tasks hand it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.runs.record import RunRecord


@dataclass(frozen=True, slots=True)
class InputResult:
    """A finished input: its directory with overlay, labels and record."""

    name: str
    directory: Path
    record: RunRecord
