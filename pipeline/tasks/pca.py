"""Principal components of descriptors as grey maps and colours (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.pca import Basis, Moments, fit_basis, value_range
from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.failures import Failure, noted
from pipeline.media.inputs import Still, resolve_visuals
from pipeline.media.npz import open_npz
from pipeline.media.source import Source
from pipeline.painting.heatmaps import color_map, grey_map
from pipeline.progress import Progress, Silent
from pipeline.records import GridMap, Prepared
from pipeline.runs.outputs import Outcome, require_free, workspace
from pipeline.stages.engine import Engine, open_engine
from pipeline.stages.grid_maps import (
    Painting,
    map_frames,
    paint_each,
    paint_frames,
    painted_file,
    sample_frames,
    unit_of,
)
from pipeline.stages.grid_points import place_on

Floats = NDArray[np.float32]

BASIS_FILE = "basis.npz"
DEFAULT_COMPONENTS = 4
COLOR_CHANNELS = slice(1, 4)
"""The components that become red, green and blue: the second to the fourth (paper, figure 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Scaled:
    """Components, and the span of each that its colours stand for; one for all frames that share it."""

    basis: Basis
    low: Floats
    high: Floats

    def save(self, file: Path) -> Path:
        with open_npz(file) as archive:
            archive.write("mean", self.basis.mean)
            archive.write("axes", self.basis.axes)
            archive.write("explained", self.basis.explained)
            archive.write("low", self.low)
            archive.write("high", self.high)
        return file


def pca(
    inputs: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    components: int = DEFAULT_COMPONENTS,
    separate: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Paint the principal components of the inputs' descriptors.

    For each picture <name>-first.png, the first component in grey, <name>-colors.png, components 2 to 4 as red, green
    and blue, and <name>.npz, all components on the grid; for a video the two as clips with its times and sound. The
    basis is exact, of evenly spread frames up to `cluster.frames`; it, each component's sign and the scale of the
    colours are the same for all frames, so that a colour keeps its meaning through time and from picture to picture.
    They are written too: basis.npz, or <name>-basis.npz one by one.

    The authors' code holds all descriptors in memory, and leaves the sign to chance.

    Args:
        inputs: pictures, videos, directories of pictures, globs or text files of paths.
        output: directory of the results.
        settings: the defaults if None.
        components: how many; below 4 there are no colours.
        separate: one basis and one scale for each input instead of one for all.
        overwrite: replace files that exist.
        progress: receives progress and messages.

    Returns:
        The files, and the inputs that couldn't be finished.

    Raises:
        InputError: no input can be read; one that fails among others is listed in the result's `failures`.
        OutputError: a file exists or can't be written.
        UsageError: a descriptor has fewer channels.
        ModelError: the model can't be loaded.
    """
    settings, progress = settings or Settings(), progress or Silent()
    sources = resolve_visuals([str(item) for item in inputs])
    colors = components >= COLOR_CHANNELS.stop
    require_free(_planned(sources, output, colors, separate), overwrite)
    engine = open_engine(settings, progress)
    if not 1 <= components <= engine.extractor.channels:
        raise UsageError(
            f"{components} components are asked for; this model's descriptors have 1 to {engine.extractor.channels}"
        )
    run = _Run(output, engine, components, progress, [], [])
    for group in [[source] for source in sources] if separate else [sources]:
        run.group(group, _basis_file(output, group, separate))
    outcome = Outcome(tuple(run.files), tuple(run.failures))
    if not run.files:
        outcome.raise_failures()
    return outcome


def _basis_file(output: Path, group: Sequence[Source], separate: bool) -> Path:
    return output / (f"{group[0].name}-{BASIS_FILE}" if separate else BASIS_FILE)


def _planned(sources: Sequence[Source], output: Path, colors: bool, separate: bool) -> Iterator[Path]:
    if not separate:
        yield output / BASIS_FILE
    for source in sources:
        if separate:
            yield _basis_file(output, [source], separate)
        yield painted_file(output / f"{source.name}-first", source)
        if colors:
            yield painted_file(output / f"{source.name}-colors", source)
        if isinstance(source, Still):
            yield output / f"{source.name}.npz"


@dataclass(frozen=True, slots=True)
class _Run:
    """What the groups of a run share, and what they have done so far."""

    output: Path
    engine: Engine
    components: int
    progress: Progress
    files: list[Path]
    failures: list[Failure]

    def group(self, sources: Sequence[Source], basis_file: Path) -> None:
        """Fit one basis on sources, then paint each of them."""
        with workspace(self.output) as folder, FeatureCache(folder) as cache:
            self._sample(sources, cache)
            if not len(cache):
                return
            scaled = self._fit(cache)
            self.files.append(scaled.save(basis_file))
            lost = {failure.name for failure in self.failures}
            left = [source for source in sources if source.name not in lost]
            painted = paint_each(
                left, self.engine, self.progress, self.failures, lambda source: self._paint(source, scaled, cache)
            )
            self.files.extend(painted)

    def _sample(self, sources: Sequence[Source], cache: FeatureCache) -> None:
        """Describe evenly spread frames once; what can't be read is a failure, and the others go on."""
        budget = self.engine.settings.cluster.frames
        samples = sample_frames(sources, self.engine, budget, self.failures)
        self.progress.start("fit", sum(len(indices) for _, indices in samples), unit_of(sources))
        for source, indices in samples:

            def store(items: Iterator[GridMap], name: str = source.name) -> None:
                for item in items:
                    blank = np.zeros(item.values.shape[:2], dtype=np.float32)
                    cache.put((name, item.frame.index), item.values, blank, item.frame.pts)
                    self.progress.advance(name=name)

            if indices:
                with noted(source.name, self.failures):
                    map_frames(source, self.engine, self.describe, store, indices)
        self.progress.finish()

    def describe(self, batch: list[Prepared]) -> Floats:
        """Descriptors as the model gives them, not normalised, as in the paper."""
        found: Floats = self.engine.extractor.extract([item.image for item in batch]).descriptors.cpu().numpy()
        return found

    def _fit(self, cache: FeatureCache) -> _Scaled:
        moments = Moments(self.engine.extractor.channels)
        for entry in cache:
            moments.add(entry.descriptors)
        basis = fit_basis(moments, self.components)
        values = [basis.project(entry.descriptors).reshape(-1, self.components) for entry in cache]
        return _Scaled(basis, *value_range(np.concatenate(values)))

    def _paint(self, source: Source, scaled: _Scaled, cache: FeatureCache) -> list[Path]:
        kept: list[Floats] = []

        def keep(item: GridMap) -> None:
            if isinstance(source, Still):
                kept.append(item.values)

        paintings = self._paintings(self.output / source.name, scaled)
        describe = partial(self._project, source.name, scaled.basis, cache)
        painted = paint_frames(source, self.engine, describe, paintings, self.progress, keep)
        if kept:
            painted.append(self.output / f"{source.name}.npz")
            with open_npz(painted[-1]) as archive:
                archive.write("components", kept[0])
        return painted

    def _project(self, name: str, basis: Basis, cache: FeatureCache, batch: list[Prepared]) -> Iterator[Floats]:
        """Components of a batch's frames; descriptors that the fit has computed come from its cache."""
        keys = [(name, item.frame.index) for item in batch]
        kept = [cache.holds(key, item.frame.pts) for key, item in zip(keys, batch, strict=True)]
        fresh = [item for item, known in zip(batch, kept, strict=True) if not known]
        computed = iter(self.describe(fresh) if fresh else ())
        for key, known in zip(keys, kept, strict=True):
            yield basis.project(cache.get(key).descriptors if known else next(computed))

    def _paintings(self, stem: Path, scaled: _Scaled) -> list[Painting]:
        low, high = scaled.low, scaled.high

        def first(item: GridMap) -> NDArray[np.uint8]:
            return grey_map(
                item.values[..., 0], place_on(self.engine, item.frame.size_hw), float(low[0]), float(high[0])
            )

        def colors(item: GridMap) -> NDArray[np.uint8]:
            chosen = COLOR_CHANNELS
            place = place_on(self.engine, item.frame.size_hw)
            return color_map(item.values[..., chosen], place, low[chosen], high[chosen])

        paintings = [Painting(stem.with_name(f"{stem.name}-first"), first)]
        if self.components >= COLOR_CHANNELS.stop:
            paintings.append(Painting(stem.with_name(f"{stem.name}-colors"), colors))
        return paintings
