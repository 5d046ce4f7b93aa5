"""Motion saliency of a stream: a window of neighbouring frames around each frame that needs it.

A stage between resizing and describing. It holds the pictures of one window at the processed size, and lags `REACH`
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from pipeline.features.extractor import Extractor, Picture
from pipeline.features.motion import REACH, blend_saliency, motion_saliency
from pipeline.geometry import grid_size
from pipeline.records import Prepared, SampledBatch
from pipeline.stages.batches import batches_of

Known = Callable[[Prepared], bool]
"""Whether a frame's saliency is known, so that its motion needn't be."""


@dataclass(frozen=True, slots=True, eq=False)
class Watched(Prepared):
    """A frame with the pictures of its window.

    Attributes:
        window: uint8 [h, w, 3] each, at the processed size: the frames at most `REACH` away, and itself.
        place: which of them it is.
    """

    window: tuple[Picture, ...]
    place: int


def neighbourhood(indices: Iterable[int]) -> set[int]:
    """The frames that must be decoded to see the motion of some frames.

    >>> sorted(neighbourhood([5]))
    [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    return {index + offset for index in indices for offset in range(-REACH, REACH + 1)}


def watch(batches: Iterator[list[Prepared]], wanted: Container[int]) -> Iterator[Watched]:
    """The wanted frames with their windows; the other frames are only compared with.

    Args:
        batches: frames with their neighbourhoods, in order.
        wanted: indices of the frames that are passed on.
    """
    held: list[Prepared] = []
    waiting: list[Prepared] = []
    for item in chain.from_iterable(batches):
        held.append(item)
        newest = item.frame.index
        if newest in wanted:
            waiting.append(item)
        # A frame's turn comes when the last of its neighbours is there.
        while waiting and waiting[0].frame.index + REACH <= newest:
            yield _watched(waiting.pop(0), held)
        oldest = waiting[0].frame.index if waiting else newest + 1
        held = [other for other in held if other.frame.index >= oldest - REACH]
    for item in waiting:
        yield _watched(item, held)


def watch_motion(
    batches: Iterator[list[Prepared]], wanted: Container[int], extractor: Extractor, size: int, known: Known
) -> Iterator[SampledBatch]:
    """The wanted frames with their motion, in batches of `size`; otherwise as `watch` and `with_motion`."""
    return (with_motion(group, extractor, known) for group in batches_of(watch(batches, wanted), size))


def with_motion(items: Sequence[Watched], extractor: Extractor, known: Known) -> SampledBatch:
    """A batch of frames with their motion on the extractor's grid; 0 for those whose saliency is known."""
    patch_px, stride_px = extractor.identity.patch_px, extractor.settings.stride
    maps = torch.zeros(len(items), *grid_size(items[0].size_hw, patch_px, stride_px))
    for number, item in enumerate(items):
        if not known(item):
            maps[number] = torch.from_numpy(motion_saliency(item.window, item.place, patch_px, stride_px))
    return SampledBatch(tuple(Prepared(item.frame, item.image) for item in items), maps)


def confirm_by_motion(attention: Tensor, motion: Tensor) -> Tensor:
    """Attention that motion confirms, both float32 [frames, rows, cols]; on the CPU."""
    pairs = zip(attention.cpu().numpy(), motion.numpy(), strict=True)
    return torch.stack([torch.from_numpy(blend_saliency(attended, moving)) for attended, moving in pairs])


def _watched(item: Prepared, held: list[Prepared]) -> Watched:
    around = [other for other in held if abs(other.frame.index - item.frame.index) <= REACH]
    place = [other.frame.index for other in around].index(item.frame.index)
    return Watched(item.frame, item.image, tuple(other.image for other in around), place)
