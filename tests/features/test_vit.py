"""The ViT against a plain one and timm's, and that it skips unneeded blocks."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.features.checkpoints import Checkpoint, normalise
from pipeline.features.vit import FACETS, Attention, Backbone, Reading, Tap, ViTConfig

PLAIN = ViTConfig(24, 4, 3, 8, (4, 4), 0, 48, True, False, 1e-6)
SCALED = ViTConfig(24, 3, 2, 16, (3, 5), 2, 60, True, True, 1e-6)
ROTARY = ViTConfig(32, 3, 2, 16, None, 4, 64, False, True, 1e-5)
CONFIGS = pytest.mark.parametrize("config", [PLAIN, SCALED, ROTARY], ids=["plain", "scaled", "rotary"])


def random_backbone(config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    backbone = Backbone(config).requires_grad_(False).eval()
    for parameter in backbone.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return backbone


def random_pixels(height, width, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def plain_positions(backbone, rows, cols, size_hw):
    config = backbone.config
    trained_rows, trained_cols = config.grid_hw
    table = backbone.pos_embed.reshape(1, trained_rows, trained_cols, -1).permute(0, 3, 1, 2)
    if (rows, cols) != config.grid_hw or size_hw[0] * trained_cols != size_hw[1] * trained_rows:
        scale = ((rows + 0.1) / trained_rows, (cols + 0.1) / trained_cols)
        table = F.interpolate(table, scale_factor=scale, mode="bicubic")
    return table.flatten(2).transpose(1, 2)


def plain_rotation(x, config, rows, cols, stride):
    """DINOv3's rotary position embedding of [batch, heads, tokens, d], position by position."""
    x, quarter, patch = x.clone(), config.head_dim // 4, config.patch_px
    for index in range(rows * cols):
        row, col = divmod(index, cols)
        place_y = 2 * (row * stride + patch / 2) / ((rows - 1) * stride + patch) - 1
        place_x = 2 * (col * stride + patch / 2) / ((cols - 1) * stride + patch) - 1
        for channel in range(2 * quarter):
            period = 100 ** ((channel % quarter) / (2 * quarter) * 2)
            angle = 2 * math.pi * (place_y if channel < quarter else place_x) / period
            first = x[:, :, config.prefix + index, channel].clone()
            second = x[:, :, config.prefix + index, channel + 2 * quarter].clone()
            x[:, :, config.prefix + index, channel] = first * math.cos(angle) - second * math.sin(angle)
            x[:, :, config.prefix + index, channel + 2 * quarter] = second * math.cos(angle) + first * math.sin(angle)
    return x


def plain_vit(backbone, pixels, stride):
    """Plain twin: all facets of all blocks and the last attention matrix."""
    config, facets = backbone.config, {}
    projection = backbone.patch_embed["proj"]
    patches = F.conv2d(pixels, projection.weight, projection.bias, stride=stride)
    rows, cols = patches.shape[2:]
    x = patches.flatten(2).transpose(1, 2)
    if config.grid_hw:
        x = x + plain_positions(backbone, rows, cols, pixels.shape[2:])
    prefix = [backbone.cls_token] + ([backbone.reg_token] if config.registers else [])
    x = torch.cat([token.expand(len(x), -1, -1) for token in prefix] + [x], 1)
    for layer, block in enumerate(backbone.blocks):
        qkv = block.attn.qkv(block.norm1(x)).reshape(*x.shape[:2], 3, config.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = (part.clone() for part in qkv)
        facets |= {(layer, "query"): query, (layer, "key"): key, (layer, "value"): value}
        if not config.grid_hw:
            query, key = (plain_rotation(part, config, rows, cols, stride) for part in (query, key))
        attention = (query @ key.transpose(-2, -1) / math.sqrt(config.head_dim)).softmax(-1)
        x = x + block.ls1(block.attn.proj((attention @ value).transpose(1, 2).flatten(2)))
        x = x + block.ls2(block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x)))))
        facets[layer, "token"] = x[:, None]
    keep = [0, *range(config.prefix, x.shape[1])]
    by_channel = {name: part[:, :, keep].permute(0, 2, 3, 1).flatten(2) for name, part in facets.items()}
    return by_channel, attention[:, :, 0, config.prefix :], (rows, cols)


