"""run.json of one input, and the names of a result's files."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from pipeline.config import Settings
from pipeline.documents import Document, reason
from pipeline.errors import InputError
from pipeline.files import write_file
from pipeline.graph import StageReport
from pipeline.kernels import host_cpu, plain_paths
from pipeline.version import __version__

if TYPE_CHECKING:
    # Results are read without torch.
    from pipeline.stages.engine import Engine

CODEBOOK: Final = "codebook.safetensors"
CLUSTERS: Final = "clusters.jpg"
"""What the clusters of the fit look like, beside the codebook."""
RECORD: Final = "run.json"
LABELS: Final = "labels.zarr"
OVERLAY: Final = "overlay.mp4"
FRAMES: Final = "frames"

_MAX_BYTES = 16 * 2**20
"""Far above the size of any record that a run writes."""

ResultFile = Literal["overlay.mp4", "labels.zarr", "frames"]
_Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Level = Annotated[int, Field(ge=0, le=255)]
_Seconds = Annotated[float, AfterValidator(partial(round, ndigits=3))]
_PACKAGES = (
    *("torch", "timm", "openvino", "av", "numpy", "scikit-learn", "zarr", "numba"),
    *("faiss-gpu", "faiss-cpu", "pydensecrf2"),
)


class ModelRecord(Document):
    """The model that described the frames."""

    name: str
    fingerprint: str
    """SHA-256 over its parameters."""
    notes: tuple[str, ...] = ()
    """Choices that the paper doesn't name, such as which heads saliency averages."""


class StageRecord(Document):
    """Where the time of one stage went, in figures that are worth reading."""

    name: str
    items: int
    busy_s: _Seconds
    starved_s: _Seconds
    blocked_s: _Seconds
    fill: Annotated[float, AfterValidator(partial(round, ndigits=2))] | None
    """Mean number of items that waited before it."""

    def __add__(self, other: StageRecord) -> StageRecord:
        """The same stage in both of two runs."""
        return StageRecord(
            name=self.name,
            items=self.items + other.items,
            busy_s=self.busy_s + other.busy_s,
            starved_s=self.starved_s + other.starved_s,
            blocked_s=self.blocked_s + other.blocked_s,
            fill=None,
        )

    def line(self) -> str:
        """The record as a line of a table."""
        waits = f"{self.starved_s:10.2f} s starved{self.blocked_s:10.2f} s blocked"
        return f"  {self.name:<10}{self.busy_s:10.2f} s busy{waits}"


class SourceRecord(Document):
    """The input."""

    path: Annotated[str, Field(min_length=1, max_length=32768)]
    sha256: _Checksum
    """Of a video's bytes, or of the names and bytes of a directory's pictures."""
    frames: Annotated[int, Field(ge=1)]
    """Frames that were processed."""
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    time_base: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}(/[1-9][0-9]{0,9})?$")]
    first_pts: int | None
    last_pts: int | None
    lost_frames: int = 0
    """Frames that damage made undecodable."""
    corrupt_frames: int = 0
    """Frames that were decoded with visible damage."""
    missing_frames: int = 0
    """Frames that the header claims and the file doesn't hold."""


class SteadinessRecord(Document):
    """How steady the labels are in time, which needs no ground truth; None for a single frame."""

    flicker: float | None
    """Share of the pixels followed along the optical flow that change their label."""
    switches_per_100_frames: float | None
    """How often a part's pixels mostly become another part's."""


class Tools(Document):
    """What computes a result, as far as its bytes may depend on it."""

    program: str = f"vidparts {__version__}"
    python: str = platform.python_version()
    packages: dict[str, str]
    device: str
    backend: str
    """What computed the ViT; its version is among the packages."""
    processor: str
    """The processor's kind, as far as the last bits of descriptors depend on it."""

    @staticmethod
    def here(engine: Engine) -> dict[str, Any]:
        """The fields with what there is here."""
        extractor = engine.extractor
        return Tools(
            packages=installed_packages(),
            device=str(extractor.device),
            backend=extractor.backend,
            processor=processor_kind(),
        ).model_dump()


class RunRecord(Tools):
    """Everything about one input's result that isn't in its files.

    `fit_seconds` and `stages` hold times; all else is the same when the same run is repeated.
    """

    source: SourceRecord
    settings: Settings
    model: ModelRecord
    codebook_sha256: _Checksum
    seed: int
    part_colors: Annotated[tuple[tuple[_Level, _Level, _Level], ...], Field(max_length=255)]
    part_names: Annotated[tuple[Annotated[str, Field(max_length=320)], ...], Field(max_length=255)] = ()
    """What the codebook calls the parts 1..K; empty where nobody has named one."""
    files: dict[ResultFile, _Checksum]
    """SHA-256 of the result's parts; that of a directory is over its listing."""
    steadiness: SteadinessRecord
    fit_seconds: float | None
    """Seconds of the fit over all inputs, None where a codebook was given."""
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...] = ()

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of pts."""
        return Fraction(self.source.time_base)


@dataclass(frozen=True, slots=True)
class InputResult:
    """A finished input: its directory with overlay, labels and record."""

    name: str
    directory: Path
    record: RunRecord


def installed_packages() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor_kind() -> str:
    """The CPU as far as it decides the last bits of a result: its name for compilers, and limits set to it.

    Libraries choose their code by the instruction sets that these imply.
    """
    limits = [os.environ[name] for name in ("OV_CPU_MAX_ISA", "ONEDNN_MAX_CPU_ISA") if os.environ.get(name)]
    return " ".join([host_cpu(), *limits, *(["plain"] if plain_paths() else [])])


def stage_records(reports: Iterable[StageReport]) -> tuple[StageRecord, ...]:
    """The graph's reports."""
    return tuple(StageRecord(**asdict(report)) for report in reports)


def add_records(records: Iterable[StageRecord]) -> tuple[StageRecord, ...]:
    """Records of one name as one, their seconds and items added; `fill` where there is no other."""
    found: dict[str, StageRecord] = {}
    for each in records:
        found[each.name] = found[each.name] + each if each.name in found else each
    return tuple(found.values())


def save_record(record: Document, directory: Path) -> None:
    """Write the run.json of an input or of a set of pictures.

    Raises:
        OutputError: it can't be written.
    """
    write_file(directory / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


def load_record(directory: Path) -> RunRecord:
    """Read the run.json of a result's directory.

    Raises:
        InputError: the directory holds no finished result, or the file is damaged.
    """
    file = directory / RECORD
    try:
        if not file.is_file():
            inputs = sorted(each.parent for each in directory.glob(f"*/{RECORD}"))
            example = f", such as '{inputs[0]}'" if inputs else ": OUT/<name>"
            raise InputError(f"'{directory}' holds no {RECORD}; expected the directory of a finished input{example}")
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES // 2**20} MiB")  # noqa: TRY301
        return RunRecord.model_validate_json(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' can't be read ({reason(error)}); segment the input again") from error
