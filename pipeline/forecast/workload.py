"""The work of a run, counted once: frames, sizes and samples of every input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import InputError
from pipeline.media.source import Source, selection_of
from pipeline.painting.styles import painted_size
from pipeline.stages.engine import Engine
from pipeline.stages.fit import sample_indices


@dataclass(frozen=True, slots=True)
class InputLoad:
    """What one input asks of a run.

    Attributes:
        source: the input.
        frames: frames that are processed.
        source_hw: height and width of its frames, pixels.
        painted_hw: height and width of its painted frames, pixels.
        size_hw: processed height and width: what the ViT sees.
        grid_hw: rows and columns of descriptors.
        sampled: indices of the frames that the fit samples; empty where none is fitted.
    """

    source: Source
    frames: int
    source_hw: tuple[int, int]
    painted_hw: tuple[int, int]
    size_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    sampled: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Positions of the grid."""
        return math.prod(self.grid_hw)

    def key_frames(self, interval: int) -> int:
        """Key frames of the input: every `interval`th frame, and the last one."""
        return -(-self.frames // interval) + int((self.frames - 1) % interval > 0)


@dataclass(frozen=True, slots=True)
class Workload:
    """What all inputs of a run ask.

    Attributes:
        inputs: those that can be read and have frames.
        failures: one line for each of the others.
        channels: channels of a descriptor.
        fits: whether a codebook is fitted.
        paints: whether frames are segmented and painted.
    """

    inputs: tuple[InputLoad, ...]
    failures: tuple[str, ...]
    channels: int
    fits: bool
    paints: bool

    @property
    def sampled_descriptors(self) -> int:
        """Descriptors of all frames that the fit samples."""
        return sum(len(each.sampled) * each.tokens for each in self.inputs)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the fit's cache: descriptors and saliency of the sampled frames, float32."""
        return self.sampled_descriptors * (self.channels + 1) * 4


def count_work(sources: Sequence[Source], engine: Engine, *, fits: bool, paints: bool = True) -> Workload:
    """Count what a run over inputs has to do; nothing is decoded but each input's first frame."""
    settings, failures = engine.settings, list[str]()
    found: list[InputLoad] = []
    for source in sources:
        try:
            found.append(_measured(source, engine))
        except InputError as error:
            failures.append(str(error))
    if fits:
        samples = sample_indices([each.frames for each in found], settings)
        found = [replace(each, sampled=tuple(some)) for each, some in zip(found, samples, strict=True)]
    return Workload(tuple(found), tuple(failures), engine.extractor.channels, fits, paints)


def _measured(source: Source, engine: Engine) -> InputLoad:
    settings, source_hw = engine.settings, source.probe().size_hw
    size_hw = settings.features.processed_size(source_hw)
    grid_hw = engine.extractor.grid_hw(size_hw)
    frames = source.count(selection_of(settings))
    if not frames:
        raise InputError(f"'{source.path}' has no frame between --start and --end; give a span inside the clip")
    painted_hw = painted_size(source_hw, settings.render.style)
    return InputLoad(source, frames, source_hw, painted_hw, size_hw, grid_hw, ())
