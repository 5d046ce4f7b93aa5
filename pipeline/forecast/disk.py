"""How much disk a run takes, and the refusal to begin one that there is no room for."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import RenderSettings
from pipeline.errors import OutputError
from pipeline.files import bytes_text
from pipeline.forecast.workload import Workload

LABEL_BYTES = 0.03
"""Bytes per pixel of a compressed label map; 0.017 to 0.042 on six clips."""

CLIP_BITS = 0.2
"""Bits per painted pixel at the encoder's constant rate factor 18; 0.04 to 0.38 on six clips."""

CRF_HALVING = 6
"""Steps of the constant rate factor that halve a clip's size."""

PICTURE_BYTES = 1.5
"""Bytes per painted pixel of a PNG."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes that a run writes: the fit's cache, which is removed at the end, label maps, clips, and painted frames."""

    cache: int = 0
    labels: int = 0
    clips: int = 0
    frames: int = 0

    @property
    def total(self) -> int:
        """All of it: the most that is on the disk at once."""
        return self.cache + self.labels + self.clips + self.frames


def estimate_disk(work: Workload, render: RenderSettings, *, save_frames: bool) -> DiskNeed:
    """The disk space that a run takes; `save_frames`: painted frames are written too."""
    labelled = sum(each.frames * math.prod(each.size_hw) for each in work.inputs)
    painted = sum(each.frames * math.prod(each.painted_hw) for each in work.inputs)
    clips = painted * CLIP_BITS / 8 * 2 ** ((18 - render.crf) / CRF_HALVING)
    pictures = painted * PICTURE_BYTES if save_frames else 0
    return DiskNeed(work.cache_bytes, int(labelled * LABEL_BYTES), int(clips), int(pictures))


def require_space(output: Path, need: DiskNeed, done: int = 0) -> None:
    """Refuse a run that the disk of a directory has no room for; `done` bytes of it an interrupted run has written.

    Raises:
        OutputError: says what there is and what is needed.
    """
    free, wanted = shutil.disk_usage(output).free, need.total - done
    if free < wanted:
        raise OutputError(
            f"'{output}' has {bytes_text(free)} free, and the run takes about {bytes_text(wanted)} "
            f"(labels {bytes_text(need.labels)}, clips {bytes_text(need.clips)}, frames {bytes_text(need.frames)}, "
            f"the fit's cache {bytes_text(need.cache)}); free some or give another --output"
        )


def written_bytes(folder: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
