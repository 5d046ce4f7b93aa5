"""How long a run takes with N workers, where more of them no longer help, and what the shared disk needs."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.files import bytes_text

NEAR = 1.1
"""Times as long as with any number of workers: from there on more of them no longer help."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What a run would be spread over.

    Attributes:
        workers: units at a time.
        shard_frames: about how many frames a unit has; None: by the number of frames and workers.
        here: whether the workers share this machine; else each has one like it.
    """

    workers: int
    shard_frames: int | None
    here: bool


@dataclass(frozen=True, slots=True)
class InputUnits:
    """What one input gives workers to do.

    Attributes:
        shards: seconds of each shard; none where the input isn't cut.
        finish: seconds from labels to the result, or of the whole input where it isn't cut.
        read_bytes: that are read of the input in all.
    """

    shards: tuple[float, ...]
    finish: float
    read_bytes: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """A run with workers.

    Attributes:
        workers: units at a time.
        here: whether the workers share this machine.
        wall_s: seconds of the run.
        least_s: seconds with any number of workers; those of `wall_s` where they share this machine.
        enough: workers with which it takes at most `NEAR` times that.
        units: shards, and inputs.
        shared_bytes: on the shared disk at most.
        read_bytes: that are read of the inputs in all.
    """

    workers: int
    here: bool
    wall_s: float
    least_s: float
    enough: int
    units: tuple[int, int]
    shared_bytes: int
    read_bytes: int

    def lines(self) -> list[str]:
        """The figures for a person."""
        shards, inputs = self.units
        machines = "processes that share this machine" if self.here else "workers, each with a machine like this one"
        lines = [f"workers     {self.wall_s:.0f} s with {self.workers} {machines}: {shards} shards, {inputs} inputs"]
        if not self.here:
            lines.append(
                f"            {self.enough} workers are enough: with any number it takes {self.least_s:.0f} s (start, "
                "fit, a shard, and the longest input's clip)"
            )
        shared, read = bytes_text(self.shared_bytes), bytes_text(self.read_bytes)
        return [*lines, f"            shared disk: {shared} at most, and {read} of the inputs are read"]


def scale(inputs: Sequence[InputUnits], before_s: float, spread: Spread, shared_bytes: int) -> Scaling:
    """A run's figures with workers.

    Args:
        inputs: what there is to do.
        before_s: seconds before the first unit begins.
        spread: the workers.
        shared_bytes: on the shared disk at most.
    """
    units = sum(len(each.shards) for each in inputs), len(inputs)
    wall = before_s + makespan(inputs, spread.workers)
    least, enough = wall, spread.workers
    if not spread.here:
        most = max(1, sum(units))
        least, enough = before_s + makespan(inputs, most), 1
        while before_s + makespan(inputs, enough) > NEAR * least and enough < most:
            enough = min(most, enough + max(1, enough // 8))
    read = sum(each.read_bytes for each in inputs)
    return Scaling(spread.workers, spread.here, wall, least, enough, units, shared_bytes, read)


def makespan(inputs: Sequence[InputUnits], workers: int) -> float:
    """Seconds until all is done, in the coordinator's order: shards, and behind an input's last one its result.

    >>> makespan([InputUnits((3.0, 3.0), 1.0, 0), InputUnits((), 2.0, 0)], workers=2)
    5.0
    >>> makespan([InputUnits((3.0, 3.0), 1.0, 0)], workers=9)
    4.0
    """
    waiting = deque[tuple[float, int, bool]]()
    for number, each in enumerate(inputs):
        waiting += [(seconds, number, True) for seconds in each.shards] or [(each.finish, number, False)]
    left = [len(each.shards) for each in inputs]
    running: list[tuple[float, int, bool]] = []
    now = 0.0
    while waiting or running:
        while waiting and len(running) < workers:
            seconds, number, is_shard = waiting.popleft()
            heapq.heappush(running, (now + seconds, number, is_shard))
        now, number, is_shard = heapq.heappop(running)
        left[number] -= is_shard
        if is_shard and not left[number]:
            waiting.append((inputs[number].finish, number, False))
    return now
