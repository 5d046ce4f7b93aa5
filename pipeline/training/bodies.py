"""Pose skeletons and rasterise them to part labels, texture coordinates and a height map.

Picture units: y runs from -1 (top) to 1 (bottom), x from -W/H to W/H; square pixels, centres at half steps. Colours are
in `shading`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training.rng import Rng
from pipeline.training.skeletons import BOX, CAPSULE, MAX_BONES, Skeleton

SHARPNESS = 40.0
"""Sharpness of the smooth maximum (log-sum-exp) that blends bones, per body length; larger gives harder creases."""


@dataclass(frozen=True)
class Limbs:
    """Posed bones: start and end [N, MAX_BONES, 2]; radius at the start, at the tip, and depth [N, MAX_BONES]."""

    start: Tensor
    end: Tensor
    radius: Tensor
    tip: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Surface:
    """Rasterised bodies.

    cover [N, H, W]: alpha in [0, 1]; part [N, H, W]: ids of `skeletons.PARTS`, 0 outside; rest [N, H, W, 2]: the
    pixel's point on the body in its rest pose, body units; height [N, H, W]: towards the viewer, picture units.
    """

    cover: Tensor
    part: Tensor
    rest: Tensor
    height: Tensor


def pixel_places(size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Return the pixel centres (x, y) in picture units, [H, W, 2]."""
    rows, columns = size_hw
    y = (torch.arange(rows, device=device) + 0.5) * 2 / rows - 1
    x = ((torch.arange(columns, device=device) + 0.5) * 2 - columns) / rows
    return torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1)


def pose(skeleton: Skeleton, bend: Tensor) -> Limbs:
    """Forward kinematics: rotate each bone by angles [N, MAX_BONES] against its parent, from the root on."""
    count = len(skeleton)
    starts: list[Tensor] = []
    ends: list[Tensor] = []
    turns: list[Tensor] = []
    zero = bend.new_zeros(count, 1, 2)
    body = torch.arange(count, device=bend.device)
    for rank in range(MAX_BONES):
        parent, rooted = skeleton.parent[:, rank].clamp_min(0), skeleton.parent[:, rank] < 0
        before = torch.stack([zero[:, 0], *starts], 1), torch.stack([zero[:, 0], *ends], 1)
        turn_before = torch.stack([zero[:, 0, 0], *turns], 1)
        row = torch.where(rooted, 0, parent + 1)
        turn = turn_before[body, row] + bend[:, rank]
        start = torch.lerp(before[0][body, row], before[1][body, row], skeleton.at[:, rank, None])
        angle = skeleton.angle[:, rank] + turn
        starts.append(start)
        ends.append(start + skeleton.length[:, rank, None] * torch.stack([angle.cos(), angle.sin()], -1))
        turns.append(turn)
    return Limbs(torch.stack(starts, 1), torch.stack(ends, 1), skeleton.radius, skeleton.tip, skeleton.depth)


def gait(skeleton: Skeleton, time: Tensor) -> Tensor:
    """Return the bones' angles [N, MAX_BONES] at times [N] in strides."""
    return skeleton.swing * torch.sin(2 * torch.pi * time[:, None] + skeleton.phase)


def fit_into_picture(
    limbs: Limbs, fill: Tensor, centre: Tensor, mirror: Tensor, squeeze: Tensor, aspect: float
) -> Limbs:
    """Place bodies in the picture.

    Args:
        limbs: posed bones in body units.
        fill: [N] size as a share of the picture.
        centre: [N, 2] centres in picture units.
        mirror: bool [N], bodies to flip left to right.
        squeeze: [N] horizontal scale, below 1 for bodies that turn away from the viewer.
        aspect: width over height of the picture.
    """
    alive = (limbs.radius > 0)[..., None]
    radius = torch.maximum(limbs.radius, limbs.tip)[..., None]
    ends = torch.stack([limbs.start, limbs.end])
    low = torch.where(alive, ends - radius, torch.inf).amin((0, 2))
    high = torch.where(alive, ends + radius, -torch.inf).amax((0, 2))
    flip = torch.stack([torch.where(mirror, -squeeze, squeeze), torch.ones_like(squeeze)], -1)
    room = 2 * torch.tensor([aspect, 1.0], device=fill.device)
    scale = fill * (room / ((high - low) * flip.abs())).amin(-1)
    middle = (low + high) / 2

    def place(points: Tensor) -> Tensor:
        return (points - middle[:, None]) * (scale[:, None] * flip)[:, None] + centre[:, None]

    return Limbs(
        place(limbs.start), place(limbs.end), *(scale[:, None] * v for v in (limbs.radius, limbs.tip, limbs.depth))
    )


