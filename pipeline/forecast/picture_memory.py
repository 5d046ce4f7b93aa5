"""How much memory a run over pictures takes, and the batch and queues with which it stays below a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pipeline.config import Settings
from pipeline.errors import InputError
from pipeline.forecast.memory import (
    CRF_BLOCK_BYTES,
    CRF_BYTES,
    DECODED_BYTES,
    PAINTED_BYTES,
    Capacity,
    cells_a_pixel,
    size_work,
)
from pipeline.forecast.workload import InputLoad, Workload
from pipeline.media.inputs import Picture, Still
from pipeline.runs.picture_files import PAGE
from pipeline.stages.engine import Engine
from pipeline.stages.picture_set import fit_indices

THUMBNAIL_BYTES = 3 * 2 * 300 * 300
"""Of a picture and its result on an overview."""


def size_picture_run(pictures: Sequence[Picture], engine: Engine, *, fits: bool) -> Engine:
    """The engine with the largest batch and queues, up to its settings', with which a run stays below its limit.

    Pictures that can't be read count for nothing.

    Raises:
        UsageError: the limit is too low even for one picture at a time.
    """
    return replace(engine, settings=size_pictures(count_pictures(pictures, engine, fits=fits), engine).settings)


def size_pictures(work: Workload, engine: Engine) -> Capacity:
    """The batch and queues with which a run stays below its limit, and the most memory it takes then.

    Raises:
        UsageError: the limit is too low even for one picture at a time.
    """
    return size_work(work, engine, _label_bytes)


def count_pictures(pictures: Sequence[Picture], engine: Engine, *, fits: bool) -> Workload:
    """What a run over pictures has to do; nothing is decoded."""
    settings, found, failures = engine.settings, list[InputLoad](), list[str]()
    for picture in pictures:
        try:
            source_hw = picture.pixels()
            size_hw = settings.features.processed_size(source_hw)
            grid_hw = engine.extractor.grid_hw(size_hw)
        except InputError as error:
            failures.append(str(error))
            continue
        still = Still(picture.path, picture.name)
        found.append(InputLoad(still, 1, source_hw, source_hw, size_hw, grid_hw, ()))
    if fits:
        chosen = {pictures[index].name for index in fit_indices(pictures, engine)}
        found = [replace(load, sampled=(0,)) if load.source.name in chosen else load for load in found]
    return Workload(tuple(found), tuple(failures), engine.extractor.channels, fits, paints=True)


def _label_bytes(load: InputLoad, settings: Settings, batch: int, described: float) -> float:
    """Of labelling: every queue is full of pictures of this one's size."""
    depth, labels = settings.run.queue_depth, 1 + settings.cluster.parts
    frames = (depth + 2) + batch * (depth + 2) + 3 * (depth + 2)
    source_px, processed_px = math.prod(load.source_hw), math.prod(load.size_hw)
    pictures = (3.0 * frames + DECODED_BYTES + PAINTED_BYTES) * source_px
    energies = 4 * labels * (depth + 2) * cells_a_pixel(settings)
    crf = (CRF_BYTES + CRF_BLOCK_BYTES * -(-labels // 4) + energies) * processed_px
    return pictures + crf + described * (batch + depth + 2) + PAGE * THUMBNAIL_BYTES
