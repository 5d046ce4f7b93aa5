"""Pass 1: sample frames of all inputs, describe them once, fit the codebook (paper section 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pipeline.cluster.codebook import Codebook, CodebookOrigin
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.fit import PartFit, fit_parts
from pipeline.cluster.frame_sampling import spread_frames
from pipeline.config import Settings
from pipeline.errors import InputError, OutputError
from pipeline.failures import Failure
from pipeline.graph import Graph
from pipeline.media.source import Selection, Source, selection_of
from pipeline.painting.palettes import part_colors
from pipeline.progress import Progress
from pipeline.records import DescribedBatch, Frame, Prepared, SampledBatch
from pipeline.stages.batches import batch_size, prepare
from pipeline.stages.cluster_patches import SampledPictures
from pipeline.stages.describe import describe_sampled
from pipeline.stages.engine import Engine
from pipeline.stages.motion_window import neighbourhood, watch_motion

T = TypeVar("T")

Check = Callable[[Source], None]
"""Raises an InputError or OutputError where something speaks against an input."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result of pass 1: the codebook, warnings, and its seconds (None where it wasn't run)."""

    codebook: Codebook
    warnings: tuple[str, ...]
    seconds: float | None


def fit_codebook(
    sources: Sequence[Source],
    engine: Engine,
    cache: FeatureCache,
    progress: Progress,
    failures: list[Failure],
    check: Check = lambda _: None,
    pictures: SampledPictures | None = None,
) -> Fitted:
    """Fit the codebook on evenly spread frames of all sources.

    Args:
        sources: the inputs; their positions are the first half of the cache's keys.
        engine: model and settings.
        cache: is filled with the sampled frames' descriptors and saliency, by (source, frame index); those that it
            holds already aren't computed again.
        progress: receives progress and messages.
        failures: inputs that can't be read are added to it, and the fit goes on without them.
        check: raises what else speaks against an input.
        pictures: keeps small pictures of the sampled frames, where that is wanted.

    Raises:
        InputError: no input holds a frame.
    """
    started = time.perf_counter()
    selection = selection_of(engine.settings)
    counts = [_count(source, selection, failures, progress, check) for source in sources]
    samples = sample_indices(counts, engine.settings)
    progress.start("fit", sum(map(len, samples)))
    for number, (source, indices) in enumerate(zip(sources, samples, strict=True)):
        known = _known(cache, number, source, indices, engine)
        progress.advance(known)
        if known < len(indices):
            fresh = set(indices[known:])
            needed = neighbourhood(fresh) if sees_motion(engine) else fresh
            frames = _readable(source, selection, needed, failures)
            _fill(cache, number, frames, fresh, engine, partial(progress.advance, name=source.name), pictures)
    progress.finish()
    if not len(cache) and failures:
        raise failures[0].error
    settings, regions = engine.settings, engine.extractor.regions
    found = _apart(lambda: fit_parts(cache, settings.run.seed, settings.cluster, settings.saliency, regions))
    cache.release()
    warnings = (found.votes.warning,) if found.votes.warning else ()
    return Fitted(codebook_of(found, engine, len(cache)), warnings, time.perf_counter() - started)


def sample_indices(counts: Sequence[int], settings: Settings) -> list[list[int]]:
    """The frames of each input that the fit samples, given how many it has; with key frames only those."""
    return spread_frames(counts, settings.cluster.frames, settings.keyframes.interval)


def codebook_of(found: PartFit, engine: Engine, frames: int) -> Codebook:
    """The result of a fit on some number of frames, as a codebook."""
    clusters, parts = found.clustering.clusters.embedding, found.parts.embedding
    return Codebook(
        centroids=found.clustering.centroids,
        part_centroids=found.parts.centroids,
        votes=found.votes.counts,
        salient=found.votes.salient,
        part_colors=part_colors(len(found.parts), engine.settings.render.palette),
        origin=CodebookOrigin(
            model=engine.extractor.identity.name,
            fingerprint=engine.fingerprint,
            features=engine.settings.features,
            saliency=engine.settings.saliency,
            cluster=engine.settings.cluster,
            seed=engine.settings.run.seed,
            frames=frames,
            objectives=found.clustering.objectives,
        ),
        embeddings=None if clusters is None or parts is None else (clusters, parts),
        shared=found.shared,
    )


