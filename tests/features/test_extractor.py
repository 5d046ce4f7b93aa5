"""Descriptors and saliency against the paper's goldens; invariance to batch size and order."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.errors import DeviceMemoryError, InputError, UsageError
from pipeline.features.extractor import LARGEST_BATCH, Extractor
from pipeline.features.vit import Tap
from pipeline.features.weights import load_file
from pipeline.records import Frame

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


@pytest.fixture(params=["openvino", "torch"])
def backend(request):
    return request.param


@pytest.fixture
def extractor(model, backend):
    def build(half_size=True, heads=None, say=print, **features):
        settings = FeatureSettings(**{"load_size": META["load_size"], **features})
        saliency = SaliencySettings(half_size=half_size, heads=heads)
        return Extractor(model, settings, saliency, say=say, backend=backend)

    return build


@pytest.fixture
def make_frame():
    def build(index, size_hw):
        generator = np.random.default_rng(index)
        rgb = generator.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        return Frame(index, index, Fraction(1, 25), rgb)

    return build


def picture(name):
    return np.asarray(Image.open(PARITY / f"{name}.png").convert("RGB"))


def golden_names(kind):
    return sorted(name for name in META["arrays"] if f"/{kind}/" in name)


@pytest.mark.parametrize("name", ["cat", "cup"])
def test_the_resized_picture_is_the_goldens_one(name, extractor):
    expected = np.asarray(Image.open(PARITY / f"{name}_resized.png").convert("RGB"))
    assert np.array_equal(extractor().preprocess(picture(name)), expected)


@pytest.fixture(scope="module")
def passes():
    """What is known so far of each backend, picture and stride."""
    return {}


@pytest.mark.parametrize("golden", golden_names("descriptors"))
def test_descriptors_of_every_facet_layer_and_stride(golden, goldens, extractor, backend, passes):
    name, _, stride, layer, facet = golden.split("/")
    chosen = extractor(stride=int(stride[6:]))
    image = chosen.preprocess(picture(name))
    if (backend, name, stride) not in passes:
        # One pass for all, which gives what single ones do: each would be compiled for itself.
        taps = [Tap(layer, facet) for layer in (9, 11) for facet in ("key", "query", "value", "token")]
        passes[backend, name, stride] = chosen.extract_taps([image], taps)
    found = passes[backend, name, stride][Tap(int(layer[5:]), facet)].descriptors[0]
    assert found.shape[:2] == chosen.grid_hw(image.shape[:2])
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


def test_half_size_saliency_votes_for_the_goldens_foreground(goldens, extractor):
    # Only these foreground clusters reproduce the goldens' label maps.
    expected = {0, 2, 4, 7, 8}
    centroids = torch.from_numpy(goldens["parts/centroids"])
    chosen = extractor()
    voted = set()
    for name in META["images"]:
        descriptors = chosen.extract([chosen.preprocess(picture(name))]).descriptors[0]
        nearest = torch.cdist(torch.nn.functional.normalize(descriptors, dim=-1), centroids).argmin(-1)
        saliency = chosen.saliency_half([picture(name)])[0]
        means = {k: float(saliency[nearest == k].mean()) for k in nearest.unique().tolist()}
        voted |= {k for k, mean in means.items() if mean > META["thresh"]}
    assert voted == expected


def test_one_pass_gives_every_layer_and_facet_as_single_passes_do(extractor):
    chosen = extractor()
    images = [chosen.preprocess(picture("cat"))]
    taps = [Tap(*tap) for tap in [(0, "key"), (0, "token"), (9, "query"), (9, "token"), (11, "value"), (11, "key")]]
    together = chosen.extract_taps(images, taps, saliency=True)
    assert set(together) == set(taps)
    for tap in taps:
        alone = extractor(layer=tap.layer, facet=tap.facet).extract(images)
        assert torch.allclose(together[tap].descriptors, alone.descriptors, atol=1e-5)
        assert torch.allclose(together[tap].cls, alone.cls, atol=1e-5)
    assert torch.allclose(together[taps[0]].saliency, chosen.extract(images, saliency=True).saliency, atol=1e-5)


def described(chosen, frames):
    """Descriptors and both kinds of saliency of frames of equal size."""
    found = chosen.extract([chosen.preprocess(frame.rgb) for frame in frames], saliency=True)
    return found.descriptors, found.saliency, chosen.saliency_half([frame.rgb for frame in frames])


def test_a_frame_does_not_depend_on_its_batch(extractor, make_frame):
    chosen = extractor()
    frames = [make_frame(index, (100, 120)) for index in range(3)]
    together = described(chosen, frames)
    for index, frame in enumerate(frames):
        for several, one in zip(together, described(chosen, [frame]), strict=True):
            assert torch.equal(several[index], one[0])


def test_a_frame_does_not_depend_on_the_number_of_threads(extractor, make_frame):
    chosen, frame = extractor(), make_frame(0, (100, 120))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = described(chosen, [frame])
        torch.set_num_threads(2)
        two = described(chosen, [frame])
    finally:
        torch.set_num_threads(before)
    for alone, paired in zip(one, two, strict=True):
        assert torch.equal(alone, paired)


@pytest.fixture
def small_device(extractor, monkeypatch):
    """An extractor on a device with memory for some pictures; its batches; its messages."""

    def build(holds, **features):
        through, said = [], []
        found = extractor(say=said.append, **features)
        found.one_by_one = False
        real = found.backbone.forward

        def forward(pixels, *arguments, **options):
            if len(pixels) > holds:
                raise torch.OutOfMemoryError("CUDA out of memory")
            through.append(len(pixels))
            return real(pixels, *arguments, **options)

        monkeypatch.setattr(found.backbone, "forward", forward)
        return found, through, said

    return build


def test_batches_are_halved_until_the_device_holds_them_and_that_is_said_once(small_device, extractor, make_frame):
    pictures = [make_frame(index, (48, 64)).rgb for index in range(11)]
    expected = extractor().extract(pictures, saliency=True)
    small, through, said = small_device(holds=3)
    assert small.warnings == ()
    for _ in range(2):
        through.clear()
        found = small.extract(pictures, saliency=True)
        assert through == [2, 2, 2, 2, 2, 1]
        assert torch.allclose(found.descriptors, expected.descriptors, atol=1e-4)
        assert torch.allclose(found.saliency, expected.saliency, atol=1e-3)
    assert len(said) == 1
    assert "doesn't hold 11 frames: going on with smaller batches" in said[0]
    assert "another run can differ" in small.warnings[0]


def test_a_device_that_does_not_hold_one_picture_is_one_clear_line(small_device, make_frame):
    small, _, _ = small_device(holds=0)
    with pytest.raises(DeviceMemoryError, match=r"one picture of 64x48 pixels .*--stride.*--device cpu") as caught:
        small.extract([make_frame(0, (48, 64)).rgb] * 4)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


def test_saliency_that_was_not_asked_for_is_none(extractor, make_frame):
    found = extractor().extract([make_frame(0, (96, 115)).rgb])
    assert found.saliency is None
    assert found.descriptors.shape[1:3] == (23, 27)


def test_a_picture_of_the_processed_size_is_not_resized(extractor, make_frame):
    frame = make_frame(0, (96, 115))
    assert extractor().preprocess(frame.rgb) is frame.rgb
    assert extractor(load_size=None).preprocess(picture("cat")).shape == picture("cat").shape


def test_saliency_heads_of_the_settings_beat_the_models(extractor):
    images = [extractor().preprocess(picture("cat"))]
    by_default = extractor().extract(images, saliency=True).saliency
    assert torch.equal(extractor(heads=(0, 2, 4, 5)).extract(images, saliency=True).saliency, by_default)
    assert not torch.allclose(extractor(heads=(1,)).extract(images, saliency=True).saliency, by_default)


def test_products_in_bfloat16_give_nearly_the_same(extractor):
    images = [extractor().preprocess(picture("cat"))]
    exact = extractor().extract(images).descriptors
    rounded = extractor(precision="bfloat16").extract(images).descriptors
    assert rounded.dtype == exact.dtype
    assert not torch.equal(rounded, exact)
    assert torch.nn.functional.cosine_similarity(rounded, exact, dim=-1).min() > 0.99


def test_the_batch_grows_with_the_budget_and_never_vanishes(extractor):
    chosen = extractor()
    batches = [chosen.batch_for((96, 128), budget) for budget in (0, 4_000_000, 8_000_000, 10**12)]
    assert batches[0] == 1
    assert batches == sorted(batches)
    assert 1 < batches[2] < batches[3] == LARGEST_BATCH


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stride": 3}, "possible strides are 1, 2, 4, 8"),
        ({"stride": 16}, "possible strides are 1, 2, 4, 8"),
        ({"layer": 12}, "0 to 11"),
        ({"heads": (6,)}, "0 to 5"),
        ({"heads": ()}, "0 to 5"),
    ],
)
def test_settings_that_the_model_lacks_are_refused(wrong, named, extractor):
    with pytest.raises(UsageError, match=named):
        extractor(**wrong)


def test_pictures_below_one_patch_are_refused(extractor, make_frame):
    with pytest.raises(InputError, match="smaller than one patch"):
        extractor(load_size=None).extract([make_frame(0, (7, 40)).rgb])
    with pytest.raises(InputError, match="smaller than one patch"):
        extractor(load_size=8).saliency_half([make_frame(0, (40, 40)).rgb])


def test_pictures_of_two_sizes_are_no_batch(extractor, make_frame):
    with pytest.raises(InputError, match="one size"):
        extractor().extract([make_frame(0, (96, 100)).rgb, make_frame(1, (96, 104)).rgb])
