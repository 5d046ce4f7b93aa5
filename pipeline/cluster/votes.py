"""Saliency votes: which clusters are foreground (paper section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import SaliencySettings


@dataclass(frozen=True, slots=True)
class Votes:
    """The frames' votes.

    Attributes:
        counts: int64 [k], how many frames voted for each cluster.
        salient: bool [k], which clusters are foreground; at least one.
        warning: one line where the method's own rule left no cluster, else None.
    """

    counts: NDArray[np.int64]
    salient: NDArray[np.bool_]
    warning: str | None = None


def count_votes(
    labels: list[NDArray[np.int64]],
    saliency: list[NDArray[np.float32]],
    k: int,
    settings: SaliencySettings,
) -> Votes:
    """Count the frames that find each cluster salient, and pick the foreground.

    A cluster that has no member in a frame gets no vote of it (the authors' code takes the mean of nothing there).
    Where no cluster gets enough votes (their code crashes), the one of the highest mean saliency is used.

    Args:
        labels: for each voting frame the cluster of each descriptor, int64 [n].
        saliency: for each voting frame the saliency of each descriptor, float32 [n].
        k: number of clusters.
        settings: threshold and share of votes.
    """
    means = np.stack([_mean_saliency(frame, values, k) for frame, values in zip(labels, saliency, strict=True)])
    counts = (means > settings.threshold).sum(axis=0)
    salient = counts >= math.ceil(len(labels) * settings.votes)
    if salient.any():
        return Votes(counts, salient)
    overall = _mean_saliency(np.concatenate(labels), np.concatenate(saliency), k)
    best = int(np.nanargmax(overall))
    warning = (
        f"nothing is salient: no cluster exceeds {settings.threshold:g} in {settings.votes:.0%} of the frames; "
        f"going on with the most salient one (mean saliency {overall[best]:.3f})"
    )
    return Votes(counts, np.arange(k) == best, warning)


def _mean_saliency(labels: NDArray[np.int64], saliency: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Mean saliency of each cluster's members, NaN where there are none (NaN exceeds no threshold)."""
    members = np.bincount(labels, minlength=k)
    sums = np.bincount(labels, weights=saliency, minlength=k)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / members)
