"""Render the sample clip and its exact part labels: `python -m samples.draw --out samples`.

An animal with plates, horns and a long tail walks through a scene while the camera follows it; training of the bundled
backbone never draws such a species. The renderer is that of the training scenes; the skeleton, the coat and the scene
are defined here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.training.backgrounds import Layers, blur, layer_cover, paint_layer
from pipeline.training.bodies import Limbs, Surface, draw_bodies, fit_into_picture, gait, pixel_places, pose
from pipeline.training.rng import Rng
from pipeline.training.shading import Coat, Light, cast_shadow, paint_bodies
from pipeline.training.skeletons import ELLIPSE, PART, PARTS, Body, Skeleton
from pipeline.training.textures import dead_leaves, pack_tiles, spectral_noise, spots

FRAMES, RATE, SIZE_HW, SUPERSAMPLING = 125, 25, (270, 480), 2
STRIDES = 4.5
"""Number of strides in the clip."""
TRAVEL = 3.4
"""Distance that the camera moves along the ground, picture units."""
NAMES = ("background", "head", "torso", "front legs", "hind legs", "tail")
GROUPS = {
    "head": 1,
    "neck": 1,
    "front torso": 2,
    "rear torso": 2,
    "upper front limb": 3,
    "lower front limb": 3,
    "upper hind limb": 4,
    "lower hind limb": 4,
    "tail": 5,
}


def plated_walker() -> Skeleton:
    """Return the animal's skeleton: a low body with plates on its back, a horned head, a long tail."""
    body = Body(1, torch.device("cpu"))
    rear = body.bone(-1, "rear torso", 0.4, 0.17, 0.2, -0.05, swing=0.03)
    front = body.bone(rear, "front torso", 0.42, 0.2, 0.16, 0.06, swing=0.03, phase=1.5)
    for place, size in ((0.25, 0.13), (0.75, 0.16)):
        body.bone(rear, "rear torso", size * 1.35, size * 0.45, None, -1.75, place, ELLIPSE, -0.03)
        body.rows[-1]["length"] = body.rows[-1]["length"] + 0.14
    body.bone(front, "front torso", 0.3, 0.065, None, -1.7, 0.3, ELLIPSE, -0.03)
    body.bone(front, "front torso", 0.25, 0.05, None, -1.6, 0.8, ELLIPSE, -0.03)
    neck = body.bone(front, "neck", 0.26, 0.115, 0.085, -0.5, 0.95, swing=0.07)
    head = body.bone(neck, "head", 0.16, 0.105, 0.09, 0.2, swing=0.09, phase=2.0)
    body.bone(head, "head", 0.13, 0.08, 0.05, 0.35)
    body.bone(head, "head", 0.2, 0.03, 0.008, -1.1, 0.75, depth=0.03)
    body.bone(head, "head", 0.12, 0.035, None, -2.5, 0.1, ELLIPSE, 0.07, swing=0.2)
    tail = body.bone(rear, "tail", 0.26, 0.09, 0.065, 3.0, 0.0, swing=0.12)
    tail = body.bone(tail, "tail", 0.26, 0.065, 0.04, 3.1, swing=0.18, phase=5.6)
    body.bone(tail, "tail", 0.22, 0.04, 0.02, 3.4, swing=0.25, phase=5.0)
    for depth, phase in ((-0.14, 3.14), (0.12, 0.0)):
        _leg(body, rear, "hind", 0.12, depth, phase)
        _leg(body, front, "front", 0.8, depth, phase + 1.9)
    return body.skeleton()


def _leg(body: Body, parent: int, where: str, at: float, depth: float, phase: float) -> None:
    upper = body.bone(parent, f"upper {where} limb", 0.24, 0.09, 0.055, 1.5, at, depth=depth, swing=0.35, phase=phase)
    lower = body.bone(upper, f"lower {where} limb", 0.22, 0.055, 0.042, 1.62, depth=depth, swing=0.3, phase=phase + 1.2)
    body.bone(lower, f"lower {where} limb", 0.06, 0.045, 0.035, 0.2, depth=depth)


