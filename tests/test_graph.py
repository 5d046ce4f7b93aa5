import itertools
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator

import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph import Graph, Stopped, single_threaded


def stage_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("stage ")]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 5), st.integers(1, 4))
def test_order_is_kept_whatever_depth_and_batch(numbers: list[int], depth: int, batch: int) -> None:
    def batched(items: Iterator[int]) -> Iterator[list[int]]:
        held: list[int] = []
        for item in items:
            held.append(item)
            if len(held) == batch:
                yield held
                held = []
        if held:
            yield held

    graph = Graph(depth)
    batches = graph.stage("batch", graph.source("numbers", numbers), batched)
    singles = graph.stage("split", batches, lambda items: (one for many in items for one in many))
    first: list[int] = []
    second: list[int] = []
    graph.sink("first", singles, first.extend)
    graph.sink("second", singles, second.extend)
    graph.run()
    assert first == second == numbers


def test_back_pressure_bounds_what_is_in_flight() -> None:
    made, used, most = 0, 0, 0

    def numbers() -> Iterator[int]:
        nonlocal made
        for number in range(200):
            made += 1
            yield number

    def use(items: Iterator[int]) -> None:
        nonlocal used, most
        for _ in items:
            used += 1
            most = max(most, made - used)
            time.sleep(0.0005)

    graph = Graph(queue_depth=3)
    middle = graph.stage("pass", graph.source("numbers", numbers()), lambda items: (item for item in items))
    graph.sink("use", middle, use)
    graph.run()
    # Two queues of three, and one item in each of the two producing stages.
    assert used == 200
    assert most <= 2 * 3 + 2


@pytest.mark.parametrize("failing", ["source", "stage", "sink"])
def test_an_error_stops_all_and_keeps_its_traceback(failing: str) -> None:
    cleaned: list[str] = []

    def explode_here(name: str, items: Iterator[int]) -> Iterator[int]:
        try:
            for item in items:
                if name == failing and item == 5:
                    raise LookupError(f"in {name}")
                yield item
        finally:
            cleaned.append(name)

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    graph = Graph()
    source = graph.source("source", explode_here("source", endless()))
    stage = graph.stage("stage", source, lambda items: explode_here("stage", items))
    for name in ("sink", "other"):
        graph.sink(name, stage, lambda items, name=name: [None for _ in explode_here(name, items)] and None)
    with pytest.raises(LookupError, match=f"in {failing}") as caught:
        graph.run()
    assert any(entry.name == "explode_here" for entry in traceback.extract_tb(caught.value.__traceback__))
    assert sorted(cleaned) == ["other", "sink", "source", "stage"]
    assert stage_threads() == []


def test_a_sink_of_a_failed_graph_never_sees_a_normal_end() -> None:
    ended: list[str] = []

    def failing(items: Iterator[int]) -> Iterator[int]:
        yield next(items)
        raise OSError("disk")

    def sink(items: Iterator[int]) -> None:
        try:
            for _ in items:
                pass
        except Stopped:
            ended.append("stopped")
            raise
        ended.append("complete")

    graph = Graph()
    graph.sink("sink", graph.stage("failing", graph.source("numbers", range(9)), failing), sink)
    with pytest.raises(OSError, match="disk"):
        graph.run()
    assert ended == ["stopped"]


@pytest.fixture
def plain_interrupt() -> Iterator[None]:
    """Python's own handling of an interrupt; the command line, where it ran in this process, has left its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("plain_interrupt")
def test_interrupt_ends_all_threads() -> None:
    def endless() -> Iterator[int]:
        for number in itertools.count():
            time.sleep(0.001)
            if number == 10:
                os.kill(os.getpid(), signal.SIGINT)
            yield number

    graph = Graph()
    graph.sink("sink", graph.source("endless", endless()), lambda items: [None for _ in items] and None)
    with pytest.raises(KeyboardInterrupt):
        graph.run()
    assert stage_threads() == []


def test_a_consumer_that_wants_no_more_ends_its_producers() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    taken: list[int] = []

    def take_three(items: Iterator[int]) -> None:
        for item in items:
            taken.append(item)
            if len(taken) == 3:
                return

    graph = Graph()
    graph.sink("three", graph.source("endless", endless()), take_three)
    graph.run()
    assert taken == [0, 1, 2]


def test_reports_tell_waiting_from_work() -> None:
    def slow(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            time.sleep(0.02)
            yield item

    graph = Graph(queue_depth=1)
    graph.sink("sink", graph.stage("slow", graph.source("fast", range(10)), slow), lambda items: [*items] and None)
    fast, middle, sink = graph.run()
    assert middle.busy_s > fast.busy_s
    assert middle.busy_s > sink.busy_s
    assert fast.fill is None
    assert middle.fill is not None
    assert sink.items == 10


def test_one_that_leaves_the_limit_to_one_thread_does_not_lift_it_under_another() -> None:
    def most() -> int:
        return max(each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas")

    with threadpoolctl.threadpool_limits(3):
        first, second = single_threaded(), single_threaded()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert most() == 1
        second.__exit__(None, None, None)
        assert most() == 3
