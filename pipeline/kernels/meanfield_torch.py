"""The same inference as `pipeline.kernels.meanfield` in torch, on any device.

It is the implementation on CUDA, and on the CPU the readable twin that the compiled kernels are tested against. Each
sum has a fixed order, so that the result has the same bytes on every run. No shape depends on the picture's content, so
that a frame's work is queued on the device without synchronising.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from pipeline.config import CrfSettings
from pipeline.kernels.lattice import axis_scales, axis_steps, filter_gain, key_strides

_UNOCCUPIED = torch.iinfo(torch.int64).max
_LANES = 4
"""Labels are padded to a multiple of this: other row lengths take a slow path on CUDA."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorLattice:
    """Where n positions lie in a lattice of m vertices, occupied or not; row 0 stands for all that aren't occupied.

    Attributes:
        vertices: int32 [n, d + 1], the corners of each position's simplex.
        weights: float32 [n, d + 1], its barycentric coordinates.
        positions: int32 [n * (d + 1)], the positions that meet each vertex, vertex by vertex.
        shares: float32 [n * (d + 1)], their weights there.
        starts: int32 [m + 1], where each vertex's entries begin in these two.
        neighbours: int32 [d + 1, m + 1, 3], each vertex and its two neighbours along each axis.
        taps: float32 [m + 1, 3], the blur's weights for them.
    """

    vertices: Tensor
    weights: Tensor
    positions: Tensor
    shares: Tensor
    starts: Tensor
    neighbours: Tensor
    taps: Tensor

    def filtered(self, values: Tensor) -> Tensor:
        """Gaussian-filtered float32 [n, labels]: splat, blur along each axis, slice."""
        table = embedding_bag(self.positions, values, self.starts, mode="sum", per_sample_weights=self.shares)
        for along in self.neighbours:
            table = embedding_bag(along, table, mode="sum", per_sample_weights=self.taps)
        gain = filter_gain(len(self.neighbours) - 1)
        return embedding_bag(self.vertices, table, mode="sum", per_sample_weights=self.weights) * gain


@dataclass(frozen=True, slots=True, eq=False)
class TensorKernel:
    """One pairwise kernel, symmetrically normalised: weight * D^-1/2 F D^-1/2 with D the filter of ones."""

    lattice: TensorLattice
    inverse: Tensor
    weight: float

    @classmethod
    def over(cls, positions: Tensor, weight: float) -> TensorKernel:
        """The kernel between pixels at float32 [n, d] positions, whose unit is its standard deviation."""
        lattice = build_tensor_lattice(positions)
        sums = lattice.filtered(torch.ones(len(positions), _LANES, device=positions.device))
        return cls(lattice, torch.rsqrt(sums[:, :1] + 1e-20), weight)

    def message(self, field: Tensor) -> Tensor:
        """The message to every pixel from all others for each label, float32 [n, labels]."""
        return self.lattice.filtered(field * self.inverse) * (self.inverse * self.weight)


def infer_labels(unary: Tensor, image: Tensor, settings: CrfSettings) -> Tensor:
    """As `pipeline.kernels.infer_labels_on_device`."""
    labels, height, width = unary.shape
    # Padding labels have no probability.
    energy = pad(unary.reshape(labels, -1).T, (0, -labels % _LANES), value=torch.inf).contiguous()
    place = _pixel_positions(height, width, unary.device)
    colour = image.reshape(-1, 3).float() / settings.bilateral_srgb
    kernels = (
        TensorKernel.over(torch.cat([place / settings.bilateral_sxy, colour], dim=1), settings.bilateral_weight),
        _gaussian_kernel(height, width, settings.gaussian_sxy, settings.gaussian_weight, unary.device),
    )
    logits = -energy
    for _ in range(settings.iterations):
        field = logits.softmax(dim=1)
        logits = kernels[0].message(field) + kernels[1].message(field) - energy
    return logits.argmax(dim=1).to(torch.uint8).reshape(height, width)


@lru_cache(maxsize=4)
def _gaussian_kernel(height: int, width: int, sxy: float, weight: float, device: torch.device) -> TensorKernel:
    """Cached: it is the same for every picture of a size."""
    return TensorKernel.over(_pixel_positions(height, width, device) / sxy, weight)


def _pixel_positions(height: int, width: int, device: torch.device) -> Tensor:
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return torch.cartesian_prod(rows, columns).flip(1).float()


