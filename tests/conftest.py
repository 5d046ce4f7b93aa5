"""What several test modules share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips and goldens that lies beside a checkout; not part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VIDPARTS_SHARED", default))
    if not (folder / "parity").is_dir():
        pytest.skip(f"real clips and goldens are not at {folder}; set VIDPARTS_SHARED to where they are")
    return folder
