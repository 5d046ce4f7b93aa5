"""run.json: what a run did, in a form that a later run or a person can check and repeat."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline import __version__
from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.files import write_file
from pipeline.graph import StageReport

FILE_NAME = "run.json"
_PACKAGES = ("torch", "timm", "av", "numpy", "scikit-learn", "zarr", "faiss-gpu", "faiss-cpu", "pydensecrf2")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRecord(_Part):
    """The model that described the frames."""

    name: str
    fingerprint: str
    """SHA-256 over its parameters."""
    notes: tuple[str, ...] = ()
    """What was done that the paper doesn't name, such as which heads saliency averages."""


class StageRecord(_Part):
    """Where the time of one stage went, seconds; `fill` is the mean number of items that waited before it."""

    name: str
    items: int
    busy_s: float
    starved_s: float
    blocked_s: float
    fill: float | None

    def line(self) -> str:
        """The record as a line of a table."""
        waits = f"{self.starved_s:10.2f} s starved{self.blocked_s:10.2f} s blocked"
        return f"  {self.name:<10}{self.busy_s:10.2f} s busy{waits}"


class SourceRecord(_Part):
    """The input."""

    path: str
    frames: int
    """Frames that were processed."""
    width: int
    height: int
    time_base: str
    first_pts: int | None
    last_pts: int | None
    lost_frames: int = 0
    """Frames that damage made undecodable."""
    corrupt_frames: int = 0
    """Frames that were decoded with visible damage."""
    missing_frames: int = 0
    """Frames that the header claims and the file doesn't hold."""


class RunRecord(_Part):
    """Everything about one input's result that its files don't say themselves."""

    program: str = f"vidparts {__version__}"
    python: str = platform.python_version()
    packages: dict[str, str]
    source: SourceRecord
    settings: Settings
    model: ModelRecord
    codebook_sha256: str
    seed: int
    part_colors: tuple[tuple[int, int, int], ...]
    fit_seconds: float | None
    """Seconds of the fit over all inputs, None where a codebook was given."""
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...] = ()

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of pts."""
        return Fraction(self.source.time_base)


def installed_packages() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def stage_records(reports: Iterable[StageReport]) -> tuple[StageRecord, ...]:
    """The graph's reports, rounded to what is worth reading."""
    return tuple(
        StageRecord(
            name=report.name,
            items=report.items,
            busy_s=round(report.busy_s, 3),
            starved_s=round(report.starved_s, 3),
            blocked_s=round(report.blocked_s, 3),
            fill=None if report.mean_fill is None else round(report.mean_fill, 2),
        )
        for report in reports
    )


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_record(record: RunRecord, directory: Path) -> None:
    """Write run.json into a result's directory.

    Raises:
        OutputError: it can't be written.
    """
    write_file(directory / FILE_NAME, (record.model_dump_json(indent=2) + "\n").encode())


def load_record(directory: Path) -> RunRecord:
    """Read the run.json of a result's directory.

    Raises:
        InputError: the directory holds no finished result, or the file is damaged.
    """
    file = directory / FILE_NAME
    if not file.is_file():
        raise InputError(f"'{directory}' holds no {FILE_NAME}; expected the directory of a finished input: OUT/<name>")
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"'{file}' can't be read ({reason}); segment the input again") from error
