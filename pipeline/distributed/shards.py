"""One shard: labels of some of an input's frames, written aside and renamed to their place; and joining shards.

    OUT/.run/shards/<name>/<start>/labels.zarr   the labels
    OUT/.run/shards/<name>/<start>/shard.json    steadiness, checksums of the frames at its seams, seconds of its stages

A worker that dies leaves only what it wrote aside. Of two that did the same shard the first one's stays.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from pipeline.distributed.plan import WHOLE, Plan, shard_folder
from pipeline.distributed.units import Shard
from pipeline.documents import Document
from pipeline.errors import InputError
from pipeline.evaluation.metrics.steadiness import PairCounts, SteadinessMeter
from pipeline.files import output_errors, publish_first, read_sealed, remove, write_file, write_sealed
from pipeline.geometry import shrink
from pipeline.graph import Graph
from pipeline.media.label_store import LabelWriter, open_labels
from pipeline.media.source import Source
from pipeline.records import Frame, PartMap
from pipeline.runs.record import LABELS, StageRecord, stage_records
from pipeline.runs.sinks import Joined, file_name
from pipeline.runs.streaming import Streaming
from pipeline.stages.energies import span_of

_RECORD = "shard.json"


class _ShardRecord(Document):
    before: str | None
    """SHA-256 of the frame before the first one, as RGB; None where that is the input's first."""
    last: str
    """SHA-256 of the last frame."""
    pairs: int
    compared: int
    changed: int
    switches: int
    transitions: tuple[tuple[int, int, int, int], ...]
    """Which labels turned into which, a row of `Transitions` each."""
    stages: tuple[StageRecord, ...]
    warnings: tuple[str, ...]


class _CutError(Exception):
    """The input isn't what its packets say: damaged, or with other times."""


def label_shard(streaming: Streaming, source: Source, shard: Shard) -> bool:
    """Make a shard, unless it is there; whether the input can be cut.

    Raises:
        InputError: the input can't be read.
        OutputError: the shard can't be written.
    """
    work = streaming.work
    place = shard_folder(work, source.name, shard.start)
    if place.is_dir():
        return True
    with output_errors(work.scratch):
        work.scratch.mkdir(exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{source.name}-{shard.start}-", dir=work.scratch))
    try:
        record = _Labelling(streaming, source, shard).write(scratch)
        write_sealed(scratch / _RECORD, record.model_dump_json().encode())
        with output_errors(place):
            publish_first(scratch, place)
    except _CutError:
        write_file(work.shards(source.name) / WHOLE, b"")
        return False
    finally:
        remove(scratch)
    return True


@dataclass(slots=True)
class _Labelling:
    """The frames of one shard on their way to labels."""

    streaming: Streaming
    source: Source
    shard: Shard
    before: str | None = None
    last: str = ""

    def write(self, folder: Path) -> _ShardRecord:
        streaming, shard = self.streaming, self.shard
        times = self.source.times(streaming.selection)
        if times is None:
            raise _CutError
        inside, meter = range(shard.start, shard.stop), SteadinessMeter()
        writer = streaming.label_writer(self.source, folder)
        expected = iter(times[shard.start : shard.stop])
        graph = Graph(streaming.engine.settings.run.queue_depth)
        parts = streaming.part_maps(graph, shard.number, self._frames(writer.size_hw), writer.size_hw, inside)

        def store(items: Iterator[PartMap]) -> None:
            for part in items:
                if part.frame.pts != next(expected):
                    raise _CutError
                writer.write(part.frame.pts, part.labels, file_name(self.source, part.frame))

        def measure(items: Iterator[PartMap]) -> None:
            for part in items:
                meter.add(shrink(part.frame.rgb, part.labels.shape), part.labels, part.frame.index)

        graph.sink("labels", parts, store)
        graph.sink("steadiness", parts, measure)
        with writer:
            reports = graph.run()
            report = self.source.report
            if writer.frames < len(inside) or report.damaged or report.warnings:
                raise _CutError
        return _ShardRecord(
            before=self.before,
            last=self.last,
            stages=stage_records(reports),
            warnings=streaming.engine.extractor.warnings,
            transitions=tuple(meter.transitions().rows()),
            **asdict(meter.counts),
        )

    def _frames(self, size_hw: tuple[int, int]) -> Iterator[Frame]:
        """The shard's frames, and those around them that their labels depend on.

        One before them is decoded in any case, and hashed: it must be the last one of the shard on the left.
        """
        start, stop = self.shard.start, self.shard.stop
        needed = span_of(self.streaming.engine, size_hw, range(start, stop)).decoded
        wanted = range(max(0, min(start - 1, needed.start)), needed.stop)
        for frame in islice(self.source.frames(self.streaming.selection, wanted), len(wanted)):
            if frame.index in (start - 1, stop - 1):
                checksum = hashlib.sha256(np.ascontiguousarray(frame.rgb).data).hexdigest()
                self.before, self.last = (checksum, "") if frame.index < start else (self.before, checksum)
            if frame.index in needed:
                yield frame


def join_shards(streaming: Streaming, source: Source, plan: Plan, number: int) -> Joined | None:
    """Make an input's finished labels of its shards; None where one is damaged, or they don't fit each other.

    Raises:
        InputError: the input can't be read.
        OutputError: the labels can't be written.
    """
    shards, times = plan.shards(streaming.work, number), source.times(streaming.selection) or ()
    folders = [shard_folder(streaming.work, source.name, shard.start) for shard in shards]
    records = [found for folder in folders if (found := _load_record(folder)) is not None]
    if len(records) < len(shards) or any(left.last != right.before for left, right in pairwise(records)):
        return None
    folder = streaming.work.partial(source.name)
    if not (folder / LABELS).exists() and not _link(streaming.label_writer(source, folder), shards, folders, times):
        return None
    counts = sum((PairCounts(each.pairs, each.compared, each.changed, each.switches) for each in records), PairCounts())
    counted = tuple(range(shard.start + 1, shard.stop) for shard in shards)
    stages = tuple(stage for each in records for stage in each.stages)
    warnings = tuple(line for each in records for line in each.warnings)
    return Joined(counts, counted, stages, warnings, tuple(row for each in records for row in each.transitions))


def _link(writer: LabelWriter, shards: Sequence[Shard], folders: Sequence[Path], times: Sequence[int]) -> bool:
    """Finish a label store of the shards' chunks; false where they aren't what they should be."""
    try:
        stores = [open_labels(folder / LABELS) for folder in folders]
    except InputError:
        return False
    if any(store.pts != tuple(times[each.start : each.stop]) for each, store in zip(shards, stores, strict=True)):
        return False
    writer.adopt(shards[0].start, stores)
    if writer.resume() != shards[-1].stop:
        return False
    with writer:
        pass
    return True


def _load_record(folder: Path) -> _ShardRecord | None:
    try:
        return _ShardRecord.model_validate_json(read_sealed(folder / _RECORD) or b"")
    except ValidationError:
        return None
