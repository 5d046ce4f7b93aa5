"""run.json of a set of pictures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Settings
from pipeline.documents import Document, reason
from pipeline.errors import InputError
from pipeline.graph import StageReport
from pipeline.records import Frame
from pipeline.runs.record import RECORD, ModelRecord, StageRecord, installed_packages, processor_kind, stage_records
from pipeline.stages.picture_set import Album
from pipeline.version import __version__

Task = Literal["coseg", "parts"]

NAMED = 5
"""Pictures that a warning names at most."""


class PictureRecord(Document):
    """One picture of the set."""

    name: str
    """What its files' names begin with."""
    path: str
    width: int
    height: int
    shares: tuple[float, ...]
    """Share of the picture's pixels that each label has: the background, then the foreground or the parts 1..K."""
    outlier: bool = False
    """Whether it was left out of the set as unlike the others."""
    note: str = ""
    """What a person should know of how its labels were found."""

    @classmethod
    def of(
        cls, frame: Frame, path: Path, labels: NDArray[np.uint8], k: int, *, outlier: bool = False, note: str = ""
    ) -> PictureRecord:
        """What there is to tell of a picture with labels 0..k, uint8 [height, width]."""
        height, width = frame.size_hw
        # Not by bincount, which converts each label to 8 bytes.
        shares = tuple(round(np.count_nonzero(labels == label) / labels.size, 6) for label in range(k + 1))
        file = str(path.absolute())
        return cls(name=frame.name, path=file, width=width, height=height, shares=shares, outlier=outlier, note=note)


class ClustersRecord(Document):
    """The clusters of all descriptors."""

    votes: tuple[int, ...]
    """For each cluster the pictures that found it salient."""
    salient: tuple[int, ...]
    """The clusters that are foreground, from 0."""
    fit_seconds: float | None = None
    """Seconds of the fit, None where a codebook was given."""

    @classmethod
    def of(
        cls, votes: NDArray[np.int64], salient: NDArray[np.bool_], fit_seconds: float | None = None
    ) -> ClustersRecord:
        """The record of votes int64 [k] and of which clusters are foreground, bool [k]."""
        foreground = tuple(np.flatnonzero(salient).tolist())
        return cls(votes=tuple(votes.tolist()), salient=foreground, fit_seconds=fit_seconds)


class PartsRecord(Document):
    """The parts' codebook."""

    codebook_sha256: str
    part_colors: tuple[tuple[int, int, int], ...]
    """RGB of the parts 1..K."""


class AlbumRecord(Document):
    """Everything about a set's result that its files don't say themselves."""

    program: str = f"vidparts {__version__}"
    python: str = platform.python_version()
    packages: dict[str, str]
    backend: str
    processor: str
    task: Task
    settings: Settings
    model: ModelRecord
    pictures: tuple[PictureRecord, ...]
    failures: dict[str, str]
    """Pictures that couldn't be used, and why."""
    clusters: ClustersRecord
    parts: PartsRecord | None = None
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...] = ()


def album_record(
    task: Task,
    album: Album,
    pictures: Sequence[PictureRecord],
    clusters: ClustersRecord,
    stages: Sequence[StageReport],
    warnings: Sequence[str],
    parts: PartsRecord | None = None,
) -> AlbumRecord:
    """The record of a set whose pictures have all been labelled."""
    identity = album.engine.extractor.identity
    told = _warnings_of(pictures)
    for warning in told:
        album.progress.say(f"warning: {warning}")
    return AlbumRecord(
        packages=installed_packages(),
        backend=album.engine.extractor.backend,
        processor=processor_kind(),
        task=task,
        settings=album.engine.settings,
        model=ModelRecord(name=identity.name, fingerprint=identity.fingerprint, notes=identity.notes),
        pictures=tuple(pictures),
        failures={failure.name: str(failure.error) for failure in album.failures},
        clusters=clusters,
        parts=parts,
        stages=stage_records(stages),
        warnings=(*warnings, *told),
    )


def load_album_record(directory: Path) -> AlbumRecord:
    """Read the run.json of a set of pictures.

    Raises:
        InputError: it is missing or damaged.
    """
    file = directory / RECORD
    try:
        return AlbumRecord.model_validate_json(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' can't be read ({reason(error)}); give another --output, or --overwrite") from error


def _warnings_of(pictures: Sequence[PictureRecord]) -> list[str]:
    """What a person should look at: pictures in which nothing was found, parts that appear nowhere, notes."""
    members = [picture for picture in pictures if not picture.outlier]
    empty = [picture.name for picture in members if not any(picture.shares[1:])]
    found = [f"nothing was found in {_named(empty)}"] if empty else []
    labels = range(1, max((len(picture.shares) for picture in members), default=0))
    missing = [label for label in labels if not any(picture.shares[label] for picture in members)]
    if len(labels) > 1 and len(empty) < len(members):
        found += [f"part {label} appears in no picture" for label in missing]
    for note in dict.fromkeys(picture.note for picture in members if picture.note):
        found.append(f"{note}: {_named([picture.name for picture in members if picture.note == note])}")
    return found


def _named(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> _named(["a", "b"]), _named(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 others')
    """
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} others"
