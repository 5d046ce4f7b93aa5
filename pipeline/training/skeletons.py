"""Species as tables of bones: what parts a body has, where they sit and how they swing. Knows nothing of pixels.

Units: a body is about one unit long; x points to the head, y down; angles in radians, zero along x, growing towards y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from pipeline.training.dice import Dice, Number

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


@dataclass(frozen=True)
class Skeleton:
    """Bones of N bodies, each field [N, MAX_BONES]; a bone of radius zero doesn't exist.

    A parent stands before its children (-1: the root). `at` is the place along the parent where a bone begins (0 to 1),
    `depth` how far it stands in front of the body's middle, `swing` and `phase` its part in the gait.
    """

    parent: Tensor
    part: Tensor
    shape: Tensor
    at: Tensor
    angle: Tensor
    length: Tensor
    radius: Tensor
    tip: Tensor
    depth: Tensor
    swing: Tensor
    phase: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value.ndim != 2 or value.shape[1] != MAX_BONES:
                raise ValueError(f"Skeleton.{field.name}: got {tuple(value.shape)}, expected [N, {MAX_BONES}]")

    def __len__(self) -> int:
        """Count the bodies."""
        return self.parent.shape[0]

    def take(self, index: Tensor) -> Skeleton:
        """Pick bodies by an index [M]."""
        return Skeleton(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @staticmethod
    def join(several: list[Skeleton]) -> Skeleton:
        """Put bodies side by side."""
        return Skeleton(**{f.name: torch.cat([getattr(one, f.name) for one in several]) for f in fields(Skeleton)})


class Body:
    """Collects the bones of N bodies of one kind; every measure is a number for all or a tensor [N]."""

    def __init__(self, count: int, device: torch.device) -> None:
        """Begin with no bones."""
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
        shape: int = CAPSULE,
        depth: Number = 0.0,
        swing: Number = 0.0,
        phase: Number = 0.0,
    ) -> int:
        """Add a bone and give its index; `tip` is the radius at its far end."""
        measures = {"at": at, "angle": angle, "length": length, "radius": radius, "tip": radius if tip is None else tip}
        measures |= {"depth": depth, "swing": swing, "phase": phase}
        row = {name: self._column(value, torch.float32) for name, value in measures.items()}
        row |= {
            n: self._column(v, torch.int64) for n, v in {"parent": parent, "part": PART[part], "shape": shape}.items()
        }
        self.rows.append(row)
        return len(self.rows) - 1

    def skeleton(self) -> Skeleton:
        """Close the table: pad it to MAX_BONES."""
        columns = {name: torch.stack([row[name] for row in self.rows], 1) for name in self.rows[0]}
        pad = MAX_BONES - len(self.rows)
        return Skeleton(**{name: torch.nn.functional.pad(column, (0, pad)) for name, column in columns.items()})

    def _column(self, value: Number, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(value, dtype=dtype, device=self.device).expand(self.count)


def _uniform(dice: Dice, count: int, low: float, high: float) -> Tensor:
    return dice.uniform(low, high, count)


def _leg(body: Body, parent: int, where: str, at: Number, depth: float, phase: Number, plan: dict[str, Tensor]) -> None:
    """Hang a two-bone leg with a foot under a torso bone."""
    upper = body.bone(
        parent, f"upper {where} limb", plan["upper"], plan["thigh"], plan["knee"], 1.57 + plan["lean"], at,
        depth=depth, swing=plan["stride"], phase=phase,
    )  # fmt: skip
    lower = body.bone(
        upper, f"lower {where} limb", plan["lower"], plan["knee"], plan["ankle"], 1.57 - plan["lean"],
        depth=depth, swing=0.7 * plan["stride"], phase=phase + 1.2,
    )  # fmt: skip
    body.bone(lower, f"lower {where} limb", plan["foot"], plan["ankle"], plan["ankle"], 0.3, depth=depth)


def _leg_plan(dice: Dice, count: int, height: Tensor) -> dict[str, Tensor]:
    thigh = dice.uniform(0.05, 0.12, count)
    knee = thigh * dice.uniform(0.4, 0.8, count)
    return {
        "upper": height * dice.uniform(0.45, 0.6, count),
        "lower": height * dice.uniform(0.4, 0.55, count),
        "thigh": thigh,
        "knee": knee,
        "ankle": knee * dice.uniform(0.6, 0.95, count),
        "foot": height * dice.uniform(0.05, 0.18, count),
        "lean": dice.uniform(-0.3, 0.3, count),
        "stride": dice.uniform(0.1, 0.55, count),
    }


def quadruped(dice: Dice, count: int) -> Skeleton:
    """Make four-legged animals from rat to giraffe."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    girth, height = u(0.13, 0.26), u(0.25, 0.85)
    waist = girth * u(0.65, 1.0)
    slope = u(-0.15, 0.15)
    rear = body.bone(-1, "rear torso", 0.45, girth * u(0.75, 1.05), waist, slope, swing=0.04)
    front = body.bone(rear, "front torso", u(0.35, 0.55), waist, girth, slope + u(-0.15, 0.15), swing=0.04, phase=1.5)
    body.bone(
        front, "front torso", u(0.2, 0.4), u(0.06, 0.16) * dice.chance(0.2, count), None, 3.1, u(0.1, 0.9), ELLIPSE, 0.0
    )
    rise, long = u(0.1, 1.35), u(0.12, 0.7)
    neck = body.bone(front, "neck", long, girth * u(0.4, 0.75), girth * u(0.3, 0.5), -rise, 0.95, swing=0.1)
    skull = u(0.08, 0.13)
    nose = u(-0.1, 0.8)
    head = body.bone(neck, "head", u(0.08, 0.2), skull, skull * u(0.7, 0.95), nose, swing=0.1, phase=2.0)
    body.bone(head, "head", u(0.04, 0.16), skull * u(0.6, 0.8), skull * u(0.35, 0.6), nose + u(0, 0.3))
    ear, cock = u(0.05, 0.22), -u(1.2, 2.6)
    body.bone(head, "head", ear, u(0.025, 0.06), None, cock, 0.0, ELLIPSE, 0.06)
    body.bone(head, "head", ear, u(0.025, 0.05), None, cock + 0.4, 0.1, ELLIPSE, -0.1)
    droop, thick = u(-0.9, 1.3), u(0.02, 0.07)
    tail = body.bone(rear, "tail", u(0.1, 0.35), thick, thick * 0.8, 3.14 - droop, 0.0, swing=0.3)
    body.bone(
        tail, "tail", u(0.05, 0.35), thick * 0.8, thick * u(0.3, 1.2), 3.14 - droop + u(-0.8, 0.8), swing=0.3, phase=0.8
    )
    hind, fore, beat = _leg_plan(dice, count, height), _leg_plan(dice, count, height), u(0, 6.28)
    for depth, phase in ((-0.16, 3.14), (0.12, 0.0)):
        _leg(body, rear, "hind", 0.05, depth, phase, hind)
        _leg(body, front, "front", 0.85, depth, phase + beat, fore)
    return body.skeleton()