def build_tensor_lattice(positions: Tensor) -> TensorLattice:
    """The lattice around float32 [n, d] positions, whose unit is the standard deviation of the filter.

    It has rows for the largest possible number of vertices, n * (d + 1), so that no shape depends on the positions and
    the CPU never waits for the device.
    """
    keys, weights = _corners(positions)
    corners = keys.shape[1]
    ordered, order = keys.reshape(-1).sort(stable=True)
    numbers = pad((ordered[1:] != ordered[:-1]).long(), (1, 0), value=1).cumsum(0)
    occupied = torch.full_like(ordered, _UNOCCUPIED).scatter_(0, numbers - 1, ordered)
    vertices = torch.empty_like(numbers).scatter_(0, order, numbers)
    rows = torch.arange(1, len(ordered) + 1, device=keys.device)
    return TensorLattice(
        vertices=vertices.reshape(keys.shape).int(),
        weights=weights,
        positions=(order // corners).int(),
        shares=weights.reshape(-1)[order],
        starts=pad(torch.searchsorted(numbers, rows), (1, 0)).int(),
        neighbours=_neighbours(occupied, corners - 1),
        taps=_taps(len(ordered) + 1, keys.device),
    )


@lru_cache(maxsize=4)
def _taps(rows: int, device: torch.device) -> Tensor:
    return torch.tensor([1.0, 0.5, 0.5], device=device).repeat(rows, 1)


@lru_cache(maxsize=8)
def _scales(dims: int, device: torch.device) -> Tensor:
    return torch.tensor(axis_scales(dims), device=device)


@lru_cache(maxsize=8)
def _strides(dims: int, device: torch.device) -> Tensor:
    """Those of all d + 1 coordinates; the last one isn't part of a key."""
    return pad(torch.from_numpy(key_strides(dims)), (0, 1)).to(device)


def _corners(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and barycentric coordinates [n, d + 1] of the corners of each position's simplex."""
    dims = positions.shape[1]
    whole = dims + 1
    lifted = _lifted(positions)
    above, below = (lifted / whole).ceil(), (lifted / whole).floor()
    multiple = torch.where(above * whole - lifted < lifted - below * whole, above, below)
    rest = lifted - multiple * whole
    # The rank of a coordinate is the number of larger ones, the later of two equal ones behind the earlier.
    rank = rest.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = rank + multiple.sum(dim=1, keepdim=True).long()
    back = (rank < 0).long() * whole - (rank > dims).long() * whole
    ranked = (rank + back).argsort(dim=1)
    rest = (rest - back).gather(1, ranked)
    strides = _strides(dims, positions.device)
    first = ((multiple.long() * whole + back) * strides).sum(dim=1, keepdim=True)
    # From corner to corner the coordinate of the highest rank that is left falls by d, the others grow by 1.
    steps = strides.sum() - whole * strides[ranked[:, 1:].flip(1)]
    keys = torch.cat([first, first + steps.cumsum(dim=1)], dim=1)
    ends = 1 + (rest[:, -1:] - rest[:, :1]) / whole
    between = (rest[:, :-1] - rest[:, 1:]).flip(1) / whole
    return keys, torch.cat([ends, between], dim=1).contiguous()


def _lifted(positions: Tensor) -> Tensor:
    """Positions [n, d] on the hyperplane of d + 1 coordinates that add up to zero."""
    dims = positions.shape[1]
    scaled = positions * _scales(dims, positions.device)
    coordinates = []
    total = torch.zeros_like(scaled[:, 0])
    for axis in range(dims, 0, -1):
        coordinates.append(total - axis * scaled[:, axis - 1])
        total = total + scaled[:, axis - 1]
    return torch.stack([total, *reversed(coordinates)], dim=1)


def _neighbours(occupied: Tensor, dims: int) -> Tensor:
    """Each vertex and its neighbours along each axis, int32 [d + 1, m + 1, 3], from its sorted keys [m]."""
    own = torch.arange(len(occupied) + 1, device=occupied.device)
    table = torch.zeros(dims + 1, len(own), 3, dtype=torch.int32, device=occupied.device)
    table[:, :, 0] = own.int()
    for axis, step in enumerate(axis_steps(dims).tolist()):
        for side, key in ((1, occupied + step), (2, occupied - step)):
            found = torch.searchsorted(occupied, key).clamp(max=len(occupied) - 1)
            table[axis, 1:, side] = torch.where(occupied[found] == key, found + 1, 0).int()
    return table
