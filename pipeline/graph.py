"""Stages in threads, joined by bounded queues: order kept, back-pressure, one error stops all.

A stage is a generator function from an iterator of items to an iterator of items; a sink is a
function that consumes one. Each runs in a thread of its own. A queue that is full makes its producer wait,
so what is in flight is bounded however long the source is. When a stage raises, every other stage's input
raises `Stopped` inside it, so that its `with` and `finally` blocks clean up, and `run` raises the first error
with its own traceback. Ctrl-C does the same.

>>> graph = Graph(queue_depth=2)
>>> numbers = graph.source("numbers", range(4))
>>> squares = graph.stage("square", numbers, lambda items: (item * item for item in items))
>>> found = []
>>> graph.sink("collect", squares, found.extend)
>>> reports = graph.run()
>>> found
[0, 1, 4, 9]
>>> [(report.name, report.items) for report in reports]
[('numbers', 4), ('square', 4), ('collect', 4)]
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

_LIMIT_LOCK = threading.Lock()
_limits: list[Any] = []


def side_by_side(items: Iterable[In], function: Callable[[In], Out], workers: int) -> Generator[Out]:
    """Apply a function that releases the GIL to each item, `workers` in parallel; order kept.

    At most `workers` items are in flight, so that a stage made of it stays bounded.

    >>> list(side_by_side(range(5), lambda number: number * number, workers=2))
    [0, 1, 4, 9, 16]
    """
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Out]] = deque()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def single_threaded() -> Generator[None]:
    """Let the libraries of linear algebra compute in one thread: their sums have one order on every machine.

    Their limit is the process's, and threads that come and go would set and lift it under each other: the first one
    sets it, the last one lifts it.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with _LIMIT_LOCK:
        _limits.append(_limits[-1] if _limits else threadpool_limits(1))
    try:
        yield
    finally:
        with _LIMIT_LOCK:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()


