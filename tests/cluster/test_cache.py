from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster.cache import FeatureCache
from pipeline.errors import OutputError


def test_frames_come_back_bit_by_bit_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"a": (2, 3, 4), "b": (5, 1, 4), "c": (1, 1, 4)}
    frames = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    with FeatureCache(tmp_path) as cache:
        for key, descriptors in frames.items():
            cache.put(key, descriptors, descriptors[..., 0])
        for key in ("c", "a", "b"):
            assert np.array_equal(cache.get(key).descriptors, frames[key])
            assert np.array_equal(cache.get(key).saliency, frames[key][..., 0])
        cache.put("late", frames["a"], frames["a"][..., 1])
        assert [entry.descriptors.shape for entry in cache] == [*shapes.values(), (2, 3, 4)]
        assert "late" in cache
        assert "never" not in cache
        assert len(cache) == 4
    assert list(tmp_path.iterdir()) == []


def test_no_directory_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be made"):
        FeatureCache(tmp_path / "missing")
