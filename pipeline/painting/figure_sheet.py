"""Figures: a sheet of pictures with titles, and a scatter plot with a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pipeline.geometry import fitted_size

Image = NDArray[np.uint8]

GAP_PX = 6
TEXT_PX = 16
INK = (20, 20, 20)
PAPER = (255, 255, 255)

MARKERS = ("disc", "square", "triangle", "diamond", "cross")
"""Marker shapes of a scatter plot, in turn by group."""
MARKER_PX = 3.5
SCATTER_PX = 900
FINE = 2
"""Supersampling of a scatter plot, for smooth edges."""


def draw_sheet(
    cells: Sequence[Sequence[Image | None]], columns: Sequence[str], rows: Sequence[str], cell_height_px: int = 128
) -> Image:
    """Pictures in rows and columns with their titles; each keeps its shape.

    Args:
        cells: row by row uint8 [height, width, 3]; None leaves a place empty.
        columns: titles above, one a column.
        rows: titles at the left, one a row.
        cell_height_px: height that pictures are brought to; wide ones become lower.

    Returns:
        uint8 [height, width, 3].
    """
    shown = [[None if cell is None else _fitted(cell, cell_height_px) for cell in row] for row in cells]
    font = ImageFont.load_default(TEXT_PX)
    left = GAP_PX + max((math.ceil(font.getlength(title)) for title in rows), default=0) + GAP_PX
    widths = [
        max([math.ceil(font.getlength(title)), *(cell.width for row in shown if (cell := row[number]) is not None)])
        for number, title in enumerate(columns)
    ]
    starts = left + np.concatenate([[0], np.cumsum([width + GAP_PX for width in widths])]).astype(int)
    top = TEXT_PX + 2 * GAP_PX
    height = top + len(shown) * (cell_height_px + GAP_PX)
    canvas = Pillow.new("RGB", (int(starts[-1]), height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, title in enumerate(columns):
        draw.text((int(starts[number]) + widths[number] / 2, top / 2), title, INK, font, anchor="mm")
    for line, (title, row) in enumerate(zip(rows, shown, strict=True)):
        y = top + line * (cell_height_px + GAP_PX)
        draw.text((GAP_PX, y + cell_height_px / 2), title, INK, font, anchor="lm")
        for number, cell in enumerate(row):
            if cell is not None:
                canvas.paste(cell, (int(starts[number]), y))
    return np.asarray(canvas)


def draw_scatter(
    points: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.integer],
    colors: Image,
    names: Sequence[str],
    group_names: Sequence[str],
) -> Image:
    """Points whose colour says their label and whose shape says their group (paper, figure 3).

    Args:
        points: [n, 2] in any units.
        labels: [n], each point's label.
        groups: [n], each point's group.
        colors: uint8 [labels, 3].
        names: the labels' names, for the legend.
        group_names: the groups' names, for the legend.

    Returns:
        uint8 [height, width, 3].
    """
    legend_px = 40 + 22 * (len(names) + len(group_names))
    width, height = SCATTER_PX + 220, max(SCATTER_PX, legend_px)
    canvas = Pillow.new("RGB", (width * FINE, height * FINE), PAPER)
    draw = ImageDraw.Draw(canvas)
    for (x, y), label, group in zip(_fill(points) * FINE, labels, groups, strict=True):
        _marker(draw, x, y, MARKER_PX * FINE, MARKERS[group % len(MARKERS)], tuple(colors[label].tolist()))
    font = ImageFont.load_default(14 * FINE)
    lines = [(name, "disc", tuple(colors[number].tolist())) for number, name in enumerate(names)]
    lines += [(name, MARKERS[number % len(MARKERS)], INK) for number, name in enumerate(group_names)]
    for number, (name, marker, color) in enumerate(lines):
        y = (24 + 22 * number) * FINE
        _marker(draw, (SCATTER_PX + 16) * FINE, y, 2 * MARKER_PX * FINE, marker, color)
        draw.text(((SCATTER_PX + 32) * FINE, y), name[:24], INK, font, anchor="lm")
    return np.asarray(canvas.reduce(FINE))


def _fitted(rgb: Image, height_px: int) -> Pillow.Image:
    height, width = fitted_size(rgb.shape[:2], (height_px, 2 * height_px))
    return Pillow.fromarray(rgb).resize((width, height), Pillow.Resampling.LANCZOS)


def _fill(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points scaled into the square of the scatter plot, aspect kept."""
    margin = 4 * MARKER_PX
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (SCATTER_PX - 2 * margin) / max(float((high - low).max()), 1e-12)
    moved: NDArray[np.floating] = (points - (low + high) / 2) * scale + SCATTER_PX / 2
    return moved


def _marker(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, shape: str, color: tuple[int, ...]) -> None:
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }
    if shape == "disc":
        draw.circle((x, y), size, fill=color)
    elif shape == "cross":
        for down in (-1, 1):
            draw.line([(x - size, y - down * size), (x + size, y + down * size)], fill=color, width=round(size * 0.7))
    else:
        draw.polygon([(x + right * size, y + down * size) for right, down in corners[shape]], fill=color)
