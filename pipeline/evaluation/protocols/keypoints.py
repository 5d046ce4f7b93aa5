"""Key-point propagation from a video's first annotated frame: PCK@0.2 on BADJA (Biggs et al.)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.evaluation.datasets.badja import JointClip, JointFrame
from pipeline.evaluation.metrics.points import correct_points
from pipeline.evaluation.protocols.matching import transfer_points
from pipeline.evaluation.protocols.predictors import Describe, Described, Variant
from pipeline.evaluation.reports import Columns, Figure, Row, Run, Summary, grouped, mean_of, pooled_pck

ALPHA = 0.2

COLUMNS: Columns = {"frame": str, "correct": int, "points": int, "radius_px": float}


def evaluate_keypoints(clips: Sequence[JointClip], describe: Describe, variant: Variant, run: Run) -> Summary:
    """Measure how well descriptors find the joints of each clip's first annotated frame in its other frames.

    Joints that are visible in both frames count; one is correct within 0.2 of the square root of the animal's area. A
    clip's PCK is over all its points, the mean is over clips.
    """

    def measure(pending: Sequence[JointClip]) -> Iterator[list[Row]]:
        for first, *others in (clip.frames for clip in pending):
            source = describe(first.picture)
            yield [_score(first, source, frame, describe(frame.picture), variant) for frame in others]

    rows = run.measure("keypoints", COLUMNS, [(clip.name, clip) for clip in clips], measure)
    by_clip = {str(name): pooled_pck(members) for name, members in grouped(rows, "item").items()}
    figures = [Figure(name, 100 * pck, {}) for name, pck in by_clip.items()]
    mean = Figure("mean", 100 * mean_of([{"pck": pck} for pck in by_clip.values()], "pck"), {})
    notes = (
        f"{len(by_clip)} clips, {len(rows)} frames; per cent; {variant}.",
        f"Correct within {ALPHA} of the square root of the animal's area; joints visible in both frames.",
    )
    return run.write_summary(Summary(f"Video key-points, PCK@{ALPHA}", (mean, *figures), notes))


def _score(first: JointFrame, source: Described, frame: JointFrame, target: Described, variant: Variant) -> Row:
    both = first.visible & frame.visible
    radius = ALPHA * math.sqrt(frame.read_area())
    correct = 0
    if both.any():
        found = transfer_points(source, target, variant, first.points_xy[both])
        correct = int(correct_points(found, frame.points_xy[both], radius).sum())
    return {"frame": frame.picture.name, "correct": correct, "points": int(both.sum()), "radius_px": radius}
