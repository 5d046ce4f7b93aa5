"""The fully connected CRF that sharpens parts along the picture's edges (Krähenbühl and Koltun; paper section 4).

The only module that uses pydensecrf. It knows nothing of where the energies come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CrfSettings
from pipeline.geometry import nearest_index


def refine_labels(energies: NDArray[np.float32], image: NDArray[np.uint8], settings: CrfSettings) -> NDArray[np.uint8]:
    """Labels of every pixel by mean-field inference in a fully connected CRF.

    Args:
        energies: float32 [labels, rows, cols], unary energies on the grid; brought to the picture by nearest neighbour.
        image: uint8 [h, w, 3], whose edges the labels follow.
        settings: kernels, weights and iterations; with 0 iterations the label of the lowest energy is returned.

    Returns:
        uint8 [h, w], indices into the first axis of `energies`.
    """
    height, width = image.shape[:2]
    rows, cols = nearest_index(energies.shape[1], height), nearest_index(energies.shape[2], width)
    unary = energies[:, rows][:, :, cols]
    if settings.iterations == 0:
        return np.asarray(unary.argmin(axis=0), dtype=np.uint8)
    # pydensecrf takes writable buffers only, and pictures may be read-only.
    return _infer(np.ascontiguousarray(unary), np.array(image, order="C"), settings)


def _infer(unary: NDArray[np.float32], image: NDArray[np.uint8], settings: CrfSettings) -> NDArray[np.uint8]:
    import pydensecrf.densecrf as dcrf

    labels, height, width = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary.reshape(labels, -1))
    kernel = {"kernel": dcrf.DIAG_KERNEL, "normalization": dcrf.NORMALIZE_SYMMETRIC}
    crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_weight, **kernel)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=image,
        compat=settings.bilateral_weight,
        **kernel,
    )
    marginals = np.asarray(crf.inference(settings.iterations))
    return np.asarray(marginals.argmax(axis=0).reshape(height, width), dtype=np.uint8)
