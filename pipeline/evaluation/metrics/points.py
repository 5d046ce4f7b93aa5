"""PCK of key-points, and landmark regression from part centres (CUB)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def correct_points(predicted_xy: Points, truth_xy: Points, radius_px: float) -> NDArray[np.bool_]:
    """Which predicted points lie at most a radius from the annotated ones.

    Args:
        predicted_xy: [n, 2] points.
        truth_xy: [n, 2] points in the same picture.
        radius_px: distance in pixels.

    Returns:
        bool [n]; its mean is the PCK, the percentage of correct key-points.
    """
    if predicted_xy.shape != truth_xy.shape:
        raise ValueError(f"{predicted_xy.shape} predicted points for {truth_xy.shape} annotated ones")
    distances = np.linalg.norm(np.asarray(predicted_xy, np.float64) - truth_xy, axis=-1)
    return np.asarray(distances <= radius_px)


def part_centres(labels: NDArray[np.uint8], parts: int) -> Points:
    """Centroid (x, y) of each part's pixels; (0, 0) for a missing part.

    Missing parts at the corner are those of the published evaluation of Huang and Li (CVPR 2020), which Choudhury et
    al. (NeurIPS 2021) and the paper use.

    Args:
        labels: uint8 [h, w]; 0 is the background.
        parts: number of parts.

    Returns:
        [parts, 2].
    """
    rows, cols = np.nonzero(labels)
    found = labels[rows, cols]
    counts = np.maximum(np.bincount(found, minlength=parts + 1), 1)
    sums = [np.bincount(found, weights=along + 0.5, minlength=parts + 1) for along in (cols, rows)]
    return np.stack(sums, axis=1)[1 : parts + 1] / counts[1 : parts + 1, None]


def landmark_errors(
    train_centres: Points,
    train_landmarks: tuple[Points, NDArray[np.bool_]],
    test_centres: Points,
    test_landmarks: tuple[Points, NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """Distances between landmarks and their linear regression from part centres (paper section 5.1, Table 1).

    For each landmark a linear map without bias is fitted from standardised centres to the standardised landmark, on the
    train pictures where the landmark is visible (SCOPS, then Huang and Li). The paper's error is the mean of all
    distances, in per cent of the bounding box.

    Args:
        train_centres: [n, parts, 2], in units of the bounding box.
        train_landmarks: positions [n, landmarks, 2] in the same units, and visibility, bool [n, landmarks].
        test_centres: [m, parts, 2].
        test_landmarks: as `train_landmarks`, of the test pictures.

    Returns:
        [m, landmarks]; NaN where a landmark is invisible, or is visible in no train picture.
    """
    train_xy, train_visible = train_landmarks
    test_xy, test_visible = test_landmarks
    errors = np.full(test_visible.shape, np.nan)
    for landmark in range(test_visible.shape[1]):
        fit_on, used_on = train_visible[:, landmark], test_visible[:, landmark]
        if fit_on.any() and used_on.any():
            regressed = _regress(train_centres[fit_on], train_xy[fit_on, landmark], test_centres[used_on])
            errors[used_on, landmark] = np.linalg.norm(regressed - test_xy[used_on, landmark], axis=1)
    return errors


def _regress(centres: Points, landmarks: Points, test_centres: Points) -> Points:
    from sklearn.preprocessing import StandardScaler

    flat, test_flat = centres.reshape(len(centres), -1), test_centres.reshape(len(test_centres), -1)
    from_centres, to_landmarks = StandardScaler().fit(flat), StandardScaler().fit(landmarks)
    # Collinear centres make the system rank deficient; this is the minimum-norm solution. scikit-learn's
    # LinearRegression has this cut-off since 1.9; before, rounding errors decided.
    weights = np.linalg.lstsq(from_centres.transform(flat), to_landmarks.transform(landmarks), rcond=1e-6)[0]
    return np.asarray(to_landmarks.inverse_transform(from_centres.transform(test_flat) @ weights))
