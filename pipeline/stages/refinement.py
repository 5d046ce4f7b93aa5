"""From the energies of a frame's parts to its label map, and from that to a painted frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cluster.codebook import Codebook
from pipeline.config import CrfSettings, RenderSettings
from pipeline.device import downloaded, upload
from pipeline.geometry import resize_labels
from pipeline.graph import processors, side_by_side
from pipeline.painting.styles import paint
from pipeline.records import EnergyMap, PartMap
from pipeline.refine.crf import refine_labels, refine_on_device


def refine(items: Iterator[EnergyMap], settings: CrfSettings, device: torch.device) -> Iterator[PartMap]:
    """Label maps that follow the pictures' edges, by the CRF: on the CPU several frames in parallel, on CUDA queued."""
    if device.type == "cpu":
        return side_by_side(items, lambda item: _refined(item, settings), processors())
    return refine_queued(items, settings, device)


def _refined(item: EnergyMap, settings: CrfSettings) -> PartMap:
    return PartMap(item.frame, refine_labels(item.energies.numpy(), item.image, settings))


def refine_queued(items: Iterator[EnergyMap], settings: CrfSettings, device: torch.device) -> Iterator[PartMap]:
    """Queue the CRF on the device; copy back only the label maps, some frames later, so that nothing waits for it."""
    queued = (
        (item.frame, refine_on_device(item.energies, upload([item.image], device)[0], settings)) for item in items
    )
    return (PartMap(frame, labels) for frame, labels in downloaded(queued))


PAINTERS = 4
"""Frames that are painted in parallel beside a GPU, at most: one thread paints 120 of 720p a second."""


def painters(device: torch.device) -> int:
    """Frames that are painted in parallel: on the CPU one, since the processors have enough to do."""
    return 1 if device.type == "cpu" else min(PAINTERS, processors())


def paint_parts(part: PartMap, codebook: Codebook, settings: RenderSettings) -> NDArray[np.uint8]:
    """A frame with its parts in the codebook's colours, uint8 [height, width, 3]."""
    labels = resize_labels(part.labels, part.frame.size_hw)
    return paint(part.frame.rgb, labels, codebook.part_colors, settings.style, settings.alpha)
