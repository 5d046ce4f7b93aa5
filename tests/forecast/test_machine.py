import mmap
import os
from pathlib import Path

import pytest

from pipeline.forecast.machine import memory_bytes, resident_bytes

MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, MEMORY),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"}, 1_000_000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "2000000\n"}, 2_000_000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "2000000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            2_000_000,
        ),
        (
            {
                "proc/self/cgroup": "12:cpu:/x\n4:memory,hugetlb:/docker/1\n",
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "3000000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            3_000_000,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 1}\n"}, MEMORY),
    ],
    ids=["none", "v2", "v2 above", "v2 max", "v1", "v1 unlimited"],
)
def test_a_control_group_of_either_version_limits_the_memory(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    write(tmp_path, files)
    assert memory_bytes(tmp_path) == expected


def test_resident_memory_grows_with_what_is_held() -> None:
    # mmap gives new pages; an array might reuse memory that earlier tests have freed.
    before, size = resident_bytes(), 64 * 2**20
    with mmap.mmap(-1, size) as held:
        held.write(bytes(size))
        assert resident_bytes() - before > 0.9 * size
