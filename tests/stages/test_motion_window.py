from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Settings, with_defaults
from pipeline.features.motion import motion_saliency
from pipeline.media.label_store import open_labels
from pipeline.records import Frame, Prepared
from pipeline.stages.motion_window import neighbourhood, watch_motion
from pipeline.tasks.segment import segment

EXTRACTOR: Any = SimpleNamespace(identity=SimpleNamespace(patch_px=8), settings=SimpleNamespace(stride=8))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """A patch of noise that moves over static noise."""
    rng = np.random.default_rng(0)
    ground, patch = (rng.integers(0, 255, size, dtype=np.uint8) for size in ((64, 96, 3), (24, 24, 3)))
    scenes = []
    for number in range(30):
        scene = ground.copy()
        scene[20:44, 2 * number : 2 * number + 24] = patch
        scenes.append(scene)
    return scenes


def prepared(pictures: list[np.ndarray], indices: list[int]) -> Any:
    return [[Prepared(Frame(index, index, Fraction(1), pictures[index]), pictures[index])] for index in indices]


def unknown(_: Prepared) -> bool:
    return False


def test_the_motion_of_frames_whose_saliency_is_known_is_not_computed(
    pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(window: Any, index: int, *rest: int) -> Any:
        seen.append(len(window))
        return motion_saliency(window, index, *rest)

    monkeypatch.setattr("pipeline.stages.motion_window.motion_saliency", counted)
    items = iter(prepared(pictures, list(range(12))))
    (batch,) = watch_motion(items, {2, 5, 6}, EXTRACTOR, 3, known=lambda item: item.frame.index == 5)
    assert len(seen) == 2
    assert [bool(each.any()) for each in batch.motion] == [True, False, True]


@pytest.mark.parametrize("wanted", [[0], [29], [3, 15], [10, 11, 12], list(range(30))])
@pytest.mark.parametrize("size", [1, 3])
def test_each_wanted_frame_sees_its_own_neighbours(pictures: list[np.ndarray], wanted: list[int], size: int) -> None:
    needed = [index for index in sorted(neighbourhood(wanted)) if 0 <= index < 30]
    found = list(watch_motion(iter(prepared(pictures, needed)), set(wanted), EXTRACTOR, size, unknown))
    assert [len(batch.items) for batch in found][:-1] == [size] * (len(found) - 1)
    frames = [item.frame.index for batch in found for item in batch.items]
    maps = [motion for batch in found for motion in batch.motion]
    assert frames == wanted
    for index, motion in zip(wanted, maps, strict=True):
        first = max(0, index - 4)
        expected = motion_saliency(pictures[first : index + 5], index - first, 8, 8)
        assert np.array_equal(motion.numpy(), expected)


def test_motion_says_what_is_foreground(tmp_path: Path, pictures: list[np.ndarray], small_settings: Settings) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        # A model with random weights separates bright from dark, but not two kinds of noise.
        scene = picture // 4
        scene[20:44, 2 * number : 2 * number + 24] = 190 + picture[20:44, 2 * number : 2 * number + 24] // 4
        Image.fromarray(scene).save(folder / f"{number:02d}.png")
    shares = {}
    for source in ("attention", "motion", "both"):
        values = {"saliency": {"source": source, "threshold": 0.4}, "features": {"load_size": 64}}
        settings = with_defaults(Settings(), small_settings.model_dump(), values, {"cluster": {"frames": 9}})
        (finished,) = segment([folder], tmp_path / source, settings).finished
        assert finished.record.settings.saliency.source == source
        store = open_labels(finished.directory / "labels.zarr")
        inside = [(labels[20:44, 2 * n : 2 * n + 24] > 0).mean() for n, _, labels in store.frames()]
        outside = [(labels[:, 2 * n + 30 :] > 0).mean() for n, _, labels in store.frames() if n < 20]
        shares[source] = (float(np.mean(inside)), float(np.mean(outside)))
    assert shares["motion"][0] > 0.6, shares
    assert shares["motion"][1] < 0.2, shares
    assert shares["attention"] != shares["motion"]
