import numpy as np

from pipeline.cluster.outliers import similarity_to_mean


def test_similarity_is_the_cosine_to_the_mean_by_hand() -> None:
    cls = np.array([[2, 0], [0, 1]], dtype=np.float32)
    # The mean is (1, 0.5); its cosine to (1, 0) is 2 / sqrt(5), to (0, 1) it is 1 / sqrt(5).
    assert np.allclose(similarity_to_mean(cls), [2 / 5**0.5, 1 / 5**0.5])


def test_each_picture_keeps_its_own_row() -> None:
    cls = np.tile([[1.0, 0.1, 0.0]], (6, 1)).astype(np.float32)
    cls[2] = (0, 0, 1)
    cls[5] = (-1, 0, 0)
    assert np.flatnonzero(similarity_to_mean(cls) < 0.7).tolist() == [2, 5]


def test_vectors_of_zeros_and_one_picture() -> None:
    assert similarity_to_mean(np.zeros((2, 3), np.float32)).tolist() == [0, 0]
    assert np.allclose(similarity_to_mean(np.array([[3, 4]], np.float32)), [1])
