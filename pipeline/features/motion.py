"""Saliency from motion: optical flow minus the camera's homography; needs no weights.

Dense optical flow (DIS, Kroeger et al., ECCV 2016) to frames a little before and after, less the homography that
RANSAC finds in it: what remains is the object's own motion, or the parallax of what stands near.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.geometry import grid_size
from pipeline.optical_flow import fast_flow

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]

DISTANCES = (2, 4)
"""Frames between the two pictures of a flow: nearer ones hardly move, farther ones are no longer found."""
REACH = max(DISTANCES)
"""Frames before and after the one asked for that a window may hold with any use."""

STILL_SHARE = 0.35
"""What attention counts where nothing moves, against 1 where all does: objects pause, and flow misses plain ones."""

_POINT_STEP_PX = 8
"""Distance of the flow's points that the homography is fitted to."""
_INLIER_PX = 1.0
_STILL_PX = 1.0
"""Own motion, pixels, that counts as fully salient at least: below it is the noise of flow in a still clip."""
_PEAK_PERCENTILE = 98.0
_RANSAC_ITERATIONS = 500
_RANSAC_CONFIDENCE = 0.995


def motion_saliency(window: Sequence[Picture], index: int, patch_px: int, stride_px: int) -> Map:
    """Own motion of one frame of a window, on the grid of patches.

    Flows go to the frames `DISTANCES` away on both sides that the window holds; at a clip's ends one side will do.

    Args:
        window: uint8 [h, w, 3] each, consecutive frames at the processed size.
        index: which of them is asked for.
        patch_px: side of a patch.
        stride_px: distance of neighbouring patches.

    Returns:
        float32 [rows, cols] in [0, 1]; all 0 where the window holds a single frame.

    Raises:
        InputError: the frames differ in size, or are smaller than a patch.
    """
    size_hw = window[index].shape[:2]
    if any(frame.shape != window[index].shape for frame in window):
        sizes = sorted({frame.shape[:2] for frame in window})
        raise InputError(f"frames of one window must have one size, got {sizes}; give clips of one size")
    rows, cols = grid_size(size_hw, patch_px, stride_px)
    strength = own_motion([_grey(frame) for frame in window], index)
    per_patch = cv2.blur(strength, (patch_px, patch_px), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    on_grid = per_patch[: rows * stride_px : stride_px, : cols * stride_px : stride_px]
    return np.ascontiguousarray(on_grid, dtype=np.float32)


def blend_saliency(attention: Map, motion: Map) -> Map:
    """What is attended to, the more so where it moves; float32 of the same shape, the largest value 1 (or all 0).

    A product, since the two fail differently: attention on the ground's salient things, which don't move; motion on
    water and leaves, which aren't attended to.

    Args:
        attention: [rows, cols] in [0, 1].
        motion: [rows, cols] in [0, 1], as `motion_saliency` gives it.

    >>> blend_saliency(np.array([[1.0, 1.0, 0.0]]), np.array([[1.0, 0.0, 1.0]])).round(2).tolist()
    [[1.0, 0.3499999940395355, 0.0]]
    """
    blended = attention * (STILL_SHARE + (1 - STILL_SHARE) * motion)
    return np.asarray(blended / max(float(blended.max()), 1e-6), dtype=np.float32)


def own_motion(grey: Sequence[NDArray[np.uint8]], index: int) -> Map:
    """Own motion of one frame of a window of grey frames [h, w]; float32 [h, w] in [0, 1]."""
    others = neighbours(index, len(grey))
    if not others:
        return np.zeros(grey[index].shape, dtype=np.float32)
    flow_of = fast_flow()
    maps = [normalise(residual(flow_of.calc(grey[index], grey[other], None))) for other in others]
    return np.asarray(np.mean(maps, axis=0), dtype=np.float32)


def neighbours(index: int, length: int) -> list[int]:
    """Frames that flows go to: those `DISTANCES` away that exist, or else the farthest one.

    >>> neighbours(5, 10)
    [3, 7, 1, 9]
    >>> neighbours(0, 2)
    [1]
    """
    wanted = [index + sign * distance for distance in DISTANCES for sign in (-1, 1)]
    found = [other for other in wanted if 0 <= other < length]
    farthest = 0 if index >= length - index - 1 else length - 1
    return found or [farthest] * (farthest != index)


def residual(flow: NDArray[np.float32]) -> Map:
    """Length of what remains of a flow [h, w, 2] after the camera's own, in pixels; float32 [h, w]."""
    height, width = flow.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    step = min(_POINT_STEP_PX, max(1, min(height, width) // 4))
    source = grid[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    moved = source + flow[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    camera = _homography(source, moved)
    if camera is None:
        own = flow - np.median(flow.reshape(-1, 2), axis=0)
    else:
        own = grid + flow - cv2.perspectiveTransform(grid.reshape(1, -1, 2), camera).reshape(height, width, 2)
    return np.asarray(cv2.magnitude(*cv2.split(own)), dtype=np.float32)


def normalise(strength: Map) -> Map:
    """Bring own motion in pixels [h, w] to [0, 1]: a high percentile becomes 1, or `_STILL_PX` in still clips."""
    peak = max(float(np.percentile(strength, _PEAK_PERCENTILE)), _STILL_PX)
    return np.asarray(np.clip(strength / peak, 0, 1), dtype=np.float32)


def _homography(source: Map, moved: Map) -> NDArray[np.float64] | None:
    # OpenCV seeds its random numbers for this afresh at each call, so equal frames give equal maps.
    found, _ = cv2.findHomography(
        source, moved, cv2.USAC_FAST, _INLIER_PX, maxIters=_RANSAC_ITERATIONS, confidence=_RANSAC_CONFIDENCE
    )
    return found if found is not None and np.isfinite(found).all() else None


def _grey(frame: Picture) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