def bird(dice: Dice, count: int) -> Skeleton:
    """Make birds that walk, swim, perch or fly."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    tilt, girth = -u(-0.1, 0.8), u(0.15, 0.28)
    rear = body.bone(-1, "rear torso", 0.4, girth * u(0.5, 0.8), girth, tilt)
    front = body.bone(rear, "front torso", u(0.15, 0.3), girth, girth * 0.85, tilt)
    bend, long, slim = u(-0.5, 0.9), u(0.04, 0.45), girth * u(0.2, 0.5)
    neck = body.bone(front, "neck", long, girth * u(0.4, 0.7), slim, tilt - bend, 0.95, swing=0.15)
    neck = body.bone(
        neck, "neck", long * u(0.6, 1.1), slim, slim * 0.9, tilt - bend - u(-0.2, 0.9), swing=0.15, phase=1.0
    )
    skull, look = torch.maximum(u(0.06, 0.12), slim * 1.1), u(-0.2, 0.4)
    head = body.bone(neck, "head", skull * 0.5, skull, skull * 0.8, look, swing=0.1)
    body.bone(head, "head", u(0.05, 0.25), skull * u(0.3, 0.55), skull * 0.12, look + u(0, 0.25))
    flare = u(0.06, 0.16)
    body.bone(rear, "tail", u(0.12, 0.4), flare * 0.6, flare, 3.14 + tilt + u(-0.5, 0.4), 0.05)
    fold, span = dice.chance(0.7, count), u(0.3, 0.8)
    raised = torch.where(fold, 3.14 + tilt + u(-0.2, 0.3), -u(0.6, 2.8))
    wing = torch.where(fold, girth * u(0.5, 0.75), u(0.1, 0.2))
    body.bone(
        front,
        "wing or fin",
        torch.where(fold, u(0.35, 0.55), span),
        wing,
        wing * u(0.3, 0.8),
        raised,
        0.5,
        CAPSULE,
        0.12,
        0.3,
    )
    body.bone(front, "wing or fin", span, wing * ~fold, wing * 0.5, raised - 0.5, 0.6, CAPSULE, -0.3, 0.3)
    height, walks, thin = u(0.1, 0.5), dice.chance(0.6, count), u(0.018, 0.035)
    for depth, phase in ((-0.2, 3.14), (0.05, 0.0)):
        thigh = body.bone(
            rear, "upper hind limb", height * 0.5, thin * 2.2 * walks, thin, 1.3, 0.75, CAPSULE, depth, 0.4, phase
        )
        shin = body.bone(
            thigh, "lower hind limb", height * 0.6, thin * walks, thin, 1.7, 1.0, CAPSULE, depth, 0.3, phase
        )
        body.bone(shin, "lower hind limb", u(0.05, 0.12), thin * walks, thin * 0.8, 0.15, 1.0, CAPSULE, depth)
    return body.skeleton()


def biped(dice: Dice, count: int) -> Skeleton:
    """Make people-like bodies that stand, walk or reach."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    wide = u(0.09, 0.17)
    rear = body.bone(-1, "rear torso", u(0.12, 0.2), wide, wide * 0.9, -1.57, swing=0.08)
    front = body.bone(rear, "front torso", u(0.2, 0.3), wide * 0.9, wide * u(0.9, 1.2), -1.57, swing=0.08)
    neck = body.bone(front, "neck", u(0.08, 0.16), wide * 0.45, None, -1.57)
    skull = u(0.07, 0.11)
    body.bone(neck, "head", u(0.06, 0.12), skull, skull * u(0.9, 1.1), -1.57, swing=0.15)
    arm, leg, slim, thigh = u(0.18, 0.26), u(0.25, 0.36), u(0.03, 0.06), u(0.05, 0.1)
    lift, step, spread = u(-0.3, 1.6) * dice.chance(0.5, count), u(0.1, 0.7), u(0, 1) * wide
    for side, depth, phase in ((-1.0, -0.15, 3.14), (1.0, 0.12, 0.0)):
        reach = 1.57 - lift * side
        upper = body.bone(front, "upper front limb", arm, slim * 1.2, slim, reach, 0.9, CAPSULE, depth, step, phase)
        lower = body.bone(
            upper, "lower front limb", arm, slim, slim * 0.8, reach - u(0, 0.9), 1.0, CAPSULE, depth, step, phase
        )
        body.bone(lower, "lower front limb", 0.06, slim * 1.1, slim * 0.7, reach, 1.0, ELLIPSE, depth)
        upper = body.bone(
            rear,
            "upper hind limb",
            leg,
            thigh,
            thigh * 0.7,
            1.57 - side * spread,
            0.1,
            CAPSULE,
            depth,
            step,
            phase + 3.14,
        )
        lower = body.bone(
            upper, "lower hind limb", leg, thigh * 0.7, thigh * 0.45, 1.65, 1.0, CAPSULE, depth, step, phase + 4.3
        )
        body.bone(lower, "lower hind limb", 0.1, thigh * 0.5, thigh * 0.4, 0.2, 1.0, CAPSULE, depth)
    return body.skeleton()


