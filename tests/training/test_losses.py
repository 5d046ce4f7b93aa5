"""Losses: minimal where they should be, and equal to plain implementations."""

import math

import pytest
import torch

from pipeline.training.losses import (
    TEMPERATURE,
    PartPrototypes,
    PatchLabels,
    balance,
    balanced_mean,
    contrast_loss,
    label_patches,
    saliency_loss,
)
from pipeline.training.model import ViTOutput
from pipeline.training.rng import Rng
from pipeline.training.scenes import SceneMaker
from pipeline.training.skeletons import PART, PARTS, REGION_OF, REGIONS


@pytest.fixture(scope="module")
def scenes():
    return SceneMaker(0).draw(3, (32, 40))


@pytest.fixture(scope="module")
def labels(scenes):
    return label_patches(scenes, 8, 8)


def output_of(attention):
    return ViTOutput(torch.zeros(*attention.shape, 4), attention, torch.zeros(len(attention), 4))


@pytest.mark.parametrize("stride", [8, 4])
def test_patch_labels_count_pixels(scenes, stride):
    labels = label_patches(scenes, 8, stride)
    columns = 1 + (40 - 8) // stride
    for patch in (0, columns + 2, 2 * columns - 1):
        top, left = patch // columns * stride, patch % columns * stride
        pixels = scenes.parts[1, top : top + 8, left : left + 8].flatten()
        plain = torch.bincount(pixels, minlength=len(PARTS)) / 64
        assert torch.allclose(labels.shares[1, patch], plain)
        assert labels.purity[1, patch] == plain.max()


def test_attention_on_the_figure_alone_has_no_loss(labels):
    figure = 1 - labels.shares[..., 0]
    assert (figure.sum(1) > 1).any()
    even = figure / figure.sum(1, keepdim=True).clamp_min(1e-6)
    assert abs(float(saliency_loss(output_of(even), labels))) < 1e-4
    spread = torch.full_like(figure, 1 / figure.shape[1])
    assert saliency_loss(output_of(spread), labels) > 0.1


def test_contrast_equals_its_plain_twin():
    generator = torch.Generator().manual_seed(1)
    part = torch.tensor([[0, 0, 3, 3], [0, 4, 5, 9]])  # background, front and rear torso, a front limb, a tail
    labels = PatchLabels(torch.zeros(2, 4, len(PARTS)), part, torch.ones(2, 4))
    keys = torch.randn(2, 4, 5, generator=generator)
    flat = torch.nn.functional.normalize(keys.view(8, 5), dim=1).tolist()
    regions, total, weights = [REGION_OF[index] for index in part.flatten().tolist()], 0.0, 0.0
    for i in range(8):
        scores = {
            j: sum(a * b for a, b in zip(flat[i], flat[j], strict=True)) / TEMPERATURE for j in range(8) if j != i
        }
        partners = [j for j in scores if regions[j] == regions[i]]
        if partners:
            weight = regions.count(regions[i]) ** -0.5
            whole = math.log(sum(map(math.exp, scores.values())))
            total -= weight * sum(scores[j] - whole for j in partners) / len(partners)
            weights += weight
    assert float(contrast_loss(keys, labels, Rng(0))) == pytest.approx(total / weights, rel=1e-4)


def test_few_patches_count_by_the_root_of_their_number():
    values, region = torch.tensor([1.0, 1.0, 1.0, 1.0, 4.0]), torch.tensor([0, 0, 0, 0, 2])
    assert float(balanced_mean(values, region, torch.ones(5))) == pytest.approx((2 * 1 + 1 * 4) / 3)
    assert float(balanced_mean(values, region, torch.tensor([1.0, 1, 1, 1, 0]))) == pytest.approx(1)


def test_keys_that_tell_the_parts_have_less_contrast_loss(labels):
    told = torch.nn.functional.one_hot(torch.tensor(REGION_OF)[labels.part], len(REGIONS)).float()
    noise = torch.randn(told.shape, generator=torch.Generator().manual_seed(0))
    assert contrast_loss(told, labels, Rng(0)) < 0.8 * contrast_loss(noise, labels, Rng(0))


def test_prototypes_reward_keys_of_their_direction(labels):
    torch.manual_seed(0)
    prototypes = PartPrototypes(8)
    right = prototypes.directions.detach()[torch.tensor(REGION_OF)[labels.part]]
    assert prototypes(right, labels) < prototypes(-right, labels)


def test_balance_uses_every_prototype_alike():
    shares = balance(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) * 3, rounds=50)
    assert torch.allclose(shares.sum(1), torch.ones(12), atol=1e-5)
    assert torch.allclose(shares.sum(0), torch.full((4,), 3.0), atol=0.05)


def test_every_part_has_one_region():
    assert sorted(name for names in REGIONS.values() for name in names) == sorted(PARTS)
    regions = list(REGIONS)
    assert regions[REGION_OF[PART["neck"]]] == "head"
    assert regions[REGION_OF[0]] == "background"
