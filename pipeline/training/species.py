"""Random species: skeletons of animals and things, and the probability of each kind."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.training.rng import Number, Rng
from pipeline.training.skeletons import BOX, CAPSULE, ELLIPSE, Body, Skeleton


def _leg(body: Body, parent: int, where: str, at: Number, depth: float, phase: Number, leg: dict[str, Tensor]) -> None:
    """Attach a leg of two bones and a foot to a torso bone."""
    upper = body.bone(
        parent, f"upper {where} limb", leg["upper"], leg["thigh"], leg["knee"], 1.57 + leg["lean"], at,
        depth=depth, swing=leg["stride"], phase=phase,
    )  # fmt: skip
    lower = body.bone(
        upper, f"lower {where} limb", leg["lower"], leg["knee"], leg["ankle"], 1.57 - leg["lean"],
        depth=depth, swing=0.7 * leg["stride"], phase=phase + 1.2,
    )  # fmt: skip
    body.bone(lower, f"lower {where} limb", leg["foot"], leg["ankle"], leg["ankle"], 0.3, depth=depth)


def _leg_measures(rng: Rng, count: int, height: Tensor) -> dict[str, Tensor]:
    thigh = rng.uniform(0.05, 0.12, count)
    knee = thigh * rng.uniform(0.4, 0.8, count)
    return {
        "upper": height * rng.uniform(0.45, 0.6, count),
        "lower": height * rng.uniform(0.4, 0.55, count),
        "thigh": thigh,
        "knee": knee,
        "ankle": knee * rng.uniform(0.6, 0.95, count),
        "foot": height * rng.uniform(0.05, 0.18, count),
        "lean": rng.uniform(-0.3, 0.3, count),
        "stride": rng.uniform(0.1, 0.55, count),
    }


def quadruped(rng: Rng, count: int) -> Skeleton:
    """Draw four-legged animals, from rat to giraffe."""
    body, u = Body(count, rng.device), rng.for_each(count)
    girth, height = u(0.13, 0.26), u(0.25, 0.85)
    waist = girth * u(0.65, 1.0)
    slope = u(-0.15, 0.15)
    rear = body.bone(-1, "rear torso", 0.45, girth * u(0.75, 1.05), waist, slope, swing=0.04)
    front = body.bone(rear, "front torso", u(0.35, 0.55), waist, girth, slope + u(-0.15, 0.15), swing=0.04, phase=1.5)
    body.bone(
        front, "front torso", u(0.2, 0.4), u(0.06, 0.16) * rng.chance(0.2, count), None, 3.1, u(0.1, 0.9), ELLIPSE, 0.0
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
    hind, fore, beat = _leg_measures(rng, count, height), _leg_measures(rng, count, height), u(0, 6.28)
    for depth, phase in ((-0.16, 3.14), (0.12, 0.0)):
        _leg(body, rear, "hind", 0.05, depth, phase, hind)
        _leg(body, front, "front", 0.85, depth, phase + beat, fore)
    return body.skeleton()


def bird(rng: Rng, count: int) -> Skeleton:
    """Draw birds that walk, swim, perch or fly."""
    body, u = Body(count, rng.device), rng.for_each(count)
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
    fold, span = rng.chance(0.7, count), u(0.3, 0.8)
    raised = torch.where(fold, 3.14 + tilt + u(-0.2, 0.3), -u(0.6, 2.8))
    wing = torch.where(fold, girth * u(0.5, 0.75), u(0.1, 0.2))
    long = torch.where(fold, u(0.35, 0.55), span)
    body.bone(front, "wing or fin", long, wing, wing * u(0.3, 0.8), raised, 0.5, depth=0.12, swing=0.3)
    body.bone(front, "wing or fin", span, wing * ~fold, wing * 0.5, raised - 0.5, 0.6, CAPSULE, -0.3, 0.3)
    height, walks, thin = u(0.1, 0.5), rng.chance(0.6, count), u(0.018, 0.035)
    for depth, phase in ((-0.2, 3.14), (0.05, 0.0)):
        thigh = body.bone(
            rear, "upper hind limb", height * 0.5, thin * 2.2 * walks, thin, 1.3, 0.75, CAPSULE, depth, 0.4, phase
        )
        shin = body.bone(
            thigh, "lower hind limb", height * 0.6, thin * walks, thin, 1.7, 1.0, CAPSULE, depth, 0.3, phase
        )
        body.bone(shin, "lower hind limb", u(0.05, 0.12), thin * walks, thin * 0.8, 0.15, 1.0, CAPSULE, depth)
    return body.skeleton()


def biped(rng: Rng, count: int) -> Skeleton:
    """Draw human-like bodies that stand, walk or reach."""
    body, u = Body(count, rng.device), rng.for_each(count)
    wide = u(0.09, 0.17)
    rear = body.bone(-1, "rear torso", u(0.12, 0.2), wide, wide * 0.9, -1.57, swing=0.08)
    front = body.bone(rear, "front torso", u(0.2, 0.3), wide * 0.9, wide * u(0.9, 1.2), -1.57, swing=0.08)
    neck = body.bone(front, "neck", u(0.08, 0.16), wide * 0.45, None, -1.57)
    skull = u(0.07, 0.11)
    body.bone(neck, "head", u(0.06, 0.12), skull, skull * u(0.9, 1.1), -1.57, swing=0.15)
    arm, leg, slim, thigh = u(0.18, 0.26), u(0.25, 0.36), u(0.03, 0.06), u(0.05, 0.1)
    lift, step, spread = u(-0.3, 1.6) * rng.chance(0.5, count), u(0.1, 0.7), u(0, 1) * wide
    for side, depth, phase in ((-1.0, -0.15, 3.14), (1.0, 0.12, 0.0)):
        reach = 1.57 - lift * side
        upper = body.bone(front, "upper front limb", arm, slim * 1.2, slim, reach, 0.9, CAPSULE, depth, step, phase)
        lower = body.bone(
            upper, "lower front limb", arm, slim, slim * 0.8, reach - u(0, 0.9), 1.0, CAPSULE, depth, step, phase
        )
        body.bone(lower, "lower front limb", 0.06, slim * 1.1, slim * 0.7, reach, 1.0, ELLIPSE, depth)
        angle = 1.57 - side * spread
        upper = body.bone(
            rear, "upper hind limb", leg, thigh, thigh * 0.7, angle, 0.1, CAPSULE, depth, step, phase + 3.14
        )
        lower = body.bone(
            upper, "lower hind limb", leg, thigh * 0.7, thigh * 0.45, 1.65, 1.0, CAPSULE, depth, step, phase + 4.3
        )
        body.bone(lower, "lower hind limb", 0.1, thigh * 0.5, thigh * 0.4, 0.2, 1.0, CAPSULE, depth)
    return body.skeleton()


def fish(rng: Rng, count: int) -> Skeleton:
    """Draw fish in side view."""
    body, u = Body(count, rng.device), rng.for_each(count)
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


def insect(rng: Rng, count: int) -> Skeleton:
    """Draw six-legged bodies with antennae."""
    body, u = Body(count, rng.device), rng.for_each(count)
    belly, waist = u(0.1, 0.24), u(0.07, 0.16)
    rear = body.bone(-1, "rear torso", u(0.35, 0.6), belly, None, u(-0.2, 0.2), 1.0, ELLIPSE)
    front = body.bone(rear, "front torso", u(0.15, 0.3), waist, waist * 0.9, u(-0.2, 0.2), 0.95)
    head = body.bone(front, "head", u(0.05, 0.12), waist * u(0.5, 0.9), None, 0.0, 1.3)
    thin, reach, knee = u(0.012, 0.03), u(0.15, 0.4), u(0.3, 0.9)
    for rank, place in enumerate((0.0, 0.5, 0.9)):
        name = "hind" if rank == 0 else "front"
        for depth, phase in ((-0.2, 3.14), (0.1, 0.0)):
            angle = 2.1 - 0.55 * rank - knee
            upper = body.bone(
                front, f"upper {name} limb", reach * 0.6, thin * 1.3, thin, angle, place,
                depth=depth, swing=0.3, phase=phase + rank,
            )  # fmt: skip
            body.bone(upper, f"lower {name} limb", reach, thin, thin * 0.7, 1.57, 1.0, CAPSULE, depth, 0.3, phase)
    for lift in (0.4, 0.9):
        body.bone(head, "head", u(0.1, 0.4), thin * 0.8, None, -u(0, 0.5) - lift, 1.0)
    long, wide = u(0.3, 0.7), u(0.05, 0.14) * rng.chance(0.5, count)
    body.bone(front, "wing or fin", long, wide, None, 3.14 + u(-0.2, 0.9), 0.6, ELLIPSE, 0.15, 0.3)
    return body.skeleton()


def vehicle(rng: Rng, count: int) -> Skeleton:
    """Draw cars, carts and lorries in side view."""
    body, u = Body(count, rng.device), rng.for_each(count)
    long, tall, wheel = u(0.8, 1.2), u(0.09, 0.2), u(0.08, 0.16)
    hull = body.bone(-1, "vehicle body", long, tall, tall * u(0.7, 1.0), 0.0, 1.0, BOX)
    body.bone(hull, "cabin", long * u(0.25, 0.6), u(0.09, 0.22), u(0.06, 0.2), 0.0, u(0.05, 0.4), BOX, -0.02)
    body.rows[-1]["form"] = torch.where(rng.chance(0.4, count), ELLIPSE, body.rows[-1]["form"])
    roof = body.bone(hull, "cabin", tall + u(0.05, 0.15), u(0.1, 0.35), None, -1.57, u(0.3, 0.7), BOX, -0.03)
    body.bone(roof, "vehicle body", u(0.1, 0.3), 0.02 * rng.chance(0.4, count), None, 0.0, 1.0)
    down = tall + wheel * u(-0.3, 0.2)
    for place in (0.15, 0.85):
        axle = body.bone(hull, "wheel", down, 0.01, None, 1.57, place, CAPSULE, -0.2)
        hub = body.bone(axle, "wheel", 0.001, wheel, None, 0.0, 1.0, CAPSULE, 0.12)
        body.bone(hub, "wheel", 0.001, wheel * 0.5, None, 0.0, 1.0, CAPSULE, 0.2)
    return body.skeleton()


def plant(rng: Rng, count: int) -> Skeleton:
    """Draw potted plants: a bent stem, leaves and a flower."""
    body, u = Body(count, rng.device), rng.for_each(count)
    pot, thin = u(0.1, 0.2), u(0.015, 0.04)
    root = body.bone(-1, "pot", u(0.15, 0.35), pot * u(0.6, 1.0), pot, -1.57, 1.0, BOX)
    lean = -1.57 + u(-0.4, 0.4)
    stem = body.bone(root, "stem", u(0.15, 0.35), thin, None, lean, 0.9, swing=0.1)
    stem = body.bone(stem, "stem", u(0.15, 0.35), thin, thin * 0.8, lean + u(-0.4, 0.4), swing=0.1)
    size = u(0.12, 0.35)
    for rank in range(9):
        angle, broad, long = u(-3.4, 0.3), size * u(0.2, 0.4), size * u(0.7, 1.3)
        depth = -0.15 + 0.04 * rank
        body.bone(stem - rank % 2, "leaf", long, broad, None, angle, u(0.0, 1.0), ELLIPSE, depth, swing=0.15)
    body.bone(stem, "flower", u(0.05, 0.15), u(0.05, 0.14) * rng.chance(0.6, count), None, lean, 1.0, ELLIPSE, 0.3)
    return body.skeleton()


def tool(rng: Rng, count: int) -> Skeleton:
    """Draw hammers, spoons, cups, lamps: a handle and one or two heads."""
    body, u = Body(count, rng.device), rng.for_each(count)
    turn, thin = u(-3.1, 3.1), u(0.03, 0.08)
    handle = body.bone(-1, "handle", u(0.4, 0.9), thin, thin * u(0.6, 1.4), turn)
    form, size = rng.integers(0, 3, count), u(0.08, 0.22)
    body.bone(handle, "tool head", u(0.1, 0.45), size, size * u(0.5, 1.2), turn + u(-0.2, 0.2), u(0.85, 1.1))
    body.rows[-1]["form"] = form
    for side in (1.57, -1.57):
        length, radius = u(0.1, 0.4), size * u(0.3, 0.6) * rng.chance(0.5, count)
        body.bone(handle, "tool head", length, radius, None, turn + side, 1.0, CAPSULE, 0.05)
    return body.skeleton()


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