def fish(dice: Dice, count: int) -> Skeleton:
    """Make fish, seen from the side."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    girth = u(0.1, 0.3)
    rear = body.bone(-1, "rear torso", u(0.3, 0.5), girth * u(0.2, 0.4), girth, 0.0, swing=0.2)
    front = body.bone(rear, "front torso", u(0.2, 0.35), girth, girth * 0.85, 0.0, swing=0.15, phase=1.0)
    body.bone(front, "head", u(0.12, 0.28), girth * 0.85, girth * u(0.2, 0.5), u(-0.1, 0.1), 0.95)
    fork = u(0.2, 0.9)
    for sign in (-1.0, 1.0):
        body.bone(rear, "tail", u(0.15, 0.3), u(0.03, 0.07), None, 3.14 + sign * fork, 0.02, ELLIPSE, 0.0, 0.4, 2.0)
    body.bone(rear, "wing or fin", u(0.25, 0.5), girth * u(0.3, 0.7), girth * 0.1, 3.5, 1.0, CAPSULE, -0.12)
    body.bone(front, "wing or fin", u(0.1, 0.25), u(0.03, 0.07), None, u(2.2, 3.0), 0.5, ELLIPSE, 0.25, 0.5)
    body.bone(rear, "wing or fin", u(0.1, 0.25), u(0.03, 0.07), None, u(2.0, 2.8), 0.7, ELLIPSE, -0.15, 0.3)
    return body.skeleton()


def insect(dice: Dice, count: int) -> Skeleton:
    """Make six-legged bodies with feelers."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    belly, waist = u(0.1, 0.24), u(0.07, 0.16)
    rear = body.bone(-1, "rear torso", u(0.35, 0.6), belly, None, u(-0.2, 0.2), 1.0, ELLIPSE)
    front = body.bone(rear, "front torso", u(0.15, 0.3), waist, waist * 0.9, u(-0.2, 0.2), 0.95)
    head = body.bone(front, "head", u(0.05, 0.12), waist * u(0.5, 0.9), None, 0.0, 1.3)
    thin, reach, knee = u(0.012, 0.03), u(0.15, 0.4), u(0.3, 0.9)
    for rank, place in enumerate((0.0, 0.5, 0.9)):
        name = "hind" if rank == 0 else "front"
        for depth, phase in ((-0.2, 3.14), (0.1, 0.0)):
            angle = 2.1 - 0.55 * rank
            upper = body.bone(
                front,
                f"upper {name} limb",
                reach * 0.6,
                thin * 1.3,
                thin,
                angle - knee,
                place,
                CAPSULE,
                depth,
                0.3,
                phase + rank,
            )
            body.bone(upper, f"lower {name} limb", reach, thin, thin * 0.7, 1.57, 1.0, CAPSULE, depth, 0.3, phase)
    for lift in (0.4, 0.9):
        body.bone(head, "head", u(0.1, 0.4), thin * 0.8, None, -u(0, 0.5) - lift, 1.0)
    body.bone(
        front,
        "wing or fin",
        u(0.3, 0.7),
        u(0.05, 0.14) * dice.chance(0.5, count),
        None,
        3.14 + u(-0.2, 0.9),
        0.6,
        ELLIPSE,
        0.15,
        0.3,
    )
    return body.skeleton()


