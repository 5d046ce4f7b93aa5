"""Whether a result is whole: checksums, and every frame once at its own time, in the labels and in the clip."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.contract import Selection
from pipeline.media.labels import LabelStore, open_labels
from pipeline.media.playback import frame_times
from pipeline.tasks.engine import selection_of
from pipeline.tasks.progress import Progress, Silent
from pipeline.tasks.video.record import FRAMES, LABELS, OVERLAY, ResultFile, load_record, sha256


@dataclass(frozen=True, slots=True)
class Verified:
    """A result that is whole, and how many frames it has."""

    directory: Path
    frames: int


def verify(result: Path, *, progress: Progress | None = None) -> Verified:
    """Check a finished result: its files are those that were written, and hold every frame.

    Args:
        result: the directory of a finished input, OUT/<name>.
        progress: told how far it is.

    Raises:
        InputError: it isn't a finished result, or not whole; says what is wrong.
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
    progress.start("verify", len(store))
    for _ in store.frames():
        progress.advance()
    progress.finish()
    problem = clip_problem(result / OVERLAY, store, selection_of(record.settings))
    if not problem and len(store) != record.source.frames:
        problem = f"its labels have {len(store)} frames, run.json says {record.source.frames}"
    if problem:
        raise InputError(f"'{result}' is not whole: {problem}; segment the input again with --overwrite")
    return Verified(result, len(store))


def clip_problem(clip: Path, store: LabelStore, selection: Selection) -> str:
    """What a clip lacks of the frames that have labels; empty if it has each once, at its own time.

    Raises:
        InputError: the clip can't be read.
    """
    expected = [pts * store.time_base for pts in store.pts]
    # A span of an input begins where the input does, and MP4 has no time before zero: times then move together.
    moved = not selection.whole or expected[0] < 0
    shift: Fraction | None = None if moved else Fraction(0)
    shown = 0
    for wanted, found in zip_longest(expected, frame_times(clip)):
        if wanted is None or found is None:
            shown += found is not None
            continue
        shown += 1
        shift = found - wanted if shift is None else shift
        # The clip's unit is the source's, or a microsecond where that is finer.
        if abs(found - wanted - shift) > Fraction(1, 100_000):
            return f"frame {shown - 1} of '{clip.name}' is at {float(found):.6f} s, not {float(wanted + shift):.6f} s"
    return "" if shown == len(expected) else f"'{clip.name}' has {shown} frames, its labels have {len(expected)}"


def result_checksums(directory: Path) -> dict[ResultFile, str]:
    """SHA-256 of each of a result's parts, for its run.json."""
    names: tuple[ResultFile, ...] = (OVERLAY, LABELS, FRAMES)
    return {name: tree_sha256(directory / name) for name in names if (directory / name).exists()}


def tree_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a directory's listing: `["<relative path>", "<SHA-256>"]` a line, sorted.

    Raises:
        InputError: it is missing, or holds anything but files.
    """
    try:
        if not path.is_dir():
            return _file_sha256(path)
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        listing = sorted([file.relative_to(path).as_posix(), _file_sha256(file)] for file in files)
    except OSError as error:
        raise InputError(f"'{path}' can't be read: {error.strerror or error}") from error
    return hashlib.sha256("".join(json.dumps(entry) + "\n" for entry in listing).encode()).hexdigest()


def _file_sha256(file: Path) -> str:
    # A link could lead to a device that never ends.
    if file.is_symlink() or not file.is_file():
        raise InputError(f"'{file}' is missing or no plain file; segment the input again with --overwrite")
    return sha256(file)
