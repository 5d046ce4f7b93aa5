"""Points on pictures, and pairs of points between two pictures side by side (paper, figures 1 and 10)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from pipeline.geometry import fitted_size
from pipeline.painting.palettes import part_colors

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

SHOWN_HEIGHT_PX = 720
"""Height of the pictures in a drawing of pairs."""
SHOWN_WIDTH_PX = 1600
"""Width of one picture of a pair at most."""
GAP_PX = 12
RADIUS_SHARE = 1 / 60
"""Radius of a numbered point as a share of the picture's short side."""
FINE = 4
"""Supersampling of points, for smooth edges."""


def mark_points(rgb: Image, points_xy: Points, colors: Image, numbered: bool = True) -> Image:
    """Draw points as coloured discs with a white rim, with their numbers from 1 where wanted.

    Args:
        rgb: uint8 [height, width, 3].
        points_xy: [n, 2] points (x, y).
        colors: uint8 [n, 3].
        numbered: whether each carries its number.
    """
    radius = max(3.0, min(rgb.shape[:2]) * RADIUS_SHARE)
    canvas = Pillow.fromarray(rgb)
    # The first point is drawn last: it is the one that matters most.
    for number in range(len(points_xy), 0, -1):
        disc = _disc(radius, tuple(colors[number - 1].tolist()), str(number) if numbered else "")
        x, y = points_xy[number - 1]
        canvas.paste(disc, (round(x - disc.width / 2), round(y - disc.height / 2)), disc)
    return np.asarray(canvas)


def draw_pairs(first: Image, second: Image, first_xy: Points, second_xy: Points) -> Image:
    """Two pictures side by side with numbered points in both and a line for each pair.

    Args:
        first: uint8 [height, width, 3].
        second: another one, of any size.
        first_xy: [n, 2] points (x, y) in the first picture, in its own pixels.
        second_xy: [n, 2] points in the second, in the same order.
    """
    canvas, left, right = _side_by_side(first, second, first_xy, second_xy)
    colors = part_colors(len(left))
    canvas = _draw_lines(canvas, left, right, colors)
    return mark_points(mark_points(canvas, left, colors), right, colors)


def draw_dense_pairs(first: Image, second: Image, first_xy: Points, second_xy: Points) -> Image:
    """Two pictures side by side with many pairs: no lines, but points whose colour says where the first one lies.

    Args as those of `draw_pairs`.
    """
    import cv2

    canvas, left, right = _side_by_side(first, second, first_xy, second_xy)
    colors = place_colors(first_xy, (first.shape[0], first.shape[1]))
    radius = max(2, round(min(canvas.shape[:2]) / 240))
    for points in (left, right):
        for point, color in zip(points, colors.tolist(), strict=True):
            cv2.circle(canvas, _pixel(point), radius, color, -1, cv2.LINE_AA)
    return canvas


def place_colors(points_xy: Points, size_hw: tuple[int, int]) -> Image:
    """A colour for each point by its place: hue by the angle around the picture's centre, pale near it."""
    import cv2

    away = (points_xy / np.array(size_hw[::-1]) - 0.5) * 2
    hue = (np.arctan2(away[:, 1], away[:, 0]) / math.tau % 1.0) * 180
    saturation = np.clip(np.linalg.norm(away, axis=1), 0.2, 1.0) * 255
    hsv = np.stack([hue, saturation, np.full(len(hue), 255.0)], axis=1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv[:, None], cv2.COLOR_HSV2RGB)[:, 0]) if len(hsv) else np.empty((0, 3), np.uint8)


def _side_by_side(first: Image, second: Image, first_xy: Points, second_xy: Points) -> tuple[Image, Points, Points]:
    """Both pictures at a common height on one canvas, and the points where they are there."""
    shown, scales = zip(*(_shown(picture) for picture in (first, second)), strict=True)
    height = max(picture.shape[0] for picture in shown)
    offset = shown[0].shape[1] + GAP_PX
    canvas = np.full((height, offset + shown[1].shape[1], 3), 255, dtype=np.uint8)
    canvas[: shown[0].shape[0], : shown[0].shape[1]] = shown[0]
    canvas[: shown[1].shape[0], offset:] = shown[1]
    return canvas, first_xy * scales[0], second_xy * scales[1] + [offset, 0]


def _shown(rgb: Image) -> tuple[Image, Points]:
    """The picture at the height that is shown, and what its points (x, y) are multiplied by."""
    size = fitted_size(rgb.shape[:2], (SHOWN_HEIGHT_PX, SHOWN_WIDTH_PX))[::-1]
    resized = np.array(Pillow.fromarray(rgb).resize(size, Pillow.Resampling.LANCZOS))
    return resized, np.array(size, dtype=np.float64) / np.array(rgb.shape[1::-1])


def _draw_lines(canvas: Image, left: Points, right: Points, colors: Image) -> Image:
    import cv2

    drawn = canvas.copy()
    for start, end, color in zip(left, right, colors.tolist(), strict=True):
        cv2.line(drawn, _pixel(start), _pixel(end), color, max(1, canvas.shape[0] // 300), cv2.LINE_AA)
    return np.asarray(cv2.addWeighted(drawn, 0.75, canvas, 0.25, 0))


def _pixel(point: Points) -> tuple[int, int]:
    return round(float(point[0]) - 0.5), round(float(point[1]) - 0.5)


def _disc(radius: float, color: tuple[int, ...], text: str) -> Pillow.Image:
    side = 2 * math.ceil(radius * 1.25) + 1
    large = Pillow.new("RGBA", (side * FINE, side * FINE), (255, 255, 255, 0))
    draw = ImageDraw.Draw(large)
    centre = (side * FINE / 2, side * FINE / 2)
    draw.circle(centre, radius * 1.25 * FINE, fill=(255, 255, 255, 255))
    draw.circle(centre, radius * FINE, fill=(*color, 255))
    dark = sum(color) < 3 * 150
    font = ImageFont.load_default(radius * FINE * (1.4 if len(text) < 2 else 1.1))
    draw.text(centre, text, fill=(255, 255, 255) if dark else (0, 0, 0), font=font, anchor="mm")
    return large.reduce(FINE)
