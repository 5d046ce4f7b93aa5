import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pipeline.evaluation.datasets.cub import LANDMARKS, Bird, load_birds
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.protocols.cub import evaluate_cub
from pipeline.evaluation.protocols.predictors import PartLabels, SegmentParts
from pipeline.evaluation.reports import Run

SIZE = (50, 60)
BOX = (10, 5, 40, 40)
PICTURES = 24


@pytest.fixture
def birds(tmp_path: Path, write_picture: Callable[..., Path]) -> tuple[Bird, ...]:
    """Pictures of the classes 1, 2, 3 and 7, alternately of the train and test split.

    The bird's head is a red square; landmark 1 lies just within its right edge, landmark 2 below its centre, landmark 3
    at a fixed point in the body; all others are invisible.
    """
    folder = tmp_path / "CUB_200_2011"
    rng = np.random.default_rng(0)
    names, classes, splits, boxes, parts = [], [], [], [], []
    for number in range(1, PICTURES + 1):
        x, y = rng.integers(15, 40), rng.integers(10, 25)
        pixels = np.zeros((*SIZE, 3), np.uint8)
        pixels[y - 3 : y + 3, x - 3 : x + 3, 0] = 255
        write_picture(folder / f"images/{number}.png", pixels)
        names.append(f"{number} {number}.png\n")
        classes.append(f"{number} {(1, 2, 3, 7)[number % 4]}\n")
        splits.append(f"{number} {int(number % 8 < 4)}\n")
        boxes.append(f"{number} {' '.join(map(str, BOX))}\n")
        points = {1: (x + 2.9, y), 2: (x, y + 12), 3: (30, 43)}
        for landmark in range(1, LANDMARKS + 1):
            at = points.get(landmark, (0, 0))
            parts.append(f"{number} {landmark} {at[0]} {at[1]} {int(landmark in points)}\n")
    (folder / "parts").mkdir()
    for file, lines in {
        **{"images": names, "image_class_labels": classes, "train_test_split": splits},
        **{"bounding_boxes": boxes, "parts/part_locs": parts},
    }.items():
        (folder / f"{file}.txt").write_text("".join(lines))
    return load_birds(tmp_path)


def head_and_body(pixels: np.ndarray) -> PartLabels:
    """The head is part 1, the lower half of the picture part 2; the rest is background, with nearest part 2."""
    head = pixels[..., 0] > 128
    body = np.arange(len(pixels))[:, None] >= len(pixels) // 2
    labels = np.where(head, 1, np.where(body, 2, 0)).astype(np.uint8)
    return PartLabels(labels, np.where(head, 1, 2).astype(np.uint8))


def fit(pictures: Sequence[Picture]) -> SegmentParts:
    def segment(chosen: Sequence[Picture]) -> Iterator[PartLabels]:
        assert {picture.name for picture in chosen} <= {picture.name for picture in pictures}
        return (head_and_body(picture.read()) for picture in chosen)

    return segment


def test_landmarks_that_follow_a_part_have_no_error(birds: tuple[Bird, ...], make_run: Callable[..., Run]) -> None:
    summary = evaluate_cub(birds, fit, 2, make_run())
    for number in (1, 2, 3):
        assert summary.value(f"key-point error CUB-{number:02d}") == pytest.approx(0, abs=1e-6)
    assert "| key-point error CUB-01 | 0.00 | 17.10 |" in summary.as_markdown()


def test_partition_scores_are_those_of_the_labels_under_the_landmarks(
    birds: tuple[Bird, ...], make_run: Callable[..., Run]
) -> None:
    run = make_run()
    summary = evaluate_cub(birds, fit, 2, run)
    truth, full, foreground = [], [], []
    for bird in birds:
        if bird.is_train:
            continue
        pixels = bird.picture.read()
        crop = pixels[BOX[1] : BOX[1] + BOX[3], BOX[0] : BOX[0] + BOX[2]]
        for landmark in (0, 1, 2):
            x, y = bird.landmarks_xy[landmark].astype(int)
            truth.append(landmark)
            full.append(head_and_body(pixels).labels[y, x])
            foreground.append(head_and_body(crop).nearest[y - BOX[1], x - BOX[0]])
    assert {0, 1, 2} == set(full)
    assert {1, 2} == set(foreground)
    assert summary.value("NMI") == pytest.approx(100 * normalized_mutual_info_score(truth, full))
    assert summary.value("ARI") == pytest.approx(100 * adjusted_rand_score(truth, full))
    assert summary.value("FG-NMI") == pytest.approx(100 * normalized_mutual_info_score(truth, foreground))
    assert summary.value("FG-ARI") == pytest.approx(100 * adjusted_rand_score(truth, foreground))
    assert {path.name for path in run.output.iterdir()} == {"regression", "full", "foreground", "summary.md"}


def test_each_pass_is_fitted_on_its_own_pictures_and_goes_on(
    birds: tuple[Bird, ...], make_run: Callable[..., Run]
) -> None:
    fitted: list[tuple[int, bool]] = []

    def counting(pictures: Sequence[Picture]) -> SegmentParts:
        fitted.append((len(pictures), pictures[0].crop is not None))
        return fit(pictures)

    evaluate_cub(birds, counting, 2, make_run())
    assert fitted == [(18, False), (12, False), (12, True)]
    evaluate_cub(birds, counting, 2, make_run())
    assert len(fitted) == 3


def test_a_limit_leaves_figures_open_that_have_nothing_to_stand_on(
    birds: tuple[Bird, ...], make_run: Callable[..., Run]
) -> None:
    summary = evaluate_cub(birds, fit, 2, make_run(limit=2))
    assert math.isnan(summary.value("key-point error CUB-01"))
    assert not math.isnan(summary.value("NMI"))
    assert "2 pictures of classes 001-003, 2 test pictures" in summary.as_markdown()


def test_regression_errors_are_in_units_of_the_box(birds: tuple[Bird, ...], make_run: Callable[..., Run]) -> None:
    def nothing(pictures: Sequence[Picture]) -> SegmentParts:
        blank = PartLabels(np.zeros(SIZE, np.uint8), np.ones(SIZE, np.uint8))
        return lambda chosen: (blank for _ in chosen)

    errors = evaluate_cub(birds, nothing, 2, make_run())
    # Without parts the regression predicts the train split's mean landmark.
    train = [bird for bird in birds if bird.is_train and bird.class_id <= 3]
    test = [bird for bird in birds if not bird.is_train and bird.class_id == 1]
    distances = [
        np.hypot(*((bird.landmarks_xy[k] - np.mean([other.landmarks_xy[k] for other in train], axis=0)) / BOX[2:]))
        for bird in test
        for k in range(3)
    ]
    assert errors.value("key-point error CUB-01") == pytest.approx(100 * np.mean(distances))
    assert errors.value("NMI") == pytest.approx(0)
