"""What a frame costs, measured on a few real ones: each stage alone, in seconds and bytes.

A few bursts of neighbouring frames go through the stages of a run; what they write goes into a temporary directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cluster.clustering import assign_blocks, fit_each
from pipeline.cluster.codebook import Codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.fit import Descriptors, PartFit, fit_parts
from pipeline.cluster.kmeans import thin
from pipeline.evaluation.metrics.steadiness import SteadinessMeter
from pipeline.features.motion import REACH
from pipeline.forecast.cost import NOTHING, Cost, measure
from pipeline.forecast.disk import written_bytes
from pipeline.forecast.flops import describe_flops
from pipeline.geometry import shrink
from pipeline.media.clip_reader import frame_times, packet_bytes
from pipeline.media.clip_writer import ClipWriter, is_encodable
from pipeline.media.label_store import LabelWriter
from pipeline.media.pictures import writable_name, write_picture
from pipeline.media.source import Source, selection_of
from pipeline.painting.styles import painted_size
from pipeline.records import Frame, PartMap
from pipeline.stages.batches import prepare
from pipeline.stages.describe import describe_sampled
from pipeline.stages.energies import energy_steps
from pipeline.stages.engine import Engine
from pipeline.stages.fit import sampled_batches, sees_motion
from pipeline.stages.key_frames import Between
from pipeline.stages.refinement import paint_parts, refine

BURSTS = 4
"""Bursts: where a scene fills or empties, two might both miss it."""

BURST = 16
"""Frames of a burst."""

REACHABLE = 400
"""Frames among which the bursts are spread."""

SAMPLED = 8
"""Frames of an input that the probe's codebook is fitted on."""

LINGERING = 0.25
"""Lloyd's algorithm takes more iterations on a larger sample: time a point grew by the sample's 0.35th power from
2,500 to 10,000 points of a clip, and by its 0.17th to 20,000."""

LABEL_HEADER = 1100
"""Bytes of a label store that don't grow with its frames."""

LARGE_PX = 4_000_000
"""Pixels of a frame above which bursts are a quarter as long, for time and memory."""

HEAVY_FLOPS = 50e9
"""Operations of a frame above which bursts are a quarter as long, too: a second on two cores; above 8 times as many, an
eighth."""


@dataclass(slots=True)
class Probe:
    """What one input costs; costs and bytes are those of one frame.

    Attributes:
        bursts: its frames.
        lead: until the first frame is there.
        skip: a frame that is decoded, and nothing more.
        decode: a frame that is decoded and converted to RGB.
        sample: by stage (`resize`, `motion`, `describe`), a frame that the fit samples.
        stages: by name, a frame of pass 2 in each stage.
        check: a frame of the finished clip.
        described: share of the frames that are described.
        label_bytes: of a label map.
        key_bytes: of an I-frame of the clip.
        frame_bytes: of a P- or B-frame of the clip.
        picture_bytes: of a painted frame as a picture.
    """

    bursts: list[list[Frame]]
    lead: Cost
    skip: Cost
    decode: Cost
    sample: dict[str, Cost] = field(default_factory=dict)
    stages: dict[str, Cost] = field(default_factory=dict)
    check: Cost = NOTHING
    described: float = 1.0
    label_bytes: float = 0.0
    key_bytes: float = 0.0
    frame_bytes: float = 0.0
    picture_bytes: float = 0.0

    @property
    def frames(self) -> int:
        """Frames of all bursts."""
        return sum(map(len, self.bursts))


