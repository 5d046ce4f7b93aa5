"""Settings that belong to a model."""

import pytest

from pipeline.config import Settings, with_values
from pipeline.errors import UsageError
from pipeline.progress import Silent
from pipeline.stages.engine import open_engine


def test_the_bundled_backbone_brings_its_regions_and_their_weight():
    engine = open_engine(Settings(model="bundled"), Silent())
    assert engine.settings.cluster.prior > 0
    assert engine.extractor.regions.keys.shape[1] == engine.extractor.channels


def test_other_descriptors_of_it_are_clustered_without_a_prior():
    settings = with_values(Settings(model="bundled"), {"features.facet": "token"})
    engine = open_engine(settings, Silent())
    assert engine.extractor.regions is None
    assert engine.settings.cluster.prior == 0


def test_other_models_have_no_prior_and_asking_for_one_is_an_error(small_settings):
    assert open_engine(small_settings, Silent()).settings.cluster.prior == 0
    with pytest.raises(UsageError, match=r"cluster\.prior is 0\.5, but no regions are known"):
        open_engine(with_values(small_settings, {"cluster.prior": 0.5}), Silent())
