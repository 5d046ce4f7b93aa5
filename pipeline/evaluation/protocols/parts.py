"""Part segmentation of annotated videos: NMI, ARI, mIoU and temporal consistency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.datasets.parts import PartClip
from pipeline.evaluation.metrics.partitions import best_permutation, contingency, partition_scores
from pipeline.evaluation.metrics.steadiness import IdentityMeter, SteadinessMeter
from pipeline.evaluation.reports import Columns, Figure, Row, Run, Summary, grouped, mean_of

MEASURES = {
    "nmi": ("NMI", 100),
    "ari": ("ARI", 100),
    "miou": ("mIoU, best permutation", 100),
    "flicker": ("flicker, % of pixels", 100),
    "switches": ("part switches per 100 frames", 1),
    "true_switches": ("part switches per 100 frames, by annotation", 1),
}

COLUMNS: Columns = {"frames": int, "annotated": int} | dict.fromkeys(MEASURES, float)

LABELS = 256

SegmentClip = Callable[[PartClip], Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]
"""Yields a clip's frames, uint8 [h, w, 3], with their label maps, uint8 [h, w]; 0 is the background."""


def evaluate_parts(clips: Sequence[PartClip], segment: SegmentClip, run: Run) -> Summary:
    """Measure the parts of each clip; scores are means over clips.

    NMI and ARI compare all pixels of all annotated frames, the background included; mIoU is over the annotated parts,
    with one matching of predicted parts for the whole clip.
    """

    def measure(pending: Sequence[PartClip]) -> Iterator[list[Row]]:
        for clip in pending:
            yield [score_clip(clip, segment(clip))]

    rows = run.measure("parts", COLUMNS, [(clip.name, clip) for clip in clips], measure)
    figures = [Figure(name, scale * mean_of(rows, column), {}) for column, (name, scale) in MEASURES.items()]
    for clip, members in grouped(rows, "item").items():
        figures += [
            Figure(f"{clip}: {name}", scale * mean_of(members, column), {})
            for column, (name, scale) in MEASURES.items()
        ]
    notes = (f"{len(rows)} clips, {sum(int(row['annotated']) for row in rows)} annotated frames; means over clips.",)
    return run.write_summary(Summary("Parts of videos", tuple(figures), notes))


def score_clip(clip: PartClip, frames: Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Row:
    """One clip's scores."""
    truth = clip.read_labels()
    steadiness, identities = SteadinessMeter(), IdentityMeter()
    table = np.zeros((LABELS, LABELS), dtype=np.int64)
    count = annotated = 0
    for index, (rgb, labels) in enumerate(frames):
        steadiness.add(rgb, labels)
        count += 1
        if index in truth:
            frame = contingency(truth[index], labels, (LABELS, LABELS))
            identities.add(best_permutation(frame).partner)
            table += frame
            annotated += 1
    steady, scores = steadiness.result(), partition_scores(table)
    return {
        "frames": count,
        "annotated": annotated,
        "nmi": scores.nmi,
        "ari": scores.ari,
        "miou": best_permutation(table).mean_iou,
        "flicker": steady.flicker,
        "switches": steady.switches_per_100_frames,
        "true_switches": identities.switches_per_100_frames(),
    }
