"""SPair-71k: picture pairs with corresponding key-points (Min et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.evaluation.datasets.layout import Box, Picture, read_json, read_lines, require, require_root

LAYOUT = (
    "SPair-71k/ with JPEGImages/<category>/*.jpg, PairAnnotation/test/*.json and Layout/large/test.txt "
    "(lines like 000001-2008_000585-2008_002221:aeroplane)"
)


@dataclass(frozen=True, slots=True)
class PairName:
    """A line of the pair list, `<number>-<source>-<target>:<category>`."""

    text: str

    @property
    def category(self) -> str:
        """Category of the object in both pictures."""
        return self.text.rpartition(":")[2]


@dataclass(frozen=True, slots=True, eq=False)
class KeypointPair:
    """Two pictures with corresponding key-points.

    Attributes:
        name: the line of the pair list.
        source: the picture whose key-points are given.
        target: the picture in which they are searched.
        source_xy: float64 [n, 2] points (x, y) in the source.
        target_xy: float64 [n, 2] points (x, y) in the target.
        target_hw: height and width of the target.
        target_box: bounding box of the target's object.
    """

    name: PairName
    source: Picture
    target: Picture
    source_xy: NDArray[np.float64]
    target_xy: NDArray[np.float64]
    target_hw: tuple[int, int]
    target_box: Box

    def __post_init__(self) -> None:
        """Check that there are as many points in both pictures."""
        if self.source_xy.shape != self.target_xy.shape or self.source_xy.shape[1:] != (2,):
            raise ValueError(f"KeypointPair: points {self.source_xy.shape} and {self.target_xy.shape}")


@dataclass(frozen=True, slots=True)
class SPair:
    """The test split of SPair-71k.

    Attributes:
        root: the folder that holds JPEGImages.
        names: its pairs, in the order of its list.
    """

    root: Path
    names: tuple[PairName, ...]

    def read(self, name: PairName) -> KeypointPair:
        """One pair's annotation.

        Raises:
            InputError: the annotation or a picture is missing.
        """
        file = self.root / "PairAnnotation" / "test" / f"{name.text}.json"
        values = read_json(file, LAYOUT)
        try:
            return self._pair(name, values)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"'{file}' is no annotation of a pair: {error!r}; expected {LAYOUT}") from error

    def _pair(self, name: PairName, values: dict[str, Any]) -> KeypointPair:
        left, top, right, bottom = (float(value) for value in values["trg_bndbox"])
        return KeypointPair(
            name=name,
            source=self._picture(name, values["src_imname"]),
            target=self._picture(name, values["trg_imname"]),
            source_xy=np.array(values["src_kps"], dtype=np.float64).reshape(-1, 2),
            target_xy=np.array(values["trg_kps"], dtype=np.float64).reshape(-1, 2),
            target_hw=(int(values["trg_imsize"][1]), int(values["trg_imsize"][0])),
            target_box=Box(left, top, right - left, bottom - top),
        )

    def _picture(self, name: PairName, file: str) -> Picture:
        path = self.root / "JPEGImages" / name.category / file
        return Picture(f"{name.category}/{file}", require(path, LAYOUT))


def load_spair(root: Path) -> SPair:
    """The test split of SPair-71k; `SPair.read` reads the annotation of each pair.

    Args:
        root: the folder SPair-71k, or its parent.

    Raises:
        InputError: the list of pairs is missing or malformed.
    """
    folder = require_root(root, ["SPair-71k"], "Layout/large/test.txt", LAYOUT)
    names = tuple(PairName(line) for line in read_lines(folder / "Layout" / "large" / "test.txt", LAYOUT))
    for name in names:
        if ":" not in name.text:
            raise InputError(f"'{name.text}' in Layout/large/test.txt names no category; expected {LAYOUT}")
    return SPair(folder, names)


def sample_pairs(names: Sequence[PairName], per_category: int, seed: int) -> tuple[PairName, ...]:
    """Sample pairs of each category at random; the result is sorted by category and name.

    It depends on the seed and the names, not on the order of the list.

    Args:
        names: the pairs to sample from.
        per_category: pairs per category; all pairs of a category that has fewer.
        seed: random seed.
    """
    rng = np.random.default_rng(seed)
    drawn: list[PairName] = []
    for category in sorted({name.category for name in names}):
        members = sorted((name for name in names if name.category == category), key=lambda name: name.text)
        chosen = rng.choice(len(members), size=min(per_category, len(members)), replace=False)
        drawn += [members[index] for index in sorted(chosen)]
    return tuple(drawn)