def read_bursts(source: Source, engine: Engine) -> Probe:
    """Read the frames that the probe is made on, and measure what reading costs.

    Raises:
        InputError: the input can't be read any more.
    """
    selection = selection_of(engine.settings)
    total = source.count(selection)
    size_hw = source.probe().size_hw
    length = min(total, _burst(engine, size_hw))
    reach = min(total, REACHABLE)
    interval = engine.settings.keyframes.interval
    apart = max(length, (reach - length) // (BURSTS - 1))
    # Bursts begin at key frames, as the stretches of a run do.
    starts = range(0, reach, -(-apart // interval) * interval)
    spans = [range(start, min(start + length, reach)) for start in starts]
    known = iter(source.frames(selection, _Ends(length)))
    _, lead = measure(lambda: next(known))
    _, skipped = measure(lambda: next(known, None))
    wanted = set(chain.from_iterable(spans))
    frames = iter(source.frames(selection, wanted))
    first = next(frames)
    burst, decoded = measure(lambda: [next(frames) for _ in spans[0][1:]])
    bursts = [[first, *burst]]
    bursts += [[next(frames) for _ in span] for span in spans[1:]]
    steps = 1 / max(1, length - 1)
    return Probe(bursts, lead, skipped * steps, decoded * steps)


class _Ends:
    """The first and the last of some frames; not a collection, of which decoding would skip what lies between."""

    def __init__(self, length: int) -> None:
        self._ends = (0, length - 1)

    def __contains__(self, index: object) -> bool:
        return index in self._ends


def probe_sampling(probe: Probe, engine: Engine, cache: FeatureCache, number: int) -> None:
    """Measure what pass 1 does with a sampled frame, and put some of every burst into a cache."""
    costs = [_sample_burst(frames, SAMPLED // len(probe.bursts), engine, cache, number) for frames in probe.bursts]
    share = 1 / len(costs)
    probe.sample = {name: sum((each[name] for each in costs), NOTHING) * share for name in costs[0]}


def _sample_burst(
    frames: Sequence[Frame], count: int, engine: Engine, cache: FeatureCache, number: int
) -> dict[str, Cost]:
    """Describe so many frames of a burst into a cache; by stage what one frame costs."""
    middle = frames[REACH:-REACH] or frames
    wanted = {frame.index for frame in middle[:: -(-len(middle) // count)]}
    extractor, size, source = engine.extractor, engine.settings.run.batch, engine.settings.saliency.source
    prepared, resize = measure(lambda: list(prepare(iter(frames), extractor, size)))
    sampled, motion = measure(lambda: list(sampled_batches(iter(prepared), wanted, engine)))
    chosen = [batch for batch in sampled if any(item.frame.index in wanted for item in batch.items)]
    found, describe = measure(lambda: [describe_sampled(batch, extractor, source) for batch in chosen])
    described = 0
    for batch, each in zip(chosen, found, strict=True):
        for item, grid, salient in zip(batch.items, each.descriptors, each.saliency, strict=True):
            cache.put((number, item.frame.index), grid.cpu().numpy(), salient.cpu().numpy(), item.frame.pts)
            described += 1
    return {
        "resize": resize * (1 / len(frames)),
        "motion": motion * (1 / len(wanted)),
        "describe": describe * (1 / described),
    }


def probe_clusters(cache: FeatureCache, engine: Engine, descriptors: int) -> tuple[PartFit, Cost]:
    """Fit the probe's frames, and measure what k-means would take on more of them.

    Returns:
        The fit, and the cost of the real one, of so many descriptors.
    """
    settings = engine.settings.cluster
    regions = engine.extractor.regions
    found = fit_parts(cache, engine.settings.run.seed, settings, engine.settings.saliency, regions)
    clusters = found.clustering.clusters
    tried = range(1 if settings.elbow is not None else len(clusters), len(clusters) + 1)
    held, points = sum(entry.saliency.size for entry in cache), descriptors / settings.sample_interval
    sample = np.concatenate([thin(block, max(1, int(held / points))) for block in Descriptors(cache)])
    # The time of a fit grows with k: two larger ones are measured for all.
    ks = [k for k in tried if k in (1 + len(clusters) * 2 // 3, len(clusters)) and k <= len(sample)]
    _, clustering = measure(lambda: list(fit_each(sample, ks, engine.settings.run.seed, settings)))
    _, assignment = measure(lambda: assign_blocks(Descriptors(cache), clusters))
    share = sum(tried) / max(1, sum(ks)) * (points / len(sample)) ** (1 + LINGERING)
    return found, clustering * share + assignment * (len(tried) * descriptors / held)


def probe_stages(
    probe: Probe, source: Source, engine: Engine, codebook: Codebook, folder: Path, *, save_frames: bool
) -> None:
    """Measure what pass 2 does with a frame, stage by stage, and how many bytes it writes.

    Raises:
        OutputError: the temporary directory can't be written.
    """
    stages = _Stages(probe, source, engine, codebook, folder)
    sizes, labelled = list[list[int]](), list[PartMap]()
    with FeatureCache(folder) as nothing:
        for burst in probe.bursts:
            parts = stages.label(burst, nothing)
            stages.run("steadiness", _measure_steadiness, parts)
            sizes.append(stages.write_clip(parts, save_frames=save_frames))
            labelled += parts
    # In one store: the frames of a chunk are compressed together, and a burst may be less than a chunk.
    probe.label_bytes = stages.write_labels(labelled) / probe.frames
    probe.described = stages.described / probe.frames
    probe.key_bytes = float(np.mean([packets[0] for packets in sizes if packets] or [0]))
    probe.frame_bytes = float(np.mean([size for packets in sizes for size in packets[1:]] or [0]))


def _burst(engine: Engine, size_hw: tuple[int, int]) -> int:
    """Frames of a burst: fewer where one takes long or is large, but as many as belong together."""
    operations = describe_flops(engine.extractor, engine.settings.features.processed_size(size_hw))
    small = size_hw[0] * size_hw[1] < LARGE_PX and operations < HEAVY_FLOPS
    wanted = BURST if small else BURST // 4 if operations < 8 * HEAVY_FLOPS else BURST // 8
    interval = engine.settings.keyframes.interval
    whole = -(-wanted // interval) * interval + 1 if interval > 1 else wanted
    return max(whole, 2 * interval + 1, 2 * REACH + 1 if sees_motion(engine) else 0)


@dataclass(slots=True)
class _Stages:
    """The stages of pass 2, each alone; what they cost goes into the probe.

    Attributes:
        described: frames that were described so far.
    """

    probe: Probe
    source: Source
    engine: Engine
    codebook: Codebook
    folder: Path
    described: float = 0.0

    def run(self, name: str, work: Any, items: Sequence[Any]) -> list[Any]:
        """What a stage makes of items."""
        made, cost = measure(lambda: list(work(iter(items))))
        self.probe.stages[name] = self.probe.stages.get(name, NOTHING) + cost * (1 / self.probe.frames)
        return made

    def label(self, burst: Sequence[Frame], nothing: FeatureCache) -> list[PartMap]:
        """From frames to label maps."""
        engine, items = self.engine, list[Any](burst)
        for step in energy_steps(engine, self.codebook, nothing, 0, self._size_hw()):
            items = self.run(step.name, step.work, items)
            if step.name == "describe":
                # Both ends of a burst are key frames; of a clip's frames one of them belongs to the next stretch.
                keys = sum(not isinstance(item, Between) for item in items)
                self.described += keys if keys == len(items) else (keys - 1) * len(items) / (len(items) - 1)
        return self.run("crf", lambda each: refine(each, engine.settings.crf, engine.extractor.device), items)

    def write_labels(self, parts: Sequence[PartMap]) -> int:
        """Write a label store; its bytes without the head."""
        info, path = self.source.probe(), self.folder / f"{parts[0].frame.index}.zarr"
        writer = LabelWriter(path, self._size_hw(), info.size_hw, info.time_base, self.codebook.parts)

        def write(items: Iterator[PartMap]) -> Iterator[None]:
            with writer:
                for part in items:
                    writer.write(part.frame.pts, part.labels)
                    yield None

        self.run("labels", write, parts)
        return written_bytes(path) - LABEL_HEADER

    def write_clip(self, parts: Sequence[PartMap], *, save_frames: bool) -> list[int]:
        """Write a clip, where H.264 takes the frames, and pictures; the bytes of its packets."""
        info, settings, probe = self.source.probe(), self.engine.settings.render, self.probe
        size_hw, pictures = painted_size(info.size_hw, settings.style), list[Path]()
        clip = ClipWriter(self.folder / "probe.mp4", size_hw, info, crf=settings.crf) if is_encodable(size_hw) else None

        def write(items: Iterator[PartMap]) -> Iterator[None]:
            with clip or nullcontext():
                for part in items:
                    painted = paint_parts(part, self.codebook, settings)
                    if clip is not None:
                        clip.write(part.frame.pts, painted)
                    if save_frames:
                        name = self.source.file_names.get(part.frame.name) or f"{part.frame.index}.png"
                        pictures.append(self.folder / "frames" / writable_name(name))
                        write_picture(pictures[-1], painted)
                    yield None

        self.run("overlay", write, parts)
        probe.picture_bytes += sum(picture.stat().st_size for picture in pictures) / probe.frames
        if clip is None:
            return []
        _, cost = measure(lambda: sum(1 for _ in frame_times(clip.path)))
        probe.check += cost * (1 / probe.frames)
        return packet_bytes(clip.path)

    def _size_hw(self) -> tuple[int, int]:
        return self.engine.settings.features.processed_size(self.source.probe().size_hw)


def _measure_steadiness(parts: Iterator[PartMap]) -> Iterator[None]:
    meter = SteadinessMeter()
    for part in parts:
        meter.add(shrink(part.frame.rgb, part.labels.shape), part.labels)
        yield None
