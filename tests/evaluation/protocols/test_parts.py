from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.datasets.parts import PartClip, load_part_clips
from pipeline.evaluation.protocols.parts import evaluate_parts
from pipeline.evaluation.reports import Run

NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def labels(*columns: int) -> np.ndarray:
    """Adjacent parts of ten columns each."""
    return np.repeat(np.array(columns, np.uint8), 10)[None].repeat(30, 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/walk.mp4").touch()
    np.savez_compressed(tmp_path / "data/walk_parts.npz", labels=np.stack([labels(0, 1, 2, 2)] * 4))
    return tmp_path / "data"


def with_labels(*maps: np.ndarray) -> Callable[[PartClip], Iterator[tuple[np.ndarray, np.ndarray]]]:
    return lambda clip: ((NOISE, found) for found in maps)


def test_renamed_parts_are_perfect(data: Path, make_run: Callable[..., Run]) -> None:
    summary = evaluate_parts(load_part_clips(data), with_labels(*[labels(0, 2, 1, 1)] * 4), make_run())
    figures = {figure.name: figure.ours for figure in summary.figures}
    assert figures["NMI"] == pytest.approx(100)
    assert figures["ARI"] == pytest.approx(100)
    assert figures["mIoU, best permutation"] == pytest.approx(100)
    assert figures["flicker, % of pixels"] == 0
    assert figures["part switches per 100 frames"] == 0
    assert figures["part switches per 100 frames, by annotation"] == 0
    assert figures["walk: NMI"] == figures["NMI"]


def test_figures_by_hand(data: Path, make_run: Callable[..., Run]) -> None:
    # From the third frame on the labels are swapped.
    good, swapped = labels(0, 1, 2, 2), labels(0, 2, 1, 1)
    run = make_run()
    summary = evaluate_parts(load_part_clips(data), with_labels(good, good, good, swapped), run)
    # Part 1: 30 of 30 + 20 columns; part 2: 60 of 80 + 10.
    assert summary.value("mIoU, best permutation") == pytest.approx(100 * (30 / 60 + 60 / 90) / 2)
    assert summary.value("part switches per 100 frames") == pytest.approx(100 * 2 / 3)
    assert summary.value("part switches per 100 frames, by annotation") == pytest.approx(100 * 2 / 3)
    assert summary.value("flicker, % of pixels") == pytest.approx(100 * (3 / 4) / 3)
    assert "1 clips, 4 annotated frames" in (run.output / "summary.md").read_text()


def test_frames_without_annotation_count_for_steadiness_alone(
    tmp_path: Path, write_picture: Callable[..., Path], make_run: Callable[..., Run]
) -> None:
    for index in range(3):
        write_picture(tmp_path / f"run/frames/{index}.png", NOISE)
    write_picture(tmp_path / "run/labels/1.png", labels(0, 1, 1, 0))
    run = make_run()
    summary = evaluate_parts(
        load_part_clips(tmp_path), with_labels(labels(0, 0, 0, 0), labels(0, 3, 3, 0), labels(0, 3, 3, 0)), run
    )
    assert summary.value("mIoU, best permutation") == pytest.approx(100)
    assert summary.value("flicker, % of pixels") == pytest.approx(100 * 0.5 / 2)
    assert np.isnan(summary.value("part switches per 100 frames, by annotation"))
    assert (run.output / "items.csv").read_text().splitlines()[1].split(",")[:4] == ["run", "1", "3", "1"]


def test_labels_of_another_size_are_noticed(data: Path, make_run: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="different size"):
        clips = load_part_clips(data)
        evaluate_parts(clips, lambda clip: ((NOISE[:9], labels(0, 1, 2, 2)[:9]) for _ in range(4)), make_run())
