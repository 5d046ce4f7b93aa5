"""How much memory a run takes, and the batch, queues and cache with which it stays below a limit.

The figures are an upper bound that is meant to be near: they assume that every queue is full. Only on a GPU does the
batch that is chosen here change the last bits of a label's energies; nothing else here changes a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pipeline.config import Settings, with_values
from pipeline.errors import UsageError
from pipeline.features.motion import REACH
from pipeline.files import bytes_text
from pipeline.forecast.machine import memory_bytes, resident_bytes
from pipeline.forecast.vit_memory import vit_bytes
from pipeline.forecast.workload import InputLoad, Workload
from pipeline.media.label_store import CHUNK_FRAMES
from pipeline.stages.batches import batch_size
from pipeline.stages.engine import Engine
from pipeline.stages.key_frames import KeyFrames
from pipeline.stages.refinement import painters

DEFAULT_SHARE = 0.8
"""Share of the machine's memory that is the limit by default; the rest is for other processes and the file cache."""

LIBRARY_BYTES = 400 * 2**20
"""Libraries that are loaded after the model: FAISS, FFmpeg, numba; 320 to 370 MiB."""

DECODED_BYTES = 20
"""Bytes per source pixel: frames that the decoder holds, and the conversion to RGB; 14 to 15 on two cores."""

PAINTED_BYTES = 36
"""Bytes per painted pixel: resized labels and the picture; 14 to 35 in the five styles."""

ENCODER_BYTES, ENCODER_FRAME_BYTES, ENCODER_FRAMES = 55, 2.9, 55
"""Bytes per painted pixel of x264 itself and of each lookahead frame, and how many of these there are; 100 to 117 bytes
in all after 20 frames, 182 to 208 after 60."""

CRF_BYTES, CRF_BLOCK_BYTES = 250, 80
"""Bytes per processed pixel: the CRF's two lattices, and each four labels; 260 to 420 in all with 2 to 9 labels."""

FLOW_BYTES = 145
"""Bytes per processed pixel: optical flow forward and backward."""

TRACK_BYTES = 40
"""Bytes per processed pixel of a frame that is followed to two key frames."""

MARGIN = 1.05
"""Fragmentation of the allocator."""

LabellingBytes = Callable[[InputLoad, Settings, int, float], float]
"""From an input, settings, a batch and the bytes of one described frame to the bytes that labelling it takes."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a run works with, and the most memory it takes then.

    Attributes:
        settings: with the batch and the queue depth that fit.
        cache_bytes: of the fit's descriptors that are held in memory; the others are read from the disk.
        peak_bytes: resident memory at most.
        limit_bytes: what it stays below.
    """

    settings: Settings
    cache_bytes: int
    peak_bytes: int
    limit_bytes: int


def size_run(work: Workload, engine: Engine) -> Capacity:
    """The largest batch, queues and cache, up to those of the settings, with which a run stays below its limit.

    Raises:
        UsageError: the limit is too low even for one frame at a time.
    """
    return size_work(work, engine, partial(stream_bytes, painters=painters(engine.extractor.device)))


def size_work(work: Workload, engine: Engine, labelling: LabellingBytes) -> Capacity:
    """As `size_run`, for a run whose label maps end elsewhere than in clips."""
    vit = vit_bytes(engine.extractor, {each.size_hw for each in work.inputs})
    limit, need = memory_limit(engine.settings), _Need(work, engine, labelling, resident_bytes(), vit)
    for settings in _smaller_and_smaller(engine, work):
        least = need.peak(settings)
        if least <= limit:
            held = min(work.cache_bytes, limit - need.fit_peak(settings)) if work.fits else 0
            peak = max(least, need.fit_peak(settings) + held if work.fits else 0)
            return Capacity(settings, held, peak, limit)
    largest = max((math.prod(each.source_hw) for each in work.inputs), default=0)
    raise UsageError(
        f"the run takes about {least / 2**20:.0f} MiB of memory ({bytes_text(need.resident + LIBRARY_BYTES)} the "
        f"program, the rest what frames of {largest / 1e6:.1f} megapixels need), and may take {bytes_text(limit)}; "
        "give more by --max-memory, or smaller frames or --load-size"
    )


