"""Motion saliency: independent motion is found; camera motion and noise are ignored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.features.motion import blend_saliency, motion_saliency, neighbours, normalise, own_motion, residual


def texture(height, width, seed):
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def clip(frames=9, pan=2, own=3, size=40):
    """A square that moves over a textured background while the camera pans."""
    ground, thing = texture(96, 200, 0), texture(size, size, 1)
    shown, masks = [], []
    for time in range(frames):
        picture = ground[:, 20 + pan * time : 148 + pan * time].copy()
        left = 20 + own * time
        picture[30 : 30 + size, left : left + size] = thing
        mask = np.zeros(picture.shape[:2], dtype=bool)
        mask[30 : 30 + size, left : left + size] = True
        shown.append(picture)
        masks.append(mask)
    return shown, masks


def test_object_that_moves_against_the_camera_is_salient():
    frames, masks = clip()
    salient = own_motion([frame.mean(2).astype(np.uint8) for frame in frames], 4) > 0.5
    inside = masks[4]
    assert (salient & inside).sum() / (salient | inside).sum() > 0.5


@pytest.mark.parametrize("index", [0, 8])
def test_both_ends_of_a_clip_have_saliency(index):
    frames, masks = clip()
    salient = own_motion([frame.mean(2).astype(np.uint8) for frame in frames], index)
    assert salient[masks[index]].mean() > 3 * salient[~masks[index]].mean()


def test_camera_motion_alone_is_not_salient():
    frames, _ = clip(own=-2, pan=2)
    assert motion_saliency([frame[:28] for frame in frames], 4, 8, 4).mean() < 0.15


def test_still_clip_is_not_salient():
    frames = [texture(64, 64, 0)] * 5
    assert motion_saliency(frames, 2, 8, 4).max() < 0.1


def test_single_frame_is_not_salient():
    assert not motion_saliency([texture(40, 48, 0)], 0, 8, 4).any()


@pytest.mark.parametrize(("patch", "stride"), [(8, 8), (8, 4), (14, 7)])
def test_grid_holds_the_mean_over_each_patch(patch, stride):
    frames, _ = clip()
    found = motion_saliency(frames, 4, patch, stride)
    import cv2

    strength = own_motion([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames], 4)
    height, width = strength.shape
    plain = [
        [strength[top : top + patch, left : left + patch].mean() for left in range(0, width - patch + 1, stride)]
        for top in range(0, height - patch + 1, stride)
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_the_same_frames_give_the_same_map():
    frames, _ = clip()
    np.testing.assert_array_equal(motion_saliency(frames, 4, 8, 4), motion_saliency(frames, 4, 8, 4))


def test_frames_of_several_sizes_are_refused():
    with pytest.raises(InputError, match="one size"):
        motion_saliency([texture(40, 40, 0), texture(40, 48, 0)], 0, 8, 4)


def test_flow_of_a_turning_camera_leaves_nothing():
    y, x = np.mgrid[:64, :96].astype(np.float32)
    angle = 0.03
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], -1)
    assert residual(turned - np.stack([x, y], -1)).max() < 0.05


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 12), place=st.floats(0, 0.999))
def test_neighbours_exist_and_are_others(length, place):
    index = int(place * length)
    found = neighbours(index, length)
    assert all(0 <= other < length and other != index for other in found)
    assert bool(found) == (length > 1)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0, 1e4))
def test_normalised_motion_stays_in_range(scale):
    strength = np.random.default_rng(0).uniform(0, 1, (20, 30)).astype(np.float32) * np.float32(scale)
    found = normalise(strength)
    assert found.min() >= 0
    assert found.max() <= 1


def test_blend_needs_attention_and_prefers_motion():
    attention, motion = np.random.default_rng(0).uniform(0, 1, (2, 6, 7))
    attention[0] = 0
    found = blend_saliency(attention, motion)
    assert found.dtype == np.float32
    assert not found[0].any()
    assert found.max() == 1
    more = motion.copy()
    more[2, 2] = 1
    assert blend_saliency(attention, more)[2, 2] >= found[2, 2]


def test_blend_of_nothing_is_nothing():
    assert not blend_saliency(np.zeros((3, 4)), np.ones((3, 4))).any()
