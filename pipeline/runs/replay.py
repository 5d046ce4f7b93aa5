"""Replaying stored labels of an interrupted run into the clip.

The encoder sees the same pictures in the same order, so the clip has the bytes of an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.files import remove
from pipeline.graph import Graph, StageReport
from pipeline.media.label_store import LabelStore, open_labels
from pipeline.media.source import Source
from pipeline.progress import Progress
from pipeline.records import Frame, PartMap
from pipeline.runs.sinks import Sinks

StoredLabels = Iterator[tuple[int, NDArray[np.uint8]]]
"""Each frame's pts and its labels, uint8 [h, w]."""


def finished_labels(path: Path) -> LabelStore | None:
    """The label store that an interrupted run has completed; None where there is none, or none that can be read."""
    if not path.exists():
        return None
    try:
        store = open_labels(path)
        for _ in store.frames():
            pass
    except InputError:
        remove(path)
        return None
    return store


def replay(
    frames: Iterator[Frame], stored: StoredLabels, sinks: Sinks, progress: Progress, queue_depth: int
) -> list[StageReport]:
    """Send frames with their stored labels into the sinks.

    Raises:
        InputError: the input is another one than the labels were made of.
    """
    graph = Graph(queue_depth)
    decoded = graph.source("decode", frames)
    parts = graph.stage("labels", decoded, lambda items: _labelled(items, stored, sinks.source))
    graph.sink("overlay", parts, lambda items: sinks.paint(_counted(items, progress)))
    graph.sink("steadiness", parts, sinks.measure)
    return graph.run()


def _labelled(frames: Iterator[Frame], stored: StoredLabels, source: Source) -> Iterator[PartMap]:
    for frame, (pts, labels) in zip(frames, stored, strict=True):
        if frame.pts != pts:
            raise InputError(f"'{source.path}' is not what it was: a frame has pts {frame.pts}, expected {pts}")
        yield PartMap(frame, labels)


def _counted(items: Iterator[PartMap], progress: Progress) -> Iterator[PartMap]:
    for part in items:
        progress.advance()
        yield part
