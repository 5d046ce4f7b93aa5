"""Key-point transfer by nearest descriptors: SPair-71k and BADJA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from pipeline.features.extractor import Extractor
from pipeline.features.log_bins import log_bin, log_bin_at
from pipeline.features.vit import FACETS, Tap
from pipeline.stages.engine import Engine, middle_layer
from pipeline.tasks.evaluate.request import Request, taps_of, with_notes


class DescribedPicture:
    """A picture's descriptors of several layers and facets; log-bins are added on demand.

    Log-bins make a grid 17 times as large, so only plain descriptors are kept.
    """

    def __init__(self, facets: Mapping[Tap, Tensor], extractor: Extractor, size_hws: Sequence[tuple[int, int]]) -> None:
        """Hold descriptors.

        Args:
            facets: float32 [rows, cols, channels] each.
            extractor: what they come from.
            size_hws: height and width of the processed picture, and of the picture itself.
        """
        self._facets = facets
        self.patch_px, self.stride_px = extractor.identity.patch_px, extractor.settings.stride
        self.processed_hw, self.picture_hw = size_hws

    def grid(self, variant: Variant) -> Tensor:
        """Descriptors float32 [rows, cols, channels]."""
        plain = self._facets[Tap(variant.layer, variant.facet)]
        return log_bin(plain[None])[0] if variant.log_bin else plain

    def at(self, variant: Variant, positions_ij: NDArray[np.int64]) -> Tensor:
        """Descriptors float32 [n, channels] at rows and columns [n, 2] of the grid."""
        plain = self._facets[Tap(variant.layer, variant.facet)]
        positions = torch.from_numpy(positions_ij).to(plain.device)
        return log_bin_at(plain, positions) if variant.log_bin else plain[positions[:, 0], positions[:, 1]]


def describer(extractor: Extractor, taps: Sequence[Tap]) -> Describe:
    """What describes a picture by all taps in one pass; the extractor's own settings must not ask for bins."""

    def describe(picture: Picture) -> DescribedPicture:
        rgb = picture.read()
        image = extractor.preprocess(rgb)
        found = extractor.extract_taps([image], taps)
        facets = {tap: extraction.descriptors[0] for tap, extraction in found.items()}
        return DescribedPicture(facets, extractor, [(each.shape[0], each.shape[1]) for each in (image, rgb)])

    return describe


def evaluate_matching(request: Request) -> Summary:
    """SPair-71k: facets, layers and bins in one sweep, each picture through the model once.

    Raises:
        InputError: a file of the data set is missing.
        OutputError: the results can't be written, or are those of other settings.
        UsageError: a layer doesn't exist.
        ModelError: the model can't be loaded.
    """
    dataset = load_spair(request.data)
    engine = request.open_engine(features__log_bin=False, features__layer=0)
    layers = request.swept_layers(engine)
    variants = [Variant(layer, facet, bins) for bins in (True, False) for layer in layers for facet in FACETS]
    protocol, seed = SPairProtocol[request.protocol.upper()], engine.settings.run.seed
    run = request.open_run(engine, protocol=request.protocol, variants=[str(variant) for variant in variants])
    describe = describer(engine.extractor, taps_of(layers))
    return with_notes(run, evaluate_spair(dataset, describe, variants, run, protocol, seed), engine)


def evaluate_propagation(request: Request) -> Summary:
    """BADJA: the joints of each video's first annotated frame found in the others.

    Where the settings don't say, the layer is a middle one, and log-bins are on, as for `match`.

    Raises:
        InputError: a file of the data set is missing.
        OutputError: the results can't be written, or are those of other settings.
        ModelError: the model can't be loaded.
    """
    clips = load_badja(request.data)
    engine = request.open_engine(features__log_bin=False, features__layer=0)
    variant = _chosen_variant(request, engine)
    run = request.open_run(engine, variants=[str(variant)])
    describe = describer(engine.extractor, [Tap(variant.layer, variant.facet)])
    return with_notes(run, evaluate_keypoints(clips, describe, variant, run), engine)


def _chosen_variant(request: Request, engine: Engine) -> Variant:
    chosen = with_defaults(request.settings, {"features": {"log_bin": True, "layer": middle_layer(engine)}}).features
    return Variant(chosen.layer, engine.settings.features.facet, chosen.log_bin)
