"""From frames to the unary energies of their parts: the steps in their order, for whoever joins them.

resize -> describe -> assign                      every frame is described
resize -> follow -> describe -> assign and carry  key frames are described, the frames between are followed to them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pipeline.cluster.assignment import Assigner, assigner_of
from pipeline.cluster.codebook import Codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.records import EnergyMap, FeatureMap
from pipeline.stages.batches import batch_size, prepare
from pipeline.stages.describe import describe
from pipeline.stages.engine import Engine
from pipeline.stages.key_frames import KeyFrames, carry, describe_keys, follow


@dataclass(frozen=True, slots=True)
class Step:
    """A named stage of a graph: what it makes of the items of the one before."""

    name: str
    work: Callable[[Iterator[Any]], Iterator[Any]]


def energy_steps(
    engine: Engine, codebook: Codebook, cache: FeatureCache, source: int, size_hw: tuple[int, int]
) -> list[Step]:
    """The steps from an input's frames to their `EnergyMap`s.

    Args:
        engine: model and settings.
        codebook: the parts.
        cache: the fit's descriptors.
        source: number of the input among all.
        size_hw: its processed size.
    """
    extractor, batch = engine.extractor, engine.settings.run.batch
    assigner = assigner_of(codebook, extractor.device)
    keys = key_frames_of(engine, size_hw)
    resize = Step("resize", lambda items: prepare(items, extractor, batch))
    if keys.interval == 1:
        return [
            resize,
            Step("describe", lambda items: describe(items, extractor, cache, source)),
            Step("assign", lambda items: (assign(feature, assigner) for feature in items)),
        ]
    return [
        resize,
        Step("follow", lambda items: follow(chain.from_iterable(items), keys)),
        Step(
            "describe",
            lambda items: describe_keys(items, keys, lambda batches: describe(batches, extractor, cache, source)),
        ),
        Step("assign", lambda items: carry(items, lambda feature: assign(feature, assigner))),
    ]


def key_frames_of(engine: Engine, size_hw: tuple[int, int]) -> KeyFrames:
    """Which frames of an input of that processed size are described, and how many of them in a batch."""
    batch = batch_size(engine.extractor, size_hw, engine.settings.run.batch)
    return KeyFrames.of(engine.settings.keyframes, batch)


def assign(feature: FeatureMap, assigner: Assigner) -> EnergyMap:
    """Energies of the parts; a frame's descriptors end here."""
    return EnergyMap(feature.frame, feature.image, assigner.energies(feature.descriptors))
