"""Semantic correspondence on SPair-71k: PCK@0.1 (paper section 5.3, Table 4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from pipeline.evaluation.datasets.layout import Picture
from pipeline.evaluation.datasets.spair import KeypointPair, PairName, SPair, sample_pairs
from pipeline.evaluation.metrics.points import correct_points
from pipeline.evaluation.protocols.matching import transfer_points
from pipeline.evaluation.protocols.predictors import Describe, Described, Variant
from pipeline.evaluation.published import PAPER, SPAIR, SPAIR_LATER
from pipeline.evaluation.reports import Columns, Figure, Row, Run, Summary, grouped, mean_of, mean_of_means, pooled_pck

ALPHA = 0.1
PAIRS_PER_CATEGORY = 20

COLUMNS: Columns = {"category": str, "layer": int, "facet": str, "log_bin": str, "correct": int, "points": int} | {
    "pck": float
}


class SPairProtocol(Enum):
    """Which pairs are used, and the radius within which a key-point is correct."""

    PAPER = "paper"
    """20 random pairs per category; 0.1 of the longer side of the target picture."""
    STANDARD = "standard"
    """All test pairs; 0.1 of the longer side of the target object's bounding box."""

    def choose(self, names: Sequence[PairName], seed: int) -> tuple[PairName, ...]:
        """The pairs of the protocol, sorted by category."""
        if self is SPairProtocol.PAPER:
            return sample_pairs(names, PAIRS_PER_CATEGORY, seed)
        return tuple(sorted(names, key=lambda name: (name.category, name.text)))

    def radius_px(self, pair: KeypointPair) -> float:
        """Radius in pixels within which a key-point of the pair is correct."""
        return ALPHA * (max(pair.target_hw) if self is SPairProtocol.PAPER else pair.target_box.longer_side)


def evaluate_spair(
    dataset: SPair,
    describe: Describe,
    variants: Sequence[Variant],
    run: Run,
    protocol: SPairProtocol = SPairProtocol.PAPER,
    seed: int = 0,
) -> Summary:
    """Measure every variant on the protocol's pairs; features of each picture are extracted once.

    Args:
        dataset: the test split.
        describe: the method to measure.
        variants: kinds of descriptors.
        run: where results are written; its limit is a number of pairs. Its settings must name protocol and seed.
        protocol: the paper's or the data set's own.
        seed: random seed of the paper protocol's sample of pairs.
    """

    def measure(pending: Sequence[PairName]) -> Iterator[list[Row]]:
        pairs = [dataset.read(name) for name in pending]
        pictures = DescribedPictures(describe, [picture for pair in pairs for picture in (pair.source, pair.target)])
        for pair in pairs:
            source, target = pictures.take(pair.source), pictures.take(pair.target)
            yield [_score(pair, source, target, variant, protocol) for variant in variants]

    names = protocol.choose(dataset.names, seed)
    rows = run.measure("spair", COLUMNS, [(name.text, name) for name in names], measure)
    figures = [figure for variant in variants for figure in _figures(variant, rows, protocol)]
    return run.write_summary(Summary(f"SPair-71k, PCK@{ALPHA}", tuple(figures), _notes(rows, protocol, seed)))


class DescribedPictures:
    """Cache of descriptors, from a picture's first use to its last."""

    def __init__(self, describe: Callable[[Picture], Described], uses: Sequence[Picture]) -> None:
        """List all future uses in advance, a picture as often as it is used."""
        self._describe = describe
        self._left = Counter(picture.name for picture in uses)
        self._kept: dict[str, Described] = {}

    def take(self, picture: Picture) -> Described:
        """A picture's descriptors."""
        described = self._kept.get(picture.name) or self._describe(picture)
        self._left[picture.name] -= 1
        if self._left[picture.name] > 0:
            self._kept[picture.name] = described
        else:
            self._kept.pop(picture.name, None)
        return described


def _score(pair: KeypointPair, source: Described, target: Described, variant: Variant, protocol: SPairProtocol) -> Row:
    found = transfer_points(source, target, variant, pair.source_xy)
    correct = correct_points(found, pair.target_xy, protocol.radius_px(pair))
    return {
        "category": pair.name.category,
        **_variant_cells(variant),
        "correct": int(correct.sum()),
        "points": len(correct),
        "pck": float(correct.mean()) if len(correct) else math.nan,
    }


def _variant_cells(variant: Variant) -> Row:
    return {"layer": variant.layer, "facet": variant.facet, "log_bin": "yes" if variant.log_bin else "no"}


def _figures(variant: Variant, all_rows: Sequence[Row], protocol: SPairProtocol) -> tuple[Figure, ...]:
    cells = _variant_cells(variant).items()
    rows = [row for row in all_rows if row.items() >= cells]
    by_category = [pooled_pck(members) for members in grouped(rows, "category").values()]
    per_point = sum(by_category) / len(by_category) if by_category else math.nan
    per_pair = mean_of_means(rows, "pck", by="category")
    if protocol is SPairProtocol.PAPER:
        published = {PAPER: SPAIR.get((variant.layer, variant.facet, variant.log_bin), math.nan)}
        return (
            Figure(f"{variant}, per pair", 100 * per_pair, published),
            Figure(f"{variant}, per point", 100 * per_point, published),
        )
    return (
        Figure(f"{variant}, per point, all", 100 * pooled_pck(rows), SPAIR_LATER),
        Figure(f"{variant}, per point, mean of categories", 100 * per_point, {}),
        Figure(f"{variant}, per picture, all", 100 * mean_of(rows, "pck"), {}),
        Figure(f"{variant}, per picture, mean of categories", 100 * per_pair, {}),
    )


def _notes(rows: Sequence[Row], protocol: SPairProtocol, seed: int) -> tuple[str, ...]:
    count = f"{len(grouped(rows, 'item'))} pairs of {len(grouped(rows, 'category'))} categories; per cent."
    if protocol is SPairProtocol.STANDARD:
        return (count, f"Correct within {ALPHA} of the longer side of the target's box; all pairs of the split.")
    return (
        count,
        f"Correct within {ALPHA} of the longer side of the target picture; {PAIRS_PER_CATEGORY} pairs of each "
        f"category drawn with seed {seed} (the paper's draw isn't published).",
        "The paper doesn't say whether its mean within a category is over pairs or over points; both are given.",
    )