@CONFIGS
@pytest.mark.parametrize(("stride_share", "size_hw"), [(1, (48, 80)), (2, (45, 61)), (4, (32, 32))])
def test_every_facet_and_the_saliency_equal_the_plain_vits(config, stride_share, size_hw):
    backbone, pixels = random_backbone(config), random_pixels(*size_hw)
    stride = config.patch_px // stride_share
    facets, attention, grid_hw = plain_vit(backbone, pixels, stride)
    taps = tuple(Tap(layer, facet) for layer in range(config.depth) for facet in FACETS)
    found = backbone(pixels, stride, Reading(taps, saliency=True, heads=(0, 1)))
    assert found.grid_hw == grid_hw
    for tap in taps:
        assert torch.allclose(found.facets[tap], facets[tap], atol=1e-4), tap
    row = attention[:, :2].mean(1)
    low, high = row.amin(1, keepdim=True), row.amax(1, keepdim=True)
    assert torch.allclose(found.saliency.flatten(1), (row - low) / (high - low), atol=1e-4)


@CONFIGS
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_request_gives_what_the_request_for_everything_gives(config, data):
    backbone, pixels = random_backbone(config), random_pixels(40, 56, count=1)
    every = tuple(Tap(layer, facet) for layer in range(config.depth) for facet in FACETS)
    taps = tuple(data.draw(st.lists(st.sampled_from(every), unique=True)))
    saliency = data.draw(st.booleans())
    full = backbone(pixels, config.patch_px, Reading(every, saliency=True))
    found = backbone(pixels, config.patch_px, Reading(taps, saliency))
    assert set(found.facets) == set(taps)
    for tap in taps:
        assert torch.allclose(found.facets[tap], full.facets[tap], atol=1e-5)
    assert (found.saliency is not None) == saliency
    if saliency:
        assert torch.allclose(found.saliency, full.saliency, atol=1e-5)


def poison(parameters):
    for parameter in parameters:
        parameter.fill_(math.nan)


def poison_what_follows_the_projections(block, unread):
    dim = block.attn.qkv.weight.shape[1]
    poison([*block.attn.proj.parameters(), *block.norm2.parameters(), *block.mlp.parameters()])
    for row in unread:
        poison([block.attn.qkv.weight[row * dim : (row + 1) * dim], block.attn.qkv.bias[row * dim : (row + 1) * dim]])


