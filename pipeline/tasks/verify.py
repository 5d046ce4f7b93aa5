"""Verification of a finished result: checksums, and every frame once, at its own time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.label_store import open_labels
from pipeline.media.source import selection_of
from pipeline.progress import Progress, Silent
from pipeline.runs.integrity import clip_problem, tree_sha256
from pipeline.runs.record import FRAMES, LABELS, OVERLAY, load_record


@dataclass(frozen=True, slots=True)
class Verified:
    """A complete result, and how many frames it has."""

    directory: Path
    frames: int


def verify(result: Path, *, progress: Progress | None = None) -> Verified:
    """Check that a result's files are those that were written, and hold every frame.

    Args:
        result: the directory of a finished input, OUT/<name>.
        progress: receives progress and messages.

    Raises:
        InputError: it isn't a finished result, or not complete; says what is wrong.
    """
    progress, record = progress or Silent(), load_record(result)
    for name, expected in record.files.items():
        found = tree_sha256(result / name)
        if found != expected:
            raise InputError(
                f"'{result / name}' is damaged: its SHA-256 is {found[:12]}, run.json says {expected[:12]}; "
                "segment the input again with --overwrite"
            )
    store = open_labels(result / LABELS)
    progress.start(f"verify {result.absolute().name}", len(store))
    for _ in store.frames():
        progress.advance()
    progress.finish()
    # Of frames that are too large for a clip there are pictures alone.
    pictures_alone = FRAMES in record.files and OVERLAY not in record.files
    problem = "" if pictures_alone else clip_problem(result / OVERLAY, store, selection_of(record.settings))
    if not problem and len(store) != record.source.frames:
        problem = f"its labels have {len(store)} frames, run.json says {record.source.frames}"
    if problem:
        raise InputError(f"'{result}' is not complete: {problem}; segment the input again with --overwrite")
    return Verified(result, len(store))
