import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.datasets.spair import SPair, load_spair
from pipeline.evaluation.protocols.predictors import Variant
from pipeline.evaluation.protocols.spair import SPairProtocol, evaluate_spair
from pipeline.evaluation.reports import Run
from pipeline.geometry import GridPlace

# Pictures of 80 x 40 pixels with 4 x 8 patches of 10 pixels: centres at 5, 15, 25, ...
TARGET_XY = [[5, 5], [25, 15], [45, 35], [75, 35]]


@pytest.fixture
def dataset(tmp_path: Path) -> SPair:
    folder = tmp_path / "SPair-71k"
    lines = ["000000-a-b:cat", "000001-b-a:cat", "000002-c-d:dog"]
    for line in lines:
        _, source, target = line.partition(":")[0].split("-")
        category = line.partition(":")[2]
        points = TARGET_XY if category == "cat" else TARGET_XY[:2]
        for name in (source, target):
            (folder / "JPEGImages" / category).mkdir(parents=True, exist_ok=True)
            (folder / "JPEGImages" / category / f"{name}.jpg").touch()
        (folder / "PairAnnotation/test").mkdir(parents=True, exist_ok=True)
        (folder / f"PairAnnotation/test/{line}.json").write_text(
            json.dumps(
                {
                    **{"src_imname": f"{source}.jpg", "trg_imname": f"{target}.jpg", "category": category},
                    **{"src_imsize": [80, 40, 3], "trg_imsize": [80, 40, 3], "trg_bndbox": [0, 0, 60, 40]},
                    **{"src_kps": points, "trg_kps": points},
                }
            )
        )
    (folder / "Layout/large").mkdir(parents=True)
    (folder / "Layout/large/test.txt").write_text("\n".join(lines))
    return load_spair(tmp_path)


class Shifted:
    """Every patch has a unique descriptor; in some pictures the content is shifted right by some columns."""

    place = GridPlace(10, 10, (40, 80), (40, 80))

    def __init__(self, columns: dict[bool, int]) -> None:
        self._columns = columns

    def grid(self, variant: Variant) -> torch.Tensor:
        return torch.eye(32).reshape(4, 8, 32).roll(self._columns[variant.log_bin], dims=1)

    def at(self, variant: Variant, positions_ij: np.ndarray) -> torch.Tensor:
        rows, cols = torch.from_numpy(positions_ij).T
        return self.grid(variant)[rows, cols]


@pytest.fixture
def describe() -> Callable[[Picture], Shifted]:
    """With log-bins all points are found; without, those of `b` and `d` are ten pixels off, or at the other edge."""
    calls: list[str] = []

    def extract(picture: Picture) -> Shifted:
        calls.append(picture.name)
        return Shifted({True: 0, False: int(picture.path.stem in "bd")})

    extract.calls = calls  # type: ignore[attr-defined]
    return extract


VARIANTS = (Variant(9, "key", True), Variant(9, "key", False))


def test_the_papers_protocol_by_hand(dataset: SPair, describe: Callable, make_run: Callable[..., Run]) -> None:
    run = make_run()
    summary = evaluate_spair(dataset, describe, VARIANTS, run)
    assert describe.calls == ["cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/d.jpg"]
    assert summary.value("layer 9 key with bins, per pair") == pytest.approx(100)
    # The radius is 8 px, so an error of one column is always wrong.
    assert summary.value("layer 9 key without bins, per pair") == pytest.approx(0)
    text = (run.output / "summary.md").read_text()
    assert "| layer 9 key with bins, per pair | 100.00 | 56.48 |" in text
    assert "3 pairs of 2 categories" in text


def test_figures_per_pair_and_per_point_by_hand(
    dataset: SPair, describe: Callable, make_run: Callable[..., Run]
) -> None:
    def partly(picture: Picture) -> Shifted:
        found = describe(picture)
        grid = found.grid(Variant(9, "key", True)).clone()
        if picture.path.stem == "b":
            # Of b's four points the first is found far off.
            grid[0, 0], grid[3, 6] = grid[3, 6].clone(), grid[0, 0].clone()
        found.grid = lambda variant: grid  # type: ignore[method-assign]
        return found

    summary = evaluate_spair(dataset, partly, VARIANTS[:1], make_run())
    # Cats: 3 of 4 both ways; dogs: 2 of 2.
    assert summary.value("layer 9 key with bins, per pair") == pytest.approx(100 * (0.75 + 1) / 2)
    standard = make_run(settings={"protocol": "standard"}, overwrite=True)
    summary = evaluate_spair(dataset, partly, VARIANTS[:1], standard, SPairProtocol.STANDARD)
    assert summary.value("layer 9 key with bins, per point, all") == pytest.approx(100 * 8 / 10)
    assert summary.value("layer 9 key with bins, per point, mean of categories") == pytest.approx(100 * 1.75 / 2)
    assert summary.value("layer 9 key with bins, per picture, all") == pytest.approx(100 * 2.5 / 3)
    assert summary.value("layer 9 key with bins, per picture, mean of categories") == pytest.approx(100 * 1.75 / 2)
    assert "| 65.40 | 85.60 |" in summary.as_markdown()


def test_the_radius_is_of_the_picture_or_of_the_box(dataset: SPair) -> None:
    pair = dataset.read(dataset.names[0])
    assert SPairProtocol.PAPER.radius_px(pair) == pytest.approx(8)
    assert SPairProtocol.STANDARD.radius_px(pair) == pytest.approx(6)


def test_a_run_that_goes_on_extracts_what_is_left(
    dataset: SPair, describe: Callable, make_run: Callable[..., Run]
) -> None:
    evaluate_spair(dataset, describe, VARIANTS, make_run(limit=2))
    assert describe.calls == ["cat/a.jpg", "cat/b.jpg"]
    summary = evaluate_spair(dataset, describe, VARIANTS, make_run())
    assert describe.calls == ["cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/d.jpg"]
    assert summary.value("layer 9 key with bins, per point") == pytest.approx(100)
