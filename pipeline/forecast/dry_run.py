"""What a run would take, before it is done: operations, seconds, memory and disk (`--dry-run`).

Frames, grid and operations are exact. Seconds and bytes of an input are those of a few of its frames times their number
(`pipeline.forecast.probe`), with stages that overlap as they would; inputs of one size share a probe. Memory is the
bound of `--max-memory`. Nothing is written but a temporary directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.cluster.codebook import Codebook, load_codebook, save_codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.files import bytes_text
from pipeline.forecast.cost import NOTHING, Cost, free_processors, measure, overlapped, since_start
from pipeline.forecast.flops import describe_flops, vote_flops
from pipeline.forecast.memory import size_run
from pipeline.forecast.probe import LABEL_HEADER, Probe, probe_clusters, probe_sampling, probe_stages, read_bursts
from pipeline.forecast.scaling import InputUnits, Scaling, Spread, scale
from pipeline.forecast.workload import InputLoad, Workload, count_work
from pipeline.media.clip_reader import sound_bytes
from pipeline.media.clip_writer import require_encodable
from pipeline.media.inputs import resolve_inputs
from pipeline.media.source import selection_of
from pipeline.progress import Progress, Silent
from pipeline.runs.cutting import cut_places, usual_length
from pipeline.runs.record import CODEBOOK
from pipeline.stages.engine import Engine, open_engine
from pipeline.stages.fit import codebook_of, sees_motion
from pipeline.stages.motion_window import neighbourhood

HANDOVER = 1.13
"""Overhead of stages in threads over stages run in turn; 1.06 to 1.25 on six clips."""

RECORD_BYTES = 4_200
"""Bytes of a run.json."""

KEY_INTERVAL = 250
"""Frames of a clip's longest GOP (from one I-frame to the next): x264's default."""


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
        units: what it gives workers to do; None where there are none.
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
    units: InputUnits | None = None

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
        scaling: the run with workers; None where there are none.
    """

    inputs: tuple[InputEstimate, ...]
    failures: tuple[str, ...]
    channels: int
    start: Cost
    clusters: Cost
    peak_bytes: int
    cache_bytes: int
    record_bytes: int
    scaling: Scaling | None = None

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
        kinds = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in written.items())
        lines = [each.line(self.channels) for each in self.inputs]
        lines += [f"can't be read: {line}" for line in self.failures]
        lines += [
            f"operations  {self.flops / 1e12:.3g} TFLOP in the ViT, for {described} frames",
            f"seconds     {self.cost.wall_s:.0f}: start {self.start.wall_s:.0f}, fit {self.fit.wall_s:.0f}, "
            f"frames {self.stream.wall_s:.0f}; {self.cost.cpu_s:.0f} of processors",
            f"memory      {bytes_text(self.peak_bytes)} at most",
        ]
        if written:
            lines.append(f"disk        {bytes_text(sum(written.values()))}: {kinds}")
        if self.cache_bytes:
            lines.append(f"            and {bytes_text(self.cache_bytes)} for descriptors until it ends")
        if self.scaling is not None:
            lines += self.scaling.lines()
        return "\n".join([*lines, "dry run: nothing was written"])


