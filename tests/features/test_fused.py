"""What a block does to each token, against the definition in double precision, and what must not move a bit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.fused import can_fuse, finish, project
from pipeline.features.processor import has_bfloat16, has_wide_registers
from pipeline.features.vit import Backbone, Block, LayerScale, Tap, ViTConfig

wide = pytest.mark.skipif(not has_wide_registers(), reason="this processor has no registers of 512 bits")


def config_of(width, hidden, *, scaled=False, bias=True):
    return ViTConfig(width, 2, 2, 8, (4, 4), 0, hidden, bias, scaled, 1e-6)


def random_block(config, seed=0):
    generator, block = torch.Generator().manual_seed(seed), Block(config).requires_grad_(False)
    for parameter in block.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return block


def random_tokens(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scale_of(layer, width):
    return layer.gamma if isinstance(layer, LayerScale) else torch.ones(width)


def finished(block, x, attended):
    first, last = (scale_of(layer, x.shape[-1]) for layer in (block.ls1, block.ls2))
    return finish(x, attended, block.attn.proj, first, block.norm2, (block.mlp.fc1, block.mlp.fc2), last)


def plainly_finished(block, x, attended):
    block, x, attended = copy.deepcopy(block).double(), x.double(), attended.double()
    x = x + block.ls1(F.linear(attended, block.attn.proj.weight, block.attn.proj.bias))
    hidden = F.gelu(F.linear(block.norm2(x), block.mlp.fc1.weight, block.mlp.fc1.bias))
    return x + block.ls2(F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias))


@wide
@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(7, 300),
    batch=st.integers(2, 3),
    width=st.sampled_from([32, 64, 96]),
    hidden=st.sampled_from([32, 160]),
    scaled=st.booleans(),
    bias=st.booleans(),
)
def test_both_are_the_definition(tokens, batch, width, hidden, scaled, bias):
    block = random_block(config_of(width, hidden, scaled=scaled, bias=bias))
    x, attended = random_tokens(batch, tokens, width), random_tokens(batch, tokens, width, seed=2)
    with torch.inference_mode():
        assert torch.allclose(finished(block, x, attended).double(), plainly_finished(block, x, attended), atol=1e-4)
        qkv, exact = block.attn.qkv, copy.deepcopy(block).double()
        expected = F.linear(exact.norm1(x.double()), exact.attn.qkv.weight, exact.attn.qkv.bias)
        assert torch.allclose(project(x, block.norm1, qkv).double(), expected, atol=1e-4)


def rounded(values):
    return values.to(torch.bfloat16).double()


@pytest.mark.skipif(not has_bfloat16(), reason="this processor doesn't multiply bfloat16")
@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(14, 300), width=st.sampled_from([32, 96]), scaled=st.booleans())
def test_products_of_bfloat16_are_summed_in_float32(tokens, width, scaled):
    block = random_block(config_of(width, 160, scaled=scaled))
    x, attended = random_tokens(1, tokens, width), random_tokens(1, tokens, width, seed=2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = finished(block, x, attended), project(x, block.norm1, block.attn.qkv)
    exact = copy.deepcopy(block).double()
    for layer in (exact.attn.qkv, exact.attn.proj, exact.mlp.fc1, exact.mlp.fc2):
        layer.weight.copy_(rounded(layer.weight))

    def linear(layer, values):
        return F.linear(rounded(values), layer.weight, layer.bias)

    middle = x.double() + exact.ls1(linear(exact.attn.proj, attended))
    hidden = F.gelu(linear(exact.mlp.fc1, exact.norm2(middle)))
    expected = middle + exact.ls2(linear(exact.mlp.fc2, hidden)), linear(exact.attn.qkv, exact.norm1(x.double()))
    # A value that lies between two of bfloat16 may be rounded to the other one, which moves a sum by a part in 256.
    for mine, plain in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine.double(), plain, atol=2e-2)
        assert (mine - plain).abs().mean() < 1e-3


@pytest.mark.skipif(not has_bfloat16(), reason="this processor doesn't multiply bfloat16")
def test_threads_and_batches_move_no_bit_in_bfloat16():
    block, x = random_block(config_of(64, 128)), random_tokens(2, 200, 64)
    attended = random_tokens(2, 200, 64, seed=2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.set_num_threads(1)
        one = finished(block, x, attended), project(x, block.norm1, block.attn.qkv)
        torch.set_num_threads(3)
        two = finished(block, x[1:], attended[1:]), project(x[1:], block.norm1, block.attn.qkv)
    assert all(torch.equal(a[1:], b) for a, b in zip(one, two, strict=True))


@wide
def test_gelu_far_from_zero():
    block = random_block(config_of(32, 32))
    block.attn.proj.weight.zero_(), block.attn.proj.bias.zero_()
    block.norm2.weight.zero_(), block.norm2.bias.zero_()
    block.mlp.fc1.bias.copy_(torch.cat([torch.linspace(-40, 40, 31), torch.tensor([1e30])]))
    block.mlp.fc2.weight.copy_(torch.eye(32))
    block.mlp.fc2.bias.zero_()
    x = torch.zeros(1, 20, 32)
    with torch.inference_mode():
        found, expected = finished(block, x, x)[0, 0], F.gelu(block.mlp.fc1.bias.double())
    assert torch.allclose(found.double(), expected, rtol=2e-7, atol=1e-5)


@wide
def test_threads_and_batches_move_no_bit_and_inputs_stay():
    block, x = random_block(config_of(64, 128)), random_tokens(2, 200, 64)
    attended, before = random_tokens(2, 200, 64, seed=2), x.clone()
    with torch.inference_mode():
        torch.set_num_threads(1)
        one = finished(block, x, attended), project(x, block.norm1, block.attn.qkv)
        torch.set_num_threads(3)
        two = finished(block, x, attended), project(x, block.norm1, block.attn.qkv)
        last = finished(block, x[1:], attended[1:]), project(x[1:], block.norm1, block.attn.qkv)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a[1:], b) for a, b in zip(one, last, strict=True))
    assert torch.equal(x, before)


@wide
@pytest.mark.parametrize("scaled", [False, True])
def test_a_whole_vit_is_the_same_through_torch(scaled):
    config = config_of(64, 128, scaled=scaled)
    backbone = Backbone(config).requires_grad_(False)
    for parameter in backbone.parameters():
        parameter.copy_(random_tokens(*parameter.shape) * 0.2)
    pixels, taps = random_tokens(1, 3, 40, 56), [Tap(layer, facet) for layer in (0, 1) for facet in ("key", "token")]
    expected = backbone(pixels, 4, taps, saliency=True)
    with torch.inference_mode():
        found = backbone(pixels, 4, taps, saliency=True)
    for tap in taps:
        assert torch.allclose(found.facets[tap], expected.facets[tap], atol=1e-4), tap
    assert torch.allclose(found.saliency, expected.saliency, atol=1e-4)


def test_what_goes_through_torch():
    block, x = random_block(config_of(64, 128)), random_tokens(1, 20, 64)
    narrow = random_block(config_of(24, 48))
    assert not can_fuse(x, block.attn.qkv)  # gradients are recorded
    with torch.inference_mode():
        assert can_fuse(x, block.attn.qkv) == has_wide_registers()
        assert not can_fuse(x[:, :13], block.attn.qkv)
        assert not can_fuse(x[..., :24], narrow.attn.qkv)
        with torch.autocast("cpu", torch.bfloat16):
            assert can_fuse(x, block.attn.qkv) == has_bfloat16()
        with torch.autocast("cpu", torch.float16):
            assert not can_fuse(x, block.attn.qkv)
