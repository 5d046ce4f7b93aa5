"""Converting the ViT's blocks to an OpenVINO graph, and its cache on disk.

A file holds the graph without the weights, some hundreds of kilobytes: they are put back from the backbone, whose
memory they share. It is named by all that the graph depends on, and begins with the SHA-256 of what follows. One that
is damaged counts for nothing, and so does a failure to write; any number of processes may write at once, for each
writes a file of its own and renames it.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor, nn

from pipeline.caches import cache_folder, read_checked, write_checked
from pipeline.features.vit import Backbone, Reading
from pipeline.version import __version__

_log = logging.getLogger(__name__)

_EXAMPLE_PATCHES = 4
"""The graph is of any number of patches; it is traced with so many."""

_tracing = threading.Lock()
"""torch traces one module at a time in a process."""

_PREFIX = "self.backbone."
"""Before the names of a backbone's weights in a graph."""

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The package, without its telemetry, which would write into the home directory and send.

    Raises:
        ImportError: it isn't installed, or not completely.
        OSError: a library that it needs can't be loaded.
    """
    if _TELEMETRY in sys.modules:
        return importlib.import_module("openvino")
    # None makes an import fail; OpenVINO's tools then take a stub of their own.
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        sys.modules.pop(_TELEMETRY, None)


def open_core() -> Any:
    """A core whose plugin for the processor is loaded.

    On Linux that plugin gives the thread that loads it a stack for signal handlers, and frees the stack when the core
    is deleted, in whichever thread; the next signal that the first one gets is a segmentation fault then. So it is
    loaded in a thread that ends at once.
    """
    core = import_openvino().Core()
    with ThreadPoolExecutor(1) as loader:
        loader.submit(core.get_property, "CPU", "OPTIMIZATION_CAPABILITIES").result()
    return core


def open_graph(backbone: Backbone, fingerprint: str, reading: Reading) -> Any:
    """The graph of what a reading needs, of one picture and any number of tokens.

    Inputs are tokens [1, n, channels] and, where the model has rotary angles, sines and cosines [patches, head
    channels]; outputs are those of `Backbone.run_blocks`.

    Args:
        backbone: on the CPU in float32; the graph shares its memory.
        fingerprint: SHA-256 over its parameters.
        reading: at least one facet or the saliency.
    """
    weights, file = dict(backbone.named_parameters()), _cache_file(fingerprint, reading)
    content = None if file is None else read_checked(file)
    if content is not None:
        return _with_weights(_parse(content), weights)
    graph = _without_weights(convert(backbone, reading), weights)
    try:
        content = _serialise(graph)
        graph = _parse(content)
        if file is not None:
            write_checked(file, content)
    # A disk that is full shows in OpenVINO's own words, or only in a file that can't be read.
    except (OSError, RuntimeError) as error:
        _log.info("the graph can't be kept: %s", " ".join(str(error).split())[:160])
    return _with_weights(graph, weights)


class _Blocks(nn.Module):
    """A reading as a function of tensors alone, which is what can be traced."""

    def __init__(self, backbone: Backbone, reading: Reading) -> None:
        super().__init__()
        self.backbone, self.reading = backbone, reading

    def forward(self, x: Tensor, *rotary: Tensor) -> tuple[Tensor, ...]:
        return self.backbone.run_blocks(x, (rotary[0], rotary[1]) if rotary else None, self.reading)


def convert(backbone: Backbone, reading: Reading) -> Any:
    """Trace the blocks and convert them; a constant holds each weight."""
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    config = backbone.config
    example = [torch.zeros(1, config.prefix + _EXAMPLE_PATCHES, config.embed_dim)]
    if config.grid_hw is None:
        example += [torch.zeros(_EXAMPLE_PATCHES, config.head_dim)] * 2
    frontend = FrontEndManager().load_by_framework("pytorch")
    with _tracing, warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        # Tracing warns of its own end.
        warnings.simplefilter("ignore")
        module = _Blocks(backbone, reading).eval()
        decoder = TorchScriptPythonDecoder(module, example_input=tuple(example), trace_kwargs={"check_trace": False})
        return frontend.convert(frontend.load(decoder))


def _without_weights(graph: Any, weights: Mapping[str, Tensor]) -> Any:
    """The same graph with an input in place of each weight."""
    from openvino import opset13

    inputs: dict[str, Any] = {}
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() == "Constant" and name.removeprefix(_PREFIX) in weights:
            if name not in inputs:
                inputs[name] = opset13.parameter(node.get_output_shape(0), node.get_element_type(), name=name)
            node.output(0).replace(inputs[name].output(0))
    graph.add_parameters(list(inputs.values()))
    return graph


def _with_weights(graph: Any, weights: Mapping[str, Tensor]) -> Any:
    """The same graph with the weights for the inputs of their names; it shares their memory."""
    from openvino import opset13

    for node in graph.get_parameters():
        weight = weights.get(node.get_friendly_name().removeprefix(_PREFIX))
        if weight is not None:
            constant = opset13.constant(weight.detach().numpy(), shared_memory=True)
            node.output(0).replace(constant.output(0))
            graph.remove_parameter(node)
    return graph


def _serialise(graph: Any) -> bytes:
    """Raises OSError or RuntimeError where the temporary directory can't hold the files."""
    from openvino import serialize

    with tempfile.TemporaryDirectory(prefix="vidparts-") as folder:
        files = {part: Path(folder, f"graph.{part}") for part in ("xml", "bin")}
        serialize(graph, files["xml"], files["bin"])
        return save({part: np.frombuffer(file.read_bytes(), dtype=np.uint8) for part, file in files.items()})


def _parse(content: bytes) -> Any:
    openvino, parts = import_openvino(), load(content)
    return openvino.Core().read_model(parts["xml"].tobytes(), openvino.Tensor(parts["bin"]))


def _cache_file(fingerprint: str, reading: Reading) -> Path | None:
    folder = cache_folder("graphs")
    if folder is None:
        return None
    versions = (__version__, torch.__version__, import_openvino().__version__)
    name = hashlib.sha256(repr((fingerprint, reading, versions)).encode()).hexdigest()
    return folder / f"{name[:40]}.graph"
