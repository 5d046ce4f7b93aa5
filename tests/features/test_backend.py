"""Choice of the ViT's backend, and the error if its library is missing."""

import logging
import sys

import pytest
import torch

from pipeline.errors import UsageError
from pipeline.features.backend import choose_backend
from pipeline.runs.record import processor_kind

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.parametrize(
    ("name", "device", "chosen"),
    [("auto", CPU, "openvino"), ("auto", META, "torch"), ("openvino", CPU, "openvino"), ("torch", CPU, "torch")],
)
def test_auto_is_openvino_on_the_processor_and_torch_elsewhere(name, device, chosen):
    assert choose_backend(name, device) == chosen


@pytest.mark.usefixtures("no_openvino")
def test_without_openvino_auto_is_torch_and_that_is_said(caplog):
    with caplog.at_level(logging.INFO):
        assert choose_backend("auto", CPU) == "torch"
    assert "openvino can't be imported" in caplog.text
    assert "the ViT runs by torch" in caplog.text


@pytest.mark.usefixtures("no_openvino")
def test_without_openvino_asking_for_it_is_one_clear_line():
    with pytest.raises(UsageError, match=r"it can't be imported .*pip install openvino.*--backend torch") as caught:
        choose_backend("openvino", CPU)
    assert "\n" not in str(caught.value)


def test_openvino_on_another_device_is_refused():
    with pytest.raises(UsageError, match="is for the processor, but the device is meta; give --device cpu"):
        choose_backend("openvino", META)


def test_a_limit_to_the_instruction_set_is_another_kind_of_processor(monkeypatch):
    monkeypatch.delenv("OV_CPU_MAX_ISA", raising=False)
    whole = processor_kind()
    monkeypatch.setenv("OV_CPU_MAX_ISA", "AVX2")
    assert whole
    assert processor_kind() == f"{whole} AVX2"