def vehicle(dice: Dice, count: int) -> Skeleton:
    """Make cars, carts and lorries, seen from the side."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    long, tall, wheel = u(0.8, 1.2), u(0.09, 0.2), u(0.08, 0.16)
    hull = body.bone(-1, "vehicle body", long, tall, tall * u(0.7, 1.0), 0.0, 1.0, BOX)
    body.bone(hull, "cabin", long * u(0.25, 0.6), u(0.09, 0.22), u(0.06, 0.2), 0.0, u(0.05, 0.4), BOX, -0.02)
    body.rows[-1]["shape"] = torch.where(dice.chance(0.4, count), ELLIPSE, body.rows[-1]["shape"])
    roof = body.bone(hull, "cabin", tall + u(0.05, 0.15), u(0.1, 0.35), None, -1.57, u(0.3, 0.7), BOX, -0.03)
    body.bone(roof, "vehicle body", u(0.1, 0.3), 0.02 * dice.chance(0.4, count), None, 0.0, 1.0)
    down = tall + wheel * u(-0.3, 0.2)
    for place in (0.15, 0.85):
        axle = body.bone(hull, "wheel", down, 0.01, None, 1.57, place, CAPSULE, -0.2)
        hub = body.bone(axle, "wheel", 0.001, wheel, None, 0.0, 1.0, CAPSULE, 0.12)
        body.bone(hub, "wheel", 0.001, wheel * 0.5, None, 0.0, 1.0, CAPSULE, 0.2)
    return body.skeleton()


def plant(dice: Dice, count: int) -> Skeleton:
    """Make plants in pots: a bent stem, leaves and a flower."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    pot, thin = u(0.1, 0.2), u(0.015, 0.04)
    root = body.bone(-1, "pot", u(0.15, 0.35), pot * u(0.6, 1.0), pot, -1.57, 1.0, BOX)
    lean = -1.57 + u(-0.4, 0.4)
    stem = body.bone(root, "stem", u(0.15, 0.35), thin, None, lean, 0.9, swing=0.1)
    stem = body.bone(stem, "stem", u(0.15, 0.35), thin, thin * 0.8, lean + u(-0.4, 0.4), swing=0.1)
    size = u(0.12, 0.35)
    for rank in range(9):
        angle, broad = u(-3.4, 0.3), size * u(0.2, 0.4)
        body.bone(
            stem - rank % 2,
            "leaf",
            size * u(0.7, 1.3),
            broad,
            None,
            angle,
            u(0.0, 1.0),
            ELLIPSE,
            -0.15 + 0.04 * rank,
            0.15,
        )
    body.bone(stem, "flower", u(0.05, 0.15), u(0.05, 0.14) * dice.chance(0.6, count), None, lean, 1.0, ELLIPSE, 0.3)
    return body.skeleton()


