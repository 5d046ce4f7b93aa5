"""Part co-segmentation of unaligned CelebA: landmarks regressed from part centres, as in SCOPS (Hung et al., 2019).

As in SCOPS' published code: faces that cover at least 30 % of their picture; coordinates as shares of the picture's
sides; a linear map without bias from standardised part centres to standardised landmarks, fitted on MAFL's training
pictures; the mean distance of a face's five landmarks, in units of the distance between its eyes.

Differences from it: centres are those of hard label maps instead of soft responses; a missing part is at (0, 0); a face
whose eyes coincide is left out, where theirs counts as without error; parts are fitted on the pictures of both lists,
where SCOPS trains on CelebA's train partition. The paper's supplement doesn't say how many parts and pictures its table
has, so ours is compared with no published figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.datasets.celeba import LANDMARKS, LEAST_SHARE, Face
from pipeline.evaluation.metrics.points import landmark_errors, part_centres
from pipeline.evaluation.protocols.predictors import FitParts
from pipeline.evaluation.reports import KEY, Columns, Figure, Row, Run, Summary


def evaluate_celeba(faces: Sequence[Face], fit: FitParts, parts: int, run: Run) -> Summary:
    """Measure parts against landmarks.

    Args:
        faces: both splits.
        fit: the method to measure; called once with all pictures.
        parts: number of parts.
        run: where results are written; its limit is a number of pictures of each split.
    """
    kept = [face for train in (True, False) for face in [each for each in faces if each.is_train == train][: run.limit]]
    columns: Columns = {f"part_{part}_{axis}": float for part in range(1, parts + 1) for axis in ("x", "y")}

    def measure(pending: Sequence[Face]) -> Iterator[list[Row]]:
        # Fit on all pictures, not only the pending ones, so that a resumed run gets the same parts.
        segment = fit([face.picture for face in kept])
        for face, found in zip(pending, segment([face.picture for face in pending]), strict=True):
            centres = face.in_picture_units(part_centres(found.labels, parts))
            yield [dict(zip(columns, centres.ravel().tolist(), strict=True))]

    named = [(face.picture.name, face) for face in kept]
    rows = replace(run, limit=None).measure("CelebA", columns, named, measure)
    centres = {str(row[KEY]): np.array([row[name] for name in columns]).reshape(parts, 2) for row in rows}
    error = _mean_error([face for face in kept if face.picture.name in centres], centres)
    notes = (
        f"{parts} parts; {sum(face.is_train for face in kept)} pictures to regress on, "
        f"{sum(not face.is_train for face in kept)} test pictures; faces of at least {LEAST_SHARE:.0%} of the picture.",
        "Landmark error: per cent of the distance between the eyes, lower is better.",
    )
    figures = (Figure("landmark error", 100 * error, {}),)
    return run.write_summary(Summary("Unaligned CelebA, part co-segmentation", figures, notes))


def _mean_error(faces: Sequence[Face], centres: dict[str, NDArray[np.float64]]) -> float:
    train, test = ([face for face in faces if face.is_train == wanted] for wanted in (True, False))
    if not train or not test:
        return math.nan
    (train_centres, train_xy), (test_centres, test_xy) = (_arrays(split, centres) for split in (train, test))
    seen = [np.ones((len(split), LANDMARKS), dtype=np.bool_) for split in (train, test)]
    errors = landmark_errors(train_centres, (train_xy, seen[0]), test_centres, (test_xy, seen[1]))
    return float((errors.mean(axis=1) / [face.eye_distance for face in test]).mean())


def _arrays(faces: Sequence[Face], centres: dict[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], ...]:
    return (
        np.stack([centres[face.picture.name] for face in faces]),
        np.stack([face.in_picture_units(face.landmarks_xy) for face in faces]),
    )
