"""Similarity of each place of a picture or video to a point of another picture (figure 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cluster.assignment import normalise
from pipeline.config import Settings
from pipeline.errors import InputError, UsageError
from pipeline.failures import Failure
from pipeline.media.inputs import Picture, resolve_visuals, single_picture
from pipeline.media.pictures import save_png
from pipeline.media.source import Source
from pipeline.painting.heatmaps import heat_map
from pipeline.painting.palettes import part_colors
from pipeline.painting.points import mark_points
from pipeline.progress import Progress, Silent
from pipeline.records import Frame, GridMap, Prepared
from pipeline.runs.outputs import Outcome, require_free, save_json
from pipeline.stages.engine import Engine, description_of, open_engine
from pipeline.stages.grid_maps import Painting, map_frames, paint_each, paint_frames, painted_file, sample_frames
from pipeline.stages.grid_points import Point, nearest_places, place_on, require_inside

Floats = NDArray[np.float32]

JSON_FILE, POINT_FILE = "similarity.json", "point.png"
DEFAULT_TOP = 5
RANGE_FRAMES = 16
"""Evenly spread frames of a video whose similarities give the scale of its colours."""


def similarity(
    first: str | Path,
    second: str | Path,
    output: Path,
    settings: Settings | None = None,
    *,
    point: Point | None = None,
    top: int = DEFAULT_TOP,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Paint the cosine similarity of one descriptor of a picture to every descriptor of another picture or of a video.

    Written are <name>.png, the heat map over a picture, or <name>.mp4, over every frame of a video; blue is low
    and red is high, on one scale for all frames of a video and on its own for each picture. point.png shows the
    point, and similarity.json lists the `top` nearest patches of each frame, neighbours
    included, as in the paper.

    Args:
        first: the picture with the point.
        second: a picture, a video, or a directory of pictures, each of which gets a map.
        output: directory of the results.
        settings: the defaults if None.
        point: (x, y) in pixels of the first picture; None: the class token's descriptor.
        top: nearest patches to list and to mark.
        overwrite: replace files that exist.
        progress: receives progress and messages.

    Returns:
        The files, and the targets that couldn't be finished.

    Raises:
        InputError: a picture can't be read.
        OutputError: a file exists or can't be written.
        UsageError: the point lies outside of the picture; log-bins without a point, for the class token has none.
        ModelError: the model can't be loaded.
    """
    settings, progress = settings or Settings(), progress or Silent()
    if top < 0:
        raise UsageError(f"the {top} nearest patches are asked for; expected 0 or more")
    picture, targets = single_picture(first), resolve_visuals([str(second)])
    require_free(_planned(targets, output, point), overwrite)
    rgb = picture.read()
    if point is not None:
        require_inside(point, rgb, str(picture.path))
    elif settings.features.log_bin:
        raise UsageError("the class token has no log-bins; give a --point, or leave the bins out")
    engine = open_engine(settings, progress)
    run = _Run(output, engine, describe_point(rgb, point, engine), top, progress)
    return run.all(targets, picture, rgb, point)


def describe_point(rgb: NDArray[np.uint8], point: Point | None, engine: Engine) -> Tensor:
    """The descriptor of the patch whose centre is nearest to a point, or of the class token, at unit length.

    Args:
        rgb: uint8 [height, width, 3].
        point: (x, y) in its pixels; None: the class token.
        engine: model and settings.

    Returns:
        float32 [channels], on the engine's device.
    """
    found = engine.extractor.extract([engine.extractor.preprocess(rgb)])
    if point is None:
        return normalise(found.cls[0])
    ((row, col),) = place_on(engine, (rgb.shape[0], rgb.shape[1])).positions(np.array([point])).tolist()
    return normalise(found.descriptors[0, row, col])


def _planned(targets: Sequence[Source], output: Path, point: Point | None) -> Iterator[Path]:
    yield output / JSON_FILE
    if point is not None:
        yield output / POINT_FILE
    for target in targets:
        yield painted_file(output / target.name, target)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the targets of a run share."""

    output: Path
    engine: Engine
    descriptor: Tensor
    top: int
    progress: Progress

    def all(self, targets: Sequence[Source], picture: Picture, rgb: NDArray[np.uint8], point: Point | None) -> Outcome:
        failures: list[Failure] = []
        records: list[dict[str, Any]] = []
        files = paint_each(targets, self.engine, self.progress, failures, lambda target: self._paint(target, records))
        if not files:
            Outcome((), tuple(failures)).raise_failures()
        if point is not None:
            marked = mark_points(rgb, np.array([point]), part_colors(1), numbered=False)
            files.append(save_png(self.output / POINT_FILE, marked))
        origin = {"path": str(picture.path), "width": rgb.shape[1], "height": rgb.shape[0], "point": point}
        content = {"first": origin, **description_of(self.engine), "targets": records}
        files.append(save_json(self.output / JSON_FILE, content))
        return Outcome(tuple(files), tuple(failures))

    def _describe(self, batch: list[Prepared]) -> Floats:
        descriptors = self.engine.extractor.extract([item.image for item in batch]).descriptors
        lengths = torch.linalg.vector_norm(descriptors, dim=-1).clamp_min(1e-12)
        values: Floats = (descriptors @ self.descriptor / lengths).cpu().numpy()
        return values

    def _paint(self, target: Source, records: list[dict[str, Any]]) -> list[Path]:
        known = self._sample(target)
        low = min(float(values.min()) for values in known.values())
        high = max(float(values.max()) for values in known.values())
        frames: list[dict[str, Any]] = []

        def describe(batch: list[Prepared]) -> Iterator[Floats]:
            fresh = [item for item in batch if item.frame.index not in known]
            computed = iter(self._describe(fresh) if fresh else ())
            for item in batch:
                index = item.frame.index
                yield known[index] if index in known else next(computed)

        def paint(item: GridMap) -> NDArray[np.uint8]:
            place = place_on(self.engine, item.frame.size_hw)
            painted = heat_map(item.frame.rgb, item.values, place, low, high, self.engine.settings.render.alpha)
            return mark_points(painted, place.pixels(nearest_places(item.values, self.top)), part_colors(self.top))

        def keep(item: GridMap) -> None:
            frames.append(self._frame_record(item.frame, item.values))

        painting = Painting(self.output / target.name, paint)
        files = paint_frames(target, self.engine, describe, [painting], self.progress, keep)
        records.append({"name": target.name, "path": str(target.path), "range": [low, high], "frames": frames})
        return files

    def _sample(self, target: Source) -> dict[int, Floats]:
        """The maps of evenly spread frames, by the frame's number."""
        failures: list[Failure] = []
        samples = sample_frames([target], self.engine, RANGE_FRAMES, failures)
        if failures:
            raise failures[0].error
        known: dict[int, Floats] = {}

        def store(items: Iterator[GridMap]) -> None:
            for item in items:
                known[item.frame.index] = item.values

        map_frames(target, self.engine, self._describe, store, samples[0][1])
        if not known:
            raise InputError(f"no frame of '{target.path}' can be decoded; give another file")
        return known

    def _frame_record(self, frame: Frame, values: Floats) -> dict[str, Any]:
        positions = nearest_places(values, self.top)
        points = place_on(self.engine, frame.size_hw).pixels(positions)
        nearest = [
            {"x": round(x, 3), "y": round(y, 3), "similarity": round(float(values[row, col]), 5)}
            for (x, y), (row, col) in zip(points.tolist(), positions.tolist(), strict=True)
        ]
        return {"index": frame.index, "seconds": float(frame.pts * frame.time_base), "nearest": nearest}