def tool(dice: Dice, count: int) -> Skeleton:
    """Make hammers, spoons, cups, lamps: a handle and one or two heads."""
    body, u = Body(count, dice.device), partial(_uniform, dice, count)
    turn, thin = u(-3.1, 3.1), u(0.03, 0.08)
    handle = body.bone(-1, "handle", u(0.4, 0.9), thin, thin * u(0.6, 1.4), turn)
    form, size = dice.integers(0, 3, count), u(0.08, 0.22)
    body.bone(handle, "tool head", u(0.1, 0.45), size, size * u(0.5, 1.2), turn + u(-0.2, 0.2), u(0.85, 1.1))
    body.rows[-1]["shape"] = form
    body.bone(
        handle,
        "tool head",
        u(0.1, 0.4),
        size * u(0.3, 0.6) * dice.chance(0.5, count),
        None,
        turn + 1.57,
        1.0,
        CAPSULE,
        0.05,
    )
    body.bone(
        handle,
        "tool head",
        u(0.1, 0.4),
        size * u(0.3, 0.6) * dice.chance(0.5, count),
        None,
        turn - 1.57,
        1.0,
        CAPSULE,
        0.05,
    )
    return body.skeleton()


KINDS: tuple[tuple[Callable[[Dice, int], Skeleton], float], ...] = (
    (quadruped, 0.40),
    (bird, 0.19),
    (biped, 0.12),
    (fish, 0.06),
    (insect, 0.06),
    (vehicle, 0.07),
    (plant, 0.04),
    (tool, 0.06),
)


def draw_species(dice: Dice, count: int) -> Skeleton:
    """Draw species of all kinds, in random order."""
    shares = torch.tensor([share for _, share in KINDS], device=dice.device)
    kinds = torch.multinomial(shares, count, replacement=True, generator=dice.generator).sort().values
    numbers = torch.bincount(kinds, minlength=len(KINDS)).tolist()
    several = [make(dice, number) for (make, _), number in zip(KINDS, numbers, strict=True) if number]
    order = torch.randperm(count, generator=dice.generator, device=dice.device)
    return Skeleton.join(several).take(order)
