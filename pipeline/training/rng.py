"""Seeded random number generator on a given device."""

from collections.abc import Callable

import torch
from torch import Tensor

Number = float | Tensor


class Rng:
    """Draws tensors from one seeded `torch.Generator`, so that equal seeds give equal scenes."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        """Seed a generator of its own; PyTorch's global one isn't used."""
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw float32 uniform numbers from [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, deviation: float, *shape: int) -> Tensor:
        """Draw float32 normal numbers with mean 0."""
        return deviation * torch.randn(shape, generator=self.generator, device=self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw int64 numbers from [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Draw Booleans that are true with the given probability."""
        return torch.rand(shape, generator=self.generator, device=self.device) < probability

    def for_each(self, count: int) -> Callable[[float, float], Tensor]:
        """Return a function of two bounds that draws `count` uniform numbers between them."""
        return lambda low, high: self.uniform(low, high, count)
