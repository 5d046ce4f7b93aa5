"""Files and directories that appear whole or not at all, also when the power fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import OutputError


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary path beside `file`, which takes its place at the end of the block, or vanishes on an error.

    Raises:
        OutputError: the file can't be written: no permission, no space.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync(partial)
        partial.replace(file)
        sync(file.parent)
    except OSError as error:
        raise OutputError(f"'{file}' can't be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    with replacing(file) as partial:
        partial.write_bytes(content)


def sync(path: Path) -> None:
    """Have the system write a file, or a directory's entries, to its disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_directory(partial: Path, target: Path) -> None:
    """Put a finished directory where its result belongs; what stood there is removed only then.

    Raises:
        OutputError: it can't be moved.
    """
    retired = target.with_name(f".{target.name}.retired")
    try:
        shutil.rmtree(retired, ignore_errors=True)
        if target.exists():
            target.rename(retired)
        partial.rename(target)
        sync(target.parent)
    except OSError as error:
        raise OutputError(f"'{target}' can't be written: {error.strerror or error}") from error
    shutil.rmtree(retired, ignore_errors=True)
