import numpy as np

from pipeline.painting.figure_sheet import MARKERS, draw_scatter, draw_sheet

RED = np.full((20, 40, 3), (255, 0, 0), dtype=np.uint8)
BLUE = np.full((60, 30, 3), (0, 0, 255), dtype=np.uint8)


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == color).all(axis=2).sum())


def test_a_sheet_holds_every_picture_in_its_shape() -> None:
    sheet = draw_sheet([[RED, BLUE], [None, RED]], ["left", "right"], ["above", "below"], cell_height_px=60)
    assert count(sheet, (255, 0, 0)) == 2 * 60 * 120
    assert count(sheet, (0, 0, 255)) == 60 * 30
    red, blue = (np.argwhere((sheet == color).all(axis=2)) for color in ((255, 0, 0), (0, 0, 255)))
    assert red[:, 1].min() < blue[:, 1].min()
    assert (sheet[:20] < 100).any()


def test_titles_that_are_wider_than_pictures_widen_their_column() -> None:
    narrow, wide = (draw_sheet([[BLUE]], [title], ["row"]) for title in ("a", "a title that is wider than it"))
    assert wide.shape[1] > narrow.shape[1]


def test_a_scatter_shows_points_and_legend() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    colors = np.array([[200, 200, 200], [255, 0, 0]], dtype=np.uint8)
    labels, groups = np.array([0, 1, 0, 1, 0]), np.arange(5)
    drawn = draw_scatter(points, labels, groups, colors, ["background", "part 1"], [f"picture {n}" for n in range(5)])
    square = drawn[:, :900]
    assert count(square, (255, 0, 0)) > 10
    reddish = np.argwhere((square == (255, 0, 0)).all(axis=2))
    assert np.ptp(reddish[:, 1]) < 20  # both red points have x = 1
    assert count(drawn[:, 900:], (255, 0, 0)) > 10


def test_more_groups_than_shapes_and_one_place_for_all() -> None:
    number = len(MARKERS) + 2
    drawn = draw_scatter(
        np.zeros((number, 2)), np.zeros(number, int), np.arange(number), np.array([[9, 9, 9]], np.uint8), ["one"],
        [str(each) for each in range(80)],
    )  # fmt: skip
    assert drawn.shape[0] > 80 * 20
