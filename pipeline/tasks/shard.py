"""A share of a planned run's shards, for job arrays: no coordinator, only the run's directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.distributed.coordinator import Retries
from pipeline.distributed.local import Inline
from pipeline.distributed.plan import shard_folder
from pipeline.distributed.units import Finish, Shard, describe_unit
from pipeline.distributed.worker import OpenRun, open_run, units_of
from pipeline.errors import ModelError, UsageError, VidpartsError
from pipeline.failures import Failure, raise_failures
from pipeline.progress import Progress, Silent
from pipeline.runs.record import RECORD


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What was done of a share.

    Attributes:
        units: units of the share.
        done: those done now; others were there already.
        failures: those that couldn't be.
    """

    units: int
    done: int
    failures: tuple[Failure, ...]

    def raise_failures(self) -> None:
        """Raise an error of the first failure's kind that names every failed unit; nothing if none failed."""
        raise_failures(self.failures)

    def summary(self) -> str:
        """What was done, in a line."""
        there = self.units - self.done - len(self.failures)
        return f"{self.done} of {self.units} units done" + (f", {there} were there" if there else "")


def shard(output: Path, index: int, of: int, progress: Progress | None = None) -> ShardResult:
    """Do every `of`th unit of a planned run, from the `index`th on: shards, and inputs that can't be cut.

    Args:
        output: the run's directory, made by `segment(..., plan_only=True)`.
        index: which share, from 0.
        of: how many shares there are.
        progress: receives progress.

    Raises:
        UsageError: there is no such share; or this machine isn't what the run was planned with.
        OutputError: the directory holds no planned run, or can't be written.
        ModelError: the model can't be loaded.
    """
    if not 0 <= index < of:
        raise UsageError(f"--index {index} --of {of}: expected an index from 0 to {of - 1}")
    progress = progress or Silent()
    run = open_run(output.absolute())
    units = units_of(run)[index::of]
    left = [unit for unit in units if not _is_there(run, unit)]
    pool = Inline(run.work)
    retries = Retries(pool, run.plan.names)
    for unit in left:
        pool.submit(unit)
    progress.start("shards", len(left), "unit")
    done, failures = 0, list[Failure]()
    try:
        for completion in pool.completions():
            if retries.again(completion):
                continue
            error = completion.outcome
            if isinstance(error, BaseException):
                if not isinstance(error, VidpartsError) or isinstance(error, (UsageError, ModelError)):
                    raise error
                failures.append(Failure(describe_unit(completion.unit, run.plan.names), error))
            else:
                done += 1
            progress.advance(name=describe_unit(completion.unit, run.plan.names))
    finally:
        progress.finish()
    return ShardResult(len(units), done, tuple(failures))


def _is_there(run: OpenRun, unit: Shard | Finish) -> bool:
    work, name = run.streaming.work, run.plan.names[unit.number]
    if isinstance(unit, Shard):
        return shard_folder(work, name, unit.start).is_dir()
    return (work.partial(name) / RECORD).is_file() or work.is_published(name)
