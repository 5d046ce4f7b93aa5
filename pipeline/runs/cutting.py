"""Where an input is cut into shards: at label chunks and chunks of key frames, and not where seeking costs too much."""

from __future__ import annotations

import math

from pipeline.media.label_store import CHUNK_FRAMES
from pipeline.media.source import Source, selection_of
from pipeline.stages.energies import key_frames_of
from pipeline.stages.engine import Engine

SHARD_FRAMES = 512
"""Frames of a shard at most by default: minutes at a few frames a second, and more than seeking decodes on the way."""

LEAST_SHARD_FRAMES = 64
"""Frames of a shard at least by default."""

SHARDS_EACH = 4
"""Shards for each worker at least by default: with one or two the others wait for the slowest."""

REACH_SHARE = 4.0
"""Frames that are decoded on the way to shards, as a multiple of all, above which an input isn't cut: with few key
frames every shard decodes most of the input."""


def usual_length(frames: int, workers: int) -> int:
    """Frames of a shard where nobody said how many, of so many in all inputs together.

    >>> usual_length(600, workers=2), usual_length(90_000, workers=16), usual_length(100, workers=8)
    (75, 512, 64)
    """
    return min(SHARD_FRAMES, max(LEAST_SHARD_FRAMES, frames // (SHARDS_EACH * workers)))


def cut_places(
    source: Source, engine: Engine, size_hw: tuple[int, int], shard_frames: int, done: int = 0
) -> tuple[int, ...]:
    """Indices among an input's selected frames: from each to the next is a shard. Empty where it isn't cut.

    Args:
        source: the input.
        engine: the settings.
        size_hw: the input's processed size.
        shard_frames: about how many frames a shard has.
        done: frames from the first on that have labels already.

    Raises:
        InputError: the input can't be read.
    """
    selection = selection_of(engine.settings)
    times = source.times(selection)
    if not times:
        return ()
    unit = math.lcm(CHUNK_FRAMES, key_frames_of(engine, size_hw).chunk)
    length = max(1, round(shard_frames / unit)) * unit
    cuts = (*range(min(done, len(times) - 1) // unit * unit, len(times), length), len(times))
    reached = sum(source.decoded_frames(selection, {start}) for start in cuts[1:-1])
    return () if reached > REACH_SHARE * len(times) * selection.every else cuts
