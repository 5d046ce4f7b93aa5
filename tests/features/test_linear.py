"""The compiled linear layer against its definition in double precision, and what must not move a bit."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.linear import Linear
from pipeline.features.processor import has_wide_registers


def random_layer(inputs, outputs, *, bias=True):
    layer = Linear(inputs, outputs, bias=bias)
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return layer


def random_tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 200), inputs=st.integers(1, 90), outputs=st.sampled_from([1, 32, 48, 96]), bias=st.booleans()
)
def test_it_is_the_definition(rows, inputs, outputs, bias):
    layer, tokens = random_layer(inputs, outputs, bias=bias), random_tokens(2, rows, inputs)
    with torch.inference_mode():
        found = layer(tokens)
    expected = F.linear(tokens.double(), layer.weight.double(), layer.bias.double() if bias else None)
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_threads_batches_and_other_outputs_move_no_bit():
    layer, tokens = random_layer(64, 96), random_tokens(2, 300, 64)
    with torch.inference_mode():
        torch.set_num_threads(1)
        one = layer(tokens)
        torch.set_num_threads(3)
        assert torch.equal(layer(tokens), one)
        assert torch.equal(layer(tokens[1:]), one[1:])
        assert torch.equal(layer.some(tokens, slice(32, 64)), one[..., 32:64])


def test_weights_that_change_are_used():
    layer, tokens = random_layer(32, 32), random_tokens(20, 32)
    with torch.inference_mode():
        layer(tokens)
    with torch.no_grad():
        layer.weight.zero_()
    with torch.inference_mode():
        assert torch.equal(layer(tokens), layer.bias.expand(20, -1))


@pytest.mark.skipif(not has_wide_registers(), reason="this processor has no registers of 512 bits")
def test_it_is_not_torchs_where_the_processor_can(monkeypatch):
    layer = random_layer(32, 32)
    monkeypatch.setattr(F, "linear", None)
    with torch.inference_mode():
        layer(random_tokens(20, 32))


def test_lower_precision_is_torchs():
    layer, tokens = random_layer(32, 32), random_tokens(20, 32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(tokens).dtype == torch.bfloat16


def test_a_layer_made_in_inference_mode():
    with torch.inference_mode():
        layer, tokens = random_layer(32, 32), random_tokens(20, 32)
        assert torch.allclose(layer(tokens), F.linear(tokens, layer.weight, layer.bias), atol=1e-4)
