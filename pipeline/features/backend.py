"""Which library runs the blocks of the ViT: OpenVINO or torch."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from pipeline.errors import UsageError
from pipeline.kernels import plain_paths

Backend = Literal["openvino", "torch"]

_log = logging.getLogger(__name__)


def choose_backend(name: str, device: torch.device) -> Backend:
    """The backend that `--backend` means; `auto` is OpenVINO on the CPU where it can be imported.

    Raises:
        UsageError: OpenVINO is asked for, and isn't there or doesn't run on the device.
    """
    if name == "openvino" and device.type != "cpu":
        raise UsageError(f"backend 'openvino' is for the processor, but the device is {device.type}; give --device cpu")
    chosen: Backend = "torch"
    if name == "openvino" or (name == "auto" and device.type == "cpu" and not plain_paths()):
        from pipeline.features import openvino_graph

        try:
            openvino_graph.import_openvino()
            chosen = "openvino"
        # A library that it needs may be missing or of another processor.
        except (ImportError, OSError) as error:
            reason = " ".join(str(error).split())[:160]
            if name == "openvino":
                raise UsageError(
                    f"backend 'openvino' is asked for, but it can't be imported ({reason}); "
                    "pip install openvino, or give --backend torch or auto"
                ) from error
            _log.info("openvino can't be imported (%s)", reason)
    _log.info("the ViT runs by %s on %s", chosen, device)
    return chosen
