"""Random skeletons of things: vehicles, potted plants, tools."""

import torch

from pipeline.training.rng import Rng
from pipeline.training.skeletons import BOX, CAPSULE, ELLIPSE, Body, Skeleton


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
