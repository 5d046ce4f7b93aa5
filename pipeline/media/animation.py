"""Several pictures in one file as an input: animated WebP, APNG, AVIF and GIF, TIFF stacks."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media.colour import SRGB
from pipeline.media.picture_sequence import frame_rate
from pipeline.media.pictures import Page, read_pages
from pipeline.media.source import ALL_FRAMES, Selection, Source, SourceInfo
from pipeline.records import Frame

_FINEST = 90_000
# What browsers make of a picture that is to be shown for no time.
_SHORTEST_S = Fraction(1, 10)


class AnimationSource(Source):
    """The pictures of one file in their order, all of one size."""

    def __init__(self, path: Path, name: str, fps: float) -> None:
        """Say which file; `fps` is the rate of pictures that have no times."""
        super().__init__(path, name)
        self.rate = frame_rate(fps)

    @cached_property
    def _lengths(self) -> tuple[Fraction, ...]:
        """How long each picture is shown, in seconds."""
        return tuple(self._length(page) for page in read_pages(self.path, set()))

    def _read_info(self) -> SourceInfo:
        first = next(read_pages(self.path, {0}))
        assert first.rgb is not None
        count, total = len(self._lengths), sum(self._lengths, Fraction(0))
        # A unit in which every time is a whole number, unless it is too fine.
        unit = math.lcm(*(length.denominator for length in self._lengths))
        base = Fraction(1, unit if unit <= _FINEST else _FINEST)
        ends = self._ends(base)
        return SourceInfo(
            size_hw=(first.rgb.shape[0], first.rgb.shape[1]),
            time_base=base,
            average_rate=(count / total).limit_denominator(1001) or None,
            frames=count,
            start_pts=0,
            end_pts=ends[-1],
            audio=False,
            colour=SRGB,
            longest=max(after - before for before, after in zip([0, *ends], ends, strict=False)),
        )

    def count(self, selection: Selection = ALL_FRAMES) -> int:
        """How many pictures are selected."""
        return len(self._selected(selection))

    def frames(self, selection: Selection = ALL_FRAMES, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """The selected pictures as frames, in order.

        Raises:
            InputError: as `probe`, or two differ in size.
        """
        info, selected = self.probe(), self._selected(selection)
        shown = {number: index for index, number in enumerate(selected) if wanted is None or index in wanted}
        begins = [0, *self._ends(info.time_base)]
        for number, page in enumerate(read_pages(self.path, shown)):
            if page.rgb is not None:
                if page.rgb.shape[:2] != info.size_hw:
                    raise self._other_size(number, page.rgb.shape[:2], info.size_hw)
                self.report = replace(self.report, frames=shown[number] + 1)
                yield Frame(shown[number], begins[number], info.time_base, page.rgb, str(number))

    def _length(self, page: Page) -> Fraction:
        if page.length_s is None:
            return 1 / self.rate
        return page.length_s if page.length_s > 0 else _SHORTEST_S

    def _ends(self, base: Fraction) -> list[int]:
        ends, at = list[int](), Fraction(0)
        for length in self._lengths:
            at += length
            ends.append(max(round(at / base), ends[-1] + 1 if ends else 1))
        return ends

    def _selected(self, selection: Selection) -> list[int]:
        base = self.probe().time_base
        return selection.numbers(begin * base for begin in [0, *self._ends(base)[:-1]])

    def _other_size(self, number: int, found: tuple[int, ...], first: tuple[int, int]) -> InputError:
        return InputError(
            f"{str(self.path)!r} holds pictures of different sizes: number {number} is {found[1]}x{found[0]}, "
            f"the first {first[1]}x{first[0]}; save them one by one"
        )
