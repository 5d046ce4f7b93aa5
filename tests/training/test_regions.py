"""The region prior: regions of each kind, and mean keys in the extractor's channel order."""

import numpy as np
import pytest
import torch

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.features.extractor import Extractor
from pipeline.features.weights import load_file
from pipeline.training.model import SmallViT, SmallViTConfig, export_weights
from pipeline.training.regions import as_descriptors, as_keys, kind_regions, region_table
from pipeline.training.skeletons import REGIONS
from pipeline.training.species import KINDS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SmallViT(SmallViTConfig(dim=24, depth=2, heads=3, img_size=32))


@pytest.fixture(scope="module")
def table(model):
    return region_table(model, batches=1)


def test_kinds_have_the_regions_that_most_of_their_species_have():
    names = list(REGIONS)
    rows = zip(KINDS, kind_regions(), strict=True)
    kinds = {make.__name__: {names[i] for i in row.nonzero()[:, 0]} for (make, _), row in rows}
    assert kinds["quadruped"] == {"head", "torso", "front limbs", "hind limbs", "tail"}
    assert kinds["biped"] == {"head", "torso", "front limbs", "hind limbs"}
    assert "hind limbs" in kinds["bird"]
    assert "wings or fins" not in kinds["insect"]
    assert kinds["vehicle"] == {"vehicle", "wheels"}


def test_no_kind_has_the_background_or_what_was_not_seen(table):
    kinds, keys = table["region_kinds"], table["region_keys"]
    assert not kinds[:, 0].any()
    assert kinds.any(1).all()
    assert torch.allclose(keys[kinds.any(0)].norm(dim=1), torch.ones(int(kinds.any(0).sum())), atol=1e-5)


def test_the_product_reads_the_table_in_the_order_of_its_channels(tmp_path, model, table):
    """A picture's mean key, exported as a region, is the mean of the descriptors that the extractor computes."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        keys = model(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255).keys[0]
    own = {"region_keys": as_descriptors(keys.mean(0, keepdim=True), 3), "region_kinds": torch.ones(1, 1)}
    export_weights(model, tmp_path / "vit.safetensors", own)
    loaded = load_file(tmp_path / "vit.safetensors")
    settings = FeatureSettings(load_size=32, stride=8, layer=1)
    extractor = Extractor(loaded, settings, SaliencySettings(half_size=False))
    found = extractor.extract([picture]).descriptors.flatten(0, 2).mean(0)
    assert extractor.regions is not None
    assert torch.nn.functional.cosine_similarity(found, torch.from_numpy(extractor.regions.keys[0]), dim=0) > 0.99
    for other in ({"layer": 0}, {"facet": "query"}, {"log_bin": True}):
        changed = settings.model_copy(update=other)
        assert Extractor(loaded, changed, SaliencySettings(half_size=False)).regions is None


def test_orders_undo_each_other():
    keys = torch.randn(5, 24)
    assert torch.equal(as_keys(as_descriptors(keys, 3), 3), keys)
    assert not torch.equal(as_descriptors(keys, 3), keys)
