"""Descriptors of pictures at all layers and facets that `layers` draws, from one pass each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assignment import normalise
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.errors import InputError
from pipeline.failures import Failure, noted
from pipeline.features.extractor import Extraction
from pipeline.features.vit import Facet, Tap
from pipeline.media.inputs import Still
from pipeline.media.source import Source
from pipeline.progress import Progress
from pipeline.records import Frame
from pipeline.stages.engine import Engine, middle_layer
from pipeline.stages.grid_maps import frames_of, sample_frames
from pipeline.stages.grid_points import Point, nearest_places, place_on, require_inside

Floats = NDArray[np.float32]

MOST_PICTURES = 18
"""Pictures in the figures, as in the paper's figure 2; of more, evenly spread ones are taken."""
SHOWN_FACETS: tuple[Facet, ...] = ("token", "query", "value", "key")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture of the figures.

    Attributes:
        name: of its input, with the frame's number for a video.
        frame: the picture.
        maps: for each tap of figure 4 the similarity to the point, float32 [rows, cols].
    """

    name: str
    frame: Frame
    maps: dict[Tap, Floats]


@dataclass(slots=True)
class Atlas:
    """The pictures' descriptors at all layers.

    Attributes:
        engine: model and settings.
        by_layer: is filled with descriptors, by (number of the view, tap).
        for_parts: is filled with the settings' own descriptors at unit length, by number of the view.
        point: (x, y) in the first picture; None until the most salient one is known.
        views: the pictures.
    """

    engine: Engine
    by_layer: FeatureCache
    for_parts: FeatureCache
    point: Point | None
    views: list[View] = field(default_factory=list)
    _anchors: dict[Tap, Tensor] = field(default_factory=dict)

    @property
    def layer_taps(self) -> list[Tap]:
        """The settings' facet at every layer (figure 2)."""
        return [Tap(layer, self.engine.settings.features.facet) for layer in range(self._depth)]

    @property
    def facet_layers(self) -> list[int]:
        """A middle layer and the last one (figure 4)."""
        return list(dict.fromkeys([middle_layer(self.engine), self._depth - 1]))

    @property
    def _facet_taps(self) -> list[Tap]:
        return [Tap(layer, facet) for layer in self.facet_layers for facet in SHOWN_FACETS]

    @property
    def _depth(self) -> int:
        return self.engine.extractor.backbone.config.depth

    def read(self, sources: Sequence[Source], progress: Progress, failures: list[Failure]) -> None:
        """Describe evenly spread pictures.

        Raises:
            UsageError: the point lies outside of the first picture.
            InputError: the first picture can't be read, and the point is meant for it.
        """
        given = self.point is not None
        samples = sample_frames(sources, self.engine, MOST_PICTURES, failures)
        progress.start("layers", sum(len(indices) for _, indices in samples), "picture")
        for source, indices in samples:
            with noted(source.name, failures, (InputError,)):
                for frame in self._frames(source, indices):
                    self._add(source, frame)
                    progress.advance(name=source.name)
        progress.finish()
        lost = {failure.name: failure.error for failure in failures}
        if given and sources[0].name in lost:
            raise lost[sources[0].name]
        if not self.views:
            raise failures[0].error

    def _frames(self, source: Source, indices: list[int]) -> Iterator[Frame]:
        if indices:
            yield from source.frames(frames_of(source, self.engine), set(indices))

    def _add(self, source: Source, frame: Frame) -> None:
        extractor = self.engine.extractor
        taps = [*self.layer_taps, *self._facet_taps, extractor.tap]
        found = extractor.extract_taps([extractor.preprocess(frame.rgb)], taps, saliency=True)
        salient = found[extractor.tap].saliency
        assert salient is not None
        saliency = salient[0].cpu().numpy()
        if not self.views:
            self._anchor(frame, found, saliency)
        number = len(self.views)
        for tap in self.layer_taps:
            self.by_layer.put((number, tap), found[tap].descriptors[0].cpu().numpy(), saliency, frame.pts)
        described = normalise(found[extractor.tap].descriptors[0]).cpu().numpy()
        self.for_parts.put((0, number), described, saliency, frame.pts)
        maps = {
            tap: (normalise(found[tap].descriptors[0]) @ self._anchors[tap]).cpu().numpy() for tap in self._facet_taps
        }
        name = source.name if isinstance(source, Still) else f"{source.name} {frame.index}"
        self.views.append(View(name, frame, maps))

    def _anchor(self, frame: Frame, found: dict[Tap, Extraction], saliency: Floats) -> None:
        """Take the point's descriptors from the first picture."""
        place = place_on(self.engine, frame.size_hw)
        if self.point is None:
            ((x, y),) = place.pixels(nearest_places(saliency, 1)).tolist()
            self.point = (round(x, 3), round(y, 3))
        else:
            require_inside(self.point, frame.rgb, frame.name)
        ((row, col),) = place.positions(np.array([self.point])).tolist()
        self._anchors = {tap: normalise(found[tap].descriptors[0, row, col]) for tap in self._facet_taps}
