"""Saliency from motion while frames stream by: a window of neighbours around each frame that votes.

A stage between resizing and describing; it holds a few pictures of processed size, and lags `REACH` frames.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from pipeline.features.extractor import Extractor
from pipeline.features.motion import REACH, blend_saliency, motion_saliency
from pipeline.stages.batches import Prepared

Watched = tuple[list[Prepared], Tensor | None]
"""Frames of one size, and float32 [frames, rows, cols] of their motion saliency, None where nobody asked for it."""


def neighbourhood(indices: Iterable[int]) -> set[int]:
    """The frames that have to be decoded so that the motion of some can be seen.

    >>> sorted(neighbourhood([5]))
    [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    return {index + offset for index in indices for offset in range(-REACH, REACH + 1)}


def watch(
    batches: Iterator[list[Prepared]], wanted: Container[int], extractor: Extractor, size: int
) -> Iterator[Watched]:
    """The wanted frames with their motion, in batches; the others were there to be compared with.

    Args:
        batches: frames with their neighbourhoods, in order.
        wanted: indices of the frames that are passed on.
        extractor: knows the grid.
        size: frames of a batch.
    """
    group: list[tuple[Prepared, Tensor]] = []
    for item in _moving(chain.from_iterable(batches), wanted, extractor):
        group.append(item)
        if len(group) == size:
            yield _gathered(group)
            group = []
    if group:
        yield _gathered(group)


def confirm(attention: Tensor, motion: Tensor) -> Tensor:
    """Attention that motion confirms, both float32 [frames, rows, cols]; on the CPU."""
    pairs = zip(attention.cpu().numpy(), motion.numpy(), strict=True)
    return torch.stack([torch.from_numpy(blend_saliency(attended, moving)) for attended, moving in pairs])


def _gathered(group: list[tuple[Prepared, Tensor]]) -> Watched:
    return [item for item, _ in group], torch.stack([motion for _, motion in group])


def _moving(
    items: Iterator[Prepared], wanted: Container[int], extractor: Extractor
) -> Iterator[tuple[Prepared, Tensor]]:
    held: list[Prepared] = []
    waiting: list[Prepared] = []
    for item in items:
        held.append(item)
        if item[0].index in wanted:
            waiting.append(item)
        # A frame's turn comes when the last of its neighbours is there.
        while waiting and waiting[0][0].index + REACH <= item[0].index:
            yield _with_motion(waiting.pop(0), held, extractor)
        oldest = waiting[0][0].index if waiting else item[0].index + 1
        held = [other for other in held if other[0].index >= oldest - REACH]
    for item in waiting:
        yield _with_motion(item, held, extractor)


def _with_motion(item: Prepared, held: list[Prepared], extractor: Extractor) -> tuple[Prepared, Tensor]:
    window = [other for other in held if abs(other[0].index - item[0].index) <= REACH]
    pictures = [image for _, image in window]
    index = [frame.index for frame, _ in window].index(item[0].index)
    patch, stride = extractor.identity.patch_px, extractor.settings.stride
    return item, torch.from_numpy(motion_saliency(pictures, index, patch, stride))