def processors() -> int:
    """Processors that this process may use (its CPU affinity)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Stopped(BaseException):
    """Raised inside a stage whose graph has stopped; not an `Exception`, so that no stage swallows it."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did.

    Attributes:
        name: the stage's name.
        items: items that it made, or consumed if it is a sink.
        busy_s: seconds it worked, waiting left out.
        starved_s: seconds it waited for its input.
        blocked_s: seconds it waited for room in its output queues.
        fill: mean number of items that waited before it, None for a source.
    """

    name: str
    items: int
    busy_s: float
    starved_s: float
    blocked_s: float
    fill: float | None


class _Channel(Generic[T]):
    """A bounded queue between one producer and one consumer."""

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._ended = self._cancelled = self._aborted = False
        self._fills = self._gets = 0
        self.put_wait_s = self.get_wait_s = 0.0

    def put(self, item: T) -> bool:
        """Wait for room and add an item; False where the consumer wants no more."""
        with self._changed:
            start = time.perf_counter()
            self._changed.wait_for(lambda: self._aborted or self._cancelled or len(self._items) < self._depth)
            self.put_wait_s += time.perf_counter() - start
            if self._aborted:
                raise Stopped
            if self._cancelled:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                start = time.perf_counter()
                self._fills += len(self._items)
                self._gets += 1
                self._changed.wait_for(lambda: self._aborted or self._ended or bool(self._items))
                self.get_wait_s += time.perf_counter() - start
                if self._aborted:
                    raise Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # the queue's bound is the bound on memory: hold nothing while waiting for the next

    def _set(self, flag: str) -> None:
        with self._changed:
            setattr(self, flag, True)
            if flag != "_ended":
                self._items.clear()
            self._changed.notify_all()

    def end(self) -> None:
        self._set("_ended")

    def cancel(self) -> None:
        self._set("_cancelled")

    def abort(self) -> None:
        self._set("_aborted")

    @property
    def fill(self) -> float:
        return self._fills / max(1, self._gets)


@dataclass(eq=False)
class Node(Generic[T]):
    """A stage of a graph, as the place that later stages take their items from."""

    name: str
    _start: Callable[[], Iterable[T] | None]
    _input: _Channel[Any] | None
    _outputs: list[_Channel[T]] = field(default_factory=list)
    _items: int = 0
    _total_s: float = 0.0

    def _work(self) -> None:
        """Run the stage to its end; whatever happens, its consumers learn that nothing more comes."""
        start = time.perf_counter()
        produced = self._start()
        try:
            for item in produced or ():
                self._items += 1
                # All queues get the item; the stage continues while one of them wants more.
                wanted = [channel.put(item) for channel in self._outputs]
                if not any(wanted):
                    break
                del item
        finally:
            if isinstance(produced, Generator):
                produced.close()
            if self._input is not None:
                self._input.cancel()
            self._total_s = time.perf_counter() - start
        for channel in self._outputs:
            channel.end()

    def _report(self) -> StageReport:
        starved = self._input.get_wait_s if self._input else 0.0
        blocked = sum(channel.put_wait_s for channel in self._outputs)
        busy = max(0.0, self._total_s - starved - blocked)
        return StageReport(self.name, self._items, busy, starved, blocked, self._input.fill if self._input else None)


class Graph:
    """Stages and the queues between them; build it, then `run` it once.

    Args:
        queue_depth: items that wait between two stages at most.
    """

    def __init__(self, queue_depth: int = 2) -> None:
        """Make an empty graph."""
        self._depth = queue_depth
        self._nodes: list[Node[Any]] = []
        self._channels: list[_Channel[Any]] = []
        self._first_error: BaseException | None = None
        self._lock = threading.Lock()

    def source(self, name: str, items: Iterable[Out]) -> Node[Out]:
        """Add a stage that only makes items."""
        return self._add(Node(name, lambda: items, None))

    def stage(self, name: str, after: Node[In], function: Callable[[Iterator[In]], Iterable[Out]]) -> Node[Out]:
        """Add a stage that turns the items of another into its own."""
        channel = self._connect(after)
        return self._add(Node(name, lambda: function(iter(channel)), channel))

    def sink(self, name: str, after: Node[In], function: Callable[[Iterator[In]], None]) -> None:
        """Add a stage that consumes the items of another; several sinks on one stage all get every item."""
        channel = self._connect(after)
        node: Node[Any]

        def counted() -> Iterator[In]:
            for item in channel:
                node._items += 1
                yield item

        node = self._add(Node(name, lambda: function(counted()), channel))

    def run(self) -> list[StageReport]:
        """Run all stages to their end.

        Returns:
            One report a stage, in the order they were added.

        Raises:
            BaseException: the first error of any stage, or KeyboardInterrupt, after all threads have ended.
        """
        threads = [_StageThread(partial(self._guard, node), node.name) for node in self._nodes]
        try:
            # An interrupt may come before the last thread has started.
            for thread in threads:
                thread.start()
            _join(threads)
        except BaseException as error:  # noqa: BLE001 -- raised again below, once all threads have ended
            self._fail(error)
            _join(threads)
        if self._first_error is not None:
            raise self._first_error
        return [node._report() for node in self._nodes]

    def _add(self, node: Node[Out]) -> Node[Out]:
        self._nodes.append(node)
        return node

    def _connect(self, after: Node[In]) -> _Channel[In]:
        channel: _Channel[In] = _Channel(self._depth)
        after._outputs.append(channel)
        self._channels.append(channel)
        return channel

    def _guard(self, node: Node[Any]) -> None:
        try:
            node._work()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 -- it is raised again in the thread that runs the graph
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._first_error is None:
                self._first_error = error
        for channel in self._channels:
            channel.abort()


class _StageThread(threading.Thread):
    """A thread that can be waited for again after an interrupt: Python before 3.13 takes that for the thread's end."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=f"stage {name}", daemon=True)
        self._work, self._ended = work, threading.Event()

    def run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()

    def wait(self) -> None:
        self._ended.wait()
        self.join()


def _join(threads: list[_StageThread]) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.wait()
