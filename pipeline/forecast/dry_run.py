"""What a run would take, before it is done: operations, seconds, memory and disk (`--dry-run`).

Frames, grid and operations are exact. Seconds and bytes of an input are those of a few of its frames times their number
(`pipeline.forecast.probe`), with stages that overlap as they would; inputs of one size share a probe. Memory is the
bound that `--max-memory` is held by. Nothing is written but a temporary directory.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.cluster.codebook import Codebook, load_codebook, save_codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.frame_sampling import spread_frames
from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.features.flops import describe_flops, vote_flops
from pipeline.forecast.cost import NOTHING, Cost, free_processors, measure, overlapped
from pipeline.forecast.memory import size_run
from pipeline.forecast.probe import LABEL_HEADER, Probe, probe_clusters, probe_sampling, probe_stages, read_bursts
from pipeline.geometry import processed_size
from pipeline.media.clip_reader import sound_bytes
from pipeline.media.inputs import resolve_inputs
from pipeline.media.source import Source
from pipeline.progress import Progress, Silent
from pipeline.runs.record import CODEBOOK
from pipeline.stages.engine import Engine, open_engine, selection_of
from pipeline.stages.fit import codebook_of, sees_motion
from pipeline.stages.motion_window import neighbourhood

HANDOVER = 1.13
"""What stages in threads beside each other take more than one after the other; 1.06 to 1.25 on six clips."""

RECORD_BYTES = 4_200
"""Of a run.json."""

KEY_INTERVAL = 250
"""Frames from one frame of a clip that stands for itself to the next, at most: x264's default."""


