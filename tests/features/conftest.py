"""Tiny networks: more threads than one only get in each other's way."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Compute on one thread and leave the setting as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
