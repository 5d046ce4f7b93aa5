"""Descriptors of some frames only: the others are followed by optical flow to the described ones around them.

Key frames lie at multiples of an interval, counted from a clip's first frame, and its last frame is one. A frame that
flow doesn't explain, because much of it is hidden, new or too fast, is described as well: stretches between described
frames are halved until every frame in them is explained. What is described depends on the pictures between two key
frames alone, so that a run may begin at any key frame. The stages lag one interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pipeline.config import KeyframeSettings
from pipeline.features.flow import Track, blend, find_track, lost_share
from pipeline.records import FeatureMap, Frame
from pipeline.refine.crf import energies_of_pixels
from pipeline.stages.batches import Prepared

LARGEST_CHUNK = 64
"""Frames, at their source's size, that wait for a batch of key frames to be full, at most."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """Which frames are described.

    Attributes:
        interval: frames from one key frame to the next.
        lost: share of lost pixels above which a frame is described.
        batch: key frames that are described together.
    """

    interval: int
    lost: float
    batch: int

    @classmethod
    def of(cls, settings: KeyframeSettings, batch: int) -> KeyPlan:
        """The plan where so many frames fit the device together."""
        fitting = batch if settings.interval == 1 else max(1, min(batch, LARGEST_CHUNK // settings.interval))
        return cls(settings.interval, settings.lost, fitting)

    @property
    def chunk(self) -> int:
        """Frames from one to the next that a run may begin at, and describe all behind it with the same batches."""
        return self.interval * self.batch


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """A frame that isn't described: where its pixels are in the described ones around it.

    Attributes:
        frame: the frame.
        image: its picture at the processed size.
        before: its pixels in the last described frame.
        after: its pixels in the next one.
        progress: how far it is from the one to the other, between 0 and 1.
    """

    frame: Frame
    image: NDArray[np.uint8]
    before: Track
    after: Track
    progress: float


Step = Prepared | Between
"""A frame to be described, or one that lies between such."""


def follow(items: Iterator[Prepared], plan: KeyPlan) -> Iterator[list[Step]]:
    """Pick the frames to be described, and follow the others to them.

    Args:
        items: all frames of an input from a chunk's first one on, in order.
        plan: which frames are key frames.

    Yields:
        All frames in their order, in chunks that don't depend on where the run began.
    """
    chunk: list[Step] = []
    stretch: list[Prepared] = []
    for item in items:
        stretch.append(item)
        index = item[0].index
        if index % plan.interval == 0 and len(stretch) > 1:
            chunk += _explained(stretch, plan.lost)[:-1]
            stretch = [item]
            if index % plan.chunk == 0:
                yield chunk
                chunk = []
    if stretch:
        yield chunk + _explained(stretch, plan.lost)


def describe_keys(
    chunks: Iterator[list[Step]], plan: KeyPlan, describe: Callable[[Iterator[list[Prepared]]], Iterator[FeatureMap]]
) -> Iterator[FeatureMap | Between]:
    """Describe the frames that are to be described, in batches of a chunk; the others go through."""
    for chunk in chunks:
        keys = [step for step in chunk if not isinstance(step, Between)]
        features = describe(_batches(keys, plan.batch))
        for step in chunk:
            yield step if isinstance(step, Between) else next(features)


def carry(
    items: Iterator[FeatureMap | Between], assign: Callable[[FeatureMap], Floats]
) -> Iterator[tuple[Frame, NDArray[np.uint8], Floats]]:
    """Energies of every frame: of the described ones as `assign` gives them, of those between blended from theirs.

    The latter are those of pixels, float32 [1 + K, h, w], not of the grid: what moves by less than a patch has moved.
    """
    waiting: list[Between] = []
    last: Floats | None = None
    for item in items:
        if isinstance(item, Between):
            waiting.append(item)
            continue
        energies = assign(item)
        pixels = energies_of_pixels(energies, (item.image.shape[0], item.image.shape[1]))
        for step in waiting:
            assert last is not None
            yield step.frame, step.image, blend(step.before, step.after, (last, pixels), step.progress)
        waiting = []
        last = pixels
        yield item.frame, item.image, energies


def _explained(stretch: Sequence[Prepared], lost: float) -> list[Step]:
    """The frames from one described frame to the next, with as many more described as it takes."""
    first, last = stretch[0], stretch[-1]
    between = [_between(item, first, last) for item in stretch[1:-1]]
    if all(lost_share(step.before, step.after) <= lost for step in between):
        return [first, *between, *([last] if len(stretch) > 1 else [])]
    middle = len(stretch) // 2
    return [*_explained(stretch[: middle + 1], lost)[:-1], *_explained(stretch[middle:], lost)]


def _between(item: Prepared, first: Prepared, last: Prepared) -> Between:
    progress = (item[0].index - first[0].index) / (last[0].index - first[0].index)
    before, after = find_track(item[1], first[1]), find_track(item[1], last[1])
    return Between(item[0], item[1], before, after, progress)


def _batches(keys: Sequence[Prepared], size: int) -> Iterator[list[Prepared]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, size)):
        yield batch
