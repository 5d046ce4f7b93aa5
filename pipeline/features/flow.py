"""Dense optical flow with forward-backward check, and warping of maps along it.

Flow is DIS (Kroeger et al., ECCV 2016) in both directions: where forward and backward flow disagree, or the colours
differ, a pixel is occluded, new or missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.optical_flow import fast_flow

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]

RETURN_PX = 1.0
"""Standard deviation of the forward-backward error, pixels; trust is a Gaussian of the error."""
RETURN_SHARE = 0.05
"""Growth of that standard deviation with the flow's length, per pixel."""
COLOUR_LEVELS = 20.0
"""Difference in colour, grey levels of 0..255, mean around a pixel, that is likely another surface."""
LOST_TRUST = 0.1
"""A pixel that is trusted less than this is found nowhere."""

_COLOUR_WINDOW_PX = 5
_LEAST_TRUST = 1e-4
"""Of a pixel that nothing is known of, so that the nearer frame decides."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Where the pixels of one frame are in another.

    Attributes:
        x: float32 [h, w], columns in the other frame.
        y: float32 [h, w], rows.
        trust: float32 [h, w] in [0, 1].
    """

    x: Map
    y: Map
    trust: Map

    def carry(self, field: Map) -> Map:
        """Warp a map [channels, h, w] of the other frame to this one, bilinearly."""
        return np.stack([_sample(channel, self.x, self.y) for channel in field])

    def on_grid(self, grid_hw: tuple[int, ...]) -> Track:
        """The track of the places of a grid of rows and columns that divides the frame evenly, in units of the grid."""
        height, width = self.x.shape
        rows, cols = grid_hw
        if (rows, cols) == (height, width):
            return self
        down, across = _middles(height, rows), _middles(width, cols)
        picked = np.ix_(down, across)
        # A place's middle lies between pixels: only how far the picked pixel moves is the place's, not where it is.
        x = np.arange(cols) + (self.x[picked] - across) * (cols / width)
        y = np.arange(rows)[:, None] + (self.y[picked] - down[:, None]) * (rows / height)
        return Track(x.astype(np.float32), y.astype(np.float32), self.trust[picked])

    def then(self, step: Track) -> Track:
        """The way to where another track leads from this one's other frame; both steps must be trusted."""
        x, y, trust = self.carry(np.stack((step.x, step.y, step.trust)))
        return Track(x, y, self.trust * trust)


def find_track(picture: Picture, other: Picture) -> Track:
    """Follow each pixel of a picture to another; both uint8 [h, w, 3]."""
    return _checked(picture, other, *_flows(picture, other))


def find_tracks(picture: Picture, other: Picture) -> tuple[Track, Track]:
    """Follow each pixel of a picture to another, and of that to the first; both uint8 [h, w, 3]."""
    forth, back = _flows(picture, other)
    return _checked(picture, other, forth, back), _checked(other, picture, back, forth)


def _flows(picture: Picture, other: Picture) -> tuple[Map, Map]:
    grey, other_grey = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (picture, other))
    flow_of = fast_flow()
    return flow_of.calc(grey, other_grey, None), flow_of.calc(other_grey, grey, None)


def _checked(picture: Picture, other: Picture, forth: Map, back: Map) -> Track:
    """The track along a flow [h, w, 2], trusted as far as the flow back returns."""
    height, width = forth.shape[:2]
    along, down = cv2.split(forth)
    x, y = along + np.arange(width, dtype=np.float32), down + np.arange(height, dtype=np.float32)[:, None]
    back_along, back_down = cv2.split(_sample(back, x, y))
    astray = cv2.magnitude(along + back_along, down + back_down)
    allowed = RETURN_PX + RETURN_SHARE * cv2.magnitude(along, down)
    # Grey levels to whole ones, which is far below what tells surfaces apart, take a third of the time.
    seen = cv2.remap(other, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    around = cv2.boxFilter(cv2.absdiff(picture, seen), cv2.CV_32F, (_COLOUR_WINDOW_PX, _COLOUR_WINDOW_PX))
    change = cv2.transform(around, np.full((1, 3), 1 / 3, dtype=np.float32))
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    trust = inside * np.exp(-((astray / allowed) ** 2) - (change / COLOUR_LEVELS) ** 2)
    return Track(x, y, trust.astype(np.float32))


def lost_share(before: Track, after: Track) -> float:
    """Share of a frame's pixels that are found in neither of two other frames."""
    return float((np.maximum(before.trust, after.trust) < LOST_TRUST).mean())


def blend(before: Track, after: Track, fields: tuple[Map, Map], progress: float) -> Map:
    """A map of a frame from those of the frames around it, each as far as it is trusted and near.

    Args:
        before: the frame's pixels in the earlier one.
        after: and in the later one.
        fields: float32 [channels, h, w], the maps of both.
        progress: how far the frame is on the way from one to the other, between 0 and 1.

    Returns:
        float32 [channels, h, w].
    """
    first, second = (
        (track.trust + np.float32(_LEAST_TRUST)) * np.float32(near)
        for track, near in ((before, 1 - progress), (after, progress))
    )
    share = second / (first + second)
    return np.asarray(before.carry(fields[0]) * (1 - share) + after.carry(fields[1]) * share, dtype=np.float32)


def _middles(pixels: int, places: int) -> NDArray[np.int64]:
    """The pixel in the middle of each of a grid's places along one side."""
    return ((np.arange(places) + 0.5) * pixels / places).astype(np.int64)


def _sample(field: Map, x: Map, y: Map) -> Map:
    return np.asarray(cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)
