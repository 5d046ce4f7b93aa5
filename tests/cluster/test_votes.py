import numpy as np

from pipeline.cluster.votes import count_votes
from pipeline.config import SaliencySettings

RULE = SaliencySettings(threshold=0.5, votes=0.75)


def maps(*rows: list[float]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.float32) for row in rows]


def labels(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int64) for row in rows]


def test_a_cluster_needs_its_share_of_votes_rounded_up() -> None:
    frames = labels([0, 1], [0, 1], [0, 1], [0, 1], [0, 1])
    bright = [[0.9, 0.9], [0.9, 0.9], [0.9, 0.9], [0.9, 0.1], [0.1, 0.1]]
    votes = count_votes(frames, maps(*bright), 2, RULE)
    # ceil(5 x 0.75) = 4: cluster 0 has four votes, cluster 1 three.
    assert votes.counts.tolist() == [4, 3]
    assert votes.salient.tolist() == [True, False]
    assert votes.warning is None


def test_the_mean_of_the_members_must_exceed_the_threshold() -> None:
    votes = count_votes(labels([0, 0, 1, 1]), maps([0.4, 0.5, 0.4, 0.7]), 2, RULE)
    assert votes.counts.tolist() == [0, 1]


def test_a_cluster_without_members_gets_no_vote() -> None:
    votes = count_votes(labels([0, 0], [0, 2]), maps([0.9, 0.9], [0.9, 0.9]), 3, RULE)
    assert votes.counts.tolist() == [2, 0, 1]
    assert votes.salient.tolist() == [True, False, False]


def test_nothing_salient_falls_back_to_the_most_salient_cluster_and_says_so() -> None:
    votes = count_votes(labels([0, 1, 2], [0, 1, 2]), maps([0.1, 0.3, 0.2], [0.1, 0.3, 0.2]), 4, RULE)
    assert votes.salient.tolist() == [False, True, False, False]
    assert votes.warning is not None
    assert "nothing is salient" in votes.warning
    assert "0.300" in votes.warning
