"""The verdict on a run in words: what was found, how steady it is, what to doubt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import one_line
from pipeline.records import Part
from pipeline.reporting.facts import InputFacts, RunFacts
from pipeline.runs.measures import absence

_STEADY = ((0.005, "very steady"), (0.015, "steady"), (0.04, "somewhat restless"))
_SMALL_PART = 0.001
_SMALL_FOREGROUND, _LARGE_FOREGROUND = 0.005, 0.4
_SELDOM = 0.5
_LISTED = 5
"""Frames that are named as those that change most."""
_DOUBTS = 6
"""Doubts that are told in a terminal."""
_OUTSTANDING = 5.0
"""A frame stands out whose flicker is this many times the median, and at least `_LEAST_FLICKER`."""
_LEAST_FLICKER = 0.03


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person wants to know first.

    Attributes:
        found: what was found, one sentence.
        steadiness: how steady it is, one sentence; empty where that isn't known.
        doubts: what to doubt, a sentence each; none where there is nothing.
    """

    found: str
    steadiness: str
    doubts: tuple[str, ...]


def judge(facts: RunFacts) -> Verdict:
    """The verdict on a run."""
    doubts = [
        *(f"{failure.name} couldn't be finished: {failure.error}" for failure in facts.failures),
        *(["The run was interrupted: the same command with --resume does the rest."] if facts.unfinished else []),
        *_doubt_fit(facts),
        *(doubt for each in facts.inputs for doubt in _doubt_input(each, alone=len(facts.inputs) == 1)),
    ]
    return Verdict(_found(facts), _steadiness(facts), tuple(dict.fromkeys(doubts)))


def percent(share: float) -> str:
    """A share for a person.

    >>> percent(0.1234), percent(0.0996), percent(0.012), percent(0.00001), percent(0)
    ('12 %', '10 %', '1.2 %', '< 0.1 %', '0 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 or not share else f"{100 * share:.1f} %"


def steadiness_word(flicker: float) -> str:
    """What a flicker is like."""
    return next((word for limit, word in _STEADY if flicker < limit), "flickering")


def count(number: int, noun: str) -> str:
    """A number and its noun.

    >>> count(1, "part"), count(2330, "frame")
    ('1 part', '2,330 frames')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _found(facts: RunFacts) -> str:
    inputs = f"in {count(len(facts.inputs), 'input')}, " if len(facts.inputs) > 1 else "in "
    covered = sum(each.foreground * each.frames for each in facts.inputs) / facts.frames
    return (
        f"{count(len(facts.parts), 'part')} {inputs}{count(facts.frames, 'frame')}; together they cover "
        f"{percent(covered)} of the picture."
    )


def _steadiness(facts: RunFacts) -> str:
    flicker = facts.flicker
    if flicker is None:
        return ""
    change = f"{percent(flicker)} of the pixels change theirs from frame to frame"
    return f"The labels are {steadiness_word(flicker)}: {change}."


def _doubt_fit(facts: RunFacts) -> list[str]:
    book, doubts = facts.codebook, []
    if any(each.record.model.name == "bundled" for each in facts.inputs):
        doubts.append("The bundled backbone was used. On real scenes DINO finds better parts: --model dino_vits8.")
    if book is not None and facts.inputs[0].record.fit_seconds is not None:
        settings, needed = book.origin, np.ceil(book.origin.frames * book.origin.saliency.votes)
        if settings.cluster.elbow is not None and len(book.centroids) >= settings.cluster.max_clusters:
            doubts.append(f"No elbow was found up to {len(book.centroids)} clusters: there may be more.")
        close = int((np.abs(book.votes - needed) <= max(1, 0.05 * settings.frames)).sum())
        if close and settings.frames > 1:
            doubts.append(
                f"{count(close, 'cluster')} got about as many votes as decide on foreground; the report shows what "
                f"{'it looks' if close == 1 else 'they look'} like."
            )
    return doubts


def _doubt_input(each: InputFacts, *, alone: bool) -> list[str]:
    about, source = "" if alone else f"{each.name}: ", each.record.source
    # Parts that are nowhere are told below, by their names and with the edits.
    absent = {absence(label) for label in range(1, 1 + len(each.record.part_colors))}
    doubts = [f"{about}{warning}" for warning in each.record.warnings if warning not in absent]
    for number, what in (
        (source.lost_frames, "lost to damage in the file"),
        (source.corrupt_frames, "decoded with visible damage"),
        (source.missing_frames, "announced by the file's header, but not in it"),
    ):
        if number:
            doubts.append(f"{about}{count(number, 'frame')} {what}.")
    if each.foreground > _LARGE_FOREGROUND:
        doubts.append(
            f"{about}The parts cover {percent(each.foreground)} of the picture: background may be among them."
        )
    if each.foreground < _SMALL_FOREGROUND:
        doubts.append(
            f"{about}The parts cover only {percent(each.foreground)} of the picture: the object may be missed."
        )
    doubts += [f"{about}{doubt}" for part in each.edited.parts for doubt in _doubt_part(each, part)]
    return [*doubts, *(f"{about}{doubt}" for doubt in _doubt_frames(each))]


def _doubt_part(each: InputFacts, part: Part) -> list[str]:
    shown = len(each.present(part)) / each.frames
    if not shown:
        return [f"'{part.name}' isn't seen in any frame."]
    if shown < _SELDOM:
        return [f"'{part.name}' is seen in {percent(shown)} of the frames only."]
    return [f"'{part.name}' is tiny: {percent(each.share(part))} of the picture."] * (each.share(part) < _SMALL_PART)


def _doubt_frames(each: InputFacts) -> list[str]:
    if each.flicker is None or not np.isfinite(each.flicker).any():
        return []
    limit = max(_LEAST_FLICKER, _OUTSTANDING * float(np.nanmedian(each.flicker)))
    outstanding = np.flatnonzero(np.nan_to_num(each.flicker) > limit)
    if not len(outstanding):
        return []
    worst = sorted(outstanding[np.argsort(-each.flicker[outstanding], kind="stable")][:_LISTED].tolist())
    named = ", ".join(f"{index:,}" for index in worst)
    more = f" and {len(outstanding) - len(worst)} more" if len(outstanding) > len(worst) else ""
    return [f"Labels jump at frame{'' if len(worst) == 1 else 's'} {named}{more}: look there first."]


def verdict_lines(facts: RunFacts) -> str:
    """The verdict in a few lines for a terminal."""
    verdict = judge(facts)
    shares = ", ".join(f"{part.name} {percent(facts.share(part))}" for part in facts.parts)
    found = [verdict.found, f"  {shares}", *([verdict.steadiness] if verdict.steadiness else [])]
    shown = [*verdict.doubts[:_DOUBTS], *(["more doubts are in the report"] if len(verdict.doubts) > _DOUBTS else [])]
    return "\n".join(map(one_line, [*found, *(f"  doubt: {doubt}" for doubt in shown)]))
