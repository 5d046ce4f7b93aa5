"""k-means with the region prior: small parts keep their centroids, and any number of parts works."""

import numpy as np
import pytest

from pipeline.cluster.clusters import nearest_centroids
from pipeline.cluster.kmeans import fit_kmeans
from pipeline.cluster.region_prior import fit_near_regions, nearest_kind
from pipeline.config import ClusterSettings
from pipeline.records import Regions

AXES = np.eye(8, dtype=np.float32)
REGIONS = Regions(AXES[:6], np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 0, 1]], dtype=bool))
SHIFT = 0.6 * AXES[7]


def body(sizes=(900, 40, 30), seed=0):
    """Descriptors of one kind of body: a large elongated part and two small ones, all shifted from their regions."""
    rng = np.random.default_rng(seed)
    points, owner = [], np.repeat(np.arange(len(sizes)), sizes)
    for region, size in enumerate(sizes):
        noise = rng.normal(size=(size, 8)) * np.where(np.arange(8) == 6, 1.2 if region == 0 else 0.05, 0.05)
        points.append(AXES[region] + SHIFT + noise)
    return np.concatenate(points).astype(np.float32), owner


def settings(parts=3, prior=0.2, **others):
    return ClusterSettings(parts=parts, prior=prior, **others)


def purity(sample, owner, centroids):
    labels = nearest_centroids(sample, centroids)[0]
    return sum(np.bincount(owner[labels == part]).max() for part in set(labels.tolist())) / len(owner)


def test_small_parts_stay_beside_a_large_one_that_plain_k_means_halves():
    sample, owner = body()
    near = fit_near_regions(sample, REGIONS, 0, settings())
    plain = fit_kmeans(sample, 3, 0, settings())
    assert purity(sample, owner, near) == 1
    assert purity(sample, owner, plain) < 0.98
    assert np.argmax(near[:, :3], axis=1).tolist() == [0, 1, 2]


def test_the_shift_that_all_parts_share_is_free():
    """With a huge weight the centroids are the regions, shifted together towards the descriptors."""
    sample, owner = body(sizes=(40, 40, 40))
    heavy = fit_near_regions(sample, REGIONS, 0, settings(prior=1e6))
    moved = np.mean([sample[owner == part].mean(axis=0) - AXES[part] for part in range(3)], axis=0)
    np.testing.assert_allclose(heavy - AXES[:3], np.tile(moved, (3, 1)), atol=1e-3)


def test_what_it_ends_at_is_least_for_its_members():
    """Centroids and shift by joint least squares, from the final assignment."""
    sample, _ = body(seed=3)
    found = fit_near_regions(sample, REGIONS, 0, settings())
    labels = nearest_centroids(sample, found)[0]
    pull = 0.2 * len(sample) / 3
    system, wanted = np.zeros((4, 4)), np.zeros((4, 8))
    for part in range(3):
        members = sample[labels == part]
        system[part, part], system[part, 3] = len(members) + pull, -pull
        system[3, part], system[3, 3] = -pull, system[3, 3] + pull
        wanted[part] = members.sum(axis=0) + pull * AXES[part]
        wanted[3] -= pull * AXES[part]
    np.testing.assert_allclose(found, np.linalg.solve(system, wanted)[:3], atol=1e-4)


def test_the_kind_is_the_one_whose_regions_are_nearest():
    sample, _ = body()
    assert nearest_kind(sample, REGIONS) == 0
    assert nearest_kind(AXES[3:5].repeat(4, axis=0), REGIONS) == 1


def test_with_fewer_parts_the_region_that_is_missed_least_goes():
    sample, _ = body(sizes=(200, 100, 4))
    kept = fit_near_regions(sample, REGIONS, 0, settings(parts=2))
    assert np.argmax(kept[:, :3], axis=1).tolist() == [0, 1]


def test_with_more_parts_the_most_uneven_is_halved():
    sample, owner = body()
    found = fit_near_regions(sample, REGIONS, 0, settings(parts=4))
    labels = nearest_centroids(sample, found)[0]
    assert np.unique(labels[owner == 0]).size == 2
    assert all(np.unique(labels[owner == part]).size == 1 for part in (1, 2))


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 9])
def test_any_number_of_parts_and_the_same_again(parts):
    sample, _ = body(sizes=(30, 20, 10))
    found = fit_near_regions(sample, REGIONS, 0, settings(parts=parts))
    assert found.shape == (parts, 8)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.array_equal(found, fit_near_regions(sample, REGIONS, 0, settings(parts=parts)))


def test_as_many_parts_as_descriptors_even_where_these_are_alike():
    found = fit_near_regions(np.tile(AXES[:1], (6, 1)), REGIONS, 0, settings(parts=6))
    assert found.shape == (6, 8)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kinds", [np.zeros((1, 6), bool), np.ones((1, 5), bool), np.zeros((0, 6), bool)])
def test_tables_that_do_not_fit_are_refused(kinds):
    with pytest.raises(ValueError, match="Regions"):
        Regions(AXES[:6], kinds)
