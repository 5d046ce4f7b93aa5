"""What a run needs before it sees its first frame: the model, the extractor, and settings without gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assign import normalise
from pipeline.cluster.cache import FeatureCache
from pipeline.cluster.codebook import Codebook, require_fit
from pipeline.config import Settings, preset_file, read_yaml, with_defaults, with_values
from pipeline.errors import UsageError
from pipeline.features.device import choose_device
from pipeline.features.extractor import Extractor
from pipeline.features.models import MODELS, ModelIdentity
from pipeline.features.weights import BUNDLED, resolve_model
from pipeline.graph import processors, side_by_side
from pipeline.media.contract import Selection
from pipeline.records import FeatureMap, Frame
from pipeline.tasks.progress import Progress
from pipeline.transfer import upload

Prepared = tuple[Frame, NDArray[np.uint8]]
"""A frame and its picture at the processed size."""

BATCH_BUDGET_BYTES = 2**30
"""Memory on the GPU that the frames of one batch may take where no batch size is given."""


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
    def on_cpu(self) -> bool:
        """Whether the ViT runs on the processor, where no result depends on the batch."""
        return self.extractor.device.type == "cpu"

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
        UsageError: a prior is asked for of descriptors that the model knows no regions of.
    """
    device = choose_device(settings.run.device)
    own = _codebook_defaults(codebook)
    model = resolve_model(with_defaults(settings, own).model, heads=settings.model_heads)
    if model.notice:
        progress.say(model.notice)
    filled = with_defaults(settings, *_model_defaults(model.identity), own)
    extractor = Extractor(model, filled.features, filled.saliency, device, progress.say)
    if codebook is not None:
        require_fit(codebook.origin, model.identity.fingerprint, filled.features, name)
    elif filled.cluster.prior and extractor.regions is None:
        filled = _without_prior(filled, settings)
    return Engine(extractor, filled)


def _model_defaults(identity: ModelIdentity) -> list[dict[str, Any]]:
    """What a model brings along: its last layer, and, for the bundled backbone, settings of its own.

    The paper's constants are for DINO's ViT-S, whose last layer is 11.
    """
    last: dict[str, Any] = {"features": {"layer": identity.depth - 1}}
    return [last, read_yaml(preset_file(BUNDLED))] if identity.name == BUNDLED else [last]


def _without_prior(settings: Settings, given: Settings) -> Settings:
    """Plain k-means for descriptors that nothing is known of beforehand; asked for by the user, a prior is an error."""
    if given.cluster.prior:
        raise UsageError(
            f"cluster.prior is {given.cluster.prior:g}, but no regions are known of these descriptors; the bundled "
            "backbone knows some of the plain keys of its last layer: use these, or leave the prior at 0"
        )
    return with_values(settings, {"cluster.prior": 0.0})


def _codebook_defaults(codebook: Codebook | None) -> dict[str, Any]:
    if codebook is None:
        return {}
    origin = codebook.origin
    known = {"model": origin.model} if origin.model in {*MODELS, BUNDLED} else {}
    return {
        **known,
        "features": origin.features.model_dump(),
        "saliency": origin.saliency.model_dump(),
        "cluster": {**origin.cluster.model_dump(), "parts": codebook.parts},
    }


def selection_of(settings: Settings) -> Selection:
    """Which frames of an input the settings pick."""
    return Selection(settings.input.every, settings.input.start, settings.input.end, settings.input.strict)


def prepare(frames: Iterator[Frame], extractor: Extractor, batch: int | None) -> Iterator[list[Prepared]]:
    """Bring frames to the processed size and gather them in batches of one size.

    Args:
        frames: upright frames.
        extractor: knows the processed size, and how many frames fit its device.
        batch: frames in a batch; None: as many as fit a memory budget on a GPU, one on the CPU, where more of
            them gain nothing and would only be held in memory.
    """
    held: list[Prepared] = []
    # Beside a GPU one thread's resizing would be what all wait for; Pillow works without the interpreter's lock.
    workers = 1 if extractor.device.type == "cpu" else processors()
    for frame, image in side_by_side(frames, lambda frame: (frame, extractor.preprocess(frame.rgb)), workers):
        if held and held[0][1].shape != image.shape:
            yield held
            held = []
        held.append((frame, image))
        if len(held) >= batch_size(extractor, (image.shape[0], image.shape[1]), batch):
            yield held
            held = []
    if held:
        yield held


def batch_size(extractor: Extractor, size_hw: tuple[int, int], batch: int | None) -> int:
    """Frames of a processed size that go through the ViT together; `batch` where it is given."""
    if batch is not None:
        return batch
    return 1 if extractor.device.type == "cpu" else extractor.batch_for(size_hw, BATCH_BUDGET_BYTES)


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
