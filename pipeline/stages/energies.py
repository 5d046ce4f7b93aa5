"""From frames to the unary energies of their parts: the steps in their order, for whoever joins them.

resize -> describe -> assign                      every frame is described
resize -> follow -> describe -> assign and carry  key frames are described, the frames between are followed to them

Where a frame's own saliency counts in its labels, and motion belongs to it, motion is seen behind `resize`; where
energies are averaged over neighbouring frames, that follows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor

from pipeline.cluster.assignment import assigner_of
from pipeline.cluster.codebook import Codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.place_saliency import evened, with_saliency
from pipeline.config import Settings
from pipeline.features.extractor import Extractor
from pipeline.features.motion import REACH
from pipeline.geometry import between_patches
from pipeline.records import EnergyMap, FeatureMap, Prepared, SampledBatch
from pipeline.stages.batches import batch_size, prepare
from pipeline.stages.describe import describe, describe_places, known_to
from pipeline.stages.engine import Engine
from pipeline.stages.key_frames import KeyFrames, carry, describe_keys, follow
from pipeline.stages.motion_window import Known, Watched, watch, watch_motion, with_motion
from pipeline.stages.temporal_window import steady

ALL = range(sys.maxsize)
"""Every frame."""


@dataclass(frozen=True, slots=True)
class Step:
    """A named stage of a graph: what it makes of the items of the one before."""

    name: str
    work: Callable[[Iterator[Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Span:
    """Frames of an input that a stream needs so that some of them get the labels of an uninterrupted run.

    Attributes:
        decoded: all of them.
        described: those that get energies; the others are only compared with.
    """

    decoded: range
    described: range


def span_of(engine: Engine, size_hw: tuple[int, int], kept: range) -> Span:
    """The frames that are needed for the labels of `kept`: their windows in time, whole batches, the next key frame."""
    keys, window = key_frames_of(engine, size_hw), engine.settings.temporal.window
    reach = REACH if _moves(engine) else 0
    first = max(0, kept.start - window)
    first -= first % keys.chunk
    if kept.stop == sys.maxsize:
        return Span(range(max(0, first - reach), sys.maxsize), range(first, sys.maxsize))
    last = kept.stop + -(-window // keys.chunk) * keys.chunk + (keys.interval > 1)
    return Span(range(max(0, first - reach), last + reach), range(first, last))


def energy_steps(
    engine: Engine,
    codebook: Codebook,
    cache: FeatureCache,
    source: int,
    size_hw: tuple[int, int],
    described: range = ALL,
) -> list[Step]:
    """The steps from an input's frames to their `EnergyMap`s.

    Args:
        engine: model and settings.
        codebook: the parts.
        cache: the fit's descriptors.
        source: number of the input among all.
        size_hw: its processed size.
        described: frames that get energies; others that come are only compared with.
    """
    extractor, settings = engine.extractor, engine.settings
    assigner = assigner_of(codebook, settings.saliency, extractor.device, source)
    keys = key_frames_of(engine, size_hw)
    pixels = keys.interval > 1 and settings.crf.unary_px is None

    def features(batches: Iterable[Any]) -> Iterator[FeatureMap]:
        return describe_for_labels(batches, engine, cache, source)

    def assigned(feature: FeatureMap) -> EnergyMap:
        return assign(feature, assigner.energies, extractor, settings)

    steps = [Step("resize", lambda items: prepare(items, extractor, settings.run.batch))]
    if keys.interval == 1:
        if _moves(engine):
            size, known = batch_size(extractor, size_hw, settings.run.batch), known_to(cache, source)
            steps.append(Step("motion", lambda items: watch_motion(items, described, extractor, size, known)))
        steps.append(Step("describe", features))
        steps.append(Step("assign", lambda items: map(assigned, items)))
    else:
        watched = (lambda items: watch(items, described)) if _moves(engine) else chain.from_iterable
        steps.append(Step("follow", lambda items: follow(watched(items), keys)))
        steps.append(Step("describe", lambda items: describe_keys(items, keys, features)))
        steps.append(Step("assign", lambda items: carry(items, assigned, pixels=pixels)))
    if settings.temporal.window:
        steps.append(Step("steady", lambda items: steady(items, settings.temporal.window, pixels=pixels)))
    return steps


def key_frames_of(engine: Engine, size_hw: tuple[int, int]) -> KeyFrames:
    """Which frames of an input of that processed size are described, and how many of them in a batch."""
    batch = batch_size(engine.extractor, size_hw, engine.settings.run.batch)
    return KeyFrames.of(engine.settings.keyframes, batch)


def describe_for_labels(
    batches: Iterable[SampledBatch | Sequence[Prepared]], engine: Engine, cache: FeatureCache | None, source: int
) -> Iterator[FeatureMap]:
    """Descriptors of each frame, with its saliency where that counts for labels; otherwise as `describe`."""
    extractor, saliency = engine.extractor, engine.settings.saliency
    sampled = (_sampled(batch, extractor, known_to(cache, source)) for batch in batches)
    if not saliency.own_places:
        return describe((batch.items for batch in sampled), extractor, cache, source)
    return describe_places(sampled, extractor, cache, source, saliency.source)


def assign(
    feature: FeatureMap, energies_of: Callable[[Tensor], Tensor], extractor: Extractor, settings: Settings
) -> EnergyMap:
    """Energies of the labels, on the grid or, where settings say so, on cells; a frame's descriptors end here."""
    saliency, cell_px, image = settings.saliency, settings.crf.unary_px, feature.image
    energies = energies_of(feature.descriptors)
    if feature.saliency is not None:
        energies = with_saliency(energies, evened(feature.saliency), saliency.places, saliency.neutral)
    if cell_px is not None:
        patch_px, stride_px = extractor.identity.patch_px, extractor.settings.stride
        energies = between_patches(energies, (image.shape[0], image.shape[1]), patch_px, stride_px, cell_px)
    return EnergyMap(feature.frame, feature.image, energies)


def _moves(engine: Engine) -> bool:
    """Whether pass 2 sees the motion of frames."""
    return engine.settings.saliency.own_places and engine.settings.saliency.source != "attention"


def _sampled(batch: SampledBatch | Sequence[Prepared], extractor: Extractor, known: Known) -> SampledBatch:
    if isinstance(batch, SampledBatch):
        return batch
    watched = [item for item in batch if isinstance(item, Watched)]
    return with_motion(watched, extractor, known) if watched else SampledBatch(tuple(batch))
