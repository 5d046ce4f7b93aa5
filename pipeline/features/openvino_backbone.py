"""The ViT's blocks on the CPU by OpenVINO, compiled once for each number of tokens.

A picture goes through alone, in a graph of static shapes: its bytes depend neither on the pictures beside it nor on the
number of threads. Its passes go through at the same time, each with its share of the threads: two threads of one pass
would wait for each other at every step. What is compiled is kept for the process, up to a number.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.openvino_graph import open_core, open_graph
from pipeline.features.vit import Backbone, Embedded, Reading, ViTConfig

KEPT_SHAPES = 5
"""Compiled graphs that are kept in any case, each with a copy of the weights: a video of one size needs five."""

KEPT_BYTES = 640 * 2**20
"""Memory up to which more are kept: pictures of a set have many sizes, and to compile one again takes some tenths of a
second."""

GRAPH_BYTES = 20 * 2**20
"""A compiled graph beside weights and tokens, 13 to 20 MiB; a token takes 15 to 20 kB of a block's 21.6 kB."""

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def graph_bytes(config: ViTConfig, dtype: torch.dtype, tokens: int, streams: int) -> int:
    """Memory of a graph that is compiled for a number of tokens and computes as many passes at a time as streams."""
    weights = config.depth * config.embed_dim * (4 * config.embed_dim + 2 * config.mlp_dim)
    return dtype.itemsize * weights + GRAPH_BYTES + streams * tokens * config.token_bytes


class OpenVinoBlocks:
    """Computes what `Backbone.run_blocks` does."""

    def __init__(self, backbone: Backbone, fingerprint: str, dtype: torch.dtype) -> None:
        """Nothing is compiled yet.

        Args:
            backbone: on the CPU, in float32.
            fingerprint: SHA-256 over its parameters.
            dtype: of what is multiplied; bfloat16 is float32 on a processor that doesn't multiply in it.
        """
        self._backbone, self._fingerprint = backbone, fingerprint
        self._core = open_core()
        able = dtype != torch.bfloat16 or "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._dtype = dtype if able else torch.float32
        self._graphs: dict[Reading, Any] = {}
        self._compiled: OrderedDict[tuple[Reading, int, int, int], list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def kept_shapes(self) -> int:
        """Compiled graphs that are kept."""
        return len(self._compiled)

    def __call__(self, passes: Sequence[Embedded], reading: Reading) -> list[tuple[Tensor, ...]]:
        """As `Backbone.run_blocks` for each pass, in float32."""
        if not reading.taps and not reading.saliency:
            return [()] * len(passes)
        jobs = [[picture[None], *(rotary or ())] for tokens, rotary in passes for picture in tokens]
        with self._lock:
            found = list(self._run(jobs, reading, torch.get_num_threads(), len(passes)))
        step = len(found) // len(passes)
        of_passes = (found[start : start + step] for start in range(0, len(found), step))
        return [tuple(torch.cat(parts) for parts in zip(*pictures, strict=True)) for pictures in of_passes]

    def _run(self, jobs: Sequence[list[Tensor]], reading: Reading, threads: int, passes: int) -> Iterator[list[Tensor]]:
        """The outputs of each job, in order; as many at a time as there are passes and threads."""
        streams = min(threads, passes)
        running: deque[_Running] = deque()
        for job in jobs:
            if len(running) == streams:
                yield running.popleft().outputs()
            idle = self._requests((reading, job[0].shape[1], threads, streams))
            running.append(_Running(idle.pop(), idle, [each.detach().float().contiguous().numpy() for each in job]))
        while running:
            yield running.popleft().outputs()

    def _requests(self, key: tuple[Reading, int, int, int]) -> list[Any]:
        """Requests of a graph that no one waits for, at least one."""
        reading, tokens, threads, streams = key
        if key not in self._compiled:
            if reading not in self._graphs:
                self._graphs[reading] = open_graph(self._backbone, self._fingerprint, reading)
            graph, config = self._graphs[reading], self._backbone.config
            compiled = compile_graph(self._core, graph, config, self._dtype, tokens, threads, streams)
            self._compiled[key] = [compiled.create_infer_request() for _ in range(streams)]
            while len(self._compiled) > KEPT_SHAPES and self._held_bytes() > KEPT_BYTES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _held_bytes(self) -> int:
        config, dtype = self._backbone.config, self._dtype
        return sum(graph_bytes(config, dtype, tokens, streams) for _, tokens, _, streams in self._compiled)


class _Running:
    """A request that is being computed, and the idle ones that it goes back to."""

    def __init__(self, request: Any, idle: list[Any], inputs: list[NDArray[np.float32]]) -> None:
        # The request reads the inputs where they are, so they are held.
        self._request, self._idle, self._inputs = request, idle, inputs
        request.start_async(inputs, share_inputs=True)

    def outputs(self) -> list[Tensor]:
        """Wait for them. They are copies: the request writes its next results over its own."""
        self._request.wait()
        found = [torch.tensor(output.data) for output in self._request.output_tensors]
        self._idle.append(self._request)
        return found


def compile_graph(
    core: Any, graph: Any, config: ViTConfig, dtype: torch.dtype, tokens: int, threads: int, streams: int
) -> Any:
    """A graph of `open_graph` compiled for one picture of so many tokens, `streams` of which share the threads."""
    sized, patches = graph.clone(), [tokens - config.prefix, config.head_dim]
    sized.reshape(dict(enumerate([[1, tokens, config.embed_dim], patches, patches][: len(sized.inputs)])))
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": str(streams),
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        # The threads share the processors with those of the other stages.
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(sized, "CPU", options)
