from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.media.colour import (
    FULL_RANGE,
    HLG_TRC,
    LIMITED_RANGE,
    PQ_TRC,
    Colour,
    frame_colour,
    from_rgb,
    to_rgb,
    tone_map,
)

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}


def plain_yuv(rgb: NDArray[np.uint8], matrix: int, full: bool) -> NDArray[np.float64]:
    """H.273's equations for one colour."""
    red, blue = WEIGHTS[matrix]
    r, g, b = (float(value) / 255 for value in rgb)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - luma) / (2 * (1 - blue)), (r - luma) / (2 * (1 - red))]
    if full:
        return np.array([255 * luma, *(255 * c + 128 for c in chroma)])
    return np.array([219 * luma + 16, *(224 * c + 128 for c in chroma)])


COLOURS = [(255, 255, 255), (0, 0, 0), (200, 30, 40), (20, 180, 60), (30, 40, 220), (128, 128, 128), (250, 240, 10)]


@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
@pytest.mark.parametrize("color_range", [LIMITED_RANGE, FULL_RANGE])
@pytest.mark.parametrize("colour", COLOURS)
def test_both_ways_follow_the_standard(matrix: int, color_range: int, colour: tuple[int, int, int]) -> None:
    rgb = np.full((16, 16, 3), colour, dtype=np.uint8)
    kind = Colour(matrix, color_range, 1, 1)
    frame = from_rgb(rgb, kind, VideoReformatter())
    stored = [np.asarray(plane).reshape(plane.height, -1)[2, 2] for plane in frame.planes]
    assert np.abs(stored - plain_yuv(rgb[0, 0], matrix, color_range == FULL_RANGE).clip(0, 255)).max() <= 1.01
    frame.colorspace, frame.color_range = matrix, color_range
    assert frame_colour(frame, 1, 1) == kind
    assert np.abs(to_rgb(frame, kind, (16, 16), VideoReformatter()).astype(int) - rgb).max() <= 3


def test_an_unsaid_matrix_is_that_of_the_size() -> None:
    unsaid = Colour()
    assert unsaid.sws_matrix((480, 640)) == 5
    assert unsaid.sws_matrix((576, 720)) == 5
    assert unsaid.sws_matrix((720, 1280)) == unsaid.sws_matrix((1280, 720)) == 1
    assert Colour(matrix=6).sws_matrix((2160, 3840)) == 5
    assert Colour(matrix=9).sws_matrix((10, 10)) == 9


def test_a_clip_is_tagged_with_what_its_frames_are() -> None:
    assert Colour(9, 1, 9, PQ_TRC).displayed() == Colour(1, 1, 1, 1)
    assert Colour(0, 2, 2, 2).displayed() == Colour(1, 1, 2, 2)
    assert Colour(10, 1, 9, 14).displayed() == Colour(9, 1, 9, 14)
    for kind in (Colour(), Colour(6, 1, 6, 6), Colour(1, 2, 1, 1), Colour(5, 1, 5, 6)):
        assert kind.displayed() == kind


@pytest.mark.parametrize("trc", [PQ_TRC, HLG_TRC])
def test_tone_map_keeps_order_and_grey(trc: int) -> None:
    ramp = np.linspace(0, 65535, 1000).astype(np.uint16)[None, :, None].repeat(3, axis=2)
    shown = tone_map(ramp, Colour(9, 1, 9, trc)).astype(int)
    assert (np.diff(shown[0, :, 1]) >= 0).all()
    assert shown[0, 0].max() == 0
    assert shown[0, -1].min() > 230
    assert np.ptp(shown, axis=2).max() <= 1


def test_tone_map_shows_middle_grey_as_an_sdr_screen_would() -> None:
    # 18 % grey of 203 cd/m2 white in PQ (ST 2084, by hand): signal 0.4105.
    code = np.full((1, 1, 3), round(0.4105 * 65535), dtype=np.uint16)
    assert abs(int(tone_map(code, Colour(9, 1, 9, PQ_TRC))[0, 0, 1]) - round(255 * 0.18 ** (1 / 2.4))) <= 3


def test_result_does_not_depend_on_threads(make_film: Callable[..., Path]) -> None:
    path = make_film(size_hw=(90, 160))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    kind = frame_colour(frame, 2, 2)
    shots = {to_rgb(frame, kind, (90, 160), VideoReformatter()).tobytes() for _ in range(4)}
    assert len(shots) == 1
