from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings, load_settings


@pytest.fixture
def small_settings(tiny_model: Path) -> Settings:
    """Settings under which a tiny clip takes a second: the goldens' model at their load size."""
    values: dict[str, Any] = {
        "model": str(tiny_model),
        "features.load_size": 48,
        "features.stride": 8,
        "saliency.threshold": 0.35,
        "cluster.parts": 3,
        "cluster.sample_interval": 3,
        "cluster.restarts": 2,
        "run.device": "cpu",
    }
    return load_settings(overrides=values)
