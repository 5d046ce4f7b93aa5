import numpy as np

from pipeline.cluster.common_parts import common_parts


def maps(*rows: list[int]) -> list[np.ndarray]:
    return [np.array([row], dtype=np.uint8) for row in rows]


def test_parts_of_every_picture_are_kept() -> None:
    found = common_parts(maps([0, 1, 2, 3], [3, 3, 1], [1, 0, 2, 3]), 4)
    assert found.parts.tolist() == [True, False, True, False]
    assert found.warning is None


def test_where_none_is_in_every_picture_those_in_most_are_kept() -> None:
    found = common_parts(maps([1, 2], [1], [2], [3]), 3)
    assert found.parts.tolist() == [True, True, False]
    assert found.warning is not None
    assert "in all 4 pictures" in found.warning
    assert "2 that occur in 2" in found.warning
