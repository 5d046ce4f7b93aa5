"""Synthetic scenes: determined by the seed, with consistent part labels."""

import pytest
import torch

from pipeline.training.bodies import draw_bodies, fit_into_picture, pixel_places, pose
from pipeline.training.rng import Rng
from pipeline.training.scenes import SceneMaker
from pipeline.training.skeletons import MAX_BONES, PARTS, Skeleton
from pipeline.training.species import KINDS, draw_species
from pipeline.training.textures import TILE, pack_tiles, sample_texture


@pytest.fixture(scope="module")
def scenes():
    return SceneMaker(0).draw(8, (48, 64))


def still(skeleton, size_hw=(64, 64)):
    count = len(skeleton)
    limbs = pose(skeleton, torch.zeros(count, MAX_BONES))
    one = torch.ones(count)
    limbs = fit_into_picture(limbs, 0.9 * one, torch.zeros(count, 2), one < 0, one, size_hw[1] / size_hw[0])
    return draw_bodies(skeleton, limbs, size_hw)


def test_equal_seeds_give_equal_scenes(scenes):
    again = SceneMaker(0).draw(8, (48, 64))
    for name, value in vars(scenes).items():
        assert torch.equal(value, getattr(again, name)), name


def test_other_seeds_give_other_scenes(scenes):
    assert not torch.equal(scenes.pictures, SceneMaker(1).draw(8, (48, 64)).pictures)


def test_shapes_and_ranges(scenes):
    assert scenes.pictures.shape == (16, 3, 48, 64)
    assert scenes.parts.shape == (16, 48, 64)
    assert scenes.pictures.min() >= 0
    assert scenes.pictures.max() <= 1
    assert scenes.parts.max() < len(PARTS)


def test_most_scenes_show_a_figure_and_ground(scenes):
    share = (scenes.parts > 0).float().mean((1, 2))
    assert (share > 0.02).float().mean() > 0.8
    assert share.max() < 0.95


def test_individuals_of_a_species_share_their_parts(scenes):
    shown = torch.nn.functional.one_hot(scenes.parts, len(PARTS)).amax((1, 2)).bool()[:, 1:]
    first, second = shown[:8], shown[8:]
    shared = [(first & second.roll(shift, 0)).sum() / (first | second.roll(shift, 0)).sum() for shift in range(8)]
    assert shared[0] > 0.9 > max(shared[1:])


@pytest.mark.parametrize("make", [make for make, _ in KINDS], ids=lambda make: make.__name__)
def test_every_kind_is_a_tree_of_connected_parts(make):
    skeleton = make(Rng(3), 5)
    rank = torch.arange(MAX_BONES)
    assert (skeleton.parent < rank).all()
    surface = still(skeleton)
    assert ((surface.part > 0).flatten(1).sum(1) > 50).all()
    assert torch.equal(surface.part > 0, surface.cover > 0.5)


def test_a_bent_limb_keeps_its_texture_coordinates():
    """A point on a bone has the same rest-pose coordinates after the bone has turned."""
    skeleton = draw_one_bone()
    straight, turned = still(skeleton), draw_turned(skeleton, 1.2)
    for place in (0.25, 0.75):
        first, second = (centre_of(surface, place) for surface in (straight, turned))
        back = rotate(second, -1.2)
        assert torch.allclose(first, back, atol=0.06)


def draw_one_bone():
    blank = {name: torch.zeros(1, MAX_BONES) for name in ("at", "angle", "length", "radius", "tip", "depth", "swing")}
    whole = {name: torch.zeros(1, MAX_BONES, dtype=torch.long) for name in ("parent", "part", "form")}
    blank["length"][0, 0], blank["radius"][0, 0], blank["tip"][0, 0] = 1.0, 0.15, 0.15
    whole["parent"][0, 0], whole["part"][0, 0] = -1, 1
    return Skeleton(phase=torch.zeros(1, MAX_BONES), **blank, **whole)


def draw_turned(skeleton, angle):
    bend = torch.zeros(1, MAX_BONES)
    bend[0, 0] = angle
    limbs = fit_into_picture(
        pose(skeleton, bend), torch.tensor([0.9]), torch.zeros(1, 2), torch.tensor([False]), torch.ones(1), 1.0
    )
    return draw_bodies(skeleton, limbs, (64, 64))


def centre_of(surface, place):
    near = ((surface.rest[0, ..., 0] - place).abs() < 0.06) & (surface.part[0] > 0)
    length = extent(surface)
    return pixel_places((64, 64), torch.device("cpu"))[near].mean(0) / length


def extent(surface):
    points = pixel_places((64, 64), torch.device("cpu"))[surface.part[0] > 0]
    return (points - points.mean(0)).norm(dim=1).max()


def rotate(point, angle):
    angle = torch.tensor(angle)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return turn @ point


def test_textures_repeat_without_a_seam():
    tile = torch.rand(1, TILE, TILE, generator=torch.Generator().manual_seed(0))
    bank = pack_tiles(tile)
    row = torch.stack(torch.meshgrid(torch.arange(8) / TILE + 0.3, torch.arange(8) / TILE + 0.97, indexing="xy"), -1)[
        None
    ]
    here, there = (sample_texture(bank, torch.tensor([0]), row + shift) for shift in (0.0, 3.0))
    assert torch.allclose(here, there, atol=1e-3)


def test_species_are_drawn_of_all_kinds():
    parts = draw_species(Rng(0), 200).part
    assert set(parts.unique().tolist()) == set(range(len(PARTS)))
