from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.timeline import Timeline

TICK = Fraction(1, 1000)


def placed(times: list[int | None], **known: int) -> tuple[list[int], int]:
    timeline = Timeline(TICK, Fraction(25), **known)
    return [timeline.place(time) for time in times], timeline.repaired


def test_times_that_grow_stay() -> None:
    assert placed([-5, 0, 1, 90, 5000]) == ([-5, 0, 1, 90, 5000], 0)


def test_missing_times_follow_at_the_usual_distance() -> None:
    assert placed([None, None, None]) == ([0, 40, 80], 3)
    assert placed([100, None, 180]) == ([100, 140, 180], 1)
    assert placed([None, None, 70], known_pts=70, frames_before=2) == ([-10, 30, 70], 2)


def test_doubled_times_move_by_one_unit() -> None:
    assert placed([0, 40, 40, 40, 80]) == ([0, 40, 41, 42, 80], 2)


def test_a_clock_that_starts_again_is_carried_on() -> None:
    assert placed([60_000, 60_040, 0, 40, 80]) == ([60_000, 60_040, 60_080, 60_120, 60_160], 1)


def test_a_leap_of_days_is_taken_out() -> None:
    leap = 3 * 24 * 3600 * 1000
    assert placed([0, 40, leap, leap + 40]) == ([0, 40, 80, 120], 1)
    assert placed([0, 3_600_000]) == ([0, 3_600_000], 0)


def test_storing_times_stand_in_for_missing_ones() -> None:
    timeline = Timeline(TICK, Fraction(25))
    assert [timeline.place(None, dts) for dts in (7, 33, 33, None)] == [7, 33, 73, 113]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62), st.integers(0, 200)), max_size=40))
def test_always_grows_and_changes_nothing_that_is_fine(times: list[int | None]) -> None:
    got, repaired = placed(times)
    assert all(before < after for before, after in pairwise(got))
    if repaired == 0:
        assert got == times
