"""What a worker does with a unit: it opens the run once, checks that it is what the run was begun with, and works."""

from __future__ import annotations

import io
import traceback
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pipeline.cluster.codebook import load_codebook
from pipeline.cluster.feature_cache import ReadOnlyCache
from pipeline.config import Settings, with_values
from pipeline.device import device_kind
from pipeline.distributed.plan import Plan, load_plan, open_input
from pipeline.distributed.shards import join_shards, label_shard
from pipeline.distributed.units import Finish, Inspect, Inspected, Labelled, Produced, Shard, Unit, Value, host
from pipeline.errors import InputError, ModelError, OutputError, VidpartsError, WorkerModelError, WorkersError
from pipeline.files import remove
from pipeline.media.source import Source
from pipeline.progress import Silent
from pipeline.runs.manifest import Manifest, content_sha256
from pipeline.runs.record import CODEBOOK, Tools
from pipeline.runs.streaming import Streaming
from pipeline.runs.workspace import Workspace, locked
from pipeline.stages.engine import Engine, open_engine
from pipeline.stages.fit import Fitted

_PATIENCE_S = 120.0
"""Seconds until a file server has noticed that a machine which held a lock is gone."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run as a worker has it: model, codebook and inputs."""

    streaming: Streaming
    plan: Plan
    sources: tuple[Source, ...]

    def work(self, unit: Unit) -> Value:
        """Do a unit.

        Raises:
            VidpartsError: it can't be done.
        """
        assert not isinstance(unit, Inspect)
        source, streaming = self.sources[unit.number], self.streaming
        if not source.path.exists():
            raise WorkersError(
                f"{host()} doesn't see '{source.path}'; mount the inputs at the same place on every node"
            )
        if unit.careful:
            streaming = replace(streaming, engine=_careful(streaming.engine))
        if isinstance(unit, Shard):
            return Labelled(cut=label_shard(streaming, source, unit))
        with locked(streaming.work.partial(source.name), wait_s=_PATIENCE_S):
            self._finish(streaming, source, unit)
        return Produced()

    def _finish(self, streaming: Streaming, source: Source, unit: Finish) -> None:
        if self.plan.shards(streaming.work, unit.number):
            joined = join_shards(streaming, source, self.plan, unit.number)
            if joined is not None:
                streaming.produce(unit.number, source, joined)
                return
            # The disk, the input or a machine isn't what it was: then nothing of it is trusted.
            remove(streaming.work.shards(source.name))
            streaming.work.empty(source.name)
        streaming.produce(unit.number, source)


def answer(output: str, unit: Unit) -> Value | Exception:
    """Do a unit of the run in a directory; an error goes to the coordinator like a result."""
    try:
        if isinstance(unit, Inspect):
            return inspect(open_input(unit.input))
        return open_run(Path(output), unit.plan).work(unit)
    except (VidpartsError, MemoryError) as error:
        return error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 -- the coordinator raises it
        # Not every exception can be sent, and none with its traceback.
        return RuntimeError(f"on {host()}:\n{''.join(traceback.format_exception(error))}")


def inspect(source: Source) -> Inspected:
    """Hash an input, and find out what takes long to; an input that can't be read has neither."""
    checksum = content_sha256(source)
    try:
        return Inspected(checksum, source.save_index())
    except InputError:
        return Inspected(checksum, None)


@lru_cache(maxsize=1)
def open_run(output: Path, token: str = "") -> OpenRun:
    """Open the run in a directory as a worker.

    Args:
        output: the run's directory.
        token: its plan's, which keeps a worker from going on with an earlier run's.

    Raises:
        OutputError: the directory isn't there, or holds no plan.
        WorkersError: this machine isn't what the run was begun with.
        WorkerModelError: it lacks the model.
    """
    work = Workspace(output)
    plan, manifest = load_plan(work), work.manifest()
    if plan is None or manifest is None or (token and plan.token != token):
        raise OutputError(
            f"{host()} finds no plan in '{output}'; give a directory that every node sees, and begin the run by "
            "`vidparts segment ... --plan`"
        )
    engine = _open_engine(plan.sized)
    _require_same(manifest, plan, engine)
    sources = plan.sources()
    for source in sources:
        if (file := work.packets(source.name)).is_file():
            source.load_index(file.read_bytes())
    fitted = Fitted(load_codebook(output / CODEBOOK), plan.warnings, plan.fit_seconds)
    cache = ReadOnlyCache(work.fit)
    return OpenRun(Streaming(work, manifest, engine, fitted, cache, _mute()), plan, sources)


def _open_engine(settings: Settings) -> Engine:
    try:
        return open_engine(settings, _mute())
    except ModelError as error:
        raise WorkerModelError(f"on {host()}: {error}") from error


def _require_same(begun: Manifest, plan: Plan, engine: Engine) -> None:
    device = engine.extractor.device
    here = begun.model_copy(
        update={
            **Tools.here(engine),
            "model": engine.extractor.identity.name,
            "fingerprint": engine.fingerprint,
            **({"device": begun.device, "processor": begun.processor} if plan.mixed_devices else {}),
        }
    )
    differences = begun.differences(here)
    if not plan.mixed_devices and plan.gpu != device_kind(device):
        differences.append(f"GPU {plan.gpu or 'none'} (now {device_kind(device) or 'none'})")
    if differences:
        raise WorkersError(
            f"{host()} can't take part: the run was begun with {', '.join(differences)}; install the same there, or "
            "leave it out (--mixed-devices takes other processors and GPUs, and promises no equal bytes)"
        )


def _careful(engine: Engine) -> Engine:
    """With the least memory that changes no byte: a frame at a time, where the batch doesn't decide the last bits."""
    least: dict[str, int] = {"run.queue_depth": 1, **({"run.batch": 1} if engine.on_cpu else {})}
    return replace(engine, settings=with_values(engine.settings, least))


def _mute() -> Silent:
    # What there is to say the coordinator says, once.
    return Silent(io.StringIO())


def units_of(run: OpenRun) -> list[Shard | Finish]:
    """All that can be done of a run without a coordinator: its shards, and inputs that aren't cut, in order."""
    found: list[Shard | Finish] = []
    for number in range(len(run.sources)):
        found += run.plan.shards(run.streaming.work, number) or [run.plan.finish(number)]
    return found
