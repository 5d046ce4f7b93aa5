"""Species of all kinds, drawn in the shares in which they are wanted."""

from collections.abc import Callable

import torch

from pipeline.training.animals import biped, bird, fish, insect, quadruped
from pipeline.training.dice import Dice
from pipeline.training.skeletons import Skeleton
from pipeline.training.things import plant, tool, vehicle

KINDS: tuple[tuple[Callable[[Dice, int], Skeleton], float], ...] = (
    (quadruped, 0.46),
    (bird, 0.17),
    (biped, 0.12),
    (fish, 0.05),
    (insect, 0.05),
    (vehicle, 0.06),
    (plant, 0.04),
    (tool, 0.05),
)


def draw_species(dice: Dice, count: int) -> Skeleton:
    """Draw species of all kinds, in random order."""
    shares = torch.tensor([share for _, share in KINDS], device=dice.device)
    kinds = torch.multinomial(shares, count, replacement=True, generator=dice.generator).sort().values
    numbers = torch.bincount(kinds, minlength=len(KINDS)).tolist()
    several = [make(dice, number) for (make, _), number in zip(KINDS, numbers, strict=True) if number]
    order = torch.randperm(count, generator=dice.generator, device=dice.device)
    return Skeleton.join(several).take(order)
