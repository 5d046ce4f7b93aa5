"""Figures 2, 3 and 4 of the paper on one's own pictures: layers, t-SNE, facets (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cluster.assignment import PartAssigner
from pipeline.cluster.feature_cache import FeatureCache
from pipeline.cluster.fit import PartFit, fit_parts
from pipeline.cluster.pca import Moments, fit_basis, value_range
from pipeline.cluster.tsne import embed_plane
from pipeline.config import Settings, with_values
from pipeline.failures import Failure
from pipeline.features.vit import Tap
from pipeline.media.inputs import resolve_visuals
from pipeline.media.pictures import save_png
from pipeline.painting.figure_sheet import draw_scatter, draw_sheet
from pipeline.painting.heatmaps import color_map, grey_map, heat_map
from pipeline.painting.palettes import part_colors
from pipeline.painting.points import mark_points
from pipeline.progress import Progress, Silent
from pipeline.runs.outputs import Outcome, require_free, save_json, workspace
from pipeline.stages.engine import description_of, open_engine
from pipeline.stages.grid_points import Point, nearest_places, place_on
from pipeline.stages.layer_atlas import SHOWN_FACETS, Atlas, View

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

LAYERS_FILE, FACETS_FILE, TSNE_FILE, JSON_FILE = "layers.png", "facets.png", "tsne.png", "layers.json"

TSNE_POINTS = 2000
"""Descriptors of all pictures together in the t-SNE: more take minutes and show no more."""
COMPONENTS = 4
CELL_HEIGHT_PX = 128
BACKGROUND_RGB = (200, 200, 200)
POINT_RGB = np.array([[255, 0, 255]], dtype=np.uint8)


def layers(
    inputs: Sequence[str | Path],
    output: Path,
    settings: Settings | None = None,
    *,
    point: Point | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Draw the paper's figures 2 to 4 of pictures: each goes through the ViT once for all layers and facets.

    layers.png: principal components of every layer, over all pictures together; the first in grey, the second to
    the fourth as red, green and blue. facets.png: similarity of one point of the first picture to the others (to
    itself if there is no other), for each facet at a middle and at the last layer, and the nearest patch of each.
    tsne.png: descriptors in a plane, coloured by the parts that a fit on these pictures finds, shaped by picture.
    layers.json: the point, the nearest patches, and the share of variance of each layer's components.

    Args:
        inputs: pictures, videos, directories of pictures, globs or text files of paths; of more than 18 pictures
            and frames, evenly spread ones are taken.
        output: directory of the files.
        settings: the defaults if None; log-bins are left out.
        point: (x, y) in pixels of the first picture; None: its most salient one.
        overwrite: replace files that exist.
        progress: receives progress and messages.

    Raises:
        InputError: no input can be read; one that fails among others is listed in the result's `failures`.
        OutputError: a file exists or can't be written.
        UsageError: the point lies outside of the first picture, or the pictures hold fewer parts than asked for.
        ModelError: the model can't be loaded.
    """
    settings, progress = settings or Settings(), progress or Silent()
    sources = resolve_visuals([str(item) for item in inputs])
    files = tuple(output / name for name in (LAYERS_FILE, FACETS_FILE, TSNE_FILE, JSON_FILE))
    require_free(files, overwrite)
    engine = open_engine(with_values(settings, {"features.log_bin": False}), progress)
    failures: list[Failure] = []
    with workspace(output) as folder:
        places = [folder / "layers", folder / "parts"]
        for place in places:
            place.mkdir()
        with FeatureCache(places[0]) as by_layer, FeatureCache(places[1]) as for_parts:
            atlas = Atlas(engine, by_layer, for_parts, point)
            atlas.read(sources, progress, failures)
            explained = _draw_layers(atlas, files[0])
            nearest = _draw_facets(atlas, files[1])
            _draw_tsne(atlas, files[2])
    shown = len(atlas.views)
    if shown + len(failures) < len(sources):
        progress.say(f"{len(sources)} inputs are given; the figures show {shown} of them, evenly spread")
    content = {"pictures": [view.name for view in atlas.views], **description_of(engine), "point": atlas.point}
    save_json(files[3], {**content, "nearest": nearest, "explained": explained})
    return Outcome(files, tuple(failures))


def _draw_layers(atlas: Atlas, file: Path) -> list[list[float]]:
    """Figure 2: one column a layer, two rows a picture; the layers' shares of variance."""
    rows: list[list[Image | None]] = []
    for view in atlas.views:
        rows += [[view.frame.rgb], [None]]
    explained = []
    for tap in atlas.layer_taps:
        shares = _draw_layer(atlas, tap, rows)
        explained.append([round(float(share), 5) for share in shares])
    titles = [title for view in atlas.views for title in (f"{view.name[:16]}  1st", "2nd to 4th")]
    columns = ["", *(f"layer {tap.layer}" for tap in atlas.layer_taps)]
    save_png(file, draw_sheet(rows, columns, titles, CELL_HEIGHT_PX))
    return explained


