"""t-SNE: descriptors as points in a plane (paper, figure 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.graph import single_threaded

PERPLEXITY = 30.0
LEAST_POINTS = 5


def embed_plane(descriptors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """t-SNE (scikit-learn), started from the first two principal components.

    Args:
        descriptors: [n, channels].
        seed: of the optimisation.

    Returns:
        [n, 2], in no unit.

    Raises:
        InputError: there are too few descriptors.
    """
    from sklearn.manifold import TSNE

    if len(descriptors) < LEAST_POINTS:
        raise InputError(
            f"t-SNE got {len(descriptors)} descriptors, expected at least {LEAST_POINTS}; "
            "give more pictures or a larger --load-size"
        )
    perplexity = min(PERPLEXITY, (len(descriptors) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    # A thousand short steps would also wait for each other on a busy machine.
    with single_threaded():
        return np.asarray(tsne.fit_transform(descriptors), dtype=np.float32)
