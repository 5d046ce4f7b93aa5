"""Colour: matrix, range and transfer of a video, conversion to 8-bit RGB and back, tone mapping.

Code points are those of ITU-T H.273, which FFmpeg uses too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

UNSPECIFIED = 2
LIMITED_RANGE = 1
FULL_RANGE = 2
BT709 = 1
BT601 = 6
BT2020 = 9
SRGB_TRC = 13
PQ_TRC = 16
HLG_TRC = 18

_RGB_MATRIX = 0
# H.273 matrix -> the number that libswscale knows the same coefficients by.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}

# What an SDR screen shows as white: 203 cd/m2 (ITU-R BT.2408), of PQ's 10,000.
_PQ_WHITE = 203.0 / 10_000.0
# The same white in HLG's scene light (75 % signal), BT.2408.
_HLG_WHITE = 0.2650
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)


@dataclass(frozen=True, slots=True)
class Colour:
    """How stored values and RGB belong together.

    Attributes:
        matrix: H.273 matrix coefficients; 2: unspecified.
        range: 0 unspecified (read as limited), 1 limited, 2 full.
        primaries: H.273 colour primaries.
        trc: H.273 transfer characteristics.
    """

    matrix: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    trc: int = UNSPECIFIED

    @property
    def hdr(self) -> bool:
        """Whether values mean light beyond what an 8-bit screen shows (PQ or HLG)."""
        return self.trc in (PQ_TRC, HLG_TRC)

    def displayed(self) -> Colour:
        """The colour of the frames after they were brought to 8 bit, to tag a clip of them with."""
        if self.hdr:
            return Colour(BT709, LIMITED_RANGE, BT709, BT709)
        if self.matrix == _RGB_MATRIX:
            return replace(self, matrix=BT709, range=LIMITED_RANGE)
        known = _SWS_MATRIX.get(self.matrix, UNSPECIFIED)
        return self if self.matrix in (known, BT601) else replace(self, matrix=known)

    def sws_matrix(self, size_hw: tuple[int, int]) -> int:
        """The matrix as libswscale numbers it; where the video doesn't say, what players assume for its size."""
        if self.matrix in _SWS_MATRIX:
            return _SWS_MATRIX[self.matrix]
        high_definition = max(size_hw) >= 1280 or min(size_hw) > 576
        return _SWS_MATRIX[BT709 if high_definition else BT601]


SRGB = Colour(BT709, LIMITED_RANGE, BT709, SRGB_TRC)
"""What pictures are taken for."""


def frame_colour(frame: VideoFrame, primaries: int, trc: int) -> Colour:
    """The colour of a decoded frame; primaries and transfer come from its decoder."""
    full = frame.format.name.startswith("yuvj")
    color_range = FULL_RANGE if full else int(frame.color_range)
    if not frame.format.is_rgb:
        return Colour(int(frame.colorspace), color_range, primaries, trc)
    return Colour(_RGB_MATRIX, FULL_RANGE, primaries, trc)


def to_rgb(
    frame: VideoFrame, colour: Colour, size_hw: tuple[int, int], reformatter: VideoReformatter
) -> NDArray[np.uint8]:
    """A decoded frame as uint8 [height, width, 3] at `size_hw` (before rotation); alpha is dropped, colours kept."""
    from av.video.reformatter import ColorRange

    # libswscale takes the range of RGB for granted.
    is_rgb = colour.matrix == _RGB_MATRIX
    limited = ColorRange.MPEG if not is_rgb and colour.range != FULL_RANGE else ColorRange.JPEG
    converted = reformatter.reformat(
        frame,
        width=size_hw[1],
        height=size_hw[0],
        format="rgb48le" if colour.hdr else "rgb24",
        src_colorspace=None if is_rgb else colour.sws_matrix(size_hw),
        src_color_range=limited,
        dst_color_range=ColorRange.JPEG,
        interpolation=_exact_bicubic(),
    )
    rgb: NDArray[Any] = np.ascontiguousarray(converted.to_ndarray())
    return tone_map(rgb, colour) if colour.hdr else rgb


def from_rgb(rgb: NDArray[np.uint8], colour: Colour, reformatter: VideoReformatter) -> VideoFrame:
    """A picture uint8 [height, width, 3] with even sides as yuv420p in `colour`'s matrix and range."""
    from av import VideoFrame
    from av.video.reformatter import ColorRange

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    target = ColorRange.JPEG if colour.range == FULL_RANGE else ColorRange.MPEG
    return reformatter.reformat(
        frame,
        format="yuv420p",
        dst_colorspace=colour.sws_matrix((rgb.shape[0], rgb.shape[1])),
        src_color_range=ColorRange.JPEG,
        dst_color_range=target,
        interpolation=_exact_bicubic(),
    )


def tone_map(rgb: NDArray[np.uint16], colour: Colour) -> NDArray[np.uint8]:
    """PQ or HLG values uint16 [height, width, 3] as 8-bit BT.709; highlights are compressed, not clipped.

    Light up to four fifths of SDR white keeps its value, what lies above runs into white (in each channel).
    """
    light = _light_table(colour.trc)[rgb]
    if colour.primaries in (BT2020, UNSPECIFIED):
        light = light @ _BT2020_TO_BT709.T
    codes = np.clip(light * np.float32(4096.0), 0, 4 * 4096 - 1).astype(np.uint16)
    return np.ascontiguousarray(_screen_table()[codes])


@lru_cache(maxsize=2)
def _light_table(trc: int) -> NDArray[np.float32]:
    """Linear light by 16-bit code, SDR white = 1 (SMPTE ST 2084; ARIB STD-B67)."""
    signal = np.arange(65536, dtype=np.float64) / 65535.0
    if trc == PQ_TRC:
        root = signal ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return np.asarray(light / _PQ_WHITE, dtype=np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(light / _HLG_WHITE, dtype=np.float32)


@lru_cache(maxsize=1)
def _screen_table() -> NDArray[np.uint8]:
    """8-bit BT.1886 value (gamma 2.4) by linear light in steps of 1/4096, from 0 to 4 times SDR white."""
    light = np.arange(4 * 4096, dtype=np.float64) / 4096.0
    knee = 0.8
    over = np.maximum(light - knee, 0)
    shown = np.where(light <= knee, light, knee + (1 - knee) * over / (over + (1 - knee)))
    return np.asarray(np.rint(255 * shown ** (1 / 2.4)), dtype=np.uint8)


def _exact_bicubic() -> int:
    from av.video.reformatter import Interpolation

    # Rounding and results that don't depend on the machine's vector unit.
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
    return int(flags)
