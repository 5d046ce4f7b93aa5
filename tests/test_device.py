"""Copies to a device and back, on the CPU; on CUDA the same code uses pinned memory."""

import numpy as np
import pytest
import torch

from pipeline.device import downloaded, upload


def test_arrays_arrive_as_they_were() -> None:
    arrays = [np.arange(6, dtype=np.uint8).reshape(2, 3) + number for number in range(3)]
    found = upload(arrays, torch.device("cpu"))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), np.stack(arrays))


@pytest.mark.parametrize("lag", [0, 2, 9])
def test_what_comes_back_keeps_its_order_and_lags(lag: int) -> None:
    asked: list[int] = []

    def queued() -> object:
        for number in range(6):
            asked.append(number)
            yield str(number), torch.full((2,), number)

    for position, (tag, array) in enumerate(downloaded(queued(), lag)):
        assert (tag, array.tolist()) == (str(position), [position] * 2)
        assert len(asked) == min(6, position + lag + 1)
    assert len(asked) == 6
