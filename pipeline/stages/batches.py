"""Frames at the processed size, in batches of one size, and how many frames a batch holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from typing import TypeVar

from pipeline.features.extractor import Extractor
from pipeline.graph import processors, side_by_side
from pipeline.records import Frame, Prepared

T = TypeVar("T")

BATCH_BUDGET_BYTES = 2**30
"""GPU memory that the frames of one batch may take where no batch size is given."""


def prepare(frames: Iterator[Frame], extractor: Extractor, batch: int | None) -> Iterator[list[Prepared]]:
    """Resize frames to the processed size and gather them in batches of one size.

    Args:
        frames: upright frames.
        extractor: knows the processed size, and how many frames fit its device.
        batch: frames in a batch; None: as many as fit a memory budget on a GPU, one on the CPU, where more are no
            faster and take more memory.
    """
    # Beside a GPU a single resizing thread would be the bottleneck; Pillow releases the GIL.
    workers = 1 if extractor.device.type == "cpu" else processors()
    items = side_by_side(frames, lambda frame: Prepared(frame, extractor.preprocess(frame.rgb)), workers)
    for size_hw, of_one_size in groupby(items, lambda item: item.size_hw):
        yield from batches_of(of_one_size, batch_size(extractor, size_hw, batch))


def batches_of(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Items in lists of `size`; the last one may be shorter."""
    while batch := list(islice(items, size)):
        yield batch


def batch_size(extractor: Extractor, size_hw: tuple[int, int], batch: int | None) -> int:
    """Frames of a processed size that go through the ViT together; `batch` where it is given."""
    if batch is not None:
        return batch
    return 1 if extractor.device.type == "cpu" else extractor.batch_for(size_hw, BATCH_BUDGET_BYTES)
