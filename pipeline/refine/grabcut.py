"""GrabCut (Rother et al.), which makes a mask follow the picture's edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]


def enlarge_mask(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """Resize a mask on the grid to the picture's size by nearest neighbour.

    The authors' code asks Pillow for Lanczos; for masks of one bit Pillow then takes the nearest cell.

    Args:
        mask: bool [rows, cols].
        size_hw: height and width wanted.
    """
    cells = Image.fromarray(mask.astype(np.uint8))
    return np.array(cells.resize(size_hw[::-1], Image.Resampling.NEAREST)) > 0


def refine_mask(mask: Mask, image: NDArray[np.uint8], iterations: int = 5, erosion_px: int = 7, seed: int = 0) -> Mask:
    """Refine a mask by GrabCut; the band along its edge is undecided (co-segmentation of the authors' code).

    Where GrabCut can't run, because there is no sure foreground or no sure background, the mask is returned as it was.

    Args:
        mask: bool [h, w].
        image: uint8 [h, w, 3].
        iterations: of GrabCut.
        erosion_px: side of the square by which foreground and background are eroded to get the sure ones.
        seed: of the colour models' initial clusters, so that a mask is the same in each run.
    """
    trimap = _trimap(mask, erosion_px)
    if not (trimap == cv2.GC_BGD).any() or not (trimap != cv2.GC_BGD).any():
        return mask
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(seed)
    try:
        cv2.grabCut(
            np.ascontiguousarray(image), trimap, None, background, foreground, iterations, cv2.GC_INIT_WITH_MASK
        )
    except cv2.error:
        # OpenCV gives up where a colour model has too few pixels for its clusters.
        return mask
    return np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _trimap(mask: Mask, erosion_px: int) -> NDArray[np.uint8]:
    square = np.ones((erosion_px, erosion_px), dtype=np.uint8)
    trimap = np.full(mask.shape, cv2.GC_PR_FGD, dtype=np.uint8)
    trimap[cv2.erode((~mask).astype(np.uint8), square) > 0] = cv2.GC_BGD
    trimap[cv2.erode(mask.astype(np.uint8), square) > 0] = cv2.GC_FGD
    return trimap
