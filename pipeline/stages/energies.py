"""From frames to the energies of their parts: the stages in their order, for whoever joins them.

resize -> describe -> assign                      every frame is described
resize -> follow -> describe -> assign and carry  key frames are described, the others followed to them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assignment import PartAssigner
from pipeline.cluster.codebook import Codebook
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.records import FeatureMap, Frame
from pipeline.stages.batches import batch_size, prepare
from pipeline.stages.describe import describe
from pipeline.stages.engine import Engine
from pipeline.stages.key_frames import Between, KeyPlan, carry, describe_keys, follow

Energies = tuple[Frame, NDArray[np.uint8], Tensor]
"""A frame, its processed picture, and its unary energies [1 + K, rows, cols] on the device of the ViT."""

Stage = tuple[str, Callable[[Iterator[Any]], Iterator[Any]]]
"""A stage's name, and what it makes of the items of the one before."""


def energy_stages(
    engine: Engine, codebook: Codebook, cache: FeatureCache, source: int, size_hw: tuple[int, int]
) -> list[Stage]:
    """The stages from an input's frames to `Energies`.

    Args:
        engine: model and settings.
        codebook: the parts.
        cache: the fit's descriptors.
        source: number of the input among all.
        size_hw: its processed size.
    """
    extractor, batch = engine.extractor, engine.settings.run.batch
    assigner = PartAssigner.of(codebook, extractor.device)
    plan = key_plan(engine, size_hw)
    resize: Stage = ("resize", lambda items: prepare(items, extractor, batch))
    if plan.interval == 1:
        return [
            resize,
            ("describe", lambda items: describe(items, extractor, cache, source)),
            ("assign", lambda items: (assign(feature, assigner) for feature in items)),
        ]
    return [
        resize,
        ("follow", lambda items: follow(chain.from_iterable(items), plan)),
        ("describe", lambda items: describe_keys(items, plan, lambda keys: describe(keys, extractor, cache, source))),
        ("assign", lambda items: _carried(items, assigner)),
    ]


def key_plan(engine: Engine, size_hw: tuple[int, int]) -> KeyPlan:
    """Which frames of an input of that processed size are described, and how many of them together."""
    batch = batch_size(engine.extractor, size_hw, engine.settings.run.batch)
    return KeyPlan.of(engine.settings.keyframes, batch)


def assign(feature: FeatureMap, assigner: PartAssigner) -> Energies:
    """Energies of the parts; a frame's descriptors end here."""
    return feature.frame, feature.image, assigner.energies(feature.descriptors)


def _carried(items: Iterator[FeatureMap | Between], assigner: PartAssigner) -> Iterator[Energies]:
    """Flow and blending are the processor's work, so what lies between key frames waits for their energies."""
    for frame, image, energies in carry(items, lambda feature: assign(feature, assigner)[2].cpu().numpy()):
        yield frame, image, torch.from_numpy(energies).to(assigner.parts.device)
