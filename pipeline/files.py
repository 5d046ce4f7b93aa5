"""Files and directories that appear complete or not at all: written aside, synced, renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import OutputError

_REASONS = {
    errno.ENOSPC: "there is no space left; free some or choose another --output",
    errno.EDQUOT: "the quota is used up; free some space or choose another --output",
    errno.EFBIG: "the file would be larger than allowed here; choose another --output",
    errno.EACCES: "permission denied; choose another --output",
    errno.EPERM: "permission denied; choose another --output",
    errno.EROFS: "the file system is read-only; choose another --output",
    errno.ENOENT: "its folder doesn't exist; create it or choose another --output",
    errno.ENOTDIR: "its folder is a file; choose another --output",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
}

_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NOT_SYNCED = _NO_SYNC | {errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR, errno.ENOTTY}
"""What says that a directory can't be flushed at all, not that it failed."""


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into an OutputError of one line."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a user whose file or directory can't be written."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; check the disk")
    return OutputError(f"{str(path)!r} can't be written: {reason}")


def bytes_text(count: float) -> str:
    """A number of bytes for a person.

    >>> bytes_text(300_000), bytes_text(50e6), bytes_text(1.5e9), bytes_text(5e10)
    ('0.29 MiB', '47.7 MiB', '1431 MiB', '46.6 GiB')
    """
    mebibytes = count / 2**20
    if mebibytes >= 10_240:
        return f"{mebibytes / 1024:.1f} GiB"
    return f"{mebibytes:.{2 if mebibytes < 1 else 1 if mebibytes < 100 else 0}f} MiB"


def partial_path(path: Path) -> Path:
    """Where a file or directory grows until it is complete; the same each time, so that leftovers are found.

    >>> partial_path(Path("out/overlay.mp4")).as_posix()
    'out/.overlay.mp4.part'
    """
    return path.with_name(f".{path.name}.part")


def remove(path: Path) -> None:
    """Remove a file or a directory with all it holds, whether or not it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a directory, is on the disk, where the file system can say so.

    Raises:
        OSError: the disk is full or failed.
    """
    is_dir = path.is_dir()
    try:
        # Windows flushes only what is open for writing.
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" and not is_dir else os.O_RDONLY)
    except OSError as error:
        if is_dir and error.errno in _NOT_SYNCED:
            return
        raise
    try:
        _sync_descriptor(descriptor, is_dir=is_dir)
    finally:
        os.close(descriptor)


def _sync_descriptor(descriptor: int, *, is_dir: bool = False) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Network shares and folders that virtual machines share have nothing to flush, above all for directories.
        if error.errno not in (_NOT_SYNCED if is_dir else _NO_SYNC):
            raise


def append_synced(file: Path, content: bytes) -> None:
    """Add to a file, and wait until that is on the disk.

    Raises:
        OSError: the disk is full or failed.
    """
    with file.open("ab") as stream:
        stream.write(content)
        stream.flush()
        _sync_descriptor(stream.fileno())


def publish(partial: Path, path: Path) -> None:
    """Rename a complete and synced file or directory to its name; what had the name before is replaced.

    Raises:
        OSError: the disk is full or failed, or the name can't be taken.
    """
    aside = path.with_name(f".{path.name}.old")
    if path.is_dir() and not path.is_symlink():
        # A directory can't be replaced atomically; the old one is renamed first.
        remove(aside)
        path.rename(aside)
    partial.replace(path)
    for folder in {path.parent, partial.parent}:
        sync(folder)
    if path.is_dir():
        # Also what a crash between the two steps left of an earlier one.
        remove(aside)


def publish_first(partial: Path, path: Path) -> bool:
    """Rename a complete directory to its name, unless that is taken; whether it wasn't.

    Raises:
        OSError: the disk is full or failed.
    """
    for folder, _, files in os.walk(partial):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A directory that holds something is never replaced.
        partial.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        return False
    sync(path.parent)
    return True


def link(file: Path, target: Path) -> None:
    """Give a file a second name, and where the file system can't, a copy; the name may be taken.

    Raises:
        OSError: it can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
        sync(target)
    sync(target.parent)


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """The place to write a file at; on success it is synced and gets its name, on failure it is removed.

    Its folder is made if need be.

    Raises:
        OutputError: it can't be written.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A leftover there may be a symlink that leads elsewhere.
        remove(partial)
        yield partial
        sync(partial)
        publish(partial, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        remove(partial)


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all.

    Raises:
        OutputError: it can't be written.
    """
    with replaced_file(path) as partial:
        partial.write_bytes(content)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, behind a line with the SHA-256 of its content.

    Raises:
        OutputError: it can't be written.
    """
    write_file(path, b"%s\n%s" % (hashlib.sha256(content).hexdigest().encode(), content))


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote; None where there is nothing, or anything else."""
    try:
        seal, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return content if seal == hashlib.sha256(content).hexdigest().encode() else None


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
