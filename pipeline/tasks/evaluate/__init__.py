"""The method on public benchmarks: a data set, a protocol, and the part of the method it measures.

    cub        parts of CUB-200-2011's birds               paper, Table 1
    celeba     parts of unaligned CelebA's faces           paper, supplement
    coseg      common foreground of sets of pictures       paper, Table 2
    facets     the same by facets, layers and baselines    paper, Table 3
    spair      point correspondences on SPair-71k          paper, Table 4
    davis      foreground of DAVIS' videos
    parts      parts of annotated videos
    keypoints  key-points carried through BADJA's videos

Results are kept item by item, so that an interrupted run continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.evaluation.datasets.davis import Year
from pipeline.evaluation.reports import Summary
from pipeline.progress import Progress, Silent
from pipeline.tasks.evaluate.facets import evaluate_facets_and_baselines
from pipeline.tasks.evaluate.points import evaluate_matching, evaluate_propagation
from pipeline.tasks.evaluate.request import Request
from pipeline.tasks.evaluate.sets import evaluate_birds, evaluate_faces, evaluate_sets
from pipeline.tasks.evaluate.videos import evaluate_foreground, evaluate_part_clips

BENCHMARKS: Mapping[str, Callable[[Request], Summary]] = {
    "cub": evaluate_birds,
    "celeba": evaluate_faces,
    "coseg": evaluate_sets,
    "spair": evaluate_matching,
    "facets": evaluate_facets_and_baselines,
    "davis": evaluate_foreground,
    "parts": evaluate_part_clips,
    "keypoints": evaluate_propagation,
}
"""What can be measured on, by name; each raises what `evaluate` does."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "protocol": ("spair",),
    "method": ("cub", "celeba", "coseg"),
    "year": ("davis",),
    "layers": ("spair", "facets"),
}
"""Which benchmarks each option is for."""


def evaluate(
    name: str,
    data: str | Path,
    output: Path,
    settings: Settings | None = None,
    *,
    limit: int | None = None,
    protocol: Literal["paper", "standard"] | None = None,
    method: Literal["ours", "dff"] | None = None,
    year: Year | None = None,
    layers: Sequence[int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Measure the method on a benchmark.

    Args:
        name: one of `BENCHMARKS`.
        data: the folder of the data set, as its archive unpacks.
        output: the directory to write: items.csv, settings.json and summary.md. Where it holds results of the same
            settings, only what is missing is measured.
        settings: the defaults if None; protocols fix some, such as four parts for CUB.
        limit: items at most: sets, pictures, pairs or clips; None: all.
        protocol: of `spair`: the paper's pairs and radius, or all test pairs and the object's box; the paper's if None.
        method: of `cub`, `celeba` and `coseg`: ours, or deep feature factorisation as a baseline; ours if None.
        year: of `davis`: 2016 if None.
        layers: of `spair` and `facets`: blocks to sweep; if None three quarters of the depth and the last one, which
            are the paper's 9 and 11.
        overwrite: start again instead of continuing.
        progress: receives progress and messages.

    Raises:
        UsageError: there is no such benchmark, or an option isn't for it.
        InputError: a file of the data set is missing or can't be read.
        OutputError: the output can't be written, or holds results of other settings.
        ModelError: the model can't be loaded.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"there is no benchmark named '{name}'; expected one of {', '.join(BENCHMARKS)}")
    _require_its_own(name, {"protocol": protocol, "method": method, "year": year, "layers": layers})
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is {limit}; expected at least 1 item")
    request = Request(
        name=name,
        data=Path(data),
        output=output,
        settings=settings or Settings(),
        progress=progress or Silent(),
        limit=limit,
        protocol=protocol or "paper",
        method=method or "ours",
        year=year or 2016,
        layers=None if layers is None else tuple(layers),
        overwrite=overwrite,
    )
    return BENCHMARKS[name](request)


def _require_its_own(name: str, given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value is not None and name not in OPTIONS[option]:
            raise UsageError(f"--{option} is for {' and '.join(OPTIONS[option])}, not for {name}; leave it out")
