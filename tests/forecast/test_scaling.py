"""How long workers take: never less than the longest way through the work, never more with one more of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Settings, with_values
from pipeline.forecast.dry_run import estimate
from pipeline.forecast.scaling import NEAR, InputUnits, Spread, makespan, scale

SECONDS = st.integers(1, 50).map(float)
INPUTS = st.lists(st.builds(InputUnits, st.lists(SECONDS, max_size=6).map(tuple), SECONDS, st.just(0)), min_size=1,
                  max_size=5)  # fmt: skip


@given(INPUTS, st.integers(1, 40))
def test_work_is_divided_and_results_come_behind_their_shards(inputs: list[InputUnits], workers: int) -> None:
    total = sum(sum(each.shards) + each.finish for each in inputs)
    longest = max(max(each.shards, default=0.0) + each.finish for each in inputs)
    assert makespan(inputs, 1) == total
    assert max(longest, total / workers) <= makespan(inputs, workers) <= total
    assert makespan(inputs, 1000) == longest


@given(INPUTS)
def test_enough_workers_are_the_fewest_that_come_near(inputs: list[InputUnits]) -> None:
    found = scale(inputs, 10.0, Spread(1, 512, here=False), 0)
    assert 10.0 + makespan(inputs, found.enough) <= NEAR * found.least_s
    # Above that it is looked for in steps.
    assert found.enough == 1 or found.enough > 8 or 10.0 + makespan(inputs, found.enough - 1) > NEAR * found.least_s


@pytest.mark.parametrize("here", [True, False])
def test_a_dry_run_says_what_workers_take(small_settings: Settings, here: bool) -> None:
    clip = Path(__file__).resolve().parents[2] / "samples" / "walk.mp4"
    settings = with_values(small_settings, {"crf.iterations": 1})
    found = estimate([clip], settings, spread=Spread(4, 16, here))
    assert found.scaling is not None
    assert found.scaling.units == (8, 1)
    assert found.scaling.least_s <= found.scaling.wall_s
    # Hashed, counted and painted from, and by eight shards on average a little more than half.
    assert 3 + 4 < found.scaling.read_bytes / clip.stat().st_size < 3 + 5
    assert found.scaling.shared_bytes > sum(found.written_bytes.values())
    assert "8 shards, 1 inputs" in found.summary()
    assert json.loads(json.dumps(found.facts()))["scaling"]["workers"] == 4
