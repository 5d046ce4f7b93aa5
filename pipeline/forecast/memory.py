"""How much memory a run will take, and the batch, queues and cache with which it stays below a limit.

The figures are an upper bound that is meant to be near: they assume that every queue is full. No label depends on
what is chosen here, but for the batch on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.cluster.frame_sampling import spread_frames
from pipeline.config import Settings, with_values
from pipeline.errors import InputError, UsageError
from pipeline.features.motion import REACH
from pipeline.forecast.machine import memory_bytes, resident_bytes
from pipeline.geometry import processed_size
from pipeline.media.label_store import CHUNK_FRAMES
from pipeline.media.source import Source
from pipeline.painting.styles import painted_size
from pipeline.stages.batches import batch_size
from pipeline.stages.engine import Engine, selection_of
from pipeline.stages.key_frames import KeyFrames

DEFAULT_SHARE = 0.8
"""Of the machine's memory, where no limit is given: the rest is for its other processes and its file cache."""

LIBRARY_BYTES = 400 * 2**20
"""What libraries take that are loaded after the model: FAISS, FFmpeg, the kernels' compiler; 320 to 370 MiB."""

EXIT_BYTES = 230 * 2**20
"""What the CUDA build of torch reads from the disk when a process ends, on top of what is left by then."""

DECODED_BYTES = 20
"""Of a source's pixel: frames that the decoder holds, and the conversion to RGB; 14 to 15 on two cores."""

PAINTED_BYTES = 36
"""Of a painted pixel: labels brought to its size, and the picture; 14 to 35 in the five styles."""

ENCODER_BYTES, ENCODER_FRAME_BYTES, ENCODER_FRAMES = 55, 2.9, 55
"""Of a painted pixel: x264 itself, each frame that it looks ahead at, and how many these are; 100 to 117 in all after
20 frames, 182 to 208 after 60."""

CRF_BYTES, CRF_BLOCK_BYTES = 250, 80
"""Of a processed pixel: its two lattices, and each four labels; 260 to 420 on a real frame with 2 to 9 labels."""

FLOW_BYTES = 145
"""Of a processed pixel: optical flow forth and back."""

TRACK_BYTES = 40
"""Of a processed pixel of a frame that is followed to two key frames."""

ACTIVATION_SHARE = 1.5
"""Of the tensors that one block names, what one pass of the ViT takes: 15 to 17 kB a token where these are 10.8 kB."""

MARGIN = 1.05
"""What the allocator leaves between its blocks."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the memory of an input depends on.

    Attributes:
        frames: how many are processed.
        source_px: pixels of a frame.
        painted_px: pixels of a painted frame.
        size_hw: processed height and width.
        tokens: positions of the grid.
    """

    frames: int
    source_px: int
    painted_px: int
    size_hw: tuple[int, int]
    tokens: int

    @property
    def processed_px(self) -> int:
        """Pixels at the processed size."""
        return self.size_hw[0] * self.size_hw[1]


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


def size_run(sources: Sequence[Source], engine: Engine, *, fits: bool, paints: bool = True) -> Capacity:
    """The largest batch, queues and cache, up to those of the settings, with which a run stays below its limit.

    Args:
        sources: the inputs; those that can't be read count for nothing.
        engine: model and settings.
        fits: whether a codebook is fitted.
        paints: whether frames are segmented and painted.

    Raises:
        UsageError: the limit is too low for one frame at a time.
    """
    shapes = [shape for source in sources if (shape := shape_of(source, engine)) is not None]
    limit, need = _limit(engine.settings), _Need(engine, resident_bytes(), fits, paints)
    for settings in _smaller_and_smaller(engine, shapes):
        least = need.peak(shapes, settings)
        if least <= limit:
            cache = _cache_bytes(shapes, engine) if fits else 0
            held = min(cache, limit - need.fit_peak(shapes, settings)) if fits else 0
            peak = max(least, need.fit_peak(shapes, settings) + held if fits else 0)
            return Capacity(settings, held, peak, limit)
    raise UsageError(
        f"the run takes about {_mebibytes(least)} of memory ({_mebibytes(need.resident + LIBRARY_BYTES)} the program, "
        f"the rest what frames of {max((shape.source_px for shape in shapes), default=0) / 1e6:.1f} megapixels need), "
        f"and may take {_mebibytes(limit)}; give more by --max-memory, or smaller frames or --load-size"
    )


def shape_of(source: Source, engine: Engine) -> Shape | None:
    """What the memory of an input depends on; None where it can't be read."""
    settings = engine.settings
    try:
        info, frames = source.probe(), source.count(selection_of(settings))
        size_hw = processed_size(info.size_hw, settings.features.load_size)
        rows, cols = engine.extractor.grid_hw(size_hw)
    except InputError:
        return None
    height, width = painted_size(info.size_hw, settings.render.style)
    return Shape(frames, info.size_hw[0] * info.size_hw[1], height * width, size_hw, rows * cols)


