"""Descriptors and saliency of batches: for the votes of the fit, and for each frame of pass 2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from pipeline.cluster.assignment import normalise
from pipeline.cluster.feature_cache import CachedFeatures, FeatureCache
from pipeline.config import SaliencySource
from pipeline.device import upload
from pipeline.features.extractor import Extractor
from pipeline.records import DescribedBatch, FeatureMap, Prepared, SampledBatch
from pipeline.stages.motion_window import Known, confirm_by_motion


def describe_for_votes(batch: Sequence[Prepared], extractor: Extractor) -> DescribedBatch:
    """Descriptors, and the saliency that votes: from the same pass, or from the half-size picture."""
    found = extractor.extract([item.image for item in batch], saliency=not extractor.half_size)
    saliency = found.saliency
    if saliency is None:
        saliency = extractor.saliency_half([item.frame.rgb for item in batch])
    return DescribedBatch(normalise(found.descriptors), saliency, found.cls)


def describe_sampled(batch: SampledBatch, extractor: Extractor, source: SaliencySource) -> DescribedBatch:
    """Descriptors, and the saliency that `source` names: attention, motion, or attention that motion confirms."""
    if batch.motion is None:
        return describe_for_votes(batch.items, extractor)
    if source == "motion":
        descriptors = extractor.extract([item.image for item in batch.items]).descriptors
        return DescribedBatch(normalise(descriptors), batch.motion)
    found = describe_for_votes(batch.items, extractor)
    return DescribedBatch(found.descriptors, confirm_by_motion(found.saliency, batch.motion), found.cls)


def describe(
    batches: Iterable[Sequence[Prepared]], extractor: Extractor, cache: FeatureCache | None, source: int
) -> Iterator[FeatureMap]:
    """Descriptors of unit length for each frame; those that the fit has computed come from its cache.

    The cache's keys are (source, frame index); it is None where there was no fit.
    """
    for batch in batches:
        known = _kept(batch, cache, source)
        fresh = [item.image for item in batch if item.frame.index not in known]
        computed = iter(normalise(extractor.extract(fresh).descriptors) if fresh else ())
        for item in batch:
            kept = known.get(item.frame.index)
            descriptors = next(computed) if kept is None else upload([kept.descriptors], extractor.device)[0]
            yield FeatureMap(item.frame, item.image, descriptors)


def describe_places(
    batches: Iterable[SampledBatch],
    extractor: Extractor,
    cache: FeatureCache | None,
    source: int,
    saliency: SaliencySource,
) -> Iterator[FeatureMap]:
    """As `describe`, with the saliency that `saliency` names: the same that votes."""
    for batch in batches:
        known = _kept(batch.items, cache, source)
        fresh = [place for place, item in enumerate(batch.items) if item.frame.index not in known]
        computed = iter(_pairs(batch, fresh, extractor, saliency) if fresh else ())
        for item in batch.items:
            kept = known.get(item.frame.index)
            if kept is None:
                descriptors, salient = next(computed)
            else:
                (descriptors,), (salient,) = (
                    upload([each], extractor.device) for each in (kept.descriptors, kept.saliency)
                )
            yield FeatureMap(item.frame, item.image, descriptors, salient.to(descriptors.device))


def _pairs(
    batch: SampledBatch, places: Sequence[int], extractor: Extractor, source: SaliencySource
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    motion = None if batch.motion is None else batch.motion[list(places)]
    found = describe_sampled(SampledBatch(tuple(batch.items[place] for place in places), motion), extractor, source)
    return zip(found.descriptors, found.saliency, strict=True)


def known_to(cache: FeatureCache | None, source: int) -> Known:
    """Whether the fit's cache holds what there is to know of a frame of an input."""
    return lambda item: cache is not None and cache.holds((source, item.frame.index), item.frame.pts)


def _kept(items: Sequence[Prepared], cache: FeatureCache | None, source: int) -> dict[int, CachedFeatures]:
    if cache is None:
        return {}
    known = known_to(cache, source)
    return {item.frame.index: cache.get((source, item.frame.index)) for item in items if known(item)}
