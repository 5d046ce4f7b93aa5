"""Caches of what takes seconds to make: where they are, and files in them that are checked when they are read."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

_log = logging.getLogger(__name__)


_said: set[str] = set()


def cache_folder(name: str) -> Path | None:
    """A folder of the user's cache directory, else one of the user's own in the temporary folder; made if need be.

    Containers have no home directory, or an unknown user. What is cached is code: a folder that another user owns or
    can write into isn't used. None where neither can be written.
    """
    user = os.getuid() if hasattr(os, "getuid") else "me"
    homes = (user_cache_path("vidparts", appauthor=False), Path(tempfile.gettempdir(), f"vidparts-{user}"))
    for home in homes:
        if home.is_absolute() and _is_private(home) and _is_private(home / name):
            if home is not homes[0]:
                _say(f"'{homes[0]}' can't be written: {name} are cached in '{home / name}'")
            return home / name
    _say(f"neither '{homes[0]}' nor '{homes[1]}' can be written: {name} are made anew in each run")
    return None


def _say(line: str) -> None:
    """Log a line once in a process."""
    if line not in _said:
        _said.add(line)
        _log.info(line)


def _is_private(folder: Path) -> bool:
    """Whether a folder is there, or could be made, and only this user writes into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return ours and folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK | os.X_OK)


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote; None where there is nothing, or anything else."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    digest, content = found[:32], found[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def write_checked(path: Path, content: bytes) -> None:
    """Write a file of a cache, which any number of processes may do at once: its SHA-256, then the content.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(content).digest() + content)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
