"""One thread for tiny networks: with more, the overhead dominates."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Run torch on one thread and restore the setting afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
