"""DAVIS foreground segmentation: mean, recall, decay of J and F as in the official toolkits.

    2016: one foreground mask; the first and last frame of a sequence don't count (Perazzi et al., CVPR 2016).
    2017: numbered objects; all frames count, and each object is matched to one proposal (Caelles et al., 2019). The
          union of the parts is the only proposal, so it can match only one object; the scores `union` compare it with
          all objects together.

Statistics are computed over the frames of a sequence, then averaged over sequences (2016) or objects (2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.davis import DavisSequence, Year
from pipeline.evaluation.metrics.davis import boundary_similarity, match_proposals, sequence_statistics
from pipeline.evaluation.metrics.masks import Mask, jaccard
from pipeline.evaluation.protocols.predictors import SegmentVideo
from pipeline.evaluation.published import DAVIS_2016
from pipeline.evaluation.reports import Columns, Figure, Row, Run, Summary, grouped

COLUMNS: Columns = {"object": str, "frame": str, "counts": str, "J": float, "F": float}

UNION = "union"


def evaluate_davis(sequences: Sequence[DavisSequence], segment: SegmentVideo, run: Run) -> Summary:
    """Measure the union of the parts in each sequence.

    Raises:
        InputError: there are no sequences, or sequences of both years.
    """
    years = {sequence.year for sequence in sequences}
    if len(years) != 1:
        raise InputError(f"got sequences of the years {sorted(years)}, expected those of one year")

    def measure(pending: Sequence[DavisSequence]) -> Iterator[list[Row]]:
        for sequence in pending:
            yield score_sequence(sequence, segment(sequence.frames))

    rows = run.measure("davis", COLUMNS, [(sequence.name, sequence) for sequence in sequences], measure)
    return run.write_summary(_summarise(rows, years.pop()))


def score_sequence(sequence: DavisSequence, labels: Iterator[NDArray[np.uint8]]) -> list[Row]:
    """J and F of every frame for each object, and for 2017 also for the union of the objects.

    `labels` are those of the frames, uint8 [h, w]; 0 is the background.
    """
    objects = sequence.count_objects()
    truths = (sequence.read_objects(index, objects) for index in range(len(sequence.frames)))
    frames = zip((found > 0 for found in labels), truths, strict=True)
    if sequence.year == 2016:
        region, boundary = np.array([_score(found, truth[0]) for found, truth in frames]).T
        return _rows(sequence, "1", region, boundary)
    # [J and F, the foreground and an empty proposal, each object and the union, frame]
    region, boundary = np.stack([_score_proposals(found, truth) for found, truth in frames], axis=-1)
    rows = _rows(sequence, UNION, region[0, -1], boundary[0, -1])
    # The foreground is the only proposal; as in the official toolkit, empty ones are added until each object has one.
    padded = np.minimum(np.arange(objects), 1)
    region, boundary = region[padded, :-1], boundary[padded, :-1]
    for proposal, number in zip(*match_proposals(region, boundary), strict=True):
        rows += _rows(sequence, str(number + 1), region[proposal, number], boundary[proposal, number])
    return rows


def _score(found: Mask, truth: Mask) -> tuple[float, float]:
    return jaccard(found, truth), boundary_similarity(found, truth)


def _score_proposals(found: Mask, objects: NDArray[np.bool_]) -> NDArray[np.float64]:
    truths = [*objects, objects.any(axis=0)]
    scores = [[_score(proposal, truth) for truth in truths] for proposal in (found, np.zeros_like(found))]
    return np.moveaxis(np.array(scores), -1, 0)


def _rows(sequence: DavisSequence, name: str, region: NDArray[np.float64], boundary: NDArray[np.float64]) -> list[Row]:
    last = len(sequence.frames) - 1
    return [
        {
            "object": name,
            "frame": frame.stem,
            "counts": "no" if sequence.year == 2016 and index in (0, last) else "yes",
            "J": float(region[index]),
            "F": float(boundary[index]),
        }
        for index, frame in enumerate(sequence.frames)
    ]


def _summarise(rows: Sequence[Row], year: Year) -> Summary:
    counted = [row for row in rows if row["counts"] == "yes"]
    figures = _figures("", [row for row in counted if row["object"] != UNION], year)
    if year == 2017:
        figures += _figures("union, ", [row for row in counted if row["object"] == UNION], year)
    frames = "without the first and last frame" if year == 2016 else "of all frames"
    notes = (
        f"{len(grouped(rows, 'item'))} sequences; per cent; means of each sequence's (or object's) figures, {frames}.",
        "Foreground is the union of the parts.",
    )
    return Summary(f"DAVIS {year} unsupervised", tuple(figures), notes)


def _figures(prefix: str, rows: Sequence[Row], year: Year) -> list[Figure]:
    tracks = [track for members in grouped(rows, "item").values() for track in grouped(members, "object").values()]
    figures = []
    for measure in ("J", "F"):
        found = [sequence_statistics(np.array([row[measure] for row in track], np.float64)) for track in tracks]
        for statistic in ("mean", "recall", "decay"):
            values = [getattr(statistics, statistic) for statistics in found]
            name = f"{measure} {statistic}"
            published = DAVIS_2016.get(name, {}) if year == 2016 else {}
            mean = 100 * float(np.mean(values)) if values else math.nan
            figures.append(Figure(f"{prefix}{name}", mean, published))
    return figures
