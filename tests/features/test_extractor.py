"""Descriptors and saliency against the paper's goldens, and what must not change a result."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.features.backbone import Tap
from pipeline.features.extractor import Extractor
from pipeline.features.weights import load_file

PARITY = Path(__file__).resolve().parents[1] / "data" / "parity"
META = json.loads((PARITY / "meta.json").read_text())
TOLERANCE = 2e-4
BINNED_TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def goldens():
    with np.load(PARITY / "expected.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def model():
    return load_file(PARITY / "vit.safetensors")


@pytest.fixture
def extractor(model):
    def build(half_size=True, heads=None, **features):
        settings = FeatureSettings(**{"load_size": META["load_size"], **features})
        return Extractor(model, settings, SaliencySettings(half_size=half_size, heads=heads))

    return build


def picture(name):
    return np.asarray(Image.open(PARITY / f"{name}.png").convert("RGB"))


def golden_names(kind):
    return sorted(name for name in META["arrays"] if f"/{kind}/" in name)


@pytest.mark.parametrize("name", ["cat", "cup"])
def test_the_resized_picture_is_the_goldens_one(name, extractor):
    expected = np.asarray(Image.open(PARITY / f"{name}_resized.png").convert("RGB"))
    assert np.array_equal(extractor().preprocess(picture(name)), expected)


@pytest.mark.parametrize("golden", golden_names("descriptors"))
def test_descriptors_of_every_facet_layer_and_stride(golden, goldens, extractor):
    name, _, stride, layer, facet = golden.split("/")
    chosen = extractor(stride=int(stride[6:]), layer=int(layer[5:]), facet=facet)
    found = chosen.extract([chosen.preprocess(picture(name))]).descriptors[0]
    assert found.shape[:2] == chosen.grid_hw(chosen.preprocess(picture(name)).shape[:2])
    assert np.abs(found.flatten(0, 1).numpy() - goldens[golden]).max() <= TOLERANCE


@pytest.mark.parametrize("golden", golden_names("cls"))
def test_class_token_descriptor(golden, goldens, extractor):
    name, _, stride, layer, facet = golden.split("/")
    chosen = extractor(stride=int(stride[6:]), layer=int(layer[5:]), facet=facet)
    found = chosen.extract([chosen.preprocess(picture(name))]).cls[0]
    assert np.abs(found.numpy() - goldens[golden]).max() <= TOLERANCE


@pytest.mark.parametrize("golden", golden_names("log_bin"))
def test_binned_descriptors(golden, goldens, extractor):
    name, _, stride, layer, facet = golden.split("/")
    chosen = extractor(stride=int(stride[6:]), layer=int(layer[5:]), facet=facet, log_bin=True)
    found = chosen.extract([chosen.preprocess(picture(name))]).descriptors[0]
    assert found.shape[2] == chosen.channels
    assert np.abs(found.flatten(0, 1).numpy() - goldens[golden]).max() <= BINNED_TOLERANCE


@pytest.mark.parametrize("golden", golden_names("saliency"))
def test_saliency_of_the_descriptors_pass(golden, goldens, extractor):
    name, _, stride = golden.split("/")
    chosen = extractor(stride=int(stride[6:]))
    found = chosen.extract([chosen.preprocess(picture(name))], saliency=True).saliency
    assert np.abs(found[0].flatten().numpy() - goldens[golden]).max() <= TOLERANCE
