"""Whether a result is complete: its checksums, and every frame of the clip at its own time."""

from __future__ import annotations

import hashlib
import json
import os
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

from pipeline.errors import InputError
from pipeline.files import sha256
from pipeline.media.clip_reader import frame_times
from pipeline.media.label_store import LabelStore
from pipeline.media.source import Selection
from pipeline.runs.record import FRAMES, LABELS, OVERLAY, ResultFile


def clip_problem(clip: Path, store: LabelStore, selection: Selection) -> str:
    """What is wrong with a clip; empty if it has each labelled frame once, at its own time.

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
        # The clip's unit is the source's, or a coarser one where MP4 needs that: 1/24,000 s at most.
        if abs(found - wanted - shift) > Fraction(1, 24_000):
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
    # A symlink could lead to a device that never ends.
    if file.is_symlink() or not file.is_file():
        raise InputError(f"'{file}' is missing or no plain file; segment the input again with --overwrite")
    return sha256(file)
