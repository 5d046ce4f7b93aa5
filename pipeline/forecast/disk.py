"""How much disk a run will take, and the refusal to begin one that there is no room for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.frame_sampling import spread_frames
from pipeline.errors import InputError, OutputError
from pipeline.geometry import processed_size
from pipeline.media.source import Source
from pipeline.painting.styles import painted_size
from pipeline.stages.engine import Engine, selection_of

LABEL_BYTES = 0.03
"""Of a label map's pixel once it is compressed; 0.017 to 0.042 on six clips."""

CLIP_BITS = 0.2
"""Of a painted pixel, at the encoder's constant rate factor 18; 0.04 to 0.38 on six clips."""

CRF_HALVING = 6
"""Steps of the rate factor that halve a clip."""

PICTURE_BYTES = 1.5
"""Of a painted pixel as a PNG."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes that a run writes: the fit's cache, which goes at the end, label maps, clips, and painted frames."""

    cache: int = 0
    labels: int = 0
    clips: int = 0
    frames: int = 0

    @property
    def total(self) -> int:
        """All of it, as it is just before the end."""
        return self.cache + self.labels + self.clips + self.frames


def estimate_disk(sources: Sequence[Source], engine: Engine, *, fits: bool, save_frames: bool) -> DiskNeed:
    """The disk that a run will take; inputs that can't be read count for nothing.

    Args:
        sources: the inputs.
        engine: model and settings.
        fits: whether a codebook is fitted.
        save_frames: whether painted frames are written too.
    """
    settings, readable = engine.settings, [_measured(source, engine) for source in sources]
    counts = [frames for frames, _ in readable]
    budget, interval = settings.cluster.frames, settings.keyframes.interval
    samples = spread_frames(counts, budget, interval) if fits else [[]] * len(sources)
    cache = labels = clips = pictures = 0.0
    for (frames, size_hw), sample in zip(readable, samples, strict=True):
        if not frames:
            continue
        height, width = processed_size(size_hw, settings.features.load_size)
        rows, cols = engine.extractor.grid_hw((height, width))
        painted_h, painted_w = painted_size(size_hw, settings.render.style)
        cache += len(sample) * rows * cols * (engine.extractor.channels + 1) * 4
        labels += frames * height * width * LABEL_BYTES
        pixels = frames * painted_h * painted_w
        clips += pixels * CLIP_BITS / 8 * 2 ** ((18 - settings.render.crf) / CRF_HALVING)
        pictures += pixels * PICTURE_BYTES if save_frames else 0
    return DiskNeed(int(cache), int(labels), int(clips), int(pictures))


def require_space(output: Path, need: DiskNeed, done: int = 0) -> None:
    """Refuse a run that the disk has no room for.

    Args:
        output: a directory that is there.
        need: what the run takes.
        done: bytes of it that an interrupted run has written already.

    Raises:
        OutputError: says what there is and what is needed.
    """
    free, wanted = shutil.disk_usage(output).free, need.total - done
    if free < wanted:
        raise OutputError(
            f"'{output}' has {_size(free)} free, and the run takes about {_size(wanted)} "
            f"(labels {_size(need.labels)}, clips {_size(need.clips)}, frames {_size(need.frames)}, "
            f"the fit's cache {_size(need.cache)}); free some or give another --output"
        )


def written_bytes(folder: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _measured(source: Source, engine: Engine) -> tuple[int, tuple[int, int]]:
    try:
        info, frames = source.probe(), source.count(selection_of(engine.settings))
        engine.extractor.grid_hw(processed_size(info.size_hw, engine.settings.features.load_size))
    except InputError:
        return 0, (0, 0)
    return frames, info.size_hw


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