def draw_surface(times: Tensor, size_hw: tuple[int, int]) -> tuple[Surface, Limbs]:
    """Rasterise the animal at times [N] of the clip (0 to 1)."""
    count, aspect = len(times), size_hw[1] / size_hw[0]
    skeleton = plated_walker().take(torch.zeros(count, dtype=torch.long))
    limbs = pose(skeleton, gait(skeleton, STRIDES * times))
    still = pose(skeleton, torch.zeros_like(skeleton.angle))
    one = torch.ones(count)
    drift = torch.stack([0.25 * torch.sin(2.2 * times - 1.1), 0.16 + 0.02 * torch.sin(6.28 * STRIDES * 2 * times)], -1)
    joined = Limbs(*(torch.cat([getattr(part, name) for part in (still, limbs)], 1) for name in vars(limbs)))
    joined = fit_into_picture(joined, 0.8 * one, drift, torch.zeros(count, dtype=torch.bool), one, aspect)
    bones = limbs.radius.shape[1]
    limbs = Limbs(*(getattr(joined, name)[:, bones:] for name in vars(limbs)))
    return draw_bodies(skeleton, limbs, size_hw), limbs


def scene_bank() -> Tensor:
    """Draw the texture bank: 0 sand, 1 scrub, 2 hide, 3 fur, 4 bark."""
    rng = Rng(11)
    makers = [
        spectral_noise(rng, 1, 0.9, 1.0),
        dead_leaves(rng, 1),
        spots(rng, 1),
        spectral_noise(rng, 1, 0.6, 0.7),
        spectral_noise(rng, 1, 1.2, 1.3),
    ]
    tiles = torch.cat(makers)
    tiles = (tiles - tiles.mean((1, 2), keepdim=True)) / tiles.std((1, 2), keepdim=True)
    return pack_tiles((tiles * 0.25 + 0.5).clamp(0, 1))


