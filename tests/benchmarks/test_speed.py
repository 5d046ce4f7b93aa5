"""The speed benchmark: `benchmarks.paper` finds the program's parts; FLOPs and agreement are right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import agreement, renumbered, steady_agreement
from benchmarks.limit import Limit, measure_limit, saliency_passes, tokens_of
from benchmarks.paper import segment as paper_segment
from benchmarks.presets import settings_file
from benchmarks.processes import ProcessRun
from benchmarks.speed import VITS8, first_seconds, machine
from pipeline.config import Settings, load_settings, with_values
from pipeline.features.vit import ViTConfig
from pipeline.media.inputs import resolve_inputs
from pipeline.media.label_store import open_labels
from pipeline.tasks.segment import segment


def test_the_twin_gives_the_programs_parts(
    tmp_path: Path, make_clip: Callable[..., Path], small_settings: Settings
) -> None:
    pytest.importorskip("pydensecrf", reason="the twin's CRF is pydensecrf: install vidparts[densecrf]")
    clip = make_clip(tmp_path / "a.mp4", frames=6)
    (finished,) = segment([clip], tmp_path / "out", small_settings).finished
    labels = np.stack([labels for _, _, labels in open_labels(finished.directory / "labels.zarr").frames()])
    pictures = [frame.rgb for frame in resolve_inputs([str(clip)], fps=25)[0].frames()]
    settings = with_values(small_settings, {"features.layer": 11})
    assert len(np.unique(labels)) > 1
    assert agreement(labels, paper_segment(pictures, settings))[0] > 0.99


def test_presets_are_compared_with_one_pass_over_overlapping_patches(tmp_path: Path) -> None:
    exact = load_settings(settings_file("bundled", tmp_path, exact=True))
    quick = with_values(load_settings(settings_file("bundled", tmp_path, exact=False)), {"preset": "fast"})
    assert (exact.features.grid, quick.features.grid) == ("overlapping", "interleaved")
    assert exact.cluster == quick.cluster
    assert exact.features.stride == quick.features.stride == 4


def test_frames_beyond_a_shorter_run_carry_no_start_of_a_process() -> None:
    one, three = (
        ProcessRun(n, 8.0 + 5 * n, 9.0 + 8 * n, 100.0, 0.0, (), np.zeros((n, 2, 2), np.uint8)) for n in (1, 3)
    )
    found = three.beyond(one)
    assert (found.frames, found.seconds, found.processor_s, len(found.labels)) == (2, 10.0, 16.0, 2)
    assert found.rate == 0.2


def test_the_machine_is_named_with_its_vector_units() -> None:
    assert len(machine().split(", ")) >= 3


def test_labels_of_another_size_are_compared_at_the_references() -> None:
    reference = np.zeros((3, 40, 60), dtype=np.uint8)
    reference[:, 10:30, 20:50] = 1
    assert np.array_equal(renumbered(reference[:, ::2, ::2], reference)[:, 15:25, 25:45], reference[:, 15:25, 25:45])
    assert agreement(reference[:, ::2, ::2], reference)[0] > 0.97


def test_agreement_knows_parts_by_what_they_cover() -> None:
    reference = np.random.default_rng(0).integers(0, 5, (4, 6, 8), dtype=np.uint8)
    other = np.array([0, 3, 1, 4, 2], dtype=np.uint8)[reference]
    assert np.array_equal(renumbered(other, reference), reference)
    assert agreement(np.where(other == 0, 1, other), reference)[0] < 1


def test_steady_pixels_are_those_that_keep_their_label() -> None:
    reference = np.zeros((3, 1, 4), dtype=np.uint8)
    reference[1, 0, 2:] = 1
    labels = reference.copy()
    labels[1, 0, 1] = 1
    everywhere, steady = agreement(labels, reference)
    assert everywhere == 11 / 12
    assert steady == 1 / 2
    reference[:] = 1
    labels[:] = [[1, 0, 1, 1]]
    assert steady_agreement(labels, reference) == (3 / 4, 3 / 4)
    reference[:, :, 0] = 0
    assert steady_agreement(labels, reference) == (2 / 4, 2 / 3)


def test_steady_pixels_may_be_those_that_other_seeds_agree_on() -> None:
    reference = np.tile(np.array([0, 1, 1, 2], dtype=np.uint8), (3, 1, 1))
    labels, other = reference.copy(), reference.copy()
    labels[1, 0, 2], other[:, 0, 2] = 0, 2
    assert steady_agreement(labels, reference) == (3 / 4, 2 / 3)
    assert steady_agreement(labels, reference, [other]) == (1.0, 1.0)


def test_work_is_counted_as_the_designs_figures_have_it() -> None:
    default = Settings()
    assert tokens_of(VITS8, default, (224, 398)) == ([55 * 98 + 1], 1.0)
    passes, share = tokens_of(VITS8, with_values(default, {"preset": "fast"}), (224, 398))
    assert sum(passes) == 55 * 98 + 4
    assert share == 1 / with_values(default, {"preset": "fast"}).keyframes.interval
    tiny = ViTConfig(64, 3, 1, 8, (4, 4), 0, 128, qkv_bias=True, layer_scale=False, norm_eps=1e-6)
    settings = with_values(default, {"features.layer": 2, "saliency.half_size": False})
    limit = measure_limit(tiny, settings, (48, 64), 128)
    tokens = 11 * 15 + 1
    products = 2 * 2 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * 64 * 64 + 2 * 3 * 64 * 64
    assert limit.product_gflop == pytest.approx(tokens * products / 1e9)
    assert limit.attention_gflop == pytest.approx(2 * 4 * tokens**2 * 64 / 1e9)
    assert limit.frame_s > limit.vit_s > 0
    both = with_values(settings, {"saliency.half_size": True})
    # Half of the frames are sampled, and each of them has a half-size pass too: 3 x 4 patches.
    assert saliency_passes(tiny, both, (48, 64), 128) == [(3 * 4 + 1, 1 / 2)]
    voting = measure_limit(tiny, both, (48, 64), 128)
    assert voting.product_gflop == pytest.approx((tokens + 13 / 2) * products / 1e9)
    assert voting.attention_gflop == pytest.approx(2 * 4 * (tokens**2 + 13**2 / 2) * 64 / 1e9)


def test_a_limit_between_two_takes_their_mean_time() -> None:
    slow, fast = Limit(8.0, 6.0, 100.0, 50.0, 0.02), Limit(8.0, 6.0, 300.0, 150.0, 0.04)
    assert slow.between(fast).frame_s == pytest.approx((slow.frame_s + fast.frame_s) / 2)


def test_an_end_lets_so_many_frames_through(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    clip = make_clip(tmp_path / "a.mp4", pts=[0, 40, 90, 150, 160, 300, 340, 380])
    assert [round(first_seconds(clip, count), 3) for count in (1, 2, 5)] == [0.02, 0.065, 0.23]
