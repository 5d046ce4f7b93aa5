"""OpenVINO's transformer blocks against torch's; bit-exact repeatability."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.config import with_values
from pipeline.features import openvino_backbone
from pipeline.features.interleaved_grid import run_interleaved
from pipeline.features.openvino_backbone import KEPT_SHAPES, OpenVinoBlocks
from pipeline.features.vit import FACETS, Backbone, Embedded, Reading, Tap, ViTConfig
from pipeline.media.label_store import open_labels
from pipeline.runs.record import LABELS, load_record
from pipeline.tasks.segment import segment


@pytest.fixture
def remembered_graphs():
    """Nothing is remembered where compiling is what is tested."""


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


PLAIN = ViTConfig(48, 3, 3, 8, (4, 4), 0, 96, True, False, 1e-6)
SCALED = ViTConfig(24, 2, 2, 16, (3, 5), 2, 60, False, True, 1e-6)
ROTARY = ViTConfig(32, 2, 2, 16, None, 4, 64, False, True, 1e-5)
CONFIGS = pytest.mark.parametrize("config", [PLAIN, SCALED, ROTARY], ids=["plain", "scaled", "rotary"])
READING = Reading((Tap(2, "key"), Tap(1, "token")), saliency=True)


def random_backbone(config=PLAIN):
    generator, backbone = torch.Generator().manual_seed(0), Backbone(config).requires_grad_(False).eval()
    for parameter in backbone.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return backbone


def blocks_of(backbone, dtype=torch.float32):
    return OpenVinoBlocks(backbone, str(backbone.config), dtype)


def single(tokens):
    return [Embedded(tokens, None)]


def random_tokens(pictures, tokens):
    return torch.randn(pictures, tokens, 48, generator=torch.Generator().manual_seed(1))


@CONFIGS
@pytest.mark.parametrize("run", [Backbone.__call__, run_interleaved], ids=["overlapping", "interleaved"])
def test_every_facet_and_the_saliency_equal_torchs(config, run):
    backbone, pixels = random_backbone(config), torch.randn(2, 3, 53, 70, generator=torch.Generator().manual_seed(1))
    taps = [Tap(layer, facet) for layer in range(config.depth) for facet in FACETS]
    reading = Reading(tuple(taps), saliency=True, heads=(1,))
    expected = run(backbone, pixels, config.patch_px // 2, reading)
    found = run(backbone, pixels, config.patch_px // 2, reading, blocks_of(backbone))
    assert found.grid_hw == expected.grid_hw
    assert list(found.facets) == taps
    for tap in taps:
        assert torch.allclose(found.facets[tap], expected.facets[tap], atol=1e-4), tap
    assert torch.allclose(found.saliency, expected.saliency, atol=1e-4)


def test_no_request_runs_no_block():
    assert blocks_of(random_backbone())(single(random_tokens(1, 17)), Reading(())) == [()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [2, 17, 130, 1000])
def test_bytes_depend_neither_on_the_batch_nor_on_the_threads(dtype, tokens):
    blocks, pictures = blocks_of(random_backbone(), dtype), random_tokens(3, tokens)
    (together,) = blocks(single(pictures), READING)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for number in range(3):
            (alone,) = blocks(single(pictures[number : number + 1]), READING)
            assert all(torch.equal(one[0], several[number]) for one, several in zip(alone, together, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_passes_at_a_time_are_those_one_after_the_other(threads):
    """Of two sizes, each more than once, so that requests of a graph are at work together, and more than streams."""
    blocks, passes = blocks_of(random_backbone()), [random_tokens(2, tokens) for tokens in (130, 130, 120, 120)]
    torch.set_num_threads(1)
    expected = [blocks(single(each), READING)[0] for each in passes]
    torch.set_num_threads(threads)
    for _ in range(3):
        found = blocks([Embedded(each, None) for each in passes], READING)
        assert all(map(torch.equal, chain(*found), chain(*expected)))


def test_many_small_graphs_are_kept_up_to_some_memory(monkeypatch):
    blocks, reading = blocks_of(random_backbone()), Reading((Tap(1, "key"),))
    for tokens in range(5, 15):
        blocks(single(random_tokens(1, tokens)), reading)
    assert blocks.kept_shapes == 10
    monkeypatch.setattr(openvino_backbone, "KEPT_BYTES", 7 * openvino_backbone.GRAPH_BYTES)
    blocks(single(random_tokens(1, 15)), reading)
    assert blocks.kept_shapes == 6


def test_results_stay_when_graphs_are_used_again_and_forgotten(monkeypatch):
    monkeypatch.setattr(openvino_backbone, "KEPT_BYTES", 0)
    blocks, reading = blocks_of(random_backbone()), Reading((Tap(1, "key"),))
    found = {tokens: blocks(single(random_tokens(1, tokens)), reading)[0][0] for tokens in range(5, 7 + KEPT_SHAPES)}
    expected = {tokens: facet.clone() for tokens, facet in found.items()}
    assert blocks.kept_shapes == KEPT_SHAPES
    for tokens, facet in found.items():
        assert torch.equal(blocks(single(random_tokens(1, tokens)), reading)[0][0], expected[tokens])
        assert torch.equal(facet, expected[tokens])
    assert blocks.kept_shapes == KEPT_SHAPES


def test_bfloat16_is_near():
    backbone, tokens = random_backbone(), random_tokens(1, 130)
    exact, rounded = (
        blocks_of(backbone, dtype)(single(tokens), READING)[0] for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.nn.functional.cosine_similarity(exact[0], rounded[0], dim=-1).min() > 0.99
    assert (exact[2] - rounded[2]).abs().max() < 0.05 * exact[2].max()


def test_a_processor_without_avx512_gives_nearly_the_same_labels(tmp_path: Path, small_settings, make_clip):
    clip = make_clip(tmp_path / "walk.mp4", frames=4, size_hw=(120, 160))
    settings = with_values(small_settings, {"features.load_size": 96, "run.backend": "openvino"})
    here = segment([clip], tmp_path / "here", settings).finished[0]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "segment",
        clip,
        "-o",
        tmp_path / "there",
        "--config",
        tmp_path / "c.yaml",
    ]
    environment = {**os.environ, "OV_CPU_MAX_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], env=environment, check=True, stdout=subprocess.DEVNULL)
    there = tmp_path / "there" / "walk"
    assert load_record(there).processor != here.record.processor
    one, other = (
        np.stack([labels for _, _, labels in open_labels(folder / LABELS).frames()])
        for folder in (here.directory, there)
    )
    assert (one == other).mean() >= 0.999
    assert one.any()