def _draw_layer(atlas: Atlas, tap: Tap, rows: list[list[Image | None]]) -> NDArray[np.float64]:
    """Add one layer's column to the rows; the shares of variance of its components."""
    numbers = range(len(atlas.views))
    moments = Moments(atlas.engine.extractor.identity.embed_dim)
    for number in numbers:
        moments.add(atlas.by_layer.get((number, tap)).descriptors)
    basis = fit_basis(moments, COMPONENTS)
    values = [basis.project(atlas.by_layer.get((number, tap)).descriptors) for number in numbers]
    low, high = value_range(np.concatenate([each.reshape(-1, COMPONENTS) for each in values]))
    for number, each in enumerate(values):
        place = place_on(atlas.engine, atlas.views[number].frame.size_hw).at_height(CELL_HEIGHT_PX)
        rows[2 * number].append(grey_map(each[..., 0], place, float(low[0]), float(high[0])))
        rows[2 * number + 1].append(color_map(each[..., 1:], place, low[1:], high[1:]))
    return basis.explained


def _draw_facets(atlas: Atlas, file: Path) -> list[dict[str, Any]]:
    """Figure 4: one row a picture and layer, one column a facet; the nearest patches of all."""
    source = atlas.views[0]
    marked = mark_points(source.frame.rgb, np.array([atlas.point]), POINT_RGB, numbered=False)
    rows: list[list[Image | None]] = []
    titles, nearest = [], []
    for view in atlas.views[1:] or atlas.views:
        for layer in atlas.facet_layers:
            row, found = _facet_row(atlas, view, layer)
            rows.append([marked, *row])
            titles.append(f"{view.name[:16]}  layer {layer}")
            nearest.append({"picture": view.name, "layer": layer, **found})
    save_png(file, draw_sheet(rows, ["point", "nearest", *SHOWN_FACETS], titles, 2 * CELL_HEIGHT_PX))
    return nearest


def _facet_row(atlas: Atlas, view: View, layer: int) -> tuple[list[Image | None], dict[str, list[float]]]:
    rgb, place = view.frame.rgb, place_on(atlas.engine, view.frame.size_hw)
    colors = part_colors(len(SHOWN_FACETS))
    maps = [view.maps[Tap(layer, facet)] for facet in SHOWN_FACETS]
    points = np.concatenate([place.pixels(nearest_places(values, 1)) for values in maps])
    row: list[Image | None] = [mark_points(rgb, points, colors, numbered=False)]
    for number, values in enumerate(maps):
        heat = heat_map(rgb, values, place, float(values.min()), float(values.max()))
        row.append(mark_points(heat, points[number : number + 1], colors[number : number + 1], numbered=False))
    return row, {facet: [round(x, 3), round(y, 3)] for facet, (x, y) in zip(SHOWN_FACETS, points.tolist(), strict=True)}


def _draw_tsne(atlas: Atlas, file: Path) -> None:
    """Figure 3: descriptors in a plane, coloured by part and shaped by picture."""
    settings = atlas.engine.settings
    regions = atlas.engine.extractor.regions
    fit = fit_parts(atlas.for_parts, settings.run.seed, settings.cluster, settings.saliency, regions)
    descriptors, labels, groups = _labelled(atlas, fit)
    points = embed_plane(descriptors, settings.run.seed)
    parts = len(fit.parts)
    colors = np.concatenate([np.array([BACKGROUND_RGB], dtype=np.uint8), part_colors(parts, settings.render.palette)])
    names = ["background", *(f"part {number}" for number in range(1, parts + 1))]
    save_png(file, draw_scatter(points, labels, groups, colors, names, [view.name for view in atlas.views]))


def _labelled(atlas: Atlas, fit: PartFit) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Evenly spread descriptors of all pictures with their parts and their picture's number."""
    background = fit.clustering.centroids[~fit.votes.salient]
    assigner = PartAssigner(torch.from_numpy(fit.parts.centroids), torch.from_numpy(background))
    entries = [entry.descriptors for entry in atlas.for_parts]
    step = max(1, -(-sum(each.shape[0] * each.shape[1] for each in entries) // TSNE_POINTS))
    thinned = [each.reshape(-1, each.shape[-1])[::step] for each in entries]
    labels = [assigner.energies(torch.from_numpy(each)[None]).argmin(dim=0).ravel().numpy() for each in thinned]
    groups = [np.full(len(each), number) for number, each in enumerate(thinned)]
    return np.concatenate(thinned), np.concatenate(labels), np.concatenate(groups)
