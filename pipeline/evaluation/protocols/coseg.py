"""Co-segmentation: Jaccard index and precision on picture sets (paper section 5.2, Table 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.evaluation.datasets.coseg import CosegPicture, CosegSet
from pipeline.evaluation.metrics.masks import Mask, jaccard, precision
from pipeline.evaluation.protocols.predictors import CosegmentPictures
from pipeline.evaluation.published import COSEG, PAPER
from pipeline.evaluation.reports import Columns, Figure, Row, Run, Summary, grouped, mean_of, mean_of_means

COLUMNS: Columns = {"picture": str, "jaccard": float, "precision": float}


def evaluate_coseg(
    sets: Sequence[CosegSet], cosegment: CosegmentPictures, run: Run, benchmark: str | None = None
) -> Summary:
    """Measure the foreground masks of each set; scores are means over sets of each set's mean.

    Where `benchmark` is `MSRC`, `Internet300`, `PASCAL-VOC` or `PASCAL-CO`, the paper's results are shown beside.
    """

    def measure(pending: Sequence[CosegSet]) -> Iterator[list[Row]]:
        for pictures in (found.pictures for found in pending):
            masks = cosegment([picture.picture for picture in pictures])
            yield [score_picture(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]

    rows = run.measure("coseg", COLUMNS, [(found.name, found) for found in sets], measure)
    published = COSEG.get(benchmark or "", (math.nan, math.nan))
    figures = [
        Figure("J mean", 100 * mean_of_means(rows, "jaccard", by="item"), {PAPER: published[0]}),
        Figure("P mean", 100 * mean_of_means(rows, "precision", by="item"), {PAPER: published[1]}),
    ]
    for name, members in grouped(rows, "item").items():
        figures.append(Figure(f"J {name}", 100 * mean_of(members, "jaccard"), {}))
        figures.append(Figure(f"P {name}", 100 * mean_of(members, "precision"), {}))
    return run.write_summary(Summary(f"Co-segmentation {benchmark or ''}".strip(), tuple(figures), _notes(rows)))


def score_picture(picture: CosegPicture, predicted: Mask) -> Row:
    """One picture's scores; the Jaccard index is NaN if the picture doesn't show the object.

    Internet300 has such pictures; the literature excludes them from J and includes them in P.
    """
    truth, ignored = picture.read_mask()
    region = jaccard(predicted, truth, ignored) if truth.any() else math.nan
    return {
        "picture": picture.picture.name,
        "jaccard": region,
        "precision": precision(predicted, truth, ignored),
    }


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    return (
        f"{len(grouped(rows, 'item'))} sets, {len(rows)} pictures; per cent.",
        "J: Jaccard index, over the pictures that show the object. P: share of pixels labelled right. "
        "Means over the sets of each set's mean.",
    )
