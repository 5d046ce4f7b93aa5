import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluation.datasets.badja import JOINTS, load_badja
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.protocols.keypoints import evaluate_keypoints
from pipeline.evaluation.protocols.predictors import Variant
from pipeline.evaluation.reports import Run
from pipeline.geometry import GridPlace

KEYS = Variant(9, "key", True)


class Distinct:
    """A picture of 192 x 108 pixels with 10 x 19 patches, each with a unique descriptor."""

    place = GridPlace(10, 10, (108, 192), (108, 192))

    def __init__(self, shift: int) -> None:
        self._grid = torch.eye(190).reshape(10, 19, 190).roll(shift, dims=1)

    def grid(self, variant: Variant) -> torch.Tensor:
        return self._grid

    def at(self, variant: Variant, positions_ij: np.ndarray) -> torch.Tensor:
        rows, cols = torch.from_numpy(positions_ij).T
        return self._grid[rows, cols]


@pytest.fixture
def data(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """Joint n is at the centre of patch (n % 5, n % 9); the animal's area is 100 px.

    The ear is invisible in all frames, the nose in the first one, and half of the joints in frame 5.
    """
    annotations = []
    for frame in (0, 5, 10):
        write_picture(tmp_path / f"JPEGImages/dog/{frame:05d}.jpg", np.zeros((108, 192, 3)))
        mask = np.zeros((108, 192))
        mask[:10, :10] = 255
        write_picture(tmp_path / f"Annotations/dog/{frame:05d}.png", mask)
        joints = [[100 * (joint % 5) + 50, 100 * (joint % 9) + 50] for joint in range(37)]
        visible = [
            joint in JOINTS and (frame != 5 or joint < 20) and joint != 36 and (frame, joint) != (0, 33)
            for joint in range(37)
        ]
        annotations.append(
            {"image_path": f"DAVIS/JPEGImages/x/dog/{frame:05d}.jpg", "joints": joints, "visibility": visible}
        )
    (tmp_path / "joints").mkdir()
    (tmp_path / "joints/dog.json").write_text(json.dumps(annotations))
    return tmp_path


def test_joints_carried_from_the_first_frame_by_hand(data: Path, make_run: Callable[..., Run]) -> None:
    calls: list[str] = []

    def describe(picture: Picture) -> Distinct:
        calls.append(picture.name)
        return Distinct(shift=int(picture.name.endswith("10")))

    run = make_run()
    summary = evaluate_keypoints(load_badja(data), describe, KEYS, run)
    assert calls == ["dog/00000", "dog/00005", "dog/00010"]
    # The radius is 0.2 x 10 px. In frame 5 all 9 visible joints are right; in frame 10 all 18 are 10 px off.
    assert summary.value("dog") == pytest.approx(100 * 9 / 27)
    assert summary.value("mean") == summary.value("dog")
    assert (run.output / "items.csv").read_text().splitlines()[1:] == [
        "dog,2,dog/00005,9,9,2.0",
        "dog,2,dog/00010,0,18,2.0",
    ]


def test_a_frame_with_no_joint_in_sight_counts_for_nothing(data: Path, make_run: Callable[..., Run]) -> None:
    annotations = json.loads((data / "joints/dog.json").read_text())
    annotations[2]["visibility"] = [False] * 37
    (data / "joints/dog.json").write_text(json.dumps(annotations))
    summary = evaluate_keypoints(load_badja(data), lambda _: Distinct(0), KEYS, make_run())
    assert summary.value("dog") == pytest.approx(100)
