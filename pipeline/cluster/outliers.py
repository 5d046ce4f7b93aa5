"""Pictures that are unlike the rest of their set (the co-segmentation of the authors' code)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def similarity_to_mean(cls: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine similarity of each picture's class token to the mean over all pictures.

    The authors' code then picks pictures by positions in lists that it has shortened before; here a picture keeps
    its own row.

    Args:
        cls: float32 [pictures, channels], of any length.

    Returns:
        float64 [pictures] in [-1, 1]; 0 where one of the two vectors is zero.
    """
    vectors = cls.astype(np.float64)
    mean = vectors.mean(axis=0)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(mean)
    return np.asarray(vectors @ mean / np.where(lengths > 0, lengths, 1.0))
