"""The journal of a growing label store: one line for each frame that is synced to disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import append_synced, publish

Entry = tuple[int, str]
"""A frame's pts and name."""


def read_journal(file: Path) -> list[Entry]:
    """The whole lines of a journal; a crash may have cut the last one off."""
    entries: list[Entry] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        entry = _parse(line)
        if entry is None:
            break
        entries.append(entry)
    return entries


def append_journal(file: Path, entries: Sequence[Entry]) -> None:
    """Add frames, and wait until they are on the disk.

    Raises:
        OSError: the disk is full or failed.
    """
    append_synced(file, "".join(f"{json.dumps(entry)}\n" for entry in entries).encode())


def restart_journal(file: Path, entries: Sequence[Entry]) -> None:
    """Replace a journal in one step: a crash in between leaves the old one.

    Raises:
        OSError: the disk is full or failed.
    """
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    append_journal(fresh, entries)
    publish(fresh, file)


def _parse(line: str) -> Entry | None:
    if not line.endswith("\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match entry:
        case [int(pts), str(name)]:
            return pts, name
        case _:
            return None
