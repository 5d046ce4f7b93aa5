"""Foreground against background, from clusters of which some are salient (co-segmentation; paper section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assign import PartAssigner


@dataclass(frozen=True, slots=True, eq=False)
class ForegroundAssigner:
    """Tells foreground from background by the nearest cluster.

    Attributes:
        clusters: the salient clusters as parts, the others as background.
    """

    clusters: PartAssigner

    @classmethod
    def of(
        cls, centroids: NDArray[np.float32], salient: NDArray[np.bool_], device: torch.device | str = "cpu"
    ) -> ForegroundAssigner:
        """The assigner of clusters [k, channels], of which `salient`, bool [k], are foreground."""
        parts, background = torch.from_numpy(centroids[salient]), torch.from_numpy(centroids[~salient])
        return cls(PartAssigner(parts.to(device), background.to(device)))

    def energies(self, descriptors: Tensor) -> Tensor:
        """Squared distances to the nearest background and foreground cluster, the larger of each position subtracted.

        Args:
            descriptors: float32 [rows, cols, channels], L2-normalised.

        Returns:
            float32 [2, rows, cols]; the foreground is where the second is the lower.
        """
        each = self.clusters.energies(descriptors)
        both = torch.stack([each[0], each[1:].amin(dim=0)])
        return both - both.amax(dim=0)
