"""Fixtures of training."""

import pytest


@pytest.fixture
def few_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four textures of each kind: to draw a whole bank takes longer than the steps of a test."""
    monkeypatch.setattr("pipeline.training.scenes.BANK_TILES", 24)
