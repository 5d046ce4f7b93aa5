"""Frames at the processed size, in batches of one size, and how many frames a batch holds."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.features.extractor import Extractor
from pipeline.graph import processors, side_by_side
from pipeline.records import Frame, Prepared

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
    held: list[Prepared] = []
    # Beside a GPU a single resizing thread would be the bottleneck; Pillow releases the GIL.
    workers = 1 if extractor.device.type == "cpu" else processors()
    for item in side_by_side(frames, lambda frame: Prepared(frame, extractor.preprocess(frame.rgb)), workers):
        if held and held[0].size_hw != item.size_hw:
            yield held
            held = []
        held.append(item)
        if len(held) >= batch_size(extractor, item.size_hw, batch):
            yield held
            held = []
    if held:
        yield held


def batch_size(extractor: Extractor, size_hw: tuple[int, int], batch: int | None) -> int:
    """Frames of a processed size that go through the ViT together; `batch` where it is given."""
    if batch is not None:
        return batch
    return 1 if extractor.device.type == "cpu" else extractor.batch_for(size_hw, BATCH_BUDGET_BYTES)
