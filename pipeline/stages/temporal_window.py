"""Energies averaged along optical flow over a window of frames, so that a part keeps its label while it moves.

Each frame is averaged with those at most `window` frames away. Flow is found between neighbours only, forward and
backward, and followed from frame to frame: a place counts as far as every step on the way is trusted. A frame's result
depends on its window alone. The stage lags `window` frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.features.flow import Track, find_tracks
from pipeline.records import EnergyMap
from pipeline.refine.crf import energies_of_pixels

Floats = NDArray[np.float32]


@dataclass(slots=True)
class _Seen:
    """A frame of the window: its energies, and where its places are in the next frame and in the last one."""

    item: EnergyMap
    energies: Floats
    ahead: Track | None = None
    behind: Track | None = None


def steady(items: Iterator[EnergyMap], window: int, *, pixels: bool) -> Iterator[EnergyMap]:
    """Average each frame's energies with those of the frames around it.

    Args:
        items: energies of consecutive frames; on any device.
        window: frames before and after.
        pixels: bring energies of grids to their pictures first, where some are those of pixels already.

    Yields:
        Energies on the same device; those of the first `window` frames of a stream that doesn't begin at the clip's
        first frame lack a part of their window.
    """
    held: deque[_Seen] = deque(maxlen=2 * window + 1)
    waiting = 0
    for item in items:
        energies = item.energies.cpu().numpy()
        new = _Seen(item, energies_of_pixels(energies, item.image.shape[:2]) if pixels else energies)
        if held:
            tracks = find_tracks(item.image, held[-1].item.image)
            new.behind, held[-1].ahead = (track.on_grid(new.energies.shape[1:]) for track in tracks)
        held.append(new)
        waiting += 1
        if waiting > window:
            waiting -= 1
            yield _averaged(held, len(held) - 1 - window, window)
    for place in range(len(held) - waiting, len(held)):
        yield _averaged(held, place, window)


def _averaged(held: Sequence[_Seen], place: int, window: int) -> EnergyMap:
    centre = held[place]
    total = centre.energies.copy()
    weight = np.ones(total.shape[1:], dtype=np.float32)
    for step, end in ((-1, max(-1, place - window - 1)), (1, min(len(held), place + window + 1))):
        way: Track | None = None
        for other in range(place + step, end, step):
            last = held[other - step]
            track = last.ahead if step > 0 else last.behind
            assert track is not None
            way = track if way is None else way.then(track)
            total += way.trust * way.carry(held[other].energies)
            weight += way.trust
    found = torch.from_numpy(np.asarray(total / weight, dtype=np.float32))
    return EnergyMap(centre.item.frame, centre.item.image, found.to(centre.item.energies.device))
