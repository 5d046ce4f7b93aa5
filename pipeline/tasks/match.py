"""Point correspondences between two pictures (paper section 4, equation 5; figures 1 and 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.correspondences import nearest_both_ways, spread_pairs
from pipeline.config import Settings, with_defaults, with_values
from pipeline.errors import UsageError
from pipeline.features.vit import Tap
from pipeline.geometry import GridPlace
from pipeline.media.inputs import Picture, single_picture
from pipeline.media.pictures import save_png
from pipeline.painting.points import draw_dense_pairs, draw_pairs
from pipeline.progress import Progress, Silent
from pipeline.runs.notebook import files_html
from pipeline.runs.outputs import require_free, save_json
from pipeline.stages.engine import Engine, description_of, middle_layer, open_engine
from pipeline.stages.grid_points import place_on

JSON_FILE, PICTURE_FILE = "matches.json", "matches.png"

DEFAULT_PAIRS = 10
DEFAULT_THRESHOLD = 0.05
"""Saliency in [0, 1] that both ends of a pair must exceed (the paper's code)."""


@dataclass(frozen=True, slots=True)
class PointPair:
    """Two points that correspond.

    Attributes:
        first_xy: point (x, y) in the first picture, in the file's own upright pixels.
        second_xy: point (x, y) in the second.
        similarity: cosine similarity of the descriptors.
        saliency: of the two ends, each in [0, 1].
    """

    first_xy: tuple[float, float]
    second_xy: tuple[float, float]
    similarity: float
    saliency: tuple[float, float]


@dataclass(frozen=True, slots=True)
class MatchResult:
    """What was found.

    Attributes:
        pairs: the most salient first.
        buddies: salient best buddies that they were chosen from.
        files: what was written.
    """

    pairs: tuple[PointPair, ...]
    buddies: int
    files: tuple[Path, ...] = ()

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return files_html(f"{len(self.pairs)} pairs", self.files)

    def summary(self) -> str:
        """How many pairs there are, and where the files are."""
        return "\n".join([f"{len(self.pairs)} pairs of {self.buddies} salient best buddies", *map(str, self.files)])


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One picture, described: rows are the grid's positions in row-major order.

    Attributes:
        rgb: uint8 [height, width, 3].
        place: where the grid lies on it.
        descriptors: float32 [n, channels], on the extractor's device.
        saliency: float32 [n].
        cols: columns of the grid.
    """

    rgb: NDArray[np.uint8]
    place: GridPlace
    descriptors: Tensor
    saliency: NDArray[np.float32]
    cols: int

    def points(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Pixels (x, y) of some rows, float64 [m, 2]."""
        return self.place.pixels(np.stack(np.divmod(rows, self.cols), axis=1))


def match(
    first: str | Path,
    second: str | Path,
    output: Path,
    settings: Settings | None = None,
    *,
    pairs: int | None = DEFAULT_PAIRS,
    threshold: float = DEFAULT_THRESHOLD,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> MatchResult:
    """Find points that correspond in two pictures, and write them as matches.json and matches.png.

    Nearest neighbours both ways under cosine similarity of log-binned descriptors of a middle layer; best buddies
    whose two ends are salient; k-means over the two descriptors side by side, and of each cluster the pair with
    the highest mean saliency.

    Differences from the authors' code: there a pair is kept if any salient position of the second picture has its
    nearest neighbour at the first end, here if its own second end is salient; theirs crashes where nothing is salient
    or fewer pairs than asked for are found, and takes the mean of an empty cluster.

    Args:
        first: a picture.
        second: another one, of any size.
        output: directory of the two files.
        settings: where not set, the layer is at three quarters of the depth (9 of 12), and log-bins are on.
        pairs: how many at most; None: every salient pair of best buddies.
        threshold: saliency in [0, 1] that both ends must exceed.
        overwrite: replace files that exist.
        progress: receives messages.

    Raises:
        InputError: a picture can't be read.
        OutputError: a file exists or can't be written.
        UsageError: no pair is asked for, or the threshold is out of range.
        ModelError: the model can't be loaded.
    """
    progress = progress or Silent()
    _check(pairs, threshold)
    files = (output / JSON_FILE, output / PICTURE_FILE)
    require_free(files, overwrite)
    pictures = [single_picture(path) for path in (first, second)]
    engine = open_matching_engine(settings or Settings(), progress)
    rgb = [picture.read() for picture in pictures]
    progress.start("match", len(pictures), "picture")
    sides = []
    for picture, image in zip(pictures, rgb, strict=True):
        sides.append(describe_side(image, engine))
        progress.advance(name=picture.name)
    progress.finish()
    found = correspond(sides[0], sides[1], pairs, threshold, engine.settings.run.seed)
    if (warning := _warning(found, pairs, threshold)) is not None:
        progress.say(f"warning: {warning}")
    save_json(files[0], _record(pictures, rgb, engine, found, pairs, threshold))
    draw = draw_dense_pairs if pairs is None else draw_pairs
    ends = [_points([pair.first_xy for pair in found.pairs]), _points([pair.second_xy for pair in found.pairs])]
    save_png(files[1], draw(rgb[0], rgb[1], ends[0], ends[1]))
    return MatchResult(found.pairs, found.buddies, files)


def open_matching_engine(settings: Settings, progress: Progress) -> Engine:
    """Load the model for correspondences: a middle layer and log-bins where the settings don't say otherwise.

    Raises:
        ModelError: the model can't be loaded.
    """
    engine = open_engine(with_defaults(settings, {"features": {"log_bin": True}}), progress)
    if "layer" in settings.features.model_fields_set:
        return engine
    return Engine(engine.extractor, with_values(engine.settings, {"features.layer": middle_layer(engine)}))


def correspond(left: Side, right: Side, pairs: int | None, threshold: float, seed: int) -> MatchResult:
    """The points of two pictures that correspond; the seed is that of the choice among too many pairs."""
    neighbours = nearest_both_ways(left.descriptors, right.descriptors)
    ahead = neighbours.forward
    salient = (left.saliency > threshold) & (right.saliency[ahead] > threshold)
    buddies = np.flatnonzero(neighbours.best_buddies & salient)
    mean = (left.saliency[buddies] + right.saliency[ahead[buddies]]) / 2
    if pairs is None or len(buddies) <= pairs:
        chosen = buddies[np.argsort(-mean, kind="stable")]
    else:
        described = [_rows(left, buddies), _rows(right, ahead[buddies])]
        chosen = buddies[spread_pairs(described[0], described[1], mean, pairs, seed)]
    return MatchResult(_pairs(chosen, left, right, ahead, neighbours.forward_similarity), len(buddies))


def _check(pairs: int | None, threshold: float) -> None:
    if pairs is not None and pairs < 1:
        raise UsageError(f"{pairs} pairs are asked for; expected at least 1")
    if not 0 <= threshold <= 1:
        raise UsageError(f"the threshold is {threshold}; expected a saliency from 0 to 1")


def describe_side(rgb: NDArray[np.uint8], engine: Engine) -> Side:
    """Describe a picture, uint8 [height, width, 3]; the engine is from `open_matching_engine`."""
    extractor, features = engine.extractor, engine.settings.features
    tap = Tap(features.layer, features.facet)
    found = extractor.extract_taps([extractor.preprocess(rgb)], [tap], saliency=True)[tap]
    assert found.saliency is not None
    place = place_on(engine, (rgb.shape[0], rgb.shape[1]))
    descriptors = found.descriptors[0].flatten(0, 1)
    return Side(rgb, place, descriptors, found.saliency[0].flatten().cpu().numpy(), found.saliency.shape[2])


def _rows(side: Side, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    import torch

    picked: NDArray[np.float32] = side.descriptors[torch.from_numpy(rows).to(side.descriptors.device)].cpu().numpy()
    return picked


def _pairs(
    chosen: NDArray[np.int64], left: Side, right: Side, ahead: NDArray[np.int64], similarity: NDArray[np.float32]
) -> tuple[PointPair, ...]:
    there = ahead[chosen]
    ends = zip(left.points(chosen).tolist(), right.points(there).tolist(), strict=True)
    return tuple(
        PointPair(
            (round(here[0], 3), round(here[1], 3)),
            (round(beyond[0], 3), round(beyond[1], 3)),
            round(float(similarity[row]), 5),
            (round(float(left.saliency[row]), 5), round(float(right.saliency[ahead[row]]), 5)),
        )
        for row, (here, beyond) in zip(chosen, ends, strict=True)
    )


def _points(points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _warning(found: MatchResult, pairs: int | None, threshold: float) -> str | None:
    if not found.buddies:
        return f"no pair of best buddies has both ends above a saliency of {threshold}; try a lower --threshold"
    if pairs is not None and len(found.pairs) < pairs:
        return f"{pairs} pairs are asked for, and {len(found.pairs)} are found; all of them are written"
    return None


def _record(
    pictures: Sequence[Picture],
    rgb: Sequence[NDArray[np.uint8]],
    engine: Engine,
    found: MatchResult,
    pairs: int | None,
    threshold: float,
) -> dict[str, Any]:
    sides = [
        {"path": str(picture.path), "width": image.shape[1], "height": image.shape[0]}
        for picture, image in zip(pictures, rgb, strict=True)
    ]
    return {
        "first": sides[0],
        "second": sides[1],
        **description_of(engine),
        "asked": pairs,
        "threshold": threshold,
        "best_buddies": found.buddies,
        "pairs": [
            {
                "number": number,
                "first": list(pair.first_xy),
                "second": list(pair.second_xy),
                "similarity": pair.similarity,
                "saliency": list(pair.saliency),
            }
            for number, pair in enumerate(found.pairs, start=1)
        ],
    }
