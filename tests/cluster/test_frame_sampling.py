from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.frame_sampling import spread_frames


@given(st.lists(st.integers(0, 500), min_size=1, max_size=8), st.integers(1, 100))
def test_samples_are_distinct_in_range_and_within_budget(counts: list[int], budget: int) -> None:
    found = spread_frames(counts, budget)
    assert sum(map(len, found)) == min(budget, sum(counts))
    for indices, count in zip(found, counts, strict=True):
        assert indices == sorted(set(indices))
        assert all(0 <= index < count for index in indices)
    if budget >= len(counts):
        assert all(indices for indices, count in zip(found, counts, strict=True) if count)


@given(st.integers(1, 1000), st.integers(1, 100))
def test_of_more_inputs_than_frames_evenly_spread_ones_are_taken(inputs: int, budget: int) -> None:
    taken = [index for index, indices in enumerate(spread_frames([7] * inputs, budget)) if indices]
    assert len(taken) == min(inputs, budget)
    gaps = {after - before for before, after in pairwise(taken)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert taken[0] <= max(gaps, default=inputs) and taken[-1] >= inputs - 1 - max(gaps, default=inputs)


@given(st.integers(65, 100_000))
def test_gaps_are_even(count: int) -> None:
    indices = spread_frames([count], 64)[0]
    gaps = {after - before for before, after in pairwise(indices)}
    assert max(gaps) - min(gaps) <= 1
