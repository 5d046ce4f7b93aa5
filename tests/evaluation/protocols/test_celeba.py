import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.datasets.celeba import Face
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.protocols.celeba import evaluate_celeba
from pipeline.evaluation.protocols.predictors import PartLabels, SegmentParts
from pipeline.evaluation.reports import Run

SIZE = (40, 80)


@pytest.fixture
def faces(tmp_path: Path, write_picture: Callable[..., Path]) -> list[Face]:
    """Twelve pictures, each with a red square whose place the landmarks follow; the last third is measured."""
    rng, found = np.random.default_rng(0), []
    for number in range(12):
        x, y = int(rng.integers(20, 60)), int(rng.integers(12, 26))
        pixels = np.zeros((*SIZE, 3), np.uint8)
        pixels[y - 4 : y + 4, x - 4 : x + 4, 0] = 255
        path = write_picture(tmp_path / f"{number}.png", pixels)
        points = np.array([[x - 8, y - 3], [x + 8, y - 3], [x, y], [x - 5, y + 7], [x + 5, y + 7]], np.float64)
        found.append(Face(Picture(path.name, path), number < 8, SIZE, points))
    return found


def squares(pictures: Sequence[Picture]) -> SegmentParts:
    """The square is part 1, all else background."""

    def segment(chosen: Sequence[Picture]) -> Iterator[PartLabels]:
        assert {picture.name for picture in chosen} <= {picture.name for picture in pictures}
        for picture in chosen:
            labels = (picture.read()[..., 0] > 128).astype(np.uint8)
            yield PartLabels(labels, np.ones_like(labels))

    return segment


def test_landmarks_that_follow_a_part_have_no_error(faces: list[Face], make_run: Callable[..., Run]) -> None:
    summary = evaluate_celeba(faces, squares, 1, make_run())
    assert summary.value("landmark error") == pytest.approx(0, abs=1e-6)
    assert "8 pictures to regress on, 4 test pictures" in summary.as_markdown()


def test_the_error_is_a_share_of_the_distance_between_the_eyes(faces: list[Face], make_run: Callable[..., Run]) -> None:
    # Of one test face three landmarks lie 4 pixels farther right, a quarter of the 16 pixels between its eyes.
    moved = faces[-1].landmarks_xy + np.array([[0, 0], [0, 0], [4, 0], [4, 0], [4, 0]])
    changed = [*faces[:-1], Face(faces[-1].picture, False, SIZE, moved)]
    summary = evaluate_celeba(changed, squares, 1, make_run())
    assert summary.value("landmark error") == pytest.approx(100 * (3 / 5) * (4 / 16) / 4)


def test_an_interrupted_run_is_continued_with_the_same_parts(faces: list[Face], make_run: Callable[..., Run]) -> None:
    fitted: list[int] = []

    def counted(pictures: Sequence[Picture]) -> SegmentParts:
        fitted.append(len(pictures))
        return squares(pictures)

    run = make_run()
    first = evaluate_celeba(faces, counted, 1, run)
    items = run.output / "items.csv"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:-2]))
    assert evaluate_celeba(faces, counted, 1, make_run()) == first
    assert evaluate_celeba(faces, counted, 1, make_run()) == first
    assert fitted == [12, 12]


def test_a_limit_is_of_each_split(faces: list[Face], make_run: Callable[..., Run]) -> None:
    summary = evaluate_celeba(faces, squares, 1, make_run(limit=3))
    assert "3 pictures to regress on, 3 test pictures" in summary.as_markdown()
    assert math.isnan(evaluate_celeba(faces[:8], squares, 1, make_run(overwrite=True)).value("landmark error"))
