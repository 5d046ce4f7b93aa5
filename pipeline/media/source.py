"""The interface of every input: its name, facts about it, and its frames in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from pipeline.config import Settings
from pipeline.media.clock import STEADY, Clock, Jump
from pipeline.media.colour import Colour
from pipeline.records import Frame


def exact_seconds(seconds: float) -> Fraction:
    """The decimal that a person wrote as a float.

    >>> exact_seconds(0.1)
    Fraction(1, 10)
    """
    return Fraction(repr(float(seconds)))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames of an input are processed.

    Attributes:
        every: takes every Nth frame between `start_s` and `end_s`.
        start_s: seconds from the first frame; a frame at exactly that time belongs to it.
        end_s: seconds from the first frame; a frame at exactly that time doesn't; None: to the end.
        strict: a pass that meets damage ends with an error, instead of continuing behind it.
    """

    every: int = 1
    start_s: float | None = None
    end_s: float | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check that the interval and the span are possible."""
        if self.every < 1:
            raise ValueError(f"Selection.every: got {self.every}, expected at least 1")
        if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
            raise ValueError(f"Selection: start_s {self.start_s} is not before end_s {self.end_s}")

    @property
    def whole(self) -> bool:
        """Whether neither start nor end cuts anything off."""
        return not self.start_s and self.end_s is None

    def starts_after(self, offset: Fraction) -> bool:
        """Whether a frame `offset` seconds after the first one lies before the span."""
        return self.start_s is not None and offset < exact_seconds(self.start_s)

    def ends_before(self, offset: Fraction) -> bool:
        """Whether a frame `offset` seconds after the first one lies behind the span."""
        return self.end_s is not None and offset >= exact_seconds(self.end_s)

    def holds(self, offset: Fraction) -> bool:
        """Whether a frame `offset` seconds after the first one lies in the span."""
        return not self.starts_after(offset) and not self.ends_before(offset)

    def numbers(self, offsets: Iterable[Fraction]) -> list[int]:
        """The numbers of those frames that are processed, of frames `offsets` seconds after the first one."""
        return [number for number, offset in enumerate(offsets) if self.holds(offset)][:: self.every]


ALL_FRAMES = Selection()
"""Every frame of an input."""


def selection_of(settings: Settings) -> Selection:
    """Which frames of an input the settings pick."""
    return Selection(settings.input.every, settings.input.start, settings.input.end, settings.input.strict)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Facts about an input, as its upright frames will show them.

    Attributes:
        size_hw: height and width in pixels, rotation applied.
        time_base: seconds per unit of pts.
        average_rate: frames per second, None where the input doesn't say.
        frames: frames to expect, counted packet by packet; a damaged file may yield fewer.
        start_pts: pts of the first frame.
        end_pts: where the last frame ends, as the input says or after a frame's usual length.
        audio: whether there is a sound stream.
        colour: how RGB and the stored values belong together.
        sample_aspect_ratio: width of a pixel by its height, rotation applied; 1 where unknown.
        longest: the longest time that a frame is shown, in units of pts.
        clock: what mends the times of the file's packets, the sound's among them.
    """

    size_hw: tuple[int, int]
    time_base: Fraction
    average_rate: Fraction | None
    frames: int
    start_pts: int
    end_pts: int
    audio: bool
    colour: Colour
    sample_aspect_ratio: Fraction = Fraction(1)
    longest: int = 1
    clock: Clock = STEADY

    @property
    def duration_seconds(self) -> float:
        """From the first frame's time to the end of the last one; for display."""
        return float((self.end_pts - self.start_pts) * self.time_base)


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """What the last pass over an input met.

    Attributes:
        frames: frames decoded (selected or not).
        lost_frames: frames that damage made undecodable.
        corrupt_frames: frames that were decoded with visible damage.
        missing_frames: frames that the header claims and the file doesn't hold.
        repaired_times: frames whose time was missing, doubled or ran backwards and was mended.
        jumps: where the clock jumped, which was mended.
        damage_s: where the first damage is, seconds from the first frame; None where there is none, or no time.
        warnings: one line each, for a person.
    """

    frames: int = 0
    lost_frames: int = 0
    corrupt_frames: int = 0
    missing_frames: int = 0
    repaired_times: int = 0
    damage_s: float | None = None
    jumps: tuple[Jump, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether anything of the input was lost or shows damage."""
        return bool(self.lost_frames or self.corrupt_frames or self.missing_frames)


class Source(ABC):
    """One input: a video file, or a sequence of pictures.

    Attributes:
        name: unique among the inputs of a run and safe as the name of a directory.
        path: the file or directory.
        report: what the last pass over it met; complete when `frames` is exhausted.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Say where it is and how it is called; opens nothing."""
        self.path = path
        self.name = name
        self.report = DecodeReport()

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong in the last pass, one line each."""
        return self.report.warnings

    @property
    def file_names(self) -> Mapping[str, str]:
        """For a sequence of pictures: the file's name by `Frame.name`; empty for a video."""
        return MappingProxyType({})

    def probe(self) -> SourceInfo:
        """Facts about the input; found out once.

        Raises:
            InputError: it can't be read or holds no frame.
        """
        return self._info

    @cached_property
    def _info(self) -> SourceInfo:
        return self._read_info()

    @abstractmethod
    def _read_info(self) -> SourceInfo:
        """What `probe` says."""

    def times(self, selection: Selection) -> Sequence[int] | None:
        """Pts of the selected frames, where decoding can begin at any of them; None where it can't, or isn't known to.

        Raises:
            InputError: as `probe`.
        """
        return None

    def save_index(self) -> bytes | None:
        """What takes long to find out about the input, for `load_index`; None where nothing does."""
        return None

    def load_index(self, content: bytes) -> None:  # noqa: B027
        """Take what `save_index` of the same input gave, instead of finding it out."""

    def decoded_frames(self, selection: Selection, wanted: Collection[int]) -> int:
        """How many frames `frames` decodes for the sake of those wanted, about."""
        return max(wanted, default=-1) * selection.every + 1

    @abstractmethod
    def count(self, selection: Selection = ALL_FRAMES) -> int:
        """How many frames `frames(selection)` will yield; exact for an undamaged input.

        Raises:
            InputError: as `probe`.
        """

    @abstractmethod
    def frames(self, selection: Selection = ALL_FRAMES, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """The selected frames in order of time, each once, upright.

        Args:
            selection: which frames are processed.
            wanted: indices among the selected frames; the others are not converted to RGB and not yielded.
                None: all.

        Raises:
            InputError: nothing can be decoded; at the end of a strict pass: something was lost.
        """