def require_undamaged(source: Source, selection: Selection, progress: Progress) -> None:
    """Where damage is an error, decode an input once before the work: minutes now may save hours.

    Raises:
        InputError: it is damaged, and `selection` is strict.
    """
    if selection.strict:
        progress.start(f"check {source.name}", source.count(selection))
        try:
            for _ in source.frames(selection, _Unwanted(progress)):
                pass
        finally:
            progress.finish()


class _Unwanted:
    """A set of wanted frames that is empty, and counts each frame asked for as progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __contains__(self, index: object) -> bool:
        self._progress.advance()
        return False


def _count(source: Source, selection: Selection, failures: list[Failure], progress: Progress, check: Check) -> int:
    try:
        check(source)
        require_undamaged(source, selection, progress)
        frames = source.count(selection)
        if not frames:
            raise InputError(f"'{source.path}' has no frame between --start and --end; give a span inside the clip")  # noqa: TRY301
    except (InputError, OutputError) as error:
        failures.append(Failure(source.name, error))
        return 0
    return frames


def _known(cache: FeatureCache, number: int, source: Source, indices: Sequence[int], engine: Engine) -> int:
    """How many of an input's sampled frames needn't be described: those in the cache, in whole batches.

    On a GPU a frame's descriptors depend in their last bits on its batch.
    """
    known = sum((number, index) in cache for index in indices)
    if known in (0, len(indices)):
        return known
    size_hw = engine.settings.features.processed_size(source.probe().size_hw)
    return known - known % batch_size(engine.extractor, size_hw, engine.settings.run.batch)


def _apart(work: Callable[[], T]) -> T:
    """Work in another thread: k-means runs for minutes in C, and this thread must stay free for signals."""
    found: list[T] = []
    graph = Graph()
    graph.sink("result", graph.source("work", (work() for _ in range(1))), found.extend)
    graph.run()
    return found[0]


def _readable(source: Source, selection: Selection, wanted: set[int], failures: list[Failure]) -> Iterator[Frame]:
    try:
        yield from source.frames(selection, wanted)
    except InputError as error:
        failures.append(Failure(source.name, error))


def _fill(
    cache: FeatureCache,
    number: int,
    frames: Iterator[Frame],
    wanted: set[int],
    engine: Engine,
    advance: Callable[[int], None],
    pictures: SampledPictures | None,
) -> None:
    """Describe the wanted frames into the cache; decoding, resizing and writing go on while the ViT works."""
    extractor, batch = engine.extractor, engine.settings.run.batch

    def described(items: Iterator[SampledBatch]) -> Iterator[tuple[SampledBatch, DescribedBatch]]:
        source = engine.settings.saliency.source
        return ((batch, describe_sampled(batch, extractor, source)) for batch in items)

    def store(items: Iterator[tuple[SampledBatch, DescribedBatch]]) -> None:
        for batch, found in items:
            for item, grid, salient in zip(batch.items, found.descriptors, found.saliency, strict=True):
                if (number, item.frame.index) not in cache:
                    key = number, item.frame.index
                    if pictures is not None:
                        # First: what is in the cache isn't seen again by a resumed run.
                        pictures.keep(key, item.image)
                    cache.put(key, grid.cpu().numpy(), salient.cpu().numpy(), item.frame.pts)
            advance(len(batch.items))

    graph = Graph(engine.settings.run.queue_depth)
    decoded = graph.source("decode", frames)
    batches = graph.stage("resize", decoded, lambda items: prepare(items, extractor, batch))
    sampled = graph.stage("motion", batches, lambda items: sampled_batches(items, wanted, engine))
    found = graph.stage("describe", sampled, described)
    graph.sink("cache", found, store)
    graph.run()


def sees_motion(engine: Engine) -> bool:
    """Whether saliency needs the frames around a sampled one."""
    return engine.settings.saliency.source != "attention"


def sampled_batches(batches: Iterator[list[Prepared]], wanted: set[int], engine: Engine) -> Iterator[SampledBatch]:
    """The wanted frames in batches, with their motion where saliency needs it."""
    if not sees_motion(engine):
        return (SampledBatch(tuple(items)) for items in batches)
    return watch_motion(batches, wanted, engine.extractor, engine.settings.run.batch or 1, known=lambda _: False)
