"""Key frames: which frames go through the ViT, in which batches, and independence of the start."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.config import KeyframeSettings, Settings, with_defaults
from pipeline.media.label_store import open_labels
from pipeline.records import EnergyMap, FeatureMap, Frame, Prepared
from pipeline.stages.key_frames import Between, KeyFrames, carry, describe_keys, follow
from pipeline.tasks.segment import segment

ClipMaker = Callable[..., Path]
LOST = KeyframeSettings().lost


def scene(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 120, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)


def panning(frames: int, cuts: Sequence[int] = (), first: int = 0) -> list[Prepared]:
    """A camera that pans by one pixel a frame and jumps at each cut."""
    scenes = [scene(number) for number in range(len(cuts) + 1)]
    pictures = [
        np.ascontiguousarray(scenes[sum(number >= cut for cut in cuts)][:, number % 50 : number % 50 + 60])
        for number in range(frames)
    ]
    return [
        Prepared(Frame(number, 40 * number, Fraction(1, 1000), picture), picture)
        for number, picture in enumerate(pictures)
    ][first:]


def described(chunks: list[list]) -> list[int]:
    return [step.frame.index for chunk in chunks for step in chunk if not isinstance(step, Between)]


def order(chunks: list[list]) -> list[int]:
    return [step.frame.index for chunk in chunks for step in chunk]


@pytest.mark.parametrize(("frames", "keys"), [(1, [0]), (2, [0, 1]), (5, [0, 4]), (7, [0, 4, 6]), (9, [0, 4, 8])])
def test_key_frames_are_multiples_of_the_interval_and_the_last_frame(frames: int, keys: list[int]) -> None:
    chunks = list(follow(iter(panning(frames)), KeyFrames(4, LOST, 1)))
    assert described(chunks) == keys
    assert order(chunks) == list(range(frames))


def test_across_a_cut_each_frame_is_followed_to_its_own_side() -> None:
    (chunk, _) = follow(iter(panning(9, cuts=(5,))), KeyFrames(8, LOST, 1))
    assert described([chunk]) == [0]
    for step in chunk[1:]:
        near, far = (step.before, step.after) if step.frame.index < 5 else (step.after, step.before)
        assert near.trust.mean() > 0.6
        assert far.trust.mean() < 0.2


def test_what_neither_key_frame_shows_is_described() -> None:
    chunks = list(follow(iter(panning(17, cuts=(3, 6))), KeyFrames(8, LOST, 1)))
    extra = set(described(chunks)) - {0, 8, 16}
    assert extra & {3, 4, 5}
    assert extra <= set(range(1, 8))
    # A share is at most 1.
    assert described(list(follow(iter(panning(17, cuts=(3, 6))), KeyFrames(8, 1.0, 1)))) == [0, 8, 16]


@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_described_does_not_depend_on_where_a_run_begins(batch: int) -> None:
    plan = KeyFrames(4, LOST, batch)
    whole = list(follow(iter(panning(30, cuts=(13, 15))), plan))
    later = list(follow(iter(panning(30, cuts=(13, 15), first=plan.chunk)), plan))
    assert [order([chunk]) for chunk in later] == [order([chunk]) for chunk in whole[1:]]
    assert [described([chunk]) for chunk in later] == [described([chunk]) for chunk in whole[1:]]
    for one, other in zip(whole[-1], later[-1], strict=True):
        assert type(one) is type(other)
        if isinstance(one, Between):
            assert np.array_equal(one.before.trust, other.before.trust)


def test_no_more_frames_wait_than_a_chunk_holds() -> None:
    taken = []

    def counted() -> object:
        for item in panning(64):
            taken.append(item)
            yield item

    plan = KeyFrames(4, LOST, 2)
    for number, _ in enumerate(follow(counted(), plan), start=1):
        assert len(taken) <= number * plan.chunk + 1
    assert KeyFrames.of(KeyframeSettings(interval=8), batch=64).chunk == 64
    assert KeyFrames.of(KeyframeSettings(), batch=64) == KeyFrames(1, LOST, 64)


@pytest.mark.parametrize("cell_px", [1, 2])
def test_energies_move_with_the_camera(cell_px: int) -> None:
    """Energies are a wave over the scene, so flow must preserve it; blended without flow it would be flatter."""
    plan = KeyFrames(4, LOST, 2)
    chunks = follow(iter(panning(9)), plan)
    middles = np.arange(0, 60, cell_px, dtype=np.float32) + cell_px / 2

    def describe(batches: object) -> object:
        for batch in batches:
            assert len(batch) <= plan.batch
            for item in batch:
                places = np.tile(np.sin((item.frame.index + middles) / 3), (40 // cell_px, 1))
                yield FeatureMap(item.frame, item.image, torch.from_numpy(places[..., None]))

    items = describe_keys(chunks, plan, describe)

    def assign(each: FeatureMap) -> EnergyMap:
        return EnergyMap(each.frame, each.image, each.descriptors.permute(2, 0, 1))

    found = list(carry(items, assign, pixels=cell_px == 1))
    assert [each.frame.index for each in found] == list(range(9))
    for each in found:
        energies = each.energies.numpy()
        assert energies.shape == (1, 40 // cell_px, 60 // cell_px)
        rows, columns = slice(5 // cell_px, -5 // cell_px), slice(6 // cell_px, -6 // cell_px)
        assert np.abs(energies[0] - np.sin((each.frame.index + middles) / 3))[rows, columns].max() < 0.1
    still = [np.sin((index + middles) / 3) for index in (0, 2, 4)]
    assert np.abs((still[0] + still[2]) / 2 - still[1]).max() > 0.2


def test_the_fit_and_the_stream_describe_key_frames_once(
    tmp_path: Path, make_clip: ClipMaker, small_settings: Settings, described: list[int]
) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=13)
    settings = with_defaults(small_settings, {"keyframes": {"interval": 4, "lost": 1.0}, "cluster": {"frames": 3}})
    (finished,) = segment([clip], tmp_path / "out", settings).finished
    assert sum(described) == 4
    assert len(open_labels(finished.directory / "labels.zarr")) == 13
