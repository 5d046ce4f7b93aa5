"""The compiled attention against its definition in double precision, and against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.attention import attention
from pipeline.features.processor import has_wide_registers


def plain_attention(query, key, value):
    query, key, value = (part.double() for part in (query, key, value))
    weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


def random_parts(tokens, heads, channels, batch=1, seed=0):
    joint = torch.randn(batch, tokens, 3, heads, channels, generator=torch.Generator().manual_seed(seed))
    return joint.permute(2, 0, 3, 1, 4)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 700),
    heads=st.integers(1, 3),
    channels=st.sampled_from([1, 8, 16, 63, 64, 80]),
    batch=st.integers(1, 2),
    spread=st.sampled_from([0.0, 1.0, 4.0]),
)
def test_it_is_the_definition(tokens, heads, channels, batch, spread):
    query, key, value = random_parts(tokens, heads, channels, batch)
    with torch.inference_mode():
        found = attention(query * spread, key, value)
    assert found.shape == (batch, tokens, heads * channels)
    assert torch.allclose(found.double(), plain_attention(query * spread, key, value), atol=2e-5)


def test_scores_of_millions_and_scores_that_are_equal():
    query, _, value = random_parts(64, 1, 64)
    key = torch.eye(64)[None, None]
    with torch.inference_mode():
        found = attention(query * 1e7, key, value)
        flat = attention(torch.full_like(query, -50.0), torch.full_like(query, 50.0), value)
    # One key takes all the weight: its value comes out.
    assert torch.allclose(found[0], value[0, 0, query.argmax(-1)[0, 0]], atol=1e-5)
    assert torch.allclose(flat, value.mean(2).expand(-1, 64, -1), atol=1e-5)


def test_threads_and_neighbours_move_no_bit():
    query, key, value = random_parts(500, 2, 64)
    with torch.inference_mode():
        torch.set_num_threads(1)
        one = attention(query, key, value)
        torch.set_num_threads(3)
        assert torch.equal(attention(query, key, value), one)
        assert torch.equal(attention(query[:, :1], key[:, :1], value[:, :1]), one[..., :64])


def test_gradients_go_through_torch():
    parts = [part.clone().requires_grad_() for part in random_parts(20, 2, 8)]
    attention(*parts).sum().backward()
    assert all(part.grad is not None for part in parts)


@pytest.mark.skipif(not has_wide_registers(), reason="this processor has no registers of 512 bits")
def test_it_is_not_torchs_where_the_processor_can(monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    with torch.inference_mode():
        attention(*random_parts(20, 2, 8))
