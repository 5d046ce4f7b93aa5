"""Memory of the machine or its control group (cgroup), and resident memory of this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 2**60
"""Version 1 of control groups says "no limit" by a number near 2^63."""

_ASSUMED = 8 * 2**30
"""Where no system tells."""


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use: the machine's, or less where a control group allows less.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    return min([_physical_bytes(), *_group_limits(root)])


def resident_bytes() -> int:
    """Memory that this process holds now; where the system doesn't tell, the most it has held, or 0."""
    with contextlib.suppress(OSError, IndexError, ValueError, AttributeError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _physical_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, AttributeError):
        status = _MemoryStatus(dwLength=ctypes.sizeof(_MemoryStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
        return int(status.ullTotalPhys)
    return _ASSUMED


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("dwLength", ctypes.c_ulong),
        ("dwMemoryLoad", ctypes.c_ulong),
        *((name, ctypes.c_ulonglong) for name in ("ullTotalPhys", "ullAvailPhys", "ullTotalPageFile")),
        *((name, ctypes.c_ulonglong) for name in ("ullAvailPageFile", "ullTotalVirtual", "ullAvailVirtual")),
        ("ullAvailExtendedVirtual", ctypes.c_ulonglong),
    )


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of this process's control group and of all above it, in either version."""
    for folder, name in _groups(root):
        for place in (folder, *folder.parents):
            if place.name == "fs":
                break
            try:
                limit = int((place / name).read_text())
            except (OSError, ValueError):
                continue  # no such file, or "max"
            if 0 < limit < _UNLIMITED:
                yield limit


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield mounted / path.lstrip("/"), "memory.max"
        elif "memory" in controllers.split(","):
            yield mounted / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
