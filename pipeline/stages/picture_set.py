"""A set of pictures of any sizes: described once for the fit, labelled once clusters are known.

    fill:    decode -> resize -> describe, into caches on disk
    label:   decode -> resize -> describe or take from the cache -> assign -> refine -> a sink

Neither holds more than a few pictures in memory, however many there are.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assignment import normalise
from pipeline.cluster.feature_cache import FeatureCache, KeptCache
from pipeline.cluster.frame_sampling import spread_frames
from pipeline.errors import InputError, VidpartsError
from pipeline.failures import Failure
from pipeline.geometry import grid_size
from pipeline.graph import Graph, StageReport
from pipeline.progress import Progress
from pipeline.records import EnergyMap, Frame, PartMap, Prepared
from pipeline.stages.batches import prepare
from pipeline.stages.describe import describe_for_votes
from pipeline.stages.energies import assign, describe_for_labels
from pipeline.stages.engine import Engine

Image = NDArray[np.uint8]
Energies = Callable[[Tensor], Tensor]
"""From descriptors [rows, cols, channels] to energies [labels, rows, cols]."""
Refine = Callable[[NDArray[np.float32], Image], tuple[Image, str]]
"""From energies [labels, rows, cols] and a picture [h, w, 3] to labels uint8 [h, w], and a note on them."""
Sink = Callable[[Iterator[PartMap]], None]

CACHE_BYTES = 2 * 10**9
"""Descriptors of the fit's pictures on the disk, at most, where the settings don't say how many pictures there are."""

_SOURCE = 0
"""A set is one input: the first half of its cache's keys."""


class Readable(Protocol):
    """A picture that can be read again and again."""

    @property
    def name(self) -> str:
        """Unique in its set."""

    @property
    def path(self) -> Path:
        """Where it comes from."""

    def read(self) -> Image:
        """Upright uint8 [height, width, 3]."""

    def pixels(self) -> tuple[int, int]:
        """Height and width, without decoding it."""


