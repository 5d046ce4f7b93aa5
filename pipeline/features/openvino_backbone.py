"""The ViT's blocks on the CPU by OpenVINO, compiled once for each number of tokens.

A picture goes through alone, in a graph of static shapes: its bytes depend neither on the pictures beside it nor on the
number of threads. What is compiled is kept for the process, up to a number.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from pipeline.features.openvino_graph import import_openvino, open_graph
from pipeline.features.positions import Rotary
from pipeline.features.vit import Backbone, Reading, ViTConfig

KEPT_SHAPES = 5
"""Compiled graphs that are kept in any case, each with a copy of the weights: a video of one size needs five."""

KEPT_BYTES = 640 * 2**20
"""Memory up to which more are kept: pictures of a set have many sizes, and to compile one again takes some tenths of a
second."""

GRAPH_BYTES = 20 * 2**20
"""A compiled graph beside weights and tokens, 13 to 20 MiB; a token takes 15 to 20 kB of a block's 21.6 kB."""

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def graph_bytes(config: ViTConfig, dtype: torch.dtype, tokens: int) -> int:
    """Memory of a graph that is compiled for a number of tokens."""
    weights = config.depth * config.embed_dim * (4 * config.embed_dim + 2 * config.mlp_dim)
    return dtype.itemsize * weights + GRAPH_BYTES + tokens * config.token_bytes


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
        self._core = import_openvino().Core()
        able = dtype != torch.bfloat16 or "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._dtype = dtype if able else torch.float32
        self._graphs: dict[Reading, Any] = {}
        self._compiled: OrderedDict[tuple[Reading, int, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def kept_shapes(self) -> int:
        """Compiled graphs that are kept."""
        return len(self._compiled)

    def __call__(self, x: Tensor, rotary: Rotary | None, reading: Reading) -> tuple[Tensor, ...]:
        """As `Backbone.run_blocks`, in float32."""
        if not reading.taps and not reading.saliency:
            return ()
        with self._lock:
            request = self._request(reading, x.shape[1])
            pictures = [self._run(request, [picture[None], *(rotary or ())]) for picture in x]
        return tuple(torch.cat(parts) for parts in zip(*pictures, strict=True))

    def _run(self, request: Any, inputs: list[Tensor]) -> list[Tensor]:
        request.infer([each.detach().float().contiguous().numpy() for each in inputs], share_inputs=True)
        # A copy: the request writes its next results over these.
        return [torch.tensor(output.data) for output in request.output_tensors]

    def _request(self, reading: Reading, tokens: int) -> Any:
        key = (reading, tokens, torch.get_num_threads())
        if key not in self._compiled:
            if reading not in self._graphs:
                self._graphs[reading] = open_graph(self._backbone, self._fingerprint, reading)
            graph, config = self._graphs[reading], self._backbone.config
            compiled = compile_graph(self._core, graph, config, self._dtype, *key[1:])
            self._compiled[key] = compiled.create_infer_request()
            while len(self._compiled) > KEPT_SHAPES and self._held_bytes() > KEPT_BYTES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _held_bytes(self) -> int:
        return sum(graph_bytes(self._backbone.config, self._dtype, tokens) for _, tokens, _ in self._compiled)


def compile_graph(core: Any, graph: Any, config: ViTConfig, dtype: torch.dtype, tokens: int, threads: int) -> Any:
    """A graph of `open_graph` compiled for one picture of so many tokens."""
    sized, patches = graph.clone(), [tokens - config.prefix, config.head_dim]
    sized.reshape(dict(enumerate([[1, tokens, config.embed_dim], patches, patches][: len(sized.inputs)])))
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        # The threads share the processors with those of the other stages.
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(sized, "CPU", options)
