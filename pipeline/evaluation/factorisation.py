"""Deep feature factorisation as a baseline of the paper's Tables 1 and 2 (Collins, Achanta and Süsstrunk, ECCV 2018).

Non-negative matrix factorisation of all descriptors of a set: each factor is a direction in the descriptors, and its
coefficients at a picture's positions are a heat map. Theirs are a CNN's activations, which aren't negative; here
negative channels count as zero, for any model. One factor alone tells foreground from background, by Otsu's threshold
over the set; as many as there are parts tell these apart, by the largest coefficient in units of the factor's largest
in the set. What thresholds the published tables used couldn't be read anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ITERATIONS = 1000
"""At most; it ends when the error falls by less than TOLERANCE."""

TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Factors of the descriptors of a set.

    Attributes:
        object_factor: float32 [1, channels].
        threshold: coefficient of it above which a position is foreground.
        parts: float32 [parts, channels], in units of their largest coefficients.
    """

    object_factor: Floats
    threshold: float
    parts: Floats

    def energies(self, descriptors: Floats) -> Floats:
        """Unary energies of background and parts: 0 for a position's label, 1 for others; of the background, hardly
        less than 1 for the likeliest part.

        Args:
            descriptors: [rows, cols, channels].

        Returns:
            float32 [1 + parts, rows, cols].
        """
        rows, cols, channels = descriptors.shape
        flat = descriptors.reshape(-1, channels)
        foreground = coefficients(flat, self.object_factor)[:, 0] > self.threshold
        energies = np.ones((1 + len(self.parts), len(flat)), dtype=np.float32)
        energies[0, ~foreground] = 0
        nearest = coefficients(flat, self.parts).argmax(axis=1)
        energies[1 + nearest, np.arange(len(flat))] = np.where(foreground, 0, 0.999)
        return energies.reshape(-1, rows, cols)


def factorise(sample: Floats, parts: int, seed: int) -> Factors:
    """Factorise a sample of descriptors [n, channels].

    Args:
        sample: of all pictures of a set.
        parts: factors beside that of the object.
        seed: of the factors' start.
    """
    positive = np.maximum(sample, 0)
    object_factor, heat = _factors(positive, 1, seed)
    found, shares = _factors(positive, parts, seed)
    largest = np.maximum(shares.max(axis=0), 1e-12)
    return Factors(object_factor, _otsu(heat), (found * largest[:, None]).astype(np.float32))


def coefficients(descriptors: Floats, factors: Floats) -> Floats:
    """Coefficients [n, k], not negative, with which factors [k, channels] make up descriptors [n, channels]."""
    from sklearn.decomposition import non_negative_factorization

    positive = np.ascontiguousarray(np.maximum(descriptors, 0), dtype=np.float32)
    ending = {"tol": TOLERANCE, "max_iter": ITERATIONS}
    found, _, _ = non_negative_factorization(
        positive, H=factors, n_components=len(factors), init="custom", update_H=False, **ending
    )
    return np.asarray(found, dtype=np.float32)


def _factors(positive: Floats, k: int, seed: int) -> tuple[Floats, Floats]:
    from sklearn.decomposition import NMF

    model = NMF(k, init="nndsvda", random_state=seed, tol=TOLERANCE, max_iter=ITERATIONS)
    shares = model.fit_transform(positive)
    return np.asarray(model.components_, dtype=np.float32), np.asarray(shares, dtype=np.float32)


def _otsu(values: Floats) -> float:
    """The threshold between two classes of values that aren't negative: the middle of the means of Otsu's classes."""
    import cv2

    largest = max(float(values.max()), 1e-12)
    grey = (values / largest * 255).astype(np.uint8).reshape(-1, 1)
    above = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1].reshape(values.shape) > 0
    # Otsu's own is the lowest of all thresholds that give these classes.
    return float((values[above].mean() + values[~above].mean()) / 2) if above.any() and not above.all() else 0.0