@dataclass(slots=True)
class Album:
    """A set of pictures and what has been computed of them.

    Attributes:
        pictures: the set; a picture's position is its index.
        engine: model and settings.
        progress: receives progress and messages.
        cache: descriptors and saliency of the pictures of the fit.
        crops: descriptors of random crops and their mirror images; they join the fit without a vote.
        tokens: class tokens of the pictures of the fit, as grids of one position.
        failures: pictures that couldn't be read or are too small; the others are processed.
    """

    pictures: Sequence[Readable]
    engine: Engine
    progress: Progress
    cache: FeatureCache
    crops: FeatureCache
    tokens: FeatureCache
    failures: list[Failure] = field(default_factory=list)

    def fill(self, crops: int = 0) -> list[int]:
        """Describe the pictures that the clusters are fitted on.

        Args:
            crops: random crops of each picture; twice as many join the fit, with their mirror images.

        Returns:
            The indices of those that could be read.

        Raises:
            InputError: none could.
        """
        chosen = fit_indices(self.pictures, self.engine)
        self.progress.start("fit", len(chosen), "picture")
        known = {index for index in chosen if self._is_described(index, crops)}
        self.progress.advance(len(known))
        graph = Graph(self.engine.settings.run.queue_depth)
        decoded = graph.source("decode", self.frames([index for index in chosen if index not in known], vote=True))
        batches = graph.stage("resize", decoded, self._prepared)
        graph.sink("describe", batches, lambda items: self._store(items, crops))
        graph.run()
        self.progress.finish()
        fitted = [index for index in chosen if (_SOURCE, index) in self.tokens]
        if not fitted:
            raise self.failures[0].error if self.failures else InputError("there are no pictures; give some")
        return fitted

    def token(self, index: int) -> NDArray[np.float32]:
        """The class token of a picture of the fit, float32 [channels]."""
        return self.tokens.get((_SOURCE, index)).descriptors.ravel()

    def _is_described(self, index: int, crops: int) -> bool:
        """Whether all of a picture is in the caches; what an interruption has left of one is dropped."""
        keys = [(self.cache, (_SOURCE, index)), *((self.crops, (index, number)) for number in range(2 * crops))]
        if (_SOURCE, index) in self.tokens:
            return True
        for cache, key in keys:
            if key in cache:
                cache.drop(key)
        return False

    def label(self, indices: Collection[int], energies: Energies, refine: Refine, sink: Sink) -> list[StageReport]:
        """Label pictures and hand them to a sink, in the order of their indices."""
        self.progress.start("label", len(indices), "picture")
        engine = self.engine
        graph = Graph(engine.settings.run.queue_depth)
        frames = graph.source("decode", self.frames(indices))
        batches = graph.stage("resize", frames, self._prepared)
        features = graph.stage(
            "describe", batches, lambda items: describe_for_labels(items, engine, self.cache, _SOURCE)
        )
        assigned = graph.stage(
            "assign",
            features,
            lambda items: (assign(item, energies, engine.extractor, engine.settings) for item in items),
        )
        labels = graph.stage("refine", assigned, lambda items: _refine(items, refine))
        graph.sink("write", labels, lambda items: sink(self._counted(items)))
        reports = graph.run()
        self.progress.finish()
        return reports

    def frames(self, indices: Collection[int], *, vote: bool = False) -> Iterator[Frame]:
        """The pictures that can be read; the others become failures.

        Args:
            indices: the pictures wanted.
            vote: whether those too small for half-size saliency are failures, too.
        """
        lost = {failure.name for failure in self.failures}
        for index in indices:
            picture = self.pictures[index]
            if picture.name in lost:
                continue
            try:
                rgb = picture.read()
                self._require_size(rgb, vote)
            except VidpartsError as error:
                self.failures.append(Failure(picture.name, error))
                continue
            yield Frame(index, index, Fraction(1), rgb, picture.name)

    def leave_out(self, index: int) -> None:
        """Take a picture out of the fit again."""
        self.cache.drop((_SOURCE, index))

    def _require_size(self, rgb: Image, vote: bool) -> None:
        extractor = self.engine.extractor
        patch_px = extractor.identity.patch_px
        height, width = self.engine.settings.features.processed_size(rgb.shape[:2])
        grid_size((height, width), patch_px, patch_px)
        if vote and extractor.half_size:
            grid_size((height // 2, width // 2), patch_px, patch_px)

    def _prepared(self, frames: Iterator[Frame]) -> Iterator[list[Prepared]]:
        return prepare(frames, self.engine.extractor, self.engine.settings.run.batch)

    def _store(self, batches: Iterator[list[Prepared]], crops: int) -> None:
        for batch in batches:
            found = describe_for_votes(batch, self.engine.extractor)
            assert found.cls is not None
            for item, grid, salient, token in zip(batch, found.descriptors, found.saliency, found.cls, strict=True):
                index = item.frame.index
                self.cache.put((_SOURCE, index), grid.cpu().numpy(), salient.cpu().numpy(), item.frame.pts)
                self._store_crops(item, crops)
                # Last: it says that the rest is there.
                blank = np.zeros((1, 1), np.float32)
                self.tokens.put((_SOURCE, index), token.cpu().numpy()[None, None], blank, item.frame.pts)
            self.progress.advance(len(batch), batch[-1].frame.name)

    def _store_crops(self, item: Prepared, crops: int) -> None:
        settings, extractor, index = self.engine.settings, self.engine.extractor, item.frame.index
        share, patch_px = settings.pictures.crop_size, extractor.identity.patch_px
        # A picture's crops depend only on the seed and its index, not on its batch.
        rng = np.random.default_rng([settings.run.seed, index])
        for number in range(crops):
            crop = random_crop(item.image, share, patch_px, rng)
            found = normalise(extractor.extract([crop, np.ascontiguousarray(crop[:, ::-1])]).descriptors)
            for side, grid in enumerate(found):
                blank = np.zeros(grid.shape[:2], dtype=np.float32)
                self.crops.put((index, 2 * number + side), grid.cpu().numpy(), blank, item.frame.pts)

    def _counted(self, items: Iterator[PartMap]) -> Iterator[PartMap]:
        for item in items:
            yield item
            self.progress.advance(name=item.frame.name)


@contextlib.contextmanager
def open_album(
    pictures: Sequence[Readable],
    engine: Engine,
    progress: Progress,
    folder: Path | None = None,
    *,
    kept: bool = False,
) -> Iterator[Album]:
    """A set of pictures, with room for its descriptors.

    Args:
        pictures: the set.
        engine: model and settings.
        progress: receives progress and messages.
        folder: the directory on whose disk descriptors are; that of temporary files if None.
        kept: whether they stay in it, and what is there of an interrupted run is used.

    Raises:
        OutputError: there is no room.
    """
    with contextlib.ExitStack() as opened:
        if kept and folder is not None:
            work = folder
        else:
            work = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix=".fit-", dir=folder)))
        kind = KeptCache if kept else FeatureCache
        places = [work / name for name in ("pictures", "crops", "tokens")]
        for place in places:
            place.mkdir(exist_ok=True)
        cache, crops, tokens = (opened.enter_context(kind(place)) for place in places)
        yield Album(pictures, engine, progress, cache, crops, tokens)


def fit_indices(pictures: Sequence[Readable], engine: Engine) -> list[int]:
    """The pictures that the clusters are fitted on, evenly spread over the set.

    They are as many as the settings say, else all of which the descriptors take no more room than `CACHE_BYTES`.
    """
    pictured = engine.settings.pictures
    (chosen,) = spread_frames([len(pictures)], len(pictures) if pictured.fit is None else pictured.fit)
    if pictured.fit is None:
        each = [(1 + 2 * pictured.crop_augmentations) * _descriptor_bytes(picture, engine) for picture in pictures]
        while len(chosen) > 1 and (total := sum(each[index] for index in chosen)) > CACHE_BYTES:
            (chosen,) = spread_frames([len(pictures)], max(1, min(len(chosen) - 1, len(chosen) * CACHE_BYTES // total)))
    return chosen


def _descriptor_bytes(picture: Readable, engine: Engine) -> int:
    try:
        rows, cols = engine.extractor.grid_hw(engine.settings.features.processed_size(picture.pixels()))
    except InputError:
        # It is said when the picture is read.
        return 0
    return 4 * rows * cols * (engine.extractor.channels + 1)


def random_crop(image: Image, share: float, least_px: int, rng: np.random.Generator) -> Image:
    """A crop of `share` of the sides, at least `least_px`, at a place drawn from `rng`."""
    height, width = (max(min(least_px, side), int(side * share)) for side in image.shape[:2])
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _refine(items: Iterator[EnergyMap], refine: Refine) -> Iterator[PartMap]:
    return (PartMap(item.frame, *refine(item.energies.cpu().numpy(), item.image)) for item in items)
