from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.evaluation.datasets.davis import load_davis
from pipeline.evaluation.metrics.davis import boundary_similarity
from pipeline.evaluation.protocols.davis import evaluate_davis
from pipeline.evaluation.reports import Run

SIZE = (40, 60)


def square(top: int, left: int, side: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


TRUTH = [np.where(square(5, 5), 1, 0) + np.where(square(20, 30), 2, 0) for _ in range(6)]


@pytest.fixture
def data(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    for index, labels in enumerate(TRUTH):
        write_picture(tmp_path / f"data/JPEGImages/480p/dog/{index:05d}.jpg", np.zeros((*SIZE, 3)))
        write_picture(tmp_path / f"data/Annotations/480p/dog/{index:05d}.png", labels)
    return tmp_path / "data"


def segment(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The first object as two parts: all of it in the frames 0-2, half of it later."""
    for path in paths:
        index = int(path.stem)
        found = square(5, 5) if index < 3 else square(5, 5) & (np.arange(60) < 10)
        yield (found + 2 * (found & (np.arange(60) < 8))).astype(np.uint8)


def test_2016_counts_neither_the_first_nor_the_last_frame(data: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    summary = evaluate_davis(load_davis(data, 2016), segment, run)
    # J of the two objects together is 1/2, then 1/4; the frames 1-4 count: 1/2, 1/2, 1/4, 1/4.
    assert summary.value("J mean") == pytest.approx(37.5)
    assert summary.value("J recall") == 0
    assert summary.value("J decay") == pytest.approx(25)
    whole, half = square(5, 5), square(5, 5) & (np.arange(60) < 10)
    both = square(5, 5) | square(20, 30)
    assert summary.value("F mean") == pytest.approx(
        50 * (boundary_similarity(whole, both) + boundary_similarity(half, both))
    )
    lines = (run.output / "items.csv").read_text().splitlines()
    assert lines[0] == "item,lines,object,frame,counts,J,F"
    assert [line.split(",")[4] for line in lines[1:]] == ["no", "yes", "yes", "yes", "yes", "no"]
    assert "| J mean | 37.50 | 76.70 |" in summary.as_markdown()


def test_2017_gives_the_foreground_to_the_object_it_fits_best(data: Path, make_run: Callable[..., Run]) -> None:
    summary = evaluate_davis(load_davis(data, 2017), segment, make_run())
    # Object 1: J 1 in three frames, 1/2 in three; object 2 gets the empty proposal: J 0.
    assert summary.value("J mean") == pytest.approx(100 * (0.75 + 0) / 2)
    assert summary.value("J recall") == pytest.approx(100 * (0.5 + 0) / 2)
    # The union: 1/2 in three frames, 1/4 in three.
    assert summary.value("union, J mean") == pytest.approx(37.5)
    assert summary.value("union, J recall") == 0


def test_an_absent_object_is_found_by_the_empty_proposal(
    tmp_path: Path, write_picture: Callable[..., Path], make_run: Callable[..., Run]
) -> None:
    for index, labels in enumerate([TRUTH[0], TRUTH[0] * (TRUTH[0] == 1)]):
        write_picture(tmp_path / f"data/JPEGImages/dog/{index:05d}.jpg", np.zeros((*SIZE, 3)))
        write_picture(tmp_path / f"data/Annotations/dog/{index:05d}.png", labels)
    summary = evaluate_davis(load_davis(tmp_path / "data", 2017), segment, make_run())
    # Object 1: J 1 and 1; object 2: 0, and 1 where both masks are empty.
    assert summary.value("J mean") == pytest.approx(75)
    assert summary.value("F mean") == pytest.approx(75)


def test_a_perfect_answer_is_perfect_on_a_real_sequence(shared_dir: Path, make_run: Callable[..., Run]) -> None:
    sequences = [found for found in load_davis(shared_dir / "clips" / "davis", 2016) if found.name == "dog"]
    sequence = sequences[0]

    def truth(paths: Sequence[Path]) -> Iterator[np.ndarray]:
        for index in range(len(paths)):
            yield sequence.read_objects(index, 1)[0].astype(np.uint8)

    summary = evaluate_davis(sequences, truth, make_run())
    figures = {figure.name: figure.ours for figure in summary.figures}
    assert figures == {
        **{"J mean": 100, "J recall": 100, "J decay": 0},
        **{"F mean": 100, "F recall": 100, "F decay": 0},
    }


def test_too_few_frames_and_mixed_years_are_noticed(data: Path, make_run: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="zip"):
        evaluate_davis(load_davis(data, 2016), lambda paths: segment(paths[:-1]), make_run())
    with pytest.raises(InputError, match="one year"):
        evaluate_davis([*load_davis(data, 2016), *load_davis(data, 2017)], segment, make_run())
    with pytest.raises(InputError, match="one year"):
        evaluate_davis([], segment, make_run())
