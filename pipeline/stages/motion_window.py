"""Motion saliency of a stream: a window of neighbouring frames around each voting frame.

A stage between resizing and describing. It holds the pictures of one window at the processed size, and lags `REACH`
frames.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from pipeline.features.extractor import Extractor
from pipeline.features.motion import REACH, blend_saliency, motion_saliency
from pipeline.records import Prepared, SampledBatch


def neighbourhood(indices: Iterable[int]) -> set[int]:
    """The frames that must be decoded to see the motion of some frames.

    >>> sorted(neighbourhood([5]))
    [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    return {index + offset for index in indices for offset in range(-REACH, REACH + 1)}


def watch_motion(
    batches: Iterator[list[Prepared]], wanted: Container[int], extractor: Extractor, size: int
) -> Iterator[SampledBatch]:
    """The wanted frames with their motion, in batches; the other frames are only compared with.

    Args:
        batches: frames with their neighbourhoods, in order.
        wanted: indices of the frames that are passed on.
        extractor: knows the grid.
        size: frames of a batch.
    """
    group: list[Prepared] = []
    maps: list[Tensor] = []
    for window, item in _windows(chain.from_iterable(batches), wanted):
        group.append(item)
        maps.append(_motion_of(item, window, extractor))
        if len(group) == size:
            yield SampledBatch(tuple(group), torch.stack(maps))
            group, maps = [], []
    if group:
        yield SampledBatch(tuple(group), torch.stack(maps))


def confirm_by_motion(attention: Tensor, motion: Tensor) -> Tensor:
    """Attention that motion confirms, both float32 [frames, rows, cols]; on the CPU."""
    pairs = zip(attention.cpu().numpy(), motion.numpy(), strict=True)
    return torch.stack([torch.from_numpy(blend_saliency(attended, moving)) for attended, moving in pairs])


def _windows(items: Iterator[Prepared], wanted: Container[int]) -> Iterator[tuple[list[Prepared], Prepared]]:
    """Each wanted frame, with all frames at most `REACH` away from it."""
    held: list[Prepared] = []
    waiting: list[Prepared] = []
    for item in items:
        held.append(item)
        newest = item.frame.index
        if newest in wanted:
            waiting.append(item)
        # A frame's turn comes when the last of its neighbours is there.
        while waiting and waiting[0].frame.index + REACH <= newest:
            yield _around(waiting[0], held), waiting.pop(0)
        oldest = waiting[0].frame.index if waiting else newest + 1
        held = [other for other in held if other.frame.index >= oldest - REACH]
    for item in waiting:
        yield _around(item, held), item


def _around(item: Prepared, held: list[Prepared]) -> list[Prepared]:
    return [other for other in held if abs(other.frame.index - item.frame.index) <= REACH]


def _motion_of(item: Prepared, window: list[Prepared], extractor: Extractor) -> Tensor:
    place = [other.frame.index for other in window].index(item.frame.index)
    pictures = [other.image for other in window]
    return torch.from_numpy(motion_saliency(pictures, place, extractor.identity.patch_px, extractor.settings.stride))