def estimate(
    inputs: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    codebook: Path | None = None,
    save_frames: bool = False,
    paints: bool = True,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Say what a run over inputs would take, from their headers and a few of their frames.

    Args:
        inputs: videos, directories of frames, globs or text files of paths.
        settings: the defaults if None.
        codebook: use its parts instead of fitting.
        save_frames: whether painted frames would be written too.
        paints: whether frames would be segmented and painted, or a codebook fitted and nothing more.
        spread: workers, of whom it is said too how long they would take.
        progress: told what model is used, and all figures.

    Raises:
        InputError: no input can be read.
        TooLargeError: the frames of an input are too large for a clip.
        ModelError: the model can't be loaded, or the codebook doesn't fit.
        UsageError: the run would take more memory than it may.
    """
    settings, progress = settings or Settings(), progress or Silent()
    sources = resolve_inputs([str(item) for item in inputs], settings.input.fps)
    given = load_codebook(codebook) if codebook else None
    engine = open_engine(settings, progress, given, str(codebook))
    work = count_work(sources, engine, fits=given is None, paints=paints)
    if paints and not save_frames:
        for load in work.inputs:
            require_encodable(load.painted_hw, load.source.path)
    capacity = size_run(work, engine)
    loaded = since_start()
    if not work.inputs:
        raise InputError("; ".join(work.failures))
    dry_run = _DryRun(work, replace(engine, settings=capacity.settings), given, save_frames, free_processors(), spread)
    with tempfile.TemporaryDirectory(prefix="vidparts-") as folder:
        found = dry_run.measure(Path(folder))
    found = replace(found, start=found.start + loaded, peak_bytes=capacity.peak_bytes)
    if spread is not None:
        # A worker starts when the codebook is there. Labels are there twice where shards can't be linked.
        before = 2 * found.start.wall_s + found.fit.wall_s
        shared = sum(found.written_bytes.values()) + found.cache_bytes + found.written_bytes.get("labels", 0)
        units = [each.units for each in found.inputs if each.units is not None]
        found = replace(found, scaling=scale(units, before, spread, shared))
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

    work: Workload
    engine: Engine
    given: Codebook | None
    save_frames: bool
    processors: float
    spread: Spread | None

    def measure(self, folder: Path) -> Estimate:
        # Twice: what the first calls take beyond the second ones is part of the start.
        _, first = measure(lambda: self._probe(folder / "1"))
        probes, second = measure(lambda: self._probe(folder / "2"))
        inputs = tuple(self._input(load, probes.of[load.source_hw]) for load in self.work.inputs)
        return Estimate(
            inputs=inputs,
            failures=self.work.failures,
            channels=self.work.channels,
            start=Cost(max(0.0, first.wall_s - second.wall_s), max(0.0, first.cpu_s - second.cpu_s)),
            clusters=probes.clusters,
            peak_bytes=0,
            cache_bytes=self.work.cache_bytes,
            record_bytes=probes.codebook_bytes + (RECORD_BYTES * len(inputs) if self.work.paints else 0),
        )

    def _probe(self, folder: Path) -> _Probes:
        """Probe the first input of each size."""
        firsts = {load.source_hw: load.source for load in reversed(self.work.inputs)}
        (folder / "fit").mkdir(parents=True)
        probes = {size: read_bursts(source, self.engine) for size, source in firsts.items()}
        with FeatureCache(folder / "fit") as cache:
            if self.given is None:
                for number, probe in enumerate(probes.values()):
                    probe_sampling(probe, self.engine, cache, number)
            codebook, clusters = (self.given, NOTHING) if self.given else self._fitted(cache)
        if self.work.paints:
            for size, source in firsts.items():
                probe_stages(probes[size], source, self.engine, codebook, folder, save_frames=self.save_frames)
        file = folder / CODEBOOK
        save_codebook(codebook, file)
        return _Probes(probes, clusters, file.stat().st_size)

    def _fitted(self, cache: FeatureCache) -> tuple[Codebook, Cost]:
        found, cost = probe_clusters(cache, self.engine, self.work.sampled_descriptors)
        return codebook_of(found, self.engine, len(cache)), cost

    def _input(self, load: InputLoad, probe: Probe) -> InputEstimate:
        extractor, sampled = self.engine.extractor, len(load.sampled)
        # Pass 2 takes the fit's descriptors from its cache: sampled frames are key frames.
        fresh = max(0, self._described(load, probe) - sampled) if self.work.paints else 0
        attends = self.engine.settings.saliency.source != "motion"
        voting = vote_flops(extractor, load.source_hw, attends=attends)
        found = InputEstimate(
            name=load.source.name,
            frames=load.frames,
            source_hw=load.source_hw,
            processed_hw=load.size_hw,
            grid_hw=load.grid_hw,
            described=sampled + fresh,
            flops=sampled * voting + fresh * describe_flops(extractor, load.size_hw),
            fit=self._fit(load, probe) if sampled else NOTHING,
        )
        return replace(found, **self._streamed(load, fresh, probe)) if self.work.paints else found

    def _described(self, load: InputLoad, probe: Probe) -> int:
        """Frames of an input that are described: its key frames, and as many between them as in the probe."""
        interval = self.engine.settings.keyframes.interval
        between = max(0.0, probe.described - 1 / interval)
        return min(load.frames, load.key_frames(interval) + round(between * load.frames))

    def _fit(self, load: InputLoad, probe: Probe) -> Cost:
        """Decoding begins at a key frame before each frame that is needed; only those needed are converted to RGB."""
        needed = neighbourhood(load.sampled) if sees_motion(self.engine) else set(load.sampled)
        needed = {index for index in needed if 0 <= index < load.frames}
        converted = Cost(probe.decode.wall_s - probe.skip.wall_s, probe.decode.cpu_s - probe.skip.cpu_s)
        stages = [
            probe.skip * load.source.decoded_frames(selection_of(self.engine.settings), needed)
            + converted * len(needed),
            probe.sample["resize"] * len(needed),
            probe.sample["motion"] * len(load.sampled),
            probe.sample["describe"] * len(load.sampled),
        ]
        return probe.lead + overlapped(stages, self.processors) * HANDOVER

    def _streamed(self, load: InputLoad, fresh: int, probe: Probe) -> dict[str, Any]:
        count = load.frames
        stages = {**probe.stages, "decode": probe.decode}
        describe = stages.pop("describe") * (fresh / probe.described)
        work = overlapped([describe, *(cost * count for cost in stages.values())], self.processors) * HANDOVER
        keys = -(-count // KEY_INTERVAL)
        stream = probe.lead + work + probe.check * count
        return {
            "stream": stream,
            "units": self._units(load, {"describe": describe * (1 / count), **stages}, stream, probe),
            "label_bytes": int(LABEL_HEADER + probe.label_bytes * count),
            "clip_bytes": int(probe.key_bytes * keys + probe.frame_bytes * (count - keys) + self._sound(load)),
            "picture_bytes": int(probe.picture_bytes * count),
        }

    def _units(self, load: InputLoad, stages: dict[str, Cost], stream: Cost, probe: Probe) -> InputUnits | None:
        """What the input gives workers to do; `stages` are those of a frame, `stream` all of it at once."""
        if self.spread is None:
            return None
        processors = self.processors / self.spread.workers if self.spread.here else self.processors
        selection = selection_of(self.engine.settings)
        size = load.source.path.stat().st_size if load.source.path.is_file() else 0
        frames = sum(each.frames for each in self.work.inputs)
        length = self.spread.shard_frames or usual_length(frames, self.spread.workers)
        cuts = cut_places(load.source, self.engine, load.size_hw, length)
        if not cuts:
            slower = max(1.0, stream.cpu_s / processors / max(stream.wall_s, 1e-9))
            return InputUnits((), stream.wall_s * slower, 3 * size)
        labelling = [cost for name, cost in stages.items() if name != "overlay"]
        shards = []
        for start, stop in pairwise(cuts):
            way = probe.lead + probe.skip * max(0, load.source.decoded_frames(selection, {start}) - 1)
            work = overlapped([cost * (stop - start) for cost in labelling], processors) * HANDOVER
            shards.append(way.wall_s + work.wall_s)
        painting = overlapped([stages["decode"] * load.frames, stages["overlay"] * load.frames], processors) * HANDOVER
        finish = probe.lead + painting + probe.check * load.frames
        # Hashed, counted and painted from once; and a shard reads past all that lies before it.
        read = size * (3 + sum(stop / load.frames for stop in cuts[1:]))
        return InputUnits(tuple(shards), finish.wall_s, int(read))

    def _sound(self, load: InputLoad) -> float:
        info = load.source.probe()
        share = load.frames * self.engine.settings.input.every / max(1, info.frames)
        return sound_bytes(load.source.path) * info.duration_seconds * min(1.0, share) if info.audio else 0.0