@pytest.mark.parametrize(("facet", "unread"), [("query", (1, 2)), ("key", (0, 2)), ("value", (0, 1))])
def test_nothing_beyond_the_facet_is_computed(facet, unread):
    backbone, pixels, tap = random_backbone(PLAIN), random_pixels(32, 40), Tap(2, facet)
    expected = backbone(pixels, 4, Reading((tap,))).facets[tap]
    poison_what_follows_the_projections(backbone.blocks[2], unread)
    poison(backbone.blocks[3].parameters())
    assert torch.equal(backbone(pixels, 4, Reading((tap,))).facets[tap], expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_what_was_read_stays_when_later_blocks_and_pictures_use_the_same_memory(heads):
    backbone = random_backbone(ViTConfig(32, 3, heads, 8, (4, 4), 0, 64, True, False, 1e-6))
    taps = tuple(Tap(layer, facet) for layer in range(3) for facet in FACETS)
    with torch.inference_mode():
        pixels, expected = random_pixels(64, 48), {}
        for layer in range(3):
            upto = backbone(pixels, 8, Reading(tuple(tap for tap in taps if tap.layer <= layer))).facets
            expected |= {tap: upto[tap].clone() for tap in taps if tap.layer == layer}
        together = backbone(pixels, 8, Reading(taps)).facets
        backbone(pixels + 1, 8, Reading(taps))
    assert all(torch.equal(together[tap], expected[tap]) for tap in taps)


def test_a_token_needs_no_later_block():
    backbone, pixels, tap = random_backbone(PLAIN), random_pixels(32, 40), Tap(1, "token")
    expected = backbone(pixels, 4, Reading((tap,))).facets[tap]
    poison([p for block in backbone.blocks[2:] for p in block.parameters()])
    assert torch.equal(backbone(pixels, 4, Reading((tap,))).facets[tap], expected)


def test_saliency_needs_keys_and_the_class_tokens_query(monkeypatch):
    backbone, pixels = random_backbone(PLAIN), random_pixels(32, 40)
    expected = backbone(pixels, 8, Reading((), saliency=True)).saliency
    poison_what_follows_the_projections(backbone.blocks[3], unread=(2,))
    projected = []
    project = Attention.project

    def record(self, x, facet):
        projected.append((facet, x.shape[1]))
        return project(self, x, facet)

    monkeypatch.setattr(Attention, "project", record)
    found = backbone(pixels, 8, Reading((Tap(3, "key"),), saliency=True))
    assert torch.equal(found.saliency, expected)
    assert sorted(projected) == [("key", 21), ("query", 1)]


def test_no_request_runs_no_block():
    backbone = random_backbone(PLAIN)
    poison([p for block in backbone.blocks for p in block.parameters()])
    found = backbone(random_pixels(32, 40), 8, Reading(()))
    assert found.facets == {}
    assert found.saliency is None


def test_a_flat_attention_gives_a_saliency_of_zero():
    backbone = random_backbone(PLAIN)
    backbone.blocks[3].attn.qkv.weight.zero_()
    found = backbone(random_pixels(32, 40), 8, Reading((), saliency=True))
    assert torch.equal(found.saliency, torch.zeros(2, 4, 5))


@pytest.mark.parametrize("stride", [0, 3, 16])
def test_a_stride_that_does_not_divide_the_patch_is_refused(stride):
    with pytest.raises(UsageError, match="possible strides are 1, 2, 4, 8"):
        random_backbone(PLAIN)(random_pixels(32, 40), stride, Reading((Tap(0, "key"),)))


def tiny_timm(architecture):
    sizes = {
        "vit_small_patch8_224": {"img_size": 64},
        "vit_small_patch14_reg4_dinov2": {"img_size": 70},
        "vit_small_patch14_dinov2": {"img_size": 70},
        "vit_small_patch16_dinov3": {},
        "vit_small_patch16_dinov3_qkvb": {},
    }[architecture]
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=0, embed_dim=128, depth=3, num_heads=2, **sizes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("architecture", "size_hw"),
    [
        ("vit_small_patch8_224", (64, 64)),
        ("vit_small_patch14_dinov2", (70, 70)),
        ("vit_small_patch14_reg4_dinov2", (70, 70)),
        ("vit_small_patch16_dinov3", (64, 96)),
        ("vit_small_patch16_dinov3_qkvb", (64, 96)),
    ],
)
def test_tokens_at_the_native_stride_are_timms(architecture, size_hw):
    reference, pixels = tiny_timm(architecture), random_pixels(*size_hw)
    state, config = normalise(Checkpoint(dict(reference.state_dict())))
    backbone = Backbone(config)
    backbone.load_state_dict(state)
    with torch.inference_mode():
        tokens = backbone(pixels, config.patch_px, Reading((Tap(2, "token"),))).facets[Tap(2, "token")]
        expected = reference.forward_features(pixels)
        keep = [0, *range(reference.num_prefix_tokens, expected.shape[1])]
        assert torch.allclose(reference.norm(tokens), expected[:, keep], atol=2e-4)
