"""Descriptors and saliency of batches: for the votes of the fit, and for each frame of pass 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pipeline.cluster.assignment import normalise
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.device import upload
from pipeline.features.extractor import Extractor
from pipeline.records import FeatureMap
from pipeline.stages.batches import Prepared


def describe_for_votes(batch: Sequence[Prepared], extractor: Extractor) -> tuple[Tensor, Tensor]:
    """Descriptors of unit length and the saliency that votes, from one pass or from the half-size picture.

    Args:
        batch: frames and pictures of one size.
        extractor: what computes both.

    Returns:
        float32 [batch, rows, cols, channels] and [batch, rows, cols].
    """
    descriptors, saliency, _ = describe_with_cls(batch, extractor)
    return descriptors, saliency


def describe_with_cls(batch: Sequence[Prepared], extractor: Extractor) -> tuple[Tensor, Tensor, Tensor]:
    """As `describe_for_votes`, and the class tokens' descriptors, float32 [batch, channels], of any length."""
    found = extractor.extract([image for _, image in batch], saliency=not extractor.half_size)
    saliency = found.saliency
    if saliency is None:
        saliency = extractor.saliency_half([frame.rgb for frame, _ in batch])
    return normalise(found.descriptors), saliency, found.cls


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
            frame.index: cache.get((source, frame.index)).descriptors
            for frame, _ in batch
            if cache is not None and (source, frame.index) in cache
        }
        fresh = [image for frame, image in batch if frame.index not in known]
        computed = iter(normalise(extractor.extract(fresh).descriptors) if fresh else ())
        for frame, image in batch:
            kept = known.get(frame.index)
            descriptors = next(computed) if kept is None else upload([kept], extractor.device)[0]
            yield FeatureMap(frame, image, descriptors)