def stream_bytes(load: InputLoad, settings: Settings, batch: int, described: float, painters: int = 1) -> float:
    """Of streaming an input into a clip: every queue is full, and all stages are at work.

    Args:
        load: the input.
        settings: with the depth of the queues.
        batch: frames in a batch.
        described: bytes of one described frame.
        painters: frames that are painted in parallel.
    """
    depth = settings.run.queue_depth
    source_px, painted_px, processed_px = map(math.prod, (load.source_hw, load.painted_hw, load.size_hw))
    keys = KeyFrames.of(settings.keyframes, batch)
    followed = keys.interval + (depth + 2) * keys.chunk if keys.interval > 1 else 0
    lookahead = min(load.frames, ENCODER_FRAMES)
    # A lookahead frame has left the queues, except for those that are being handed over.
    left = load.frames - lookahead + 4
    # Between decoding and resizing, in batches, and behind each of three more stages; one frame in each hand.
    stages = (depth + 2) + batch * (depth + 2) + 3 * (depth + 2)
    # What looks at neighbours holds its window, and has a queue before it.
    window = 2 * settings.temporal.window + 1 if settings.temporal.window else 0
    moving = settings.saliency.own_places and settings.saliency.source != "attention"
    windows = sum(span + depth + 2 for span in (window, 2 * REACH + 1 if moving else 0) if span)
    frames = min(left, stages + followed + windows + painters - 1)
    labels = 1 + settings.cluster.parts
    pictures = 3.0 * source_px * frames + DECODED_BYTES * source_px
    encoder = (painters * PAINTED_BYTES + ENCODER_BYTES + ENCODER_FRAME_BYTES * lookahead) * painted_px
    crf = (CRF_BYTES + CRF_BLOCK_BYTES * -(-labels // 4) + FLOW_BYTES + 3 * CHUNK_FRAMES) * processed_px
    cells = cells_a_pixel(settings) or float(followed > 0)
    queues = 1 + (window > 0)
    tracks = TRACK_BYTES * min(load.frames, followed) + 4 * labels * (depth + 2) * queues * cells
    # A frame of the window: its picture, its energies and its tracks.
    steady = (3 + (TRACK_BYTES + 4 * labels) * cells) * min(load.frames, window) + FLOW_BYTES * (window > 0)
    work = pictures + encoder + crf + (tracks + steady) * processed_px
    return work + described * min(load.frames, batch + depth + 2)


def cells_a_pixel(settings: Settings) -> float:
    """Places of a processed pixel that energies are kept of; 0 where they are of a grid, whose places are few."""
    return 0.0 if settings.crf.unary_px is None else settings.crf.unary_px**-2


@dataclass(frozen=True, slots=True)
class _Need:
    """The arithmetic of a run's memory."""

    work: Workload
    engine: Engine
    labelling: LabellingBytes
    resident: int
    vit: float

    def peak(self, settings: Settings) -> int:
        """Of the whole run, without any cache in memory."""
        passes = [self.stream_peak(each, settings) for each in self.work.inputs] if self.work.paints else []
        return max([self.resident, *passes, *([self.fit_peak(settings)] if self.work.fits else [])])

    def stream_peak(self, load: InputLoad, settings: Settings) -> int:
        """Of pass 2 over one input."""
        batch = self._batch(load, settings)
        return self._with_libraries(self.labelling(load, settings, batch, self._descriptors(load)))

    def fit_peak(self, settings: Settings) -> int:
        """Of pass 1 over all inputs: describing, or k-means over what was described."""
        if not self.work.inputs:
            return self.resident
        describing = max(self._describing(each, settings) for each in self.work.inputs)
        return self._with_libraries(max(describing, self._clustering(settings)))

    def _describing(self, load: InputLoad, settings: Settings) -> float:
        batch, depth = self._batch(load, settings), settings.run.queue_depth
        window = 2 * REACH + 1 + batch * (depth + 2) if settings.saliency.source != "attention" else 0
        frames = min(load.frames, (depth + 2) + batch * (depth + 2) + window)
        pictures = (3.0 * frames + DECODED_BYTES) * math.prod(load.source_hw) + FLOW_BYTES * math.prod(load.size_hw)
        # One batch that is described, its normalised copy, one that is written, and those that wait to be.
        return pictures + self._descriptors(load) * batch * (depth + 3)

    def _clustering(self, settings: Settings) -> float:
        cluster, channels, sampled = settings.cluster, self.work.channels, self.work.sampled_descriptors
        largest = max(each.tokens for each in self.work.inputs)
        # The sample as it is gathered, as one matrix and as FAISS copies it; labels of all descriptors twice.
        sample = 3 * 4 * channels * max(sampled / cluster.sample_interval, cluster.max_clusters)
        return sample + 16 * sampled + largest * 8 * (channels + 2 * max(cluster.max_clusters, cluster.parts))

    def _with_libraries(self, work: float) -> int:
        return int(self.resident + LIBRARY_BYTES + self.vit + MARGIN * work)

    def _batch(self, load: InputLoad, settings: Settings) -> int:
        return batch_size(self.engine.extractor, load.size_hw, settings.run.batch)

    def _descriptors(self, load: InputLoad) -> float:
        return 4.0 * load.tokens * self.work.channels + 3 * math.prod(load.size_hw)


def memory_limit(settings: Settings) -> int:
    """Bytes that a run on this machine stays below."""
    given = settings.run.max_memory
    return int(given) if given is not None else int(DEFAULT_SHARE * memory_bytes())


def _smaller_and_smaller(engine: Engine, work: Workload) -> Iterator[Settings]:
    """The settings as they are, then with shorter queues and smaller batches, down to one of each."""
    settings = engine.settings
    yield settings
    batch = min((batch_size(engine.extractor, each.size_hw, settings.run.batch) for each in work.inputs), default=1)
    shorter = [(depth, batch) for depth in _halves(settings.run.queue_depth)]
    for depth, frames in [*shorter, *((1, frames) for frames in _halves(batch))]:
        yield with_values(settings, {"run.queue_depth": depth, "run.batch": frames})


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        number //= 2
        yield number
