"""The untrained baselines compute what their names say, and run through the pipeline."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import backbone
from benchmarks.backbone import (
    ABLATIONS,
    ablations,
    choose_without,
    contenders,
    describe_colours,
    describe_sift,
    ellipses,
    flow_along,
    head_of,
    stay,
)
from pipeline.evaluation.datasets.badja import JointFrame
from pipeline.evaluation.datasets.layout import Picture
from pipeline.media.inputs import resolve_inputs
from pipeline.training.model import SmallViTConfig


def joint_frame(file: Path) -> JointFrame:
    return JointFrame(Picture(file.stem, file), file, np.zeros((20, 2)), np.ones(20, dtype=bool))


def test_flow_carries_points_with_what_moves(tmp_path: Path) -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8), (0, 0), 2)
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index:05d}.png"), np.roll(texture, 3 * index, axis=1))
    first, last = (joint_frame(tmp_path / f"{index:05d}.png") for index in (0, 3))
    points = np.array([[60.0, 40.0], [90.0, 60.0]])
    np.testing.assert_allclose(flow_along(first, last, points), points + np.array([9, 0]), atol=0.7)
    assert np.array_equal(stay(first, last, points), points)


def test_the_ellipse_covers_half_of_each_side() -> None:
    (mask,) = ellipses([np.zeros((81, 161, 3), dtype=np.uint8)])
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (rows[0], rows[-1], cols[0], cols[-1]) == pytest.approx((20, 60, 40, 120), abs=1)


def test_hand_made_descriptors_tell_patches_by_what_they_show() -> None:
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[:, 16:] = (255, 0, 0)
    colours = describe_colours(image, [(0, 0), (0, 8), (0, 16), (0, 24)])
    assert np.abs(colours[0, :6] - colours[1, :6]).max() < 1e-3
    assert np.abs(colours[1, :6] - colours[2, :6]).max() > 0.5
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = describe_sift(np.hstack([noise, noise]), [(12, 12), (12, 44), (8, 20)])
    similar = found @ found.T / np.outer(*2 * [np.linalg.norm(found, axis=1)])
    assert similar[0, 1] > 0.95 > similar[0, 2]


@pytest.mark.parametrize("row", ["random", "colour and place", "dense SIFT", "motion, GrabCut"])
def test_each_row_gives_a_clip_masks(
    row: str, tmp_path: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bundled settings, but few clusters and a tiny random ViT."""
    monkeypatch.setattr(backbone, "SmallViTConfig", lambda: SmallViTConfig(dim=24, heads=3, img_size=32))
    load = backbone.load_settings
    quick = {"cluster.max_clusters": 3, "cluster.restarts": 1, "features.load_size": 48}
    monkeypatch.setattr(backbone, "load_settings", lambda file, values: load(file, {**quick, **values}))
    (source,) = resolve_inputs([str(make_clip(tmp_path / "a.mp4", frames=5))], 25.0)
    frames = list(contenders(tmp_path, 2)[row]().segment(source))
    assert len(frames) == 5
    assert all(labels.shape == rgb.shape[:2] and labels.max() <= 2 for rgb, labels in frames)


def test_a_clip_has_no_say_in_the_choice_for_itself() -> None:
    scores = {"mild": {"a": 0.5, "b": 0.6, "c": 0.6}, "bold": {"a": 0.9, "b": 0.5, "c": 0.7}}
    assert choose_without(scores) == {"a": ("mild", 0.5), "b": ("bold", 0.5), "c": ("bold", 0.7)}


def test_a_head_is_its_box(tmp_path: Path) -> None:
    file = tmp_path / "cat.xml"
    file.write_text("<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>5</xmax><ymax>2</ymax></bndbox>")
    mask = head_of(file, np.zeros((4, 6), np.uint8))
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[1, 2], [1, 3], [1, 4]]
    assert head_of(tmp_path / "dog.xml", mask) is None


def test_every_ablation_changes_what_it_names() -> None:
    made = {name: make().engine.settings.model_dump() for name, make in ablations(3).items()}
    for name, values in ABLATIONS.items():
        for dotted, value in values.items():
            section, key = dotted.split(".")
            assert made[name][section][key] == value != made["whole chain"][section][key]
