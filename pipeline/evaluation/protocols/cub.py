"""Part co-segmentation of CUB-200-2011 (paper section 5.1, Table 1).

Three passes, each with a fit of its own, after Choudhury et al. (NeurIPS 2021), whose evaluation the paper uses:

    regression  pictures of the classes 001-003; landmarks are regressed linearly from part centres on the train
                split; the errors on each class's test split are CUB-01, CUB-02 and CUB-03
    full        the whole test split; NMI and ARI between landmark numbers and the labels under visible landmarks,
                with the background as one more label
    foreground  the test split cropped to the bounding boxes, with the nearest part instead of the background:
                FG-NMI and FG-ARI
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.datasets.cub import LANDMARKS, Bird
from pipeline.evaluation.datasets.layout import Picture, crop_slices, size_of
from pipeline.evaluation.metrics.partitions import PartitionScores, contingency, partition_scores
from pipeline.evaluation.metrics.points import landmark_errors, part_centres
from pipeline.evaluation.protocols.predictors import FitParts, Labels, PartLabels
from pipeline.evaluation.published import CUB
from pipeline.evaluation.reports import KEY, Columns, Figure, Row, Run, Summary

CLASSES = (1, 2, 3)

LABEL_COLUMNS: Columns = {f"landmark_{number}": float for number in range(1, LANDMARKS + 1)}
"""The label under each landmark; empty if the landmark is invisible."""

MAX_LABELS = 256


@dataclass(frozen=True, slots=True)
class View:
    """Whether a pass uses whole pictures with background, or crops without.

    Attributes:
        picture: the picture to segment.
        labels: picks one of the two label maps.
        corner_xy: top left corner of that picture in the whole one.
    """

    picture: Callable[[Bird], Picture]
    labels: Callable[[PartLabels], Labels]
    corner_xy: Callable[[Bird], NDArray[np.float64]]


def _crop_corner(bird: Bird) -> NDArray[np.float64]:
    rows, cols = crop_slices(bird.box, size_of(bird.picture.path))
    return np.array([cols.start, rows.start], dtype=np.float64)


WHOLE = View(lambda bird: bird.picture, lambda found: found.labels, lambda _: np.zeros(2))
CROPPED = View(lambda bird: bird.cropped, lambda found: found.nearest, _crop_corner)


def evaluate_cub(birds: Sequence[Bird], fit: FitParts, parts: int, run: Run) -> Summary:
    """Measure parts against landmarks.

    Args:
        birds: the data set, both splits.
        fit: the method to measure; called once per pass with all pictures of the pass.
        parts: number of parts; 4 in the paper.
        run: where results are written; its limit is a number of pictures per pass.
    """
    three = [bird for bird in birds if bird.class_id in CLASSES]
    test = [bird for bird in birds if not bird.is_train]
    errors = _regression_errors(three, fit, parts, run.within("regression"))
    full = _label_scores(test, fit, run.within("full"), WHOLE)
    foreground = _label_scores(test, fit, run.within("foreground"), CROPPED)
    values = {
        **{f"key-point error CUB-{number:02d}": error for number, error in errors.items()},
        "FG-NMI": foreground.nmi,
        "FG-ARI": foreground.ari,
        "NMI": full.nmi,
        "ARI": full.ari,
    }
    figures = tuple(Figure(name, 100 * value, CUB[name]) for name, value in values.items())
    notes = (
        f"{parts} parts; {len(three[: run.limit])} pictures of classes 001-003, "
        f"{len(test[: run.limit])} test pictures.",
        "Key-point error: per cent of the bounding box, lower is better; the others: per cent, higher is better.",
    )
    return run.write_summary(Summary("CUB-200-2011, part co-segmentation", figures, notes))


def _regression_errors(birds: Sequence[Bird], fit: FitParts, parts: int, run: Run) -> dict[int, float]:
    """Mean error of each class's test pictures; NaN if there are no train or test pictures."""
    columns: Columns = {f"part_{part}_{axis}": float for part in range(1, parts + 1) for axis in ("x", "y")}

    def read(bird: Bird, found: PartLabels) -> Row:
        centres = bird.in_box_units(part_centres(found.labels, parts))
        return dict(zip(columns, centres.ravel().tolist(), strict=True))

    rows = _measure("CUB regression", columns, birds, fit, run, WHOLE, read)
    centres = {str(row[KEY]): np.array([row[name] for name in columns]).reshape(parts, 2) for row in rows}
    known = [bird for bird in birds if bird.picture.name in centres]
    train = [bird for bird in known if bird.is_train]
    errors = {}
    for number in CLASSES:
        test = [bird for bird in known if bird.class_id == number and not bird.is_train]
        errors[number] = _mean_error(train, test, centres)
    return errors


def _mean_error(train: Sequence[Bird], test: Sequence[Bird], centres: dict[str, NDArray[np.float64]]) -> float:
    if not train or not test:
        return math.nan
    (train_centres, *fit_on), (test_centres, *used_on) = (_arrays(birds, centres) for birds in (train, test))
    errors = landmark_errors(train_centres, (fit_on[0], fit_on[1] > 0), test_centres, (used_on[0], used_on[1] > 0))
    return math.nan if np.isnan(errors).all() else float(np.nanmean(errors))


def _arrays(birds: Sequence[Bird], centres: dict[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], ...]:
    return (
        np.stack([centres[bird.picture.name] for bird in birds]),
        np.stack([bird.in_box_units(bird.landmarks_xy) for bird in birds]),
        np.stack([bird.visible for bird in birds]).astype(np.float64),
    )


def _label_scores(birds: Sequence[Bird], fit: FitParts, run: Run, view: View) -> PartitionScores:
    def read(bird: Bird, found: PartLabels) -> Row:
        return _labels_under(view.labels(found), bird.landmarks_xy - view.corner_xy(bird), bird.visible)

    return _partition_of(_measure(f"CUB {run.output.name}", LABEL_COLUMNS, birds, fit, run, view, read))


def _labels_under(labels: NDArray[np.uint8], points_xy: NDArray[np.float64], visible: NDArray[np.bool_]) -> Row:
    limits = np.array(labels.shape) - 1
    rows, cols = np.clip(np.floor(points_xy[:, ::-1]).astype(np.int64), 0, limits).T
    under = np.where(visible, labels[rows, cols].astype(np.float64), np.nan)
    return dict(zip(LABEL_COLUMNS, under.tolist(), strict=True))


def _partition_of(rows: Sequence[Row]) -> PartitionScores:
    labels = np.array([[float(row[name]) for name in LABEL_COLUMNS] for row in rows]).reshape(-1, LANDMARKS)
    known = ~np.isnan(labels)
    landmarks = np.broadcast_to(np.arange(LANDMARKS), labels.shape)[known]
    return partition_scores(contingency(landmarks, labels[known].astype(np.int64), (LANDMARKS, MAX_LABELS)))


def _measure(
    name: str,
    columns: Columns,
    birds: Sequence[Bird],
    fit: FitParts,
    run: Run,
    view: View,
    read: Callable[[Bird, PartLabels], Row],
) -> list[Row]:
    def measure(pending: Sequence[Bird]) -> Iterator[list[Row]]:
        # Fit on all pictures of the pass, not only the pending ones, so that a resumed run gets the same parts.
        segment = fit([view.picture(bird) for bird in birds[: run.limit]])
        for bird, found in zip(pending, segment([view.picture(bird) for bird in pending]), strict=True):
            yield [read(bird, found)]

    return run.measure(name, columns, [(bird.picture.name, bird) for bird in birds], measure)
