"""Descriptors and saliency of batches: for the votes of the fit, and for each frame of pass 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.cluster.assignment import normalise
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.device import upload
from pipeline.features.extractor import Extractor
from pipeline.records import DescribedBatch, FeatureMap, Prepared


def describe_for_votes(batch: Sequence[Prepared], extractor: Extractor) -> DescribedBatch:
    """Descriptors, and the saliency that votes: from the same pass, or from the half-size picture.

    Args:
        batch: frames and pictures of one size.
        extractor: what computes both.
    """
    found = extractor.extract([item.image for item in batch], saliency=not extractor.half_size)
    saliency = found.saliency
    if saliency is None:
        saliency = extractor.saliency_half([item.frame.rgb for item in batch])
    return DescribedBatch(normalise(found.descriptors), saliency, found.cls)


def describe(
    batches: Iterator[list[Prepared]], extractor: Extractor, cache: FeatureCache | None, source: int
) -> Iterator[FeatureMap]:
    """Descriptors of unit length for each frame; those that the fit has computed come from its cache.

    Args:
        batches: frames and pictures of one size each.
        extractor: what computes descriptors.
        cache: the fit's, by (source, frame index); None where there was no fit.
        source: number of the input among all.
    """
    for batch in batches:
        known = {
            item.frame.index: cache.get((source, item.frame.index)).descriptors
            for item in batch
            if cache is not None and cache.holds((source, item.frame.index), item.frame.pts)
        }
        fresh = [item.image for item in batch if item.frame.index not in known]
        computed = iter(normalise(extractor.extract(fresh).descriptors) if fresh else ())
        for item in batch:
            kept = known.get(item.frame.index)
            descriptors = next(computed) if kept is None else upload([kept], extractor.device)[0]
            yield FeatureMap(item.frame, item.image, descriptors)
