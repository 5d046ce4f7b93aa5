import numpy as np
import pytest

from pipeline.painting.overview_sheet import ROW_PX, WIDTH_PX, Sheet, cut_out

RED, BLUE = (230, 20, 30), (20, 30, 230)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def count(page: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((page == colour).all(axis=2).sum())


@pytest.mark.parametrize("size", [(1, 1), (48, 64), (600, 50)])
def test_a_cut_out_keeps_the_masked_pixels_on_a_checkerboard(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 200, (*size, 3)).astype(np.uint8)
    mask = np.random.default_rng(1).random(size) > 0.5
    found = cut_out(rgb, mask)
    assert np.array_equal(found[mask], rgb[mask])
    assert set(np.unique(found[~mask])) <= {255, 214}


def test_a_checkerboards_squares_grow_with_the_picture() -> None:
    for height in (48, 480):
        top = cut_out(flat(height, height, RED), np.zeros((height, height), bool))[0, :, 0]
        assert np.flatnonzero(top != top[0])[0] == height // 24


def test_every_picture_and_its_result_are_on_the_sheet() -> None:
    sheet = Sheet("Parts", [("part 1", (1, 200, 3))])
    for number in range(20):
        sheet.add(f"picture {number}", [flat(100, 150, RED), flat(100, 150, BLUE)])
    page = sheet.draw()
    assert len(sheet) == 20
    assert page.shape[1] <= WIDTH_PX
    assert count(page, RED) == count(page, BLUE) == 20 * ROW_PX * (ROW_PX * 150 // 100)
    assert count(page, (1, 200, 3)) > 300


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 5000)])
def test_pictures_of_odd_shapes_and_long_names_fit(size: tuple[int, int]) -> None:
    sheet = Sheet("")
    sheet.add("a name that is very much longer than the picture is wide " * 9, [flat(*size, RED)] * 2)
    page = sheet.draw()
    assert page.shape[1] <= WIDTH_PX
    assert count(page, RED) > 0


def test_many_colours_wrap_in_the_legend() -> None:
    colours = [(number, 255 - number, 77) for number in range(40)]
    page = Sheet("Parts", [(f"part {number}", colour) for number, colour in enumerate(colours)]).draw()
    assert page.shape[1] <= WIDTH_PX
    assert all(count(page, colour) > 300 for colour in colours)


def test_an_empty_sheet_is_a_page_all_the_same() -> None:
    assert Sheet("Nothing").draw().shape[2] == 3
