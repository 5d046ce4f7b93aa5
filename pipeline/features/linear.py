"""Linear layers in float32 at the full rate of processors with wide registers.

A row of the result depends on that row of the input alone, summed in one order: neither batches nor threads move a
bit. torch's own layer asks a library that on some processors uses half of the registers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.features.processor import can_compute, run_tasks, take_task
from pipeline.features.registers import LANES
from pipeline.features.tiles import product_tile
from pipeline.kernels.jit import compiled

ROWS = 14
PANEL = 2 * LANES
"""Outputs that are computed together; 28 registers of sums, two of weights."""
TASK = 6 * ROWS
"""Rows of a task: they stay in the second cache while all weights go by."""

_tile = product_tile(ROWS, PANEL // LANES, "bias")


class Linear(nn.Linear):
    """A linear layer that keeps its weights a second time, as the kernels read them, once it has used them there."""

    _laid: tuple[Tensor, int, torch.dtype, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [..., in] to [..., out]."""
        return self.some(x, slice(0, self.out_features))

    def some(self, x: Tensor, outputs: slice) -> Tensor:
        """Some of the outputs, a slice with both ends: [..., in] to [..., outputs]."""
        fits = x.numel() >= ROWS * self.in_features and not outputs.start % PANEL + outputs.stop % PANEL
        if fits and can_compute(x) and not torch.is_autocast_enabled(x.device.type):
            return self._compute(x, outputs)
        return F.linear(x, self.weight[outputs], None if self.bias is None else self.bias[outputs])

    def panels(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights as [panel, in, output of the panel]; the outputs must come in whole panels.

        In bfloat16 pairs of inputs are an int32: [panel, in / 2, output of the panel].
        """
        laid, version = self._laid, 0 if self.weight.is_inference() else self.weight._version
        if laid is None or laid[0] is not self.weight or laid[1:3] != (version, dtype):
            panels = _pairs(self.weight.detach()) if dtype == torch.bfloat16 else self.weight.detach()
            panels = panels.reshape(-1, PANEL, panels.shape[1]).transpose(1, 2).contiguous()
            self._laid = laid = (self.weight, version, dtype, panels)
        return laid[3]

    def offsets(self) -> Tensor:
        """The bias, zeros where there is none."""
        return torch.zeros(self.out_features) if self.bias is None else self.bias.detach()

    def _compute(self, x: Tensor, outputs: slice) -> Tensor:
        panels = self.panels()[outputs.start // PANEL : outputs.stop // PANEL]
        rows = x.reshape(-1, self.in_features).contiguous()
        result = torch.empty(len(rows), outputs.stop - outputs.start)
        arrays = [each.detach().numpy() for each in (rows, panels, self.offsets()[outputs], result)]
        run_tasks(_multiply, -(-len(rows) // TASK), *arrays)
        return result.reshape(*x.shape[:-1], -1)


def _pairs(weight: Tensor) -> Tensor:
    return weight.to(torch.bfloat16).contiguous().view(torch.int32)


@compiled
def _multiply(taken: Any, count: Any, x: Any, panels: Any, bias: Any, result: Any) -> None:
    """The result; a task is TASK of its rows."""
    depth, outputs = x.shape[1], result.shape[1]
    weights = panels.reshape(-1)
    while True:
        task = take_task(taken)
        if task >= count:
            break
        first = task * TASK
        last = min(first + TASK, x.shape[0])
        for panel in range(panels.shape[0]):
            for begin in range(first, last, ROWS):
                # The last rows of all are computed with those before them, which come out as they are.
                row = min(begin, x.shape[0] - ROWS)
                _tile(
                    x, row * depth, depth, weights, panel * depth * PANEL, PANEL, depth,
                    result, row * outputs + panel * PANEL, outputs, bias, panel * PANEL,
                )  # fmt: skip
