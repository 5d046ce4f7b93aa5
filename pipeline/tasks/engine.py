"""What a run needs before it sees its first frame: the model, the extractor, and settings without gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.assign import normalise
from pipeline.cluster.cache import FeatureCache
from pipeline.cluster.codebook import Codebook, require_fit
from pipeline.config import Settings, with_defaults
from pipeline.features.extractor import Extractor
from pipeline.features.weights import resolve_model
from pipeline.records import FeatureMap, Frame
from pipeline.tasks.progress import Progress

Prepared = tuple[Frame, NDArray[np.uint8]]
"""A frame and its picture at the processed size."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model and the settings that it runs with.

    Attributes:
        extractor: describes pictures.
        settings: the user's, filled up by the model's and the codebook's own.
    """

    extractor: Extractor
    settings: Settings

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the model's parameters."""
        return self.extractor.identity.fingerprint


def open_engine(settings: Settings, progress: Progress, codebook: Codebook | None = None, name: str = "") -> Engine:
    """Load the model, and fill the settings that nobody gave.

    Args:
        settings: what the user gave.
        progress: told which model `auto` stands for, and why.
        codebook: parts to use; its model and descriptor settings are the defaults then.
        name: the codebook's name in messages.

    Raises:
        ModelError: the model can't be had.
        CodebookError: the codebook belongs to another model or to other settings.
    """
    own = _codebook_defaults(codebook)
    resolved = resolve_model(with_defaults(settings, own).model, heads=settings.model_heads)
    if resolved.message:
        progress.say(resolved.message)
    settings = with_defaults(settings, resolved.preset, own)
    extractor = Extractor(resolved.backbone, settings.features, settings.saliency, settings.run.device)
    if codebook is not None:
        require_fit(codebook.origin, extractor.identity.fingerprint, settings.features, name)
    return Engine(extractor, settings)


def _codebook_defaults(codebook: Codebook | None) -> dict[str, Any]:
    if codebook is None:
        return {}
    origin = codebook.origin
    return {
        "model": origin.model,
        "features": origin.features.model_dump(),
        "saliency": origin.saliency.model_dump(),
        "cluster": {**origin.cluster.model_dump(), "parts": codebook.parts},
    }


def prepare(frames: Iterator[Frame], extractor: Extractor, batch: int | None) -> Iterator[list[Prepared]]:
    """Bring frames to the processed size and gather them in batches of one size."""
    held: list[Prepared] = []
    for frame in frames:
        image = extractor.preprocess(frame.rgb)
        if held and held[0][1].shape != image.shape:
            yield held
            held = []
        held.append((frame, image))
        if len(held) >= (batch or extractor.batch_for(image.shape[:2])):
            yield held
            held = []
    if held:
        yield held


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
    import torch

    for batch in batches:
        known = {
            frame.index: cache.get((source, frame.index)).descriptors
            for frame, _ in batch
            if cache is not None and (source, frame.index) in cache
        }
        fresh = [image for frame, image in batch if frame.index not in known]
        computed = iter(normalise(extractor.extract(fresh).descriptors) if fresh else ())
        for frame, image in batch:
            if frame.index in known:
                descriptors = torch.from_numpy(known[frame.index]).to(extractor.device)
            else:
                descriptors = next(computed)
            yield FeatureMap(frame, image, descriptors)
