"""The fully connected CRF that sharpens parts along the picture's edges (Krähenbühl and Koltun; paper section 4).

It knows nothing of where the energies come from, nor how the inference is done: on the processor by
`pipeline.refine.meanfield`, on other devices by `pipeline.refine.meanfield_torch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CrfSettings
from pipeline.geometry import nearest_index

if TYPE_CHECKING:
    import torch


def refine_labels(
    energies: NDArray[np.float32],
    image: NDArray[np.uint8],
    settings: CrfSettings,
    device: torch.device | str = "cpu",
) -> NDArray[np.uint8]:
    """Labels of every pixel by mean-field inference in a fully connected CRF.

    Args:
        energies: float32 [labels, rows, cols], unary energies on the grid; brought to the picture by nearest neighbour.
        image: uint8 [h, w, 3], whose edges the labels follow.
        settings: kernels, weights and iterations; with 0 iterations the label of the lowest energy is returned.
        device: where the inference runs.

    Returns:
        uint8 [h, w], indices into the first axis of `energies`.
    """
    unary = energies_of_pixels(energies, image.shape[:2])
    if settings.iterations == 0:
        return np.asarray(unary.argmin(axis=0), dtype=np.uint8)
    if str(device) == "cpu":
        from pipeline.refine.meanfield import infer_labels

        return infer_labels(unary, image, settings)
    return _infer_on(device, unary, image, settings)


def energies_of_pixels(energies: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Energies [labels, rows, cols] of a grid as those of a picture's pixels, float32 [labels, h, w]."""
    height, width = size_hw
    rows, columns = nearest_index(energies.shape[1], height), nearest_index(energies.shape[2], width)
    return np.ascontiguousarray(energies[:, rows][:, :, columns], dtype=np.float32)


def _infer_on(
    device: torch.device | str, unary: NDArray[np.float32], image: NDArray[np.uint8], settings: CrfSettings
) -> NDArray[np.uint8]:
    import torch

    from pipeline.refine.meanfield_torch import infer_labels

    pixels = torch.from_numpy(np.array(image, order="C")).to(device)
    labels = infer_labels(torch.from_numpy(unary).to(device), pixels, settings)
    return np.asarray(labels.cpu().numpy(), dtype=np.uint8)
