"""Skeletons: tables of bones with parts, proportions and gait; the lists of parts and regions.

Units: a body is about one unit long; x points to the head, y down; angles in radians from x towards y.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pipeline.training.rng import Number

MAX_BONES = 24
CAPSULE, ELLIPSE, BOX = 0, 1, 2
PARTS = (
    "background",
    "head",
    "neck",
    "front torso",
    "rear torso",
    "upper front limb",
    "lower front limb",
    "upper hind limb",
    "lower hind limb",
    "tail",
    "wing or fin",
    "vehicle body",
    "cabin",
    "wheel",
    "stem",
    "leaf",
    "flower",
    "pot",
    "handle",
    "tool head",
)
PART = {name: index for index, name in enumerate(PARTS)}
REGIONS = {
    "background": ("background",),
    "head": ("head", "neck"),
    "torso": ("front torso", "rear torso"),
    "front limbs": ("upper front limb", "lower front limb"),
    "hind limbs": ("upper hind limb", "lower hind limb"),
    "tail": ("tail",),
    "wings or fins": ("wing or fin",),
    "vehicle": ("vehicle body", "cabin"),
    "wheels": ("wheel",),
    "stem": ("stem",),
    "leaves": ("leaf",),
    "flower": ("flower",),
    "pot": ("pot",),
    "handle": ("handle",),
    "tool head": ("tool head",),
}
"""Groups of parts that a clustering into four to six parts should find."""
REGION_OF = tuple(next(i for i, names in enumerate(REGIONS.values()) if part in names) for part in PARTS)
"""Index of each part's region, in the order of `PARTS`."""


@dataclass(frozen=True)
class Skeleton:
    """Bones of N bodies, each field [N, MAX_BONES]; bones of radius 0 are padding.

    `parent` is the index of an earlier bone, -1 for the root; `form` is CAPSULE, ELLIPSE or BOX. `at` is where along
    the parent (0 to 1) the bone starts, `depth` its distance in front of the body's middle plane, `swing` (radians)
    and `phase` its sinusoidal motion in the gait.
    """

    parent: Tensor
    part: Tensor
    form: Tensor
    at: Tensor
    angle: Tensor
    length: Tensor
    radius: Tensor
    tip: Tensor
    depth: Tensor
    swing: Tensor
    phase: Tensor

    def __post_init__(self) -> None:
        """Check the tensors' shapes."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value.ndim != 2 or value.shape[1] != MAX_BONES:
                raise ValueError(f"Skeleton.{field.name}: got {tuple(value.shape)}, expected [N, {MAX_BONES}]")

    def __len__(self) -> int:
        """Return the number of bodies."""
        return self.parent.shape[0]

    def take(self, index: Tensor) -> Skeleton:
        """Select bodies by an index [M]."""
        return Skeleton(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @staticmethod
    def join(several: list[Skeleton]) -> Skeleton:
        """Concatenate bodies."""
        return Skeleton(**{f.name: torch.cat([getattr(one, f.name) for one in several]) for f in fields(Skeleton)})


class Body:
    """Builder of a `Skeleton` of N bodies of one kind; each value is a number for all or a tensor [N]."""

    def __init__(self, count: int, device: torch.device) -> None:
        """Start without bones."""
        self.count, self.device = count, device
        self.rows: list[dict[str, Tensor]] = []

    def bone(
        self,
        parent: int,
        part: str,
        length: Number,
        radius: Number,
        tip: Number | None = None,
        angle: Number = 0.0,
        at: Number = 1.0,
        form: int = CAPSULE,
        depth: Number = 0.0,
        swing: Number = 0.0,
        phase: Number = 0.0,
    ) -> int:
        """Add a bone and return its index; `tip` is the radius at its far end, `radius` if None."""
        measures = {"at": at, "angle": angle, "length": length, "radius": radius, "tip": radius if tip is None else tip}
        measures |= {"depth": depth, "swing": swing, "phase": phase}
        row = {name: self._column(value, torch.float32) for name, value in measures.items()}
        row |= {
            n: self._column(v, torch.int64) for n, v in {"parent": parent, "part": PART[part], "form": form}.items()
        }
        self.rows.append(row)
        return len(self.rows) - 1

    def skeleton(self) -> Skeleton:
        """Return the skeleton, padded to MAX_BONES."""
        columns = {name: torch.stack([row[name] for row in self.rows], 1) for name in self.rows[0]}
        pad = MAX_BONES - len(self.rows)
        return Skeleton(**{name: torch.nn.functional.pad(column, (0, pad)) for name, column in columns.items()})

    def _column(self, value: Number, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(value, dtype=dtype, device=self.device).expand(self.count)
