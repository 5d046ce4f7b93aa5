"""Key frames: some frames are described, the others follow them by optical flow.

Key frames lie at multiples of an interval, counted from a clip's first frame, and its last frame is one. A frame that
flow doesn't explain, because much of it is hidden, new or too fast, is described as well: stretches between described
frames are halved until every frame in them is explained. What is described depends only on the pictures between two key
frames, so that a run may begin at any key frame. The stages lag one interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import KeyframeSettings
from pipeline.features.flow import Track, blend, find_track, lost_share
from pipeline.records import EnergyMap, FeatureMap, Frame, Prepared
from pipeline.refine.crf import energies_of_pixels
from pipeline.stages.batches import batches_of

LARGEST_CHUNK = 64
"""Frames at the source's size that wait, at most, for a batch of key frames to be full."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class KeyFrames:
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
    def of(cls, settings: KeyframeSettings, batch: int) -> KeyFrames:
        """Those of the settings, where `batch` frames fit the device together."""
        fitting = batch if settings.interval == 1 else max(1, min(batch, LARGEST_CHUNK // settings.interval))
        return cls(settings.interval, settings.lost, fitting)

    @property
    def chunk(self) -> int:
        """Frames between two resume points: from each of them on, frames are described in the same batches."""
        return self.interval * self.batch


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """A frame that isn't described: where its pixels are in the described frames around it.

    Attributes:
        frame: the frame.
        image: its picture at the processed size.
        before: its pixels in the last described frame.
        after: its pixels in the next described frame.
        progress: its place in time from the one to the other, between 0 and 1.
    """

    frame: Frame
    image: NDArray[np.uint8]
    before: Track
    after: Track
    progress: float


Followed = Prepared | Between
"""A frame to be described, or one between such frames."""


def follow(items: Iterator[Prepared], keys: KeyFrames) -> Iterator[list[Followed]]:
    """Pick the frames to be described, and follow the others to them.

    Args:
        items: all frames of an input from a chunk's first frame on, in order.
        keys: which frames are key frames.

    Yields:
        All frames in their order, in chunks that don't depend on where the run began.
    """
    chunk: list[Followed] = []
    stretch: list[Prepared] = []
    for item in items:
        stretch.append(item)
        index = item.frame.index
        if index % keys.interval == 0 and len(stretch) > 1:
            # The stretch's last frame is the next one's first, so it is left for that.
            chunk += _explained(stretch, keys.lost)[:-1]
            stretch = [item]
            if index % keys.chunk == 0:
                yield chunk
                chunk = []
    if stretch:
        yield chunk + _explained(stretch, keys.lost)


def describe_keys(
    chunks: Iterator[list[Followed]],
    keys: KeyFrames,
    describe: Callable[[Iterator[list[Prepared]]], Iterator[FeatureMap]],
) -> Iterator[FeatureMap | Between]:
    """Describe the frames that are to be described, in batches of a chunk; the others pass through."""
    for chunk in chunks:
        wanted = [item for item in chunk if isinstance(item, Prepared)]
        features = describe(batches_of(iter(wanted), keys.batch))
        for item in chunk:
            yield item if isinstance(item, Between) else next(features)


def carry(
    items: Iterator[FeatureMap | Between], assign: Callable[[FeatureMap], EnergyMap], *, pixels: bool
) -> Iterator[EnergyMap]:
    """Energies of every frame: those of a described frame by `assign`, those between blended from the two around.

    Flow and blending are CPU work, so a frame between waits until its key frames' energies are there.

    Args:
        items: frames in their order.
        assign: gives a described frame's energies.
        pixels: blend energies of pixels, float32 [1 + K, h, w], not of the grid: what moves by less than a patch has
            moved. Not needed where `assign` gives those of cells.
    """
    waiting: list[Between] = []
    last: Floats | None = None
    for item in items:
        if isinstance(item, Between):
            waiting.append(item)
            continue
        found = assign(item)
        fine = found.energies.cpu().numpy()
        if pixels:
            fine = energies_of_pixels(fine, (item.image.shape[0], item.image.shape[1]))
        for each in waiting:
            assert last is not None
            before, after = (track.on_grid(fine.shape[1:]) for track in (each.before, each.after))
            blended = torch.from_numpy(blend(before, after, (last, fine), each.progress))
            yield EnergyMap(each.frame, each.image, blended.to(found.energies.device))
        waiting = []
        last = fine
        yield found


def _explained(stretch: Sequence[Prepared], lost: float) -> list[Followed]:
    """The frames from one described frame to the next, with as many more described as it takes."""
    first, last = stretch[0], stretch[-1]
    between = [_between(item, first, last) for item in stretch[1:-1]]
    if all(lost_share(each.before, each.after) <= lost for each in between):
        return [first, *between, *([last] if len(stretch) > 1 else [])]
    middle = len(stretch) // 2
    return [*_explained(stretch[: middle + 1], lost)[:-1], *_explained(stretch[middle:], lost)]


def _between(item: Prepared, first: Prepared, last: Prepared) -> Between:
    progress = (item.frame.index - first.frame.index) / (last.frame.index - first.frame.index)
    before, after = find_track(item.image, first.image), find_track(item.image, last.image)
    return Between(item.frame, item.image, before, after, progress)
