import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.datasets.coseg import load_sets
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.protocols.coseg import evaluate_coseg
from pipeline.evaluation.protocols.facets import evaluate_facets, facet_method
from pipeline.evaluation.reports import Run

TRUTH = {
    "birds": {"a": [1, 1, 0, 0], "b": [0, 0, 0, 0]},
    "cars": {"c": [1, 0, 0, 0], "d": [1, 1, 1, 1]},
}


@pytest.fixture
def data(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    for name, pictures in TRUTH.items():
        for stem, row in pictures.items():
            write_picture(tmp_path / f"data/{name}/images/{stem}.png", np.zeros((2, 4, 3)))
            write_picture(tmp_path / f"data/{name}/masks/{stem}.png", np.array([row] * 2) * 255)
    return tmp_path / "data"


def left_half(pictures: Sequence[Picture]) -> list[np.ndarray]:
    return [np.broadcast_to(np.arange(4) < 2, picture.read().shape[:2]) for picture in pictures]


def everything(pictures: Sequence[Picture]) -> list[np.ndarray]:
    return [np.ones(picture.read().shape[:2], bool) for picture in pictures]


def test_figures_by_hand(data: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    summary = evaluate_coseg(load_sets(data), left_half, run, "PASCAL-CO")
    # a: J 1, P 1; b shows no object: P 1/2; c: J 1/2, P 3/4; d: J 1/2, P 1/2.
    assert summary.value("J birds") == pytest.approx(100)
    assert summary.value("P birds") == pytest.approx(75)
    assert summary.value("J cars") == pytest.approx(50)
    assert summary.value("P cars") == pytest.approx(62.5)
    assert summary.value("J mean") == pytest.approx(75)
    assert summary.value("P mean") == pytest.approx((75 + 62.5) / 2)
    text = (run.output / "summary.md").read_text()
    assert "| J mean | 75.00 | 79.50 |" in text
    assert "2 sets, 4 pictures" in text


def test_a_limit_counts_sets_and_other_sets_have_no_published_figure(data: Path, make_run: Callable[..., Run]) -> None:
    summary = evaluate_coseg(load_sets(data), everything, make_run(limit=1))
    assert summary.value("J mean") == pytest.approx(50)
    assert all(math.isnan(figure.published.get("paper", math.nan)) for figure in summary.figures)
    with pytest.raises(StopIteration):
        summary.value("J cars")


def test_masks_of_another_size_are_noticed(data: Path, make_run: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="different size"):
        evaluate_coseg(load_sets(data), lambda pictures: [np.ones((9, 9), bool) for _ in pictures], make_run())


def test_facets_are_measured_side_by_side(data: Path, make_run: Callable[..., Run]) -> None:
    calls: list[int] = []

    def methods(pictures: Sequence[Picture]) -> dict[str, list[np.ndarray]]:
        calls.append(len(pictures))
        return {facet_method(11, "key"): left_half(pictures), facet_method(9, "value"): everything(pictures)}

    summary = evaluate_facets(load_sets(data), methods, make_run())
    assert calls == [2, 2]
    assert summary.value("J key") == pytest.approx(75)
    assert summary.value("P key") == pytest.approx((75 + 62.5) / 2)
    # a: J 1/2, P 1/2; b: P 0; c: J 1/4, P 1/4; d: J 1, P 1.
    assert summary.value("J value of layer 9") == pytest.approx(100 * (0.5 + 0.625) / 2)
    assert summary.value("P value of layer 9") == pytest.approx(100 * (0.25 + 0.625) / 2)
    assert "| P key | 68.75 | 94.70 |" in summary.as_markdown()
    assert "| J value of layer 9 | 56.25 | - |" in summary.as_markdown()