def scene_layers(rng: Rng) -> Layers:
    """Return the layers of sky, hills, ground, bushes and trunks."""
    things = 14
    count = 4 + things
    form = torch.tensor([0, 1, 1, 1] + [2, 3] * (things // 2))
    centre = torch.zeros(count, 2)
    centre[:4, 1] = torch.tensor([0.0, -0.55, -0.3, -0.05])
    along = torch.linspace(-2.2, 5.4, things) + rng.normal(0.2, things)
    trunks = form[4:] == 3
    centre[4:] = torch.stack([along, torch.where(trunks, -0.5, rng.uniform(-0.25, 0.75, things))], -1)
    half = torch.ones(count, 2)
    wide = rng.uniform(0.12, 0.4, things)
    half[4:, 0] = torch.where(trunks, rng.uniform(0.05, 0.1, things), wide)
    half[4:, 1] = torch.where(trunks, 0.55, wide * rng.uniform(0.25, 0.6, things))
    palettes = torch.tensor(
        [
            [[0.55, 0.66, 0.75], [0.7, 0.77, 0.8], [0.85, 0.87, 0.85]],
            [[0.33, 0.42, 0.42], [0.42, 0.5, 0.46], [0.5, 0.56, 0.5]],
            [[0.22, 0.3, 0.17], [0.36, 0.42, 0.22], [0.48, 0.5, 0.3]],
            [[0.36, 0.31, 0.2], [0.52, 0.46, 0.3], [0.66, 0.6, 0.42]],
        ]
    )
    bush = torch.tensor([[0.12, 0.18, 0.07], [0.26, 0.34, 0.13], [0.45, 0.5, 0.25]])
    bark = torch.tensor([[0.14, 0.1, 0.07], [0.27, 0.2, 0.14], [0.42, 0.35, 0.27]])
    palette = torch.cat([palettes, torch.where(trunks[:, None, None], bark, bush)])
    palette[4:] = palette[4:] * (1 + rng.normal(0.15, things, 1, 1))
    tile = torch.tensor([4, 1, 1, 0] + [1, 4] * (things // 2))[:, None].expand(count, 2)
    scale = torch.tensor([0.25, 1.3, 1.7, 0.55] + [0.9, 0.8] * (things // 2))
    stretch = torch.tensor([2.0, 1.5, 1.2, 2.5] + [1.0, 0.3] * (things // 2))
    soft = torch.tensor([0.0, 0.03, 0.05, 0.03] + [0.05, 0.02] * (things // 2))
    single = (
        form,
        centre,
        half,
        rng.normal(0.06, count) * (form > 1),
        soft,
        tile,
        torch.stack([scale, scale * 2.7], -1),
    )
    rest = (rng.uniform(0, 1, count, 2, 2), stretch, palette, torch.full((count, 2), 0.8))
    return Layers(*(value[None] for value in single + rest))


def paint_scene(layers: Layers, bank: Tensor, times: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Render the background [N, 3, H, W] with parallax: far layers move less than near ones."""
    places = pixel_places(size_hw, times.device)
    moved = TRAVEL * times
    picture = torch.zeros(len(times), 3, *size_hw)
    for rank in range(len(layers)):
        near = (0.1, 0.3, 0.55, 1.0)[rank] if rank < 4 else 0.75 + 0.25 * float(layers.centre[0, rank, 1] > -0.2)
        pan = torch.stack([near * moved, 0.015 * torch.sin(9 * times)], -1)[:, None, None]
        spots_xy = places + pan
        some = Layers(**{name: value.expand(len(times), *value.shape[1:]) for name, value in vars(layers).items()})
        cover = layer_cover(some, rank, spots_xy)[:, None]
        picture = torch.lerp(picture, paint_layer(some, rank, spots_xy, bank), cover)
    return picture


def walker_coat() -> Coat:
    """Return the animal's coat: rust above, pale below, dark blotches."""
    palette = torch.tensor([[0.24, 0.14, 0.1], [0.56, 0.33, 0.2], [0.8, 0.62, 0.44]])
    tint = torch.ones(1, len(PARTS), 3)
    tint[0, PART["head"]] = torch.tensor([1.12, 1.05, 0.95])
    tint[0, PART["lower front limb"]] = tint[0, PART["lower hind limb"]] = 0.75
    return Coat(
        tile=torch.tensor([[2, 3]]),
        scale=torch.tensor([[0.8, 1.5]]),
        offset=torch.tensor([[[0.3, 0.6], [0.1, 0.2]]]),
        palette=palette[None],
        tint=tint,
        contrast=torch.tensor([[0.75, 0.8]]),
        belly=torch.tensor([0.9]),
    )


def draw_frames(times: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render frames at times [N]: pictures uint8 [N, H, W, 3] and part labels uint8 [N, H, W]."""
    count = len(times)
    large = (SIZE_HW[0] * SUPERSAMPLING, SIZE_HW[1] * SUPERSAMPLING)
    surface, limbs = draw_surface(times, large)
    sun = F.normalize(torch.tensor([[-0.45, -0.8, 0.6]]), dim=-1).expand(count, 3)
    light = Light(sun, torch.full((count,), 0.42), torch.full((count,), 0.05), torch.full((count,), 0.55))
    coat = Coat(**{name: value.expand(count, *value.shape[1:]) for name, value in vars(walker_coat()).items()})
    bank = scene_bank()
    alive = (plated_walker().radius > 0) & (limbs.radius > 0)
    ground = torch.where(alive, limbs.end[..., 1] + limbs.tip, -torch.inf).amax(1) - 0.02
    back = blur(paint_scene(scene_layers(Rng(5)), bank, times, large), torch.full((count,), 1.4))
    back = back * (1 - cast_shadow(surface.cover, light, ground))[:, None]
    picture = torch.lerp(back, paint_bodies(surface, coat, light, bank), surface.cover[:, None])
    picture = F.avg_pool2d(picture, SUPERSAMPLING)
    grain = Rng(17 + int(1000 * float(times[0]))).normal(0.012, *picture.shape)
    colours = ((picture + grain).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return colours, group_labels(draw_surface(times, SIZE_HW)[0])


def group_labels(surface: Surface) -> NDArray[np.uint8]:
    """Map the renderer's parts to the clip's labels, uint8 [N, H, W]."""
    table = torch.zeros(len(PARTS), dtype=torch.uint8)
    for name, group in GROUPS.items():
        table[PART[name]] = group
    labels: NDArray[np.uint8] = table[surface.part].numpy()
    return labels


def write_clip(path: Path, frames: NDArray[np.uint8]) -> None:
    """Encode frames [N, H, W, 3] as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "slow", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """Render the clip; write `walk.mp4` and `walk_parts.npz` (`labels` uint8 [frame, row, column], `names`)."""
    parser = argparse.ArgumentParser(description="Render the sample clip and its part labels.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    times = torch.arange(FRAMES) / FRAMES
    several = [draw_frames(some) for some in torch.split(times, 5)]
    write_clip(out / "walk.mp4", np.concatenate([frames for frames, _ in several]))
    np.savez_compressed(
        out / "walk_parts.npz", labels=np.concatenate([labels for _, labels in several]), names=np.array(NAMES)
    )


if __name__ == "__main__":
    main()
