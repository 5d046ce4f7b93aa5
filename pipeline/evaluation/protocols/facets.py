"""Facets, layers and baselines compared on co-segmentation (paper section 5.2, Table 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from pipeline.evaluation.datasets.coseg import CosegSet
from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.metrics.masks import Mask
from pipeline.evaluation.protocols.coseg import score_picture
from pipeline.evaluation.published import FACETS, PAPER
from pipeline.evaluation.reports import Columns, Figure, Row, Run, Summary, grouped, mean_of_means

COLUMNS: Columns = {"method": str, "picture": str, "jaccard": float, "precision": float}

CosegmentByMethods = Callable[[Sequence[Picture]], Mapping[str, Sequence[Mask]]]
"""Masks of one set's pictures by each method's name; features are extracted once for all methods."""

LAST_LAYER = 11


def facet_method(layer: int, facet: str) -> str:
    """Method name of a facet: `key` for the paper's layer 11, `key of layer 9` for other layers.

    >>> facet_method(11, "key"), facet_method(9, "key")
    ('key', 'key of layer 9')
    """
    return facet if layer == LAST_LAYER else f"{facet} of layer {layer}"


def evaluate_facets(sets: Sequence[CosegSet], cosegment: CosegmentByMethods, run: Run) -> Summary:
    """Measure every method on every set: PASCAL-CO's for the paper's table.

    The paper's results are shown for methods named as in `published.FACETS`.
    """

    def measure(pending: Sequence[CosegSet]) -> Iterator[list[Row]]:
        for pictures in (found.pictures for found in pending):
            by_method = cosegment([picture.picture for picture in pictures])
            yield [
                {"method": method, **score_picture(picture, mask)}
                for method, masks in by_method.items()
                for picture, mask in zip(pictures, masks, strict=True)
            ]

    rows = run.measure("facets", COLUMNS, [(found.name, found) for found in sets], measure)
    figures = (_figures(str(method), members) for method, members in grouped(rows, "method").items())
    notes = (f"{len(grouped(rows, 'item'))} sets; per cent; means over the sets of each set's mean.",)
    return run.write_summary(Summary("Facets and baselines", tuple(sum(figures, ())), notes))


def _figures(method: str, rows: Sequence[Row]) -> tuple[Figure, ...]:
    region, correct = FACETS.get(method, (math.nan, math.nan))
    return (
        Figure(f"J {method}", 100 * mean_of_means(rows, "jaccard", by="item"), {PAPER: region}),
        Figure(f"P {method}", 100 * mean_of_means(rows, "precision", by="item"), {PAPER: correct}),
    )
