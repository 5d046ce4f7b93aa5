from pathlib import Path

import numpy as np
import pytest

from pipeline.cluster.feature_cache import FeatureCache, KeptCache, ReadOnlyCache
from pipeline.errors import OutputError


def test_frames_come_back_bit_by_bit_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"a": (2, 3, 4), "b": (5, 1, 4), "c": (1, 1, 4)}
    frames = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    with FeatureCache(tmp_path) as cache:
        for key, descriptors in frames.items():
            cache.put(key, descriptors, descriptors[..., 0], 0)
        for key in ("c", "a", "b"):
            assert np.array_equal(cache.get(key).descriptors, frames[key])
            assert np.array_equal(cache.get(key).saliency, frames[key][..., 0])
        cache.put("late", frames["a"], frames["a"][..., 1], 0)
        assert [entry.descriptors.shape for entry in cache] == [*shapes.values(), (2, 3, 4)]
        assert "late" in cache
        assert "never" not in cache
        assert len(cache) == 4
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_in_memory_is_what_the_file_has_and_never_more_than_was_allowed(tmp_path: Path) -> None:
    frames = [np.random.default_rng(number).normal(size=(2, 3, 4)).astype(np.float32) for number in range(3)]
    size = 4 * 2 * 3 * 5
    with FeatureCache(tmp_path, held_bytes=2 * size + 1) as cache:
        for number, frame in enumerate(frames):
            mine = frame.copy()
            cache.put(number, mine, mine[..., 0], 0)
            mine.fill(0)  # the caller may reuse its array
        (tmp_path / "features.cache").write_bytes(bytes(3 * size))
        assert [bool(entry.descriptors.any()) for entry in cache] == [True, True, False]
        assert np.array_equal(cache.get(1).descriptors, frames[1])
        with pytest.raises(ValueError, match="read-only"):
            cache.get(0).saliency[0] = 0
        cache.release()
        assert not any(entry.descriptors.any() for entry in cache)


def test_no_directory_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be made"):
        FeatureCache(tmp_path / "missing")


def test_a_kept_cache_is_found_again(tmp_path: Path) -> None:
    frames = [np.random.default_rng(number).normal(size=(2, 3, 4)).astype(np.float32) for number in range(3)]
    for number, frame in enumerate(frames):
        with KeptCache(tmp_path) as cache:
            assert len(cache) == number
            cache.put((0, 10 * number), frame, frame[..., 0], 0)
    with KeptCache(tmp_path) as cache:
        assert all(np.array_equal(entry.descriptors, frame) for entry, frame in zip(cache, frames, strict=True))
        assert np.array_equal(cache.get((0, 20)).saliency, frames[2][..., 0])


@pytest.mark.parametrize(
    ("file", "keep", "left"),
    [
        ("features.cache", 250, 2),
        ("features.cache", 0, 0),
        ("features.index", -1, 2),
        ("features.index", 40, 1),
        ("features.index", 0, 0),
    ],
)
def test_what_a_crash_tore_is_dropped(tmp_path: Path, file: str, keep: int, left: int) -> None:
    frame = np.ones((2, 3, 4), np.float32)
    with KeptCache(tmp_path) as cache:
        for number in range(3):
            cache.put((0, number), frame * number, frame[..., 0], 0)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[:keep])
    with KeptCache(tmp_path) as cache:
        assert len(cache) == left
        cache.put((1, 7), 5 * frame, frame[..., 0], 0)
    with KeptCache(tmp_path) as cache:
        assert len(cache) == left + 1
        assert np.array_equal(cache.get((1, 7)).descriptors, 5 * frame)


def test_an_index_ends_where_no_parser_can_follow(tmp_path: Path) -> None:
    frame = np.ones((2, 3, 4), np.float32)
    with KeptCache(tmp_path) as cache:
        cache.put((0, 0), frame, frame[..., 0], 0)
    with (tmp_path / "features.index").open("a") as index:
        index.write("[" * 100_000 + "\n")
    with KeptCache(tmp_path) as cache:
        assert len(cache) == 1


def test_readers_change_nothing_and_see_what_is_whole(tmp_path: Path) -> None:
    frame = np.ones((2, 3, 4), np.float32)
    with ReadOnlyCache(tmp_path) as cache:
        assert len(cache) == 0
    assert list(tmp_path.iterdir()) == []
    with KeptCache(tmp_path) as cache:
        for number in range(3):
            cache.put((0, number), frame * number, frame[..., 0], pts=40 * number)
    (tmp_path / "features.index").write_bytes((tmp_path / "features.index").read_bytes()[:-3])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with ReadOnlyCache(tmp_path) as cache, ReadOnlyCache(tmp_path) as other:
        assert len(cache) == len(other) == 2
        assert np.array_equal(other.get((0, 1)).descriptors, frame)
        assert cache.holds((0, 1), pts=40)
        assert not cache.holds((0, 1), pts=41)
        assert not cache.holds((0, 2), pts=80)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    frame = np.ones((2, 3, 4), np.float32)
    with KeptCache(tmp_path) as cache:
        for number in range(3):
            cache.put((0, number), frame, frame[..., 0], 0)
    content = bytearray((tmp_path / "features.cache").read_bytes())
    content[150] ^= 1
    (tmp_path / "features.cache").write_bytes(content)
    with KeptCache(tmp_path) as cache:
        assert len(cache) == 1
