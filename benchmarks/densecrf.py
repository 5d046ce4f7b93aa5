"""The fully connected CRF by pydensecrf: the paper's code's, and the reference for ours.

The only module that imports pydensecrf, which the extra `vidparts[densecrf]` installs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CrfSettings
from pipeline.errors import UsageError


def infer_labels(unary: NDArray[np.float32], image: NDArray[np.uint8], settings: CrfSettings) -> NDArray[np.uint8]:
    """The most probable label of each pixel after `settings.iterations` (at least one) mean-field steps.

    Args:
        unary: float32 [labels, h, w], unary energies.
        image: uint8 [h, w, 3].
        settings: kernels, weights and iterations.

    Returns:
        uint8 [h, w].

    Raises:
        UsageError: pydensecrf isn't installed.
    """
    try:
        import pydensecrf.densecrf as dcrf
    except ImportError as error:
        raise UsageError(
            "pydensecrf isn't installed; install vidparts[densecrf], which needs a C++ compiler"
        ) from error
    labels, height, width = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    kernel = {"kernel": dcrf.DIAG_KERNEL, "normalization": dcrf.NORMALIZE_SYMMETRIC}
    crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_weight, **kernel)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        # pydensecrf accepts writable buffers only; pictures may be read-only.
        rgbim=np.array(image, order="C"),
        compat=settings.bilateral_weight,
        **kernel,
    )
    marginals = np.asarray(crf.inference(settings.iterations))
    return np.asarray(marginals.argmax(axis=0).reshape(height, width), dtype=np.uint8)
