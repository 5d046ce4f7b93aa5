"""The fully connected CRF that aligns labels with picture edges (paper section 4).

The inference itself is in `pipeline.kernels`: compiled for the CPU, in torch for other devices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CrfSettings
from pipeline.geometry import nearest_index
from pipeline.kernels import infer_labels, infer_labels_on_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def refine_labels(
    energies: NDArray[np.float32],
    image: NDArray[np.uint8],
    settings: CrfSettings,
) -> NDArray[np.uint8]:
    """Labels of every pixel by mean-field inference in a fully connected CRF.

    Args:
        energies: float32 [labels, rows, cols], unary energies of a grid or of cells; brought to the picture by nearest
            neighbour.
        image: uint8 [h, w, 3], whose edges the labels follow.
        settings: kernels, weights and iterations; with 0 iterations the label of the lowest energy is returned.

    Returns:
        uint8 [h, w], indices into the first axis of `energies`.
    """
    unary = energies_of_pixels(energies, image.shape[:2])
    if settings.iterations == 0:
        return np.asarray(unary.argmin(axis=0), dtype=np.uint8)
    return infer_labels(unary, image, settings)


def refine_on_device(energies: Tensor, image: Tensor, settings: CrfSettings) -> Tensor:
    """As `refine_labels`, on the tensors' own device; the work is queued without waiting for it.

    Args:
        energies: float32 [labels, rows, cols].
        image: uint8 [h, w, 3].
        settings: as there.

    Returns:
        uint8 [h, w].
    """
    height, width = image.shape[:2]
    rows = _nearest_index(energies.shape[1], height, energies.device)
    unary = energies[:, rows][:, :, _nearest_index(energies.shape[2], width, energies.device)]
    if settings.iterations == 0:
        return unary.argmin(dim=0).byte()
    return infer_labels_on_device(unary, image, settings)


@lru_cache(maxsize=8)
def _nearest_index(length: int, target_length: int, device: torch.device) -> Tensor:
    import torch

    return torch.from_numpy(nearest_index(length, target_length)).to(device)


def energies_of_pixels(energies: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Energies [labels, rows, cols] of a grid as those of a picture's pixels, float32 [labels, h, w]."""
    height, width = size_hw
    rows, columns = nearest_index(energies.shape[1], height), nearest_index(energies.shape[2], width)
    return np.ascontiguousarray(energies[:, rows][:, :, columns], dtype=np.float32)
