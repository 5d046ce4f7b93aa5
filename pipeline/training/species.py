"""Random species of all kinds (animals and things), with the probability of each kind."""

from collections.abc import Callable

import torch

from pipeline.training.animals import biped, bird, fish, insect, quadruped
from pipeline.training.rng import Rng
from pipeline.training.skeletons import Skeleton
from pipeline.training.things import plant, tool, vehicle

KINDS: tuple[tuple[Callable[[Rng, int], Skeleton], float], ...] = (
    (quadruped, 0.46),
    (bird, 0.17),
    (biped, 0.12),
    (fish, 0.05),
    (insect, 0.05),
    (vehicle, 0.06),
    (plant, 0.04),
    (tool, 0.05),
)


def draw_species(rng: Rng, count: int) -> Skeleton:
    """Draw skeletons of `count` species, kinds by their probability, in random order."""
    shares = torch.tensor([share for _, share in KINDS], device=rng.device)
    kinds = torch.multinomial(shares, count, replacement=True, generator=rng.generator).sort().values
    numbers = torch.bincount(kinds, minlength=len(KINDS)).tolist()
    several = [make(rng, number) for (make, _), number in zip(KINDS, numbers, strict=True) if number]
    order = torch.randperm(count, generator=rng.generator, device=rng.device)
    return Skeleton.join(several).take(order)
