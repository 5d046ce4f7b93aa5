"""Saliency in labels, place by place: each frame's own, or what all frames of an input share.

Shared saliency is each frame's own, regressed on the descriptors of all that the fit has seen of an input, be it a
video or a set of pictures. The object is the same in every frame, what is behind it isn't. So errors of single frames'
saliency go where one linear function of the descriptors has to explain it in all of them, and a frame needs no saliency
of its own to be labelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.feature_cache import CachedFeatures, FeatureCache
from pipeline.graph import single_threaded

PEAK = 0.98
"""Share of a frame's places whose saliency is below its peak: a single place may stand far above all others."""

RIDGE = 0.001
"""Penalty of the regression, a share of the mean squared length of a descriptor."""


class Voting(Sized, Protocol):
    """Descriptors and saliency of the frames that vote; can be iterated again."""

    def __iter__(self) -> Iterator[CachedFeatures]:
        """One frame's after the other."""


def fit_shared(cache: FeatureCache) -> NDArray[np.float32]:
    """Regress each frame's own saliency on descriptors, for all inputs together and, of several, for each.

    Args:
        cache: L2-normalised descriptors and saliency of at least one frame; keys are (input, frame) numbers.

    Returns:
        Float32 [1, channels + 1], or [1 + inputs, channels + 1] where several are in the cache: weights of the
        channels, and what is added to their sum. The first row is that of all inputs together, and of those of which
        the fit has seen no frame.
    """
    together, inputs = _regress(cache), cache.inputs()
    if len(inputs) == 1:
        return together[None]
    tables = np.tile(together, (2 + max(inputs), 1))
    for number in inputs:
        tables[1 + number] = _regress(cache.of(number))
    return tables


def shared_of(tables: NDArray[np.float32], number: int | None) -> Tensor:
    """The row of an input; None is one that the fit hasn't seen."""
    row = 0 if number is None or number + 1 >= len(tables) else number + 1
    return torch.from_numpy(tables[row].copy())


@dataclass(frozen=True, slots=True, eq=False)
class SharedSaliency:
    """The saliency of descriptors by a row of `fit_shared`, on their device."""

    table: Tensor

    def of(self, descriptors: Tensor) -> Tensor:
        """Saliency in [0, 1], float32 [rows, cols], of descriptors [rows, cols, channels]."""
        return (descriptors @ self.table[:-1] + self.table[-1]).clamp(0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class SharedVoting:
    """Frames that vote by the saliency that their input's frames share, in place of their own."""

    own: FeatureCache
    tables: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.own)

    def __iter__(self) -> Iterator[CachedFeatures]:
        """One frame's after the other."""
        for (number, _), entry in self.own.items():
            saliency = SharedSaliency(shared_of(self.tables, number)).of(torch.tensor(entry.descriptors))
            yield replace(entry, saliency=saliency.numpy())


def with_saliency(energies: Tensor, saliency: Tensor, weight: float, neutral: float) -> Tensor:
    """Energies in which each place's saliency speaks beside the clusters.

    The background's energy grows by `weight` times what the saliency is above `neutral`, so that a place becomes an
    object where the saliency says so though its cluster isn't salient, and the other way round.

    Args:
        energies: float32 [labels, rows, cols]; index 0 is the background.
        saliency: float32 [rows, cols] in [0, 1]; a frame's own is `evened` before.
        weight: of the saliency against squared distances.
        neutral: saliency, as a share of the frame's peak, that changes nothing.

    Returns:
        float32 [labels, rows, cols], minus the maximum of each position.
    """
    background = energies[:1] + weight * (_shares_of_peak(saliency) - neutral)
    found = torch.cat([background, energies[1:]])
    return found - found.amax(dim=0)


def evened(saliency: Tensor) -> Tensor:
    """Means of 3 x 3 places [rows, cols]: attention jumps between neighbouring patches, what frames share doesn't."""
    return torch.nn.functional.avg_pool2d(saliency[None, None], 3, 1, 1, count_include_pad=False)[0, 0]


def _shares_of_peak(saliency: Tensor) -> Tensor:
    peak = torch.quantile(saliency.flatten(), PEAK)
    return (saliency / peak.clamp_min(1e-6)).clamp(0.0, 1.0)


def _regress(entries: Iterable[CachedFeatures]) -> NDArray[np.float32]:
    """Ridge regression of the masks that Otsu's threshold makes of saliency; one frame in memory at a time."""
    normal, moments, places = np.zeros(()), np.zeros(()), 0
    with single_threaded():
        for entry in entries:
            flat = entry.descriptors.reshape(-1, entry.descriptors.shape[-1])
            rows = np.hstack([flat, np.ones((len(flat), 1), np.float32)])
            # A frame's sums are in float32, which takes less than half the time; those of all frames in float64.
            normal = normal + rows.T @ rows
            moments = moments + rows.T @ _mask(entry.saliency).ravel()
            places += len(rows)
        return np.linalg.solve(normal + RIDGE * places * np.eye(len(normal)), moments).astype(np.float32)


def _mask(saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = (255 * _shares_of_peak(evened(torch.tensor(saliency))).numpy()).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return (grey > threshold).astype(np.float32)
