"""What a run over pictures would take, before it is done (`--dry-run` of `parts` and `coseg`).

Pictures, sizes and operations are exact. Seconds and bytes are those of a few pictures, sent through every stage, times
their number; memory is the bound of `--max-memory`. Nothing is written but a temporary directory.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.cluster.fit import fit_parts
from pipeline.config import with_values
from pipeline.errors import InputError
from pipeline.files import bytes_text
from pipeline.forecast.cost import NOTHING, Cost, measure, since_start
from pipeline.forecast.disk import written_bytes
from pipeline.forecast.flops import describe_flops, vote_flops
from pipeline.forecast.picture_memory import count_pictures, size_pictures
from pipeline.forecast.probe import probe_clusters
from pipeline.media.inputs import Picture
from pipeline.progress import Progress, Silent
from pipeline.runs.picture_workspace import PictureWorkspace
from pipeline.stages.engine import Engine
from pipeline.stages.picture_set import Album, open_album

PROBED = 8
"""Pictures that are sent through the stages, evenly spread."""

Finish = Callable[[Album, PictureWorkspace], object]
"""Finds the clusters of a set, labels it and writes its files."""


@dataclass(frozen=True, slots=True)
class PictureEstimate:
    """What a run over pictures would take.

    Attributes:
        pictures: those that can be read.
        fitted: of them, those that clusters are fitted on.
        failures: one line for each of the others.
        largest_hw: processed height and width of the largest picture.
        channels: of a descriptor.
        flops: operations of the ViT.
        start: loading.
        fit: describing the pictures of the fit, and the clusters.
        label: describing the others, labelling all and writing their files.
        peak_bytes: resident memory at most.
        cache_bytes: of descriptors on the disk, which go at the end.
        file_bytes: of the results.
    """

    pictures: int
    fitted: int
    failures: tuple[str, ...]
    largest_hw: tuple[int, int]
    channels: int
    flops: int
    start: Cost
    fit: Cost
    label: Cost
    peak_bytes: int
    cache_bytes: int
    file_bytes: int

    @property
    def cost(self) -> Cost:
        """The whole run."""
        return self.start + self.fit + self.label

    def facts(self) -> dict[str, Any]:
        """All figures, for a program."""
        return {**asdict(self), "cost": asdict(self.cost)}

    def summary(self) -> str:
        """The figures for a person."""
        height, width = self.largest_hw
        lines = [
            f"{self.pictures} pictures, processed at {width}x{height} at most; clusters are fitted on {self.fitted}",
            *(f"can't be read: {line}" for line in self.failures),
            f"operations  {self.flops / 1e12:.3g} TFLOP in the ViT",
            f"seconds     {self.cost.wall_s:.0f}: start {self.start.wall_s:.0f}, fit {self.fit.wall_s:.0f}, "
            f"pictures {self.label.wall_s:.0f}; {self.cost.cpu_s:.0f} of processors",
            f"memory      {bytes_text(self.peak_bytes)} at most",
            f"disk        {bytes_text(self.file_bytes)}",
            f"            and {bytes_text(self.cache_bytes)} for descriptors until it ends",
            "dry run: nothing was written",
        ]
        return "\n".join(lines)


def estimate_pictures(
    pictures: Sequence[Picture], engine: Engine, finish: Finish, *, fits: bool, progress: Progress
) -> PictureEstimate:
    """Say what a run over pictures would take that `finish`es them, and tell all figures to `progress`.

    Raises:
        InputError: no picture can be read.
        UsageError: the run would take more memory than it may.
    """
    loaded = since_start()
    work = count_pictures(pictures, engine, fits=fits)
    if not work.inputs:
        raise InputError("; ".join(work.failures) or "there are no pictures; give some")
    capacity = size_pictures(work, engine)
    names = {load.source.name for load in work.inputs}
    readable = [picture for picture in pictures if picture.name in names]
    probed = readable[:: -(-len(readable) // PROBED)]
    fitted = sum(bool(load.sampled) for load in work.inputs)
    with tempfile.TemporaryDirectory(prefix="vidparts-") as folder:
        probe = _probe(
            probed, replace(engine, settings=capacity.settings), finish, Path(folder), work.sampled_descriptors
        )
    extractor = engine.extractor
    votes = [vote_flops(extractor, load.source_hw, attends=True) for load in work.inputs if load.sampled]
    others = [describe_flops(extractor, load.size_hw) for load in work.inputs if not load.sampled]
    all_votes = sum(vote_flops(extractor, load.source_hw, attends=True) for load in work.inputs) / len(work.inputs)
    # A picture of the fit also has its saliency computed.
    described = probe.fill * (sum(others) / all_votes)
    found = PictureEstimate(
        pictures=len(work.inputs),
        fitted=fitted,
        failures=work.failures,
        largest_hw=max((load.size_hw for load in work.inputs), key=math.prod),
        channels=work.channels,
        flops=sum(votes) + sum(others),
        start=loaded,
        fit=probe.fill * fitted + probe.clusters if fits else NOTHING,
        label=described + probe.label * len(work.inputs),
        peak_bytes=capacity.peak_bytes,
        cache_bytes=work.cache_bytes,
        file_bytes=int(probe.file_bytes * len(work.inputs)),
    )
    progress.tell("estimate", found.facts())
    return found


@dataclass(frozen=True, slots=True)
class _Probe:
    """Costs and bytes of one picture, and of the whole run's clusters."""

    fill: Cost
    clusters: Cost
    label: Cost
    file_bytes: float


def _probe(pictures: Sequence[Picture], engine: Engine, finish: Finish, folder: Path, descriptors: int) -> _Probe:
    values = with_values(engine.settings, {"pictures.fit": len(pictures)})
    engine, work = replace(engine, settings=values), PictureWorkspace(folder)
    for place in (work.fit, work.files, work.arrays):
        place.mkdir(parents=True)
    settings, share = engine.settings, 1 / len(pictures)
    with open_album(pictures, engine, Silent(), work.fit, kept=True) as album:
        # Twice: the first calls take longer, which belongs to the start.
        album.fill(settings.pictures.crop_augmentations)
        with open_album(pictures, engine, Silent(), folder) as again:
            _, fill = measure(lambda: again.fill(settings.pictures.crop_augmentations))
        _, clusters = probe_clusters(album.cache, engine, descriptors)
        regions = engine.extractor.regions
        _, small = measure(
            lambda: fit_parts(album.cache, settings.run.seed, settings.cluster, settings.saliency, regions)
        )
        _, label = measure(lambda: finish(album, work))
    spent = Cost(max(0.0, label.wall_s - small.wall_s), max(0.0, label.cpu_s - small.cpu_s))
    return _Probe(fill * share, clusters, spent * share, written_bytes(work.files) * share)
