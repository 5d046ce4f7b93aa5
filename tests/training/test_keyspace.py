"""Shaping the keys changes what clustering sees, and nothing that the ViT computes."""

import pytest
import torch

from pipeline.training.keyspace import discriminant_axes, shape_keys
from pipeline.training.model import Shape, SmallViT


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SmallViT(Shape(dim=24, depth=2, heads=3, img_size=32))


def test_attention_and_output_stay(model):
    shaped = shape_keys(model, batches=1, species=3, side=32)
    pictures = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = model(pictures), shaped(pictures)
    assert torch.allclose(before.attention, after.attention, atol=1e-5)
    assert torch.allclose(before.cls, after.cls, atol=1e-4)
    assert not torch.allclose(before.keys, after.keys, atol=0.1)


def test_the_model_itself_is_left_alone(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shape_keys(model, batches=1, species=2, side=32)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parts_stand_out_along_shaped_axes():
    """Two parts that differ in one faint direction under much common noise become the main axis."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.arange(400) % 2
    noise = torch.randn(400, 6, generator=generator) * torch.tensor([0.3, 2.0, 2.0, 2.0, 2.0, 2.0])
    keys = noise + 7
    keys[:, 0] += parts
    weight = torch.full((400,), 1 / 400)
    centre, axes = discriminant_axes(keys, parts, weight)
    shaped = (keys - centre) @ axes.T
    assert torch.allclose(shaped.mean(0), torch.zeros(6), atol=1e-4)
    signs = torch.where(parts == 0, -1.0, 1.0)
    assert abs(float((shaped[:, -1].sign() * signs).mean())) > 0.8
    assert shaped[:, -1].std() > 3 * shaped[:, 0].std()
