"""Pass 2 by workers: shards first, then each input's result as soon as its shards are there.

The coordinator holds the lock of OUT and nothing else: all that is finished is in files, so after its death `--resume`
goes on. A worker that dies loses its unit, which another one does again; an error of our own isn't repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.distributed.plan import Plan
from pipeline.distributed.units import (
    Completion,
    Died,
    Finish,
    Inspect,
    Inspected,
    Labelled,
    Pool,
    Shard,
    Unit,
    describe_unit,
)
from pipeline.errors import DeviceMemoryError, ModelError, UsageError, VidpartsError, WorkersError
from pipeline.failures import Failure
from pipeline.media.source import Source
from pipeline.progress import Progress
from pipeline.runs.record import InputResult
from pipeline.runs.streaming import Streaming

TRIES = 3
"""Times that a unit is begun before its workers' deaths are taken for its own doing."""


def inspect_inputs(pool: Pool, inputs: Iterable[Inspect]) -> list[Inspected]:
    """Checksums and packets of inputs, in their order.

    Raises:
        WorkersError: no worker can be had, or some die again and again.
        VidpartsError: a worker can't work.
    """
    wanted = list(inputs)
    found: dict[str, Inspected] = {}
    retries = Retries(pool, ())
    for unit in wanted:
        pool.submit(unit)
    for done in pool.completions():
        if retries.again(done):
            continue
        if isinstance(done.outcome, BaseException):
            raise done.outcome
        assert isinstance(done.unit, Inspect)
        assert isinstance(done.outcome, Inspected)
        found[done.unit.input.name] = done.outcome
    return [found[unit.input.name] for unit in wanted]


@dataclass(slots=True)
class Retries:
    """Units that are done again because their workers died."""

    pool: Pool
    names: tuple[str, ...]
    _tries: Counter[Unit] = field(default_factory=Counter)

    def again(self, done: Completion) -> bool:
        """Whether the unit was submitted again.

        Raises:
            WorkersError: too many of its workers have died.
        """
        careful = getattr(done.unit, "careful", True)
        if isinstance(done.outcome, MemoryError) and careful:
            raise WorkersError(
                f"a worker had too little memory even for a frame at a time, {describe_unit(done.unit, self.names)}; "
                "give fewer --workers or smaller frames (--load-size), then --resume continues"
            )
        memory = isinstance(done.outcome, (DeviceMemoryError, MemoryError)) and not careful
        if not memory and not isinstance(done.outcome, Died):
            return False
        unit = done.unit if isinstance(done.unit, Inspect) else replace(done.unit, careful=False)
        self._tries[unit] += 1
        if isinstance(done.outcome, Died) and self._tries[unit] >= TRIES:
            raise WorkersError(
                f"{TRIES} workers died one after another while {describe_unit(unit, self.names)}, the last one "
                f"{done.outcome.reason}; look for what kills them (memory?), then --resume continues"
            )
        # What killed it may have been the system, for want of memory.
        self.pool.submit(unit if isinstance(unit, Inspect) else replace(unit, careful=True))
        return True


@dataclass(slots=True)
class Coordinator:
    """Inputs of a planned run, on their way to results.

    Attributes:
        pool: the workers.
        plan: how the run is divided.
        streaming: the run.
        progress: told of shards, frames and inputs.
    """

    pool: Pool
    plan: Plan
    streaming: Streaming
    progress: Progress
    _left: dict[int, set[Shard]] = field(default_factory=dict)
    _failed: dict[int, Failure] = field(default_factory=dict)
    _finished: dict[int, InputResult] = field(default_factory=dict)
    _shards: int = 0
    _shards_done: int = 0

    def run(self, sources: Sequence[Source], numbers: Sequence[int]) -> tuple[dict[int, InputResult], list[Failure]]:
        """Do what is left of some inputs.

        Args:
            sources: all inputs of the run.
            numbers: which of them aren't finished, and can be.

        Returns:
            Their results by number, and the failures in the order of the inputs.

        Raises:
            WorkersError, ModelError: no worker can be had, or one isn't what the run was begun with.
        """
        work = self.streaming.work
        for number in numbers:
            self._left[number] = set(self.plan.missing(work, number))
        self._shards = sum(map(len, self._left.values()))
        frames = sum(shard.stop - shard.start for left in self._left.values() for shard in left)
        self.progress.start(f"{self._shards} shards" if self._shards else "inputs", frames or None)
        retries = Retries(self.pool, self.plan.names)
        try:
            for number, left in self._left.items():
                units: list[Unit] = [*sorted(left, key=lambda shard: shard.start)]
                for unit in units or [self.plan.finish(number)]:
                    self.pool.submit(unit)
            for done in self.pool.completions():
                if not retries.again(done):
                    self._take(done, sources)
        finally:
            self.progress.finish()
        return self._finished, [self._failed[number] for number in numbers if number in self._failed]

    def _take(self, done: Completion, sources: Sequence[Source]) -> None:
        assert not isinstance(done.unit, Inspect)
        number = done.unit.number
        if isinstance(done.outcome, BaseException):
            if not isinstance(done.outcome, VidpartsError) or isinstance(done.outcome, (UsageError, ModelError)):
                raise done.outcome
            self._failed.setdefault(number, Failure(sources[number].name, done.outcome))
        elif isinstance(done.unit, Finish):
            self._finish(number, sources[number])
        else:
            assert isinstance(done.outcome, Labelled)
            self._shards_done += 1
            self.progress.advance(done.unit.stop - done.unit.start)
            where = {"done": self._shards_done, "total": self._shards, "input": sources[number].name}
            self.progress.tell("shards", where)
            self._count_shard(number, done.unit, cut=done.outcome.cut)

    def _count_shard(self, number: int, shard: Shard, *, cut: bool) -> None:
        left = self._left[number]
        if number in self._failed or not left:
            return
        left.discard(replace(shard, careful=False))
        if not cut:
            # The rest of its shards come to nothing.
            left.clear()
        if not left:
            self.pool.submit(self.plan.finish(number))

    def _finish(self, number: int, source: Source) -> None:
        try:
            self._finished[number] = self.streaming.publish(source)
        except VidpartsError as error:
            self._failed.setdefault(number, Failure(source.name, error))
