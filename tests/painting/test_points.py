import numpy as np
import pytest

from pipeline.painting.palettes import part_colors
from pipeline.painting.points import GAP_PX, SHOWN_HEIGHT_PX, draw_dense_pairs, draw_pairs, mark_points, place_colors

GREY = np.full((200, 300, 3), 90, dtype=np.uint8)


def test_a_disc_lies_around_its_point_and_leaves_the_rest() -> None:
    marked = mark_points(GREY, np.array([[150.0, 100.0]]), part_colors(1), numbered=False)
    assert np.array_equal(marked[100, 150], part_colors(1)[0])
    changed = np.argwhere((marked != GREY).any(axis=2))
    assert np.abs(changed - [100, 150]).max() <= 7
    assert np.allclose(changed.mean(axis=0) + 0.5, [100, 150], atol=1)


def test_numbers_differ_and_points_at_the_rim_are_cut() -> None:
    points = np.array([[50.0, 50.0], [150.0, 50.0]])
    marked = mark_points(np.full((720, 300, 3), 90, np.uint8), points, np.tile(part_colors(1), (2, 1)))
    assert not np.array_equal(marked[40:60, 40:60], marked[40:60, 140:160])
    assert mark_points(GREY, np.array([[0.0, 0.0], [300.0, 200.0]]), part_colors(2)).shape == GREY.shape


def test_no_point_changes_nothing() -> None:
    assert np.array_equal(mark_points(GREY, np.empty((0, 2)), part_colors(0)), GREY)


@pytest.mark.parametrize("draw", [draw_pairs, draw_dense_pairs])
@pytest.mark.parametrize("size", [(1, 1), (8, 900), (400, 30)])
def test_pairs_of_pictures_of_any_size(draw, size: tuple[int, int]) -> None:
    second = np.full((*size, 3), 60, dtype=np.uint8)
    ends = np.array([[10.0, 20.0], [250.0, 150.0]]), np.array([[0.5, 0.5], [size[1] / 2, size[0] / 2]])
    drawn = draw(GREY, second, *ends)
    assert drawn.shape[0] <= SHOWN_HEIGHT_PX
    assert draw(GREY, second, *(each[:0] for each in ends)).shape == drawn.shape


def test_both_ends_have_the_pairs_colour() -> None:
    second = np.full((400, 600, 3), 60, dtype=np.uint8)
    drawn = draw_pairs(GREY, second, np.array([[150.0, 100.0]]), np.array([[450.0, 100.0]]))
    width = round(300 * SHOWN_HEIGHT_PX / 200)
    color = part_colors(1)[0]
    # Next to the number in the middle of the disc.
    assert np.array_equal(drawn[360 - 8, width // 2], color)
    assert np.array_equal(drawn[180 - 8, width + GAP_PX + round(450 * 1.8)], color)


def test_colours_of_many_points_tell_where_they_are() -> None:
    colors = place_colors(np.array([[1.0, 50.0], [99.0, 50.0], [50.0, 1.0]]), (100, 100))
    assert len(np.unique(colors, axis=0)) == 3
    assert place_colors(np.empty((0, 2)), (5, 5)).shape == (0, 3)