@dataclass(frozen=True, slots=True)
class InputEstimate:
    """What one input is, and what segmenting it would take.

    Attributes:
        name: the input's name.
        frames: that are processed.
        source_hw: height and width of its frames.
        processed_hw: height and width that the ViT sees.
        grid_hw: rows and columns of descriptors.
        described: frames that go through the ViT, in either pass.
        flops: operations of the ViT.
        fit: its share of pass 1, without k-means.
        stream: pass 2, the check of the clip included.
        label_bytes: of labels.zarr.
        clip_bytes: of overlay.mp4.
        picture_bytes: of frames/.
    """

    name: str
    frames: int
    source_hw: tuple[int, int]
    processed_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    described: int
    flops: int
    fit: Cost
    stream: Cost = NOTHING
    label_bytes: int = 0
    clip_bytes: int = 0
    picture_bytes: int = 0

    def line(self, channels: int) -> str:
        """The input in a line."""
        (height, width), (h, w), (rows, cols) = self.source_hw, self.processed_hw, self.grid_hw
        return (
            f"{self.name}: {self.frames} frames of {width}x{height}, processed at {w}x{h}: "
            f"{cols}x{rows} descriptors of {channels} channels"
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take.

    Attributes:
        inputs: those that can be read.
        failures: one line for each of the others.
        channels: of a descriptor.
        start: loading, and what first calls take longer.
        clusters: k-means and votes.
        peak_bytes: resident memory at most.
        cache_bytes: of the fit's descriptors on the disk, which go at the end.
        record_bytes: of the codebook and of the inputs' run.json.
    """

    inputs: tuple[InputEstimate, ...]
    failures: tuple[str, ...]
    channels: int
    start: Cost
    clusters: Cost
    peak_bytes: int
    cache_bytes: int
    record_bytes: int

    @property
    def flops(self) -> int:
        """Operations of the ViT."""
        return sum(each.flops for each in self.inputs)

    @property
    def fit(self) -> Cost:
        """Pass 1."""
        return sum((each.fit for each in self.inputs), self.clusters)

    @property
    def stream(self) -> Cost:
        """Pass 2."""
        return sum((each.stream for each in self.inputs), NOTHING)

    @property
    def cost(self) -> Cost:
        """The whole run."""
        return self.start + self.fit + self.stream

    @property
    def written_bytes(self) -> dict[str, int]:
        """Of what stays on the disk, by kind."""
        kinds = {
            "labels": sum(each.label_bytes for each in self.inputs),
            "clips": sum(each.clip_bytes for each in self.inputs),
            "frames": sum(each.picture_bytes for each in self.inputs),
            "records": self.record_bytes,
        }
        return {kind: size for kind, size in kinds.items() if size}

    def facts(self) -> dict[str, Any]:
        """All figures, for a program."""
        costs = {name: asdict(getattr(self, name)) for name in ("fit", "stream", "cost")}
        return {**asdict(self), **costs, "flops": self.flops, "written_bytes": self.written_bytes}

    def summary(self) -> str:
        """The figures for a person."""
        described, written = sum(each.described for each in self.inputs), self.written_bytes
        kinds = ", ".join(f"{kind} {_mebibytes(size)}" for kind, size in written.items())
        lines = [each.line(self.channels) for each in self.inputs]
        lines += [f"can't be read: {line}" for line in self.failures]
        lines += [
            f"operations  {self.flops / 1e12:.3g} TFLOP in the ViT, for {described} frames",
            f"seconds     {self.cost.wall_s:.0f}: start {self.start.wall_s:.0f}, fit {self.fit.wall_s:.0f}, "
            f"frames {self.stream.wall_s:.0f}; {self.cost.cpu_s:.0f} of processors",
            f"memory      {_mebibytes(self.peak_bytes)} at most",
        ]
        if written:
            lines.append(f"disk        {_mebibytes(sum(written.values()))}: {kinds}")
        if self.cache_bytes:
            lines.append(f"            and {_mebibytes(self.cache_bytes)} for descriptors until it ends")
        return "\n".join([*lines, "dry run: nothing was written"])


def estimate(
    inputs: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    codebook: Path | None = None,
    save_frames: bool = False,
    paints: bool = True,
    progress: Progress | None = None,
) -> Estimate:
    """Say what a run over inputs would take, from their headers and a few of their frames.

    Args:
        inputs: videos, directories of frames, globs or text files of paths.
        settings: defaults where None.
        codebook: use its parts instead of fitting.
        save_frames: whether painted frames would be written too.
        paints: whether frames would be segmented and painted, or a codebook fitted and nothing more.
        progress: told what model is used, and all figures.

    Raises:
        InputError: no input can be read.
        ModelError: the model can't be had, or the codebook doesn't fit.
        UsageError: the run would take more memory than it may.
    """
    settings, progress = settings or Settings(), progress or Silent()
    sources = resolve_inputs([str(item) for item in inputs], settings.input.fps)
    given = load_codebook(codebook) if codebook else None
    engine = open_engine(settings, progress, given, str(codebook))
    capacity = size_run(sources, engine, fits=given is None, paints=paints)
    loaded = Cost(_process_seconds(), time.process_time())
    dry_run = _DryRun(replace(engine, settings=capacity.settings), given, save_frames, paints, free_processors())
    with tempfile.TemporaryDirectory(prefix="vidparts-") as folder:
        found = dry_run.measure(sources, Path(folder))
    found = replace(found, start=found.start + loaded, peak_bytes=capacity.peak_bytes)
    progress.tell("estimate", found.facts())
    return found


@dataclass(frozen=True, slots=True)
class _Probes:
    """Probes by the size of source frames, k-means and votes, and the size of a codebook's file."""

    of: dict[tuple[int, int], Probe]
    clusters: Cost
    codebook_bytes: int


@dataclass(frozen=True, slots=True)
class _DryRun:
    """The probes of a run, and what follows from them."""

    engine: Engine
    given: Codebook | None
    save_frames: bool
    paints: bool
    processors: float

    def measure(self, sources: Sequence[Source], folder: Path) -> Estimate:
        failures: list[str] = []
        counts = [self._count(source, failures) for source in sources]
        readable = [(source, count) for source, count in zip(sources, counts, strict=True) if count]
        if not readable:
            raise InputError("; ".join(failures))
        samples = [list[int]()] * len(readable)
        if self.given is None:
            samples = spread_frames([count for _, count in readable], self.engine.settings.cluster.frames)
        sampled = sum(
            len(sample) * math.prod(self.engine.extractor.grid_hw(_processed(source, self.engine)))
            for sample, (source, _) in zip(samples, readable, strict=True)
        )
        # Twice: what the first calls take beyond the second ones is part of the start.
        paths = [source for source, _ in readable]
        _, first = measure(lambda: self._probe(paths, sampled, folder / "1"))
        probes, second = measure(lambda: self._probe(paths, sampled, folder / "2"))
        inputs = [
            self._input(source, count, sample, probes.of[_size(source)])
            for (source, count), sample in zip(readable, samples, strict=True)
        ]
        extractor = self.engine.extractor
        return Estimate(
            inputs=tuple(inputs),
            failures=tuple(failures),
            channels=extractor.channels,
            start=Cost(max(0.0, first.wall_s - second.wall_s), max(0.0, first.cpu_s - second.cpu_s)),
            clusters=probes.clusters,
            peak_bytes=0,
            cache_bytes=sampled * (extractor.channels + 1) * 4,
            record_bytes=probes.codebook_bytes + (RECORD_BYTES * len(inputs) if self.paints else 0),
        )

    def _count(self, source: Source, failures: list[str]) -> int:
        try:
            self.engine.extractor.grid_hw(_processed(source, self.engine))
            count = source.count(selection_of(self.engine.settings))
        except InputError as error:
            failures.append(str(error))
            return 0
        if not count:
            failures.append(f"'{source.path}' has no frame between --start and --end")
        return count

    def _probe(self, sources: Sequence[Source], sampled: int, folder: Path) -> _Probes:
        """Probe the first input of each size; `sampled` descriptors are fitted."""
        firsts = {_size(source): source for source in reversed(sources)}
        (folder / "fit").mkdir(parents=True)
        probes = {size: read_bursts(source, self.engine) for size, source in firsts.items()}
        with FeatureCache(folder / "fit") as cache:
            if self.given is None:
                for number, probe in enumerate(probes.values()):
                    probe_sampling(probe, self.engine, cache, number)
            codebook, clusters = (self.given, NOTHING) if self.given else self._fitted(cache, sampled)
        if self.paints:
            for size, source in firsts.items():
                probe_stages(probes[size], source, self.engine, codebook, folder, save_frames=self.save_frames)
        file = folder / CODEBOOK
        save_codebook(codebook, file)
        return _Probes(probes, clusters, file.stat().st_size)

    def _fitted(self, cache: FeatureCache, sampled: int) -> tuple[Codebook, Cost]:
        found, cost = probe_clusters(cache, self.engine, sampled)
        return codebook_of(found, self.engine, len(cache)), cost

    def _input(self, source: Source, count: int, sample: Sequence[int], probe: Probe) -> InputEstimate:
        processed, extractor = _processed(source, self.engine), self.engine.extractor
        known = len(sample) if probe.described == 1.0 else 0
        fresh = max(0, round(count * probe.described) - known) if self.paints else 0
        attends = self.engine.settings.saliency.source != "motion"
        voting = vote_flops(extractor, source.probe().size_hw, attends=attends)
        found = InputEstimate(
            name=source.name,
            frames=count,
            source_hw=source.probe().size_hw,
            processed_hw=processed,
            grid_hw=extractor.grid_hw(processed),
            described=len(sample) + fresh,
            flops=len(sample) * voting + fresh * describe_flops(extractor, processed),
            fit=self._fit(count, sample, probe) if sample else NOTHING,
        )
        return replace(found, **self._streamed(source, count, fresh, probe)) if self.paints else found

    def _fit(self, count: int, sample: Sequence[int], probe: Probe) -> Cost:
        """All frames up to the last one that is needed are decoded; those needed are turned into RGB."""
        needed = neighbourhood(sample) if sees_motion(self.engine) else set(sample)
        needed = {index for index in needed if 0 <= index < count}
        converted = Cost(probe.decode.wall_s - probe.skip.wall_s, probe.decode.cpu_s - probe.skip.cpu_s)
        stages = [
            probe.skip * max(needed) + converted * len(needed),
            probe.sample["resize"] * len(needed),
            probe.sample["motion"] * len(sample),
            probe.sample["describe"] * len(sample),
        ]
        return probe.lead + overlapped(stages, self.processors) * HANDOVER

    def _streamed(self, source: Source, count: int, fresh: int, probe: Probe) -> dict[str, Any]:
        stages = {**probe.stages, "decode": probe.decode}
        describe = stages.pop("describe") * (fresh / probe.described)
        work = overlapped([describe, *(cost * count for cost in stages.values())], self.processors) * HANDOVER
        keys = -(-count // KEY_INTERVAL)
        return {
            "stream": probe.lead + work + probe.check * count,
            "label_bytes": int(LABEL_HEADER + probe.label_bytes * count),
            "clip_bytes": int(probe.key_bytes * keys + probe.frame_bytes * (count - keys) + self._sound(source, count)),
            "picture_bytes": int(probe.picture_bytes * count),
        }

    def _sound(self, source: Source, count: int) -> float:
        info = source.probe()
        share = count * self.engine.settings.input.every / max(1, info.frames)
        return sound_bytes(source.path) * info.duration_seconds * min(1.0, share) if info.audio else 0.0


def _size(source: Source) -> tuple[int, int]:
    return source.probe().size_hw


def _processed(source: Source, engine: Engine) -> tuple[int, int]:
    return processed_size(_size(source), engine.settings.features.load_size)


def _process_seconds() -> float:
    """Seconds since this process began; 0 where the system doesn't tell."""
    try:
        began_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError, AttributeError):
        return 0.0


def _mebibytes(count: float) -> str:
    number = count / 2**20
    digits = 2 if number < 1 else 1 if number < 100 else 0
    return f"{number:.{digits}f} MiB"
