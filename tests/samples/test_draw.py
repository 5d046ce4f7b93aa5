"""The demonstration clip: what lies in the repository is what the script draws."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from samples.draw import FRAMES, NAMES, RATE, SIZE_HW, SUPERSAMPLING, draw_frames, draw_surface, group_labels

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(scope="module")
def parts():
    with np.load(SAMPLES / "walk_parts.npz") as archive:
        return archive["labels"], archive["names"].tolist()


def test_labels_are_of_the_clip(parts):
    labels, names = parts
    assert labels.dtype == np.uint8
    assert labels.shape == (FRAMES, *SIZE_HW)
    assert tuple(names) == NAMES
    with av.open(str(SAMPLES / "walk.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == RATE
        shapes = [(frame.height, frame.width) for frame in container.decode(stream)]
    assert shapes == [SIZE_HW] * FRAMES


def test_labels_are_what_the_script_draws(parts):
    labels, _ = parts
    frames = [0, 61, 124]
    drawn = group_labels(draw_surface(torch.tensor(frames) / FRAMES, SIZE_HW)[0])
    assert (drawn == labels[frames]).mean() > 0.999


def test_pictures_are_what_the_script_draws():
    picture, _ = draw_frames(torch.tensor([0.0]))
    with av.open(str(SAMPLES / "walk.mp4")) as container:
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(picture[0].astype(int) - first).mean() < 6


def test_every_part_shows_in_every_frame(parts):
    labels, _ = parts
    for label in range(1, len(NAMES)):
        assert ((labels == label).sum((1, 2)) > 100).all(), NAMES[label]


def test_parts_move(parts):
    labels, _ = parts
    assert SUPERSAMPLING > 1
    assert ((labels[0] == 3) != (labels[10] == 3)).sum() > 200
