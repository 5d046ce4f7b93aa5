"""Seconds of work by the clock and of processors; stages that overlap in threads."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.graph import processors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall-clock seconds, and processor seconds of all threads together."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)

    def __mul__(self, factor: float) -> Cost:
        """So many times as much."""
        return Cost(self.wall_s * factor, self.cpu_s * factor)


NOTHING = Cost()


def measure(work: Callable[[], T]) -> tuple[T, Cost]:
    """The result of some work, and its cost alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Cost(time.perf_counter() - wall, time.process_time() - cpu)


def since_start() -> Cost:
    """The cost of this process until now; no seconds by the clock where the system doesn't tell when it began."""
    seconds = 0.0
    with suppress(OSError, IndexError, ValueError, AttributeError):
        began_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - began_ticks / os.sysconf("SC_CLK_TCK")
    return Cost(seconds, time.process_time())


def overlapped(costs: Iterable[Cost], processors: float) -> Cost:
    """The cost of stages that run at once: the longest of them, or their sum over the processors.

    >>> overlapped([Cost(3.0, 3.0), Cost(1.0, 2.0)], processors=8)
    Cost(wall_s=3.0, cpu_s=5.0)
    >>> overlapped([Cost(3.0, 3.0)] * 4, processors=2)
    Cost(wall_s=6.0, cpu_s=12.0)
    """
    stages = list(costs)
    work = sum(stage.cpu_s for stage in stages)
    return Cost(max([work / processors, *(stage.wall_s for stage in stages)]), work)


def free_processors(seconds: float = 0.5) -> float:
    """How many processors this process gets now beside all others, measured by a busy loop."""
    count = processors()
    block, end = bytes(2**22), time.perf_counter() + seconds

    def work(_: int) -> None:
        while time.perf_counter() < end:
            hashlib.sha256(block)

    # As many threads as a graph has at work, twice the processors or more.
    with ThreadPoolExecutor(2 * count) as pool:
        _, cost = measure(lambda: list(pool.map(work, range(2 * count))))
    return min(float(count), max(0.05, cost.cpu_s / cost.wall_s))
