import numpy as np
import pytest

from pipeline.cluster.tsne import embed_plane
from pipeline.errors import InputError


def test_descriptors_that_are_alike_lie_together() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3, 10), 20, axis=0) * 10 + rng.standard_normal((60, 10)) * 0.1
    points = embed_plane(groups.astype(np.float32), seed=0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(60) * 1e9
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    assert np.array_equal(points, embed_plane(groups.astype(np.float32), seed=0))


def test_a_handful_is_enough_and_fewer_are_refused() -> None:
    assert embed_plane(np.eye(5, dtype=np.float32), seed=0).shape == (5, 2)
    with pytest.raises(InputError, match="got 4 descriptors, expected at least 5"):
        embed_plane(np.eye(4, dtype=np.float32), seed=0)
