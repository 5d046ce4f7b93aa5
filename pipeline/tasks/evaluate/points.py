"""Key-point transfer by nearest descriptors: SPair-71k and BADJA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import with_defaults
from pipeline.evaluation.datasets.badja import load_badja
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.datasets.spair import load_spair
from pipeline.evaluation.protocols.keypoints import evaluate_keypoints
from pipeline.evaluation.protocols.predictors import Describe, Variant
from pipeline.evaluation.protocols.spair import SPairProtocol, evaluate_spair
from pipeline.evaluation.reports import Summary
from pipeline.features.log_bins import log_bin, log_bin_at
from pipeline.features.vit import FACETS, Tap
from pipeline.geometry import GridPlace
from pipeline.stages.engine import Engine, middle_layer
from pipeline.stages.grid_points import place_on
from pipeline.tasks.evaluate.request import Request, taps_of, with_notes


@dataclass(frozen=True, slots=True, eq=False)
class DescribedPicture:
    """A picture's descriptors of several layers and facets; log-bins are added on demand.

    Log-bins make a grid 17 times as large, so only plain descriptors are kept.

    Attributes:
        facets: float32 [rows, cols, channels] each.
        place: where they lie in the picture.
    """

    facets: Mapping[Tap, Tensor]
    place: GridPlace

    def grid(self, variant: Variant) -> Tensor:
        """Descriptors float32 [rows, cols, channels]."""
        plain = self.facets[Tap(variant.layer, variant.facet)]
        return log_bin(plain[None])[0] if variant.log_bin else plain

    def at(self, variant: Variant, positions_ij: NDArray[np.int64]) -> Tensor:
        """Descriptors float32 [n, channels] at rows and columns [n, 2] of the grid."""
        plain = self.facets[Tap(variant.layer, variant.facet)]
        positions = torch.from_numpy(positions_ij).to(plain.device)
        return log_bin_at(plain, positions) if variant.log_bin else plain[positions[:, 0], positions[:, 1]]


def describer(engine: Engine, taps: Sequence[Tap]) -> Describe:
    """What describes a picture by all taps in one pass; the engine's settings must not ask for bins."""

    def describe(picture: Picture) -> DescribedPicture:
        rgb = picture.read()
        found = engine.extractor.extract_taps([engine.extractor.preprocess(rgb)], taps)
        facets = {tap: extraction.descriptors[0] for tap, extraction in found.items()}
        return DescribedPicture(facets, place_on(engine, (rgb.shape[0], rgb.shape[1])))

    return describe


def evaluate_matching(request: Request) -> Summary:
    """SPair-71k: facets, layers and bins in one sweep, each picture through the model once."""
    dataset = load_spair(request.data)
    engine = request.open_engine(features__log_bin=False, features__layer=0)
    layers = request.swept_layers(engine)
    variants = [Variant(layer, facet, bins) for bins in (True, False) for layer in layers for facet in FACETS]
    protocol, seed = SPairProtocol[request.protocol.upper()], engine.settings.run.seed
    run = request.open_run(engine, protocol=request.protocol, variants=[str(variant) for variant in variants])
    describe = describer(engine, taps_of(layers))
    return with_notes(run, evaluate_spair(dataset, describe, variants, run, protocol, seed), engine)


def evaluate_propagation(request: Request) -> Summary:
    """BADJA: the joints of each video's first annotated frame found in the others.

    Where the settings don't say, the layer is a middle one, and log-bins are on, as for `match`.
    """
    clips = load_badja(request.data)
    engine = request.open_engine(features__log_bin=False, features__layer=0)
    variant = _chosen_variant(request, engine)
    run = request.open_run(engine, variants=[str(variant)])
    describe = describer(engine, [Tap(variant.layer, variant.facet)])
    return with_notes(run, evaluate_keypoints(clips, describe, variant, run), engine)


def _chosen_variant(request: Request, engine: Engine) -> Variant:
    chosen = with_defaults(request.settings, {"features": {"log_bin": True, "layer": middle_layer(engine)}}).features
    return Variant(chosen.layer, engine.settings.features.facet, chosen.log_bin)