def draw_bodies(skeleton: Skeleton, limbs: Limbs, size_hw: tuple[int, int]) -> Surface:
    """Rasterise the bodies with smooth joints; a pixel belongs to the part nearest to the viewer."""
    places = pixel_places(size_hw, limbs.start.device)
    resting = pose(skeleton, torch.zeros_like(skeleton.angle))
    shape = (len(skeleton), *size_hw)
    unit = limbs.radius.amax(1) / skeleton.radius.amax(1)
    pixel = 2 / size_hw[0]
    weight, rest_sum = places.new_full(shape, 1e-12), [places.new_zeros(shape), places.new_zeros(shape)]
    cover, best = places.new_zeros(shape), places.new_full(shape, -torch.inf)
    part = torch.zeros(shape, dtype=torch.long, device=places.device)
    for rank in range(MAX_BONES):
        if not bool((skeleton.radius[:, rank] > 0).any()):
            continue
        t, v, q, radius = _bone_frame(skeleton, limbs, rank, places)
        inside = ((1 - q) * radius / pixel + 0.5).clamp(0, 1) * (skeleton.radius[:, rank] > 0)[:, None, None]
        height = radius * (1 - q * q).clamp_min(0).sqrt() + limbs.depth[:, rank, None, None]
        joined = inside * torch.exp((height / unit[:, None, None]).clamp(-1, 1) * SHARPNESS)
        weight = weight + joined
        origin, axis = resting.start[:, rank], resting.end[:, rank] - resting.start[:, rank]
        length = axis.norm(dim=-1, keepdim=True).clamp_min(1e-4)
        side = torch.stack([-axis[:, 1], axis[:, 0]], -1) / length
        reach = v * radius / unit[:, None, None]
        for dim in range(2):
            resting_place = origin[:, dim, None, None] + t * axis[:, dim, None, None] + reach * side[:, dim, None, None]
            rest_sum[dim] = rest_sum[dim] + joined * resting_place
        higher = (inside > 0.5) & (height > best)
        best = torch.where(higher, height, best)
        part = torch.where(higher, skeleton.part[:, rank, None, None], part)

        cover = torch.maximum(cover, inside)
    top = weight.log() / SHARPNESS * unit[:, None, None]
    rest = torch.stack([total / weight for total in rest_sum], -1)
    return Surface(cover, part, rest, top)


def _bone_frame(skeleton: Skeleton, limbs: Limbs, rank: int, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return each pixel's coordinate along (0..1) and across (-1..1) a bone, its distance in radii, and the radius."""
    start, axis = limbs.start[:, rank], limbs.end[:, rank] - limbs.start[:, rank]
    length = axis.norm(dim=-1).clamp_min(1e-4)
    forward = axis / length[:, None]
    x = places[..., 0] - start[:, 0, None, None]
    y = places[..., 1] - start[:, 1, None, None]
    run = x * forward[:, 0, None, None] + y * forward[:, 1, None, None]
    offset = y * forward[:, 0, None, None] - x * forward[:, 1, None, None]
    t = run / length[:, None, None]
    inside = t.clamp(0, 1)
    capsules, boxes = ((skeleton.form[:, rank] == form)[:, None, None] for form in (CAPSULE, BOX))
    first = limbs.radius[:, rank, None, None]
    tapered = torch.lerp(first, limbs.tip[:, rank, None, None], inside)
    radius = torch.where(capsules | boxes, tapered, first).clamp_min(1e-5)
    beyond = torch.where(capsules, (run - inside * length[:, None, None]) / radius, 2 * t - 1)
    v = offset / radius
    u2, v2 = beyond * beyond, v * v
    q = (u2 + v2).sqrt()
    if bool(boxes.any()):
        # A superellipse of degree 8: a box with rounded corners.
        squared = (u2 * u2 * u2 * u2 + v2 * v2 * v2 * v2).clamp_max(1e30) ** 0.125
        q = torch.where(boxes, squared, q)
    return t, v.clamp(-1, 1), q, radius


def random_pose(rng: Rng, skeleton: Skeleton) -> Limbs:
    """Pose bodies at a random time of their gait, with small random angles added."""
    count = len(skeleton)
    bend = gait(skeleton, rng.uniform(0, 1, count)) * rng.uniform(0.3, 1.3, count, 1)
    return pose(skeleton, bend + rng.normal(0.12, count, MAX_BONES))