@dataclass(frozen=True, slots=True)
class _Need:
    """The arithmetic of a run's memory."""

    engine: Engine
    resident: int
    fits: bool
    paints: bool

    def peak(self, shapes: Sequence[Shape], settings: Settings) -> int:
        """Of the whole run, without any cache in memory."""
        passes = [self.stream_peak(shape, settings) for shape in shapes] if self.paints else []
        return max([self.resident, *passes, *([self.fit_peak(shapes, settings)] if self.fits else [])])

    def stream_peak(self, shape: Shape, settings: Settings) -> int:
        """Of pass 2 over one input: every queue is full, and all stages are at work."""
        batch, depth = self._batch(shape, settings), settings.run.queue_depth
        # Between decoding and resizing, in batches, and behind each of three more stages; one frame in each hand.
        keys = KeyFrames.of(settings.keyframes, batch)
        followed = keys.interval + (depth + 2) * keys.chunk if keys.interval > 1 else 0
        looked_ahead = min(shape.frames, ENCODER_FRAMES)
        # A frame that the encoder looks ahead at has left the queues, but for those that are just being handed over.
        left = shape.frames - looked_ahead + 4
        frames = min(left, (depth + 2) + batch * (depth + 2) + 3 * (depth + 2) + followed)
        labels = 1 + settings.cluster.parts
        work = (
            3.0 * shape.source_px * frames
            + DECODED_BYTES * shape.source_px
            + (PAINTED_BYTES + ENCODER_BYTES + ENCODER_FRAME_BYTES * looked_ahead) * shape.painted_px
            + (CRF_BYTES + CRF_BLOCK_BYTES * -(-labels // 4) + FLOW_BYTES + 3 * CHUNK_FRAMES) * shape.processed_px
            + self._descriptors(shape) * min(shape.frames, batch + depth + 2)
            + (TRACK_BYTES * min(shape.frames, followed) + 4 * labels * (depth + 2) * (followed > 0))
            * shape.processed_px
            + self._activations(shape)
        )
        return self._with_libraries(work)

    def fit_peak(self, shapes: Sequence[Shape], settings: Settings) -> int:
        """Of pass 1 over all inputs: describing, or k-means over what was described."""
        if not shapes:
            return self.resident
        describing = max(self._describing(shape, settings) for shape in shapes)
        return self._with_libraries(max(describing, self._clustering(shapes, settings)))

    def _describing(self, shape: Shape, settings: Settings) -> float:
        batch, depth = self._batch(shape, settings), settings.run.queue_depth
        window = 2 * REACH + 1 + batch * (depth + 2) if settings.saliency.source != "attention" else 0
        frames = min(shape.frames, (depth + 2) + batch * (depth + 2) + window)
        pictures = (3.0 * frames + DECODED_BYTES) * shape.source_px + FLOW_BYTES * shape.processed_px
        # One batch that is described, its copy of unit length, one that is written, and those that wait for that.
        return pictures + self._descriptors(shape) * batch * (depth + 3) + self._activations(shape)

    def _clustering(self, shapes: Sequence[Shape], settings: Settings) -> float:
        cluster, channels = settings.cluster, self.engine.extractor.channels
        sampled = sum(
            len(sample) * shape.tokens for sample, shape in zip(_samples(shapes, settings), shapes, strict=True)
        )
        largest = max(shape.tokens for shape in shapes)
        # The sample as it is gathered, as one matrix and as FAISS copies it; labels of all descriptors twice.
        sample = 3 * 4 * channels * max(sampled / cluster.sample_interval, cluster.max_clusters)
        return sample + 16 * sampled + largest * 8 * (channels + 2 * max(cluster.max_clusters, cluster.parts))

    def _with_libraries(self, work: float) -> int:
        # At the end half of it is given back to the system, and what leaving takes comes on top.
        return int(self.resident + LIBRARY_BYTES + MARGIN * max(work, work / 2 + EXIT_BYTES))

    def _batch(self, shape: Shape, settings: Settings) -> int:
        return batch_size(self.engine.extractor, shape.size_hw, settings.run.batch)

    def _descriptors(self, shape: Shape) -> float:
        return 4.0 * shape.tokens * self.engine.extractor.channels + 3 * shape.processed_px

    def _activations(self, shape: Shape) -> float:
        extractor = self.engine.extractor
        if extractor.device.type != "cpu":
            return 0.0
        return ACTIVATION_SHARE * shape.tokens * extractor.backbone.config.token_bytes


def _limit(settings: Settings) -> int:
    given = settings.run.max_memory
    return int(given) if given is not None else int(DEFAULT_SHARE * memory_bytes())


def _smaller_and_smaller(engine: Engine, shapes: Sequence[Shape]) -> Iterator[Settings]:
    """The settings as they are, then with shorter queues and smaller batches, down to one of each."""
    settings = engine.settings
    yield settings
    batches = [batch_size(engine.extractor, shape.size_hw, settings.run.batch) for shape in shapes]
    batch = min(batches, default=1)
    shorter = [(depth, batch) for depth in _halves(settings.run.queue_depth)]
    for depth, frames in [*shorter, *((1, frames) for frames in _halves(batch))]:
        yield with_values(settings, {"run.queue_depth": depth, "run.batch": frames})


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        number //= 2
        yield number


def _cache_bytes(shapes: Sequence[Shape], engine: Engine) -> int:
    entries = zip(_samples(shapes, engine.settings), shapes, strict=True)
    return sum(len(sample) * shape.tokens * (engine.extractor.channels + 1) * 4 for sample, shape in entries)


def _samples(shapes: Sequence[Shape], settings: Settings) -> list[list[int]]:
    return spread_frames([shape.frames for shape in shapes], settings.cluster.frames)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
