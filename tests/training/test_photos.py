"""Photographs in training: views know their places, pasted objects their masks, and masks follow the attention."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.training.model import SmallViT, SmallViTConfig, export_weights
from pipeline.training.own_masks import Seen, in_common, own_mask, see
from pipeline.training.photo_losses import PHOTO_WEIGHTS, PhotoTerms, with_grounds
from pipeline.training.photos import Photographs, seen_places
from pipeline.training.rng import Rng
from pipeline.training.scenes import SceneMaker
from pipeline.training.train import EXPORTED, Trainer, TrainingConfig, train

pytestmark = pytest.mark.usefixtures("few_textures")

TINY = SmallViTConfig(dim=24, depth=2, heads=3, img_size=32)
SIZE = (48, 64)


def photograph(seed: int, height: int = 100, width: int = 140) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on dark ground whose red and green say where one is, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    disc = (x - rng.integers(50, 90)) ** 2 + (y - rng.integers(40, 60)) ** 2 < 28**2
    picture = np.stack([20 + 60 * x / width, 20 + 60 * y / height, np.where(disc, 240, 20)], -1)
    return picture.astype(np.uint8), disc


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        file = tmp_path / "photos" / ("cup", "fox")[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(number)[0]).save(file, quality=98)
    return tmp_path / "photos"


@pytest.fixture
def photographs(folder: Path) -> Photographs:
    """With the true masks."""
    found = Photographs(folder)
    for file in found.files:
        disc = photograph(int(file.stem))[1][::2, ::2]
        found.masks.append(own_mask([disc.astype(np.float32)] * 2, disc.astype(np.float32)))
    return found


def test_a_mask_is_trusted_as_far_as_single_maps_agree_with_it() -> None:
    disc = photograph(0)[1][::2, ::2].astype(np.float32)
    found = own_mask([disc, disc], disc)
    assert ((found.cover > 0) == (disc > 0)).all()
    assert found.agreement == 1
    assert 0.3 < own_mask([disc, np.roll(disc, 15, axis=1)], disc).agreement < 0.9
    assert own_mask([np.ones_like(disc)] * 2, np.ones_like(disc)).agreement == 0.0


def test_what_a_kind_has_in_common_mends_single_masks() -> None:
    """Each picture's first mask misses a corner of its object and has one of its ground; the keys know better."""
    rng = np.random.default_rng(0)
    figure, ground, truths, seen = *rng.normal(0, 1, (2, 8)), [], []
    for number in range(12):
        truth = photograph(number)[1][::10, ::10].astype(np.float32)
        keys = np.where(truth[..., None] > 0, figure, ground) + rng.normal(0, 0.7, (*truth.shape, 8))
        first = cv2.resize(truth, (70, 50), interpolation=cv2.INTER_NEAREST)
        first[20:30, 25 + number % 3 * 5 : 35 + number % 3 * 5] = 0
        first[number % 4 * 10 :][:10, :15] = 1
        truths.append(cv2.resize(truth, (70, 50), interpolation=cv2.INTER_NEAREST))
        seen.append(Seen([first], (keys / np.linalg.norm(keys, axis=-1, keepdims=True)).astype(np.float32)))
    covers = in_common(seen)
    wrong = [np.abs(item.attention[0] - truth).mean() for item, truth in zip(seen, truths, strict=True)]
    left = [np.abs((cover > 0.5) - truth).mean() for cover, truth in zip(covers, truths, strict=True)]
    assert np.mean(left) < 0.6 * np.mean(wrong)


def test_a_photograph_is_seen_at_half_its_size_and_mirror_images_lie_on_each_other() -> None:
    torch.manual_seed(0)
    picture = np.concatenate([photograph(1)[0], photograph(1)[0][:, ::-1]], 1)
    seen = see(SmallViT(TINY), np.ascontiguousarray(picture))
    maps = seen.attention
    assert {item.shape for item in maps} == {(50, 140)}
    assert all(abs(float(item.mean()) - 1) < 0.1 for item in maps)
    # The picture is its own mirror image, so the map of the mirrored view, turned back, is the plain one mirrored.
    assert np.abs(maps[1] - maps[0][:, ::-1]).max() < 0.05
    assert np.abs(seen.keys - seen.keys[:, ::-1]).max() < 0.1


def test_views_say_what_they_show(photographs: Photographs) -> None:
    _, first, second = photographs.draw(Rng(0), 12, SIZE)
    assert first.pictures.shape == (12, 3, *SIZE)
    assert float(first.own.min()) == 1.0
    assert 0.0 < float(second.own.mean()) < 1.0
    for views in (first, second):
        places = seen_places(views.windows, SIZE)
        inside = (places.abs().amax(-1) < 0.95) & (views.own > 0.95)
        for number in range(12):
            seen = inside[number]
            if seen.sum() < 50:
                continue
            # Colours change as a whole, but red still grows along the photograph's x, green along its y.
            for axis in (0, 1):
                place, colour = places[number][seen][:, axis], views.pictures[number, axis][seen]
                if float(place.std()) > 0.1 and float(views.figure[number][seen].std()) < 0.01:
                    assert float(torch.corrcoef(torch.stack([place, colour]))[0, 1]) > 0.3


def test_an_object_lies_anywhere_in_the_second_views(photographs: Photographs) -> None:
    _, _, second = photographs.draw(Rng(1), 64, SIZE)
    pasted = second.own.amin((1, 2)) < 0.5
    assert 0.2 < float(pasted.float().mean()) < 0.8
    rows = torch.linspace(-1, 1, SIZE[0])[:, None]
    cover = second.own[pasted]
    centres = (cover * rows).sum((1, 2)) / cover.sum((1, 2)).clamp_min(1e-6)
    assert float(centres.std()) > 0.2


def test_the_same_place_is_found_in_both_views(photographs: Photographs) -> None:
    torch.manual_seed(0)
    terms, model = PhotoTerms(TINY.dim, 2), SmallViT(TINY)
    kinds, first, second = photographs.draw(Rng(2), 8, SIZE)
    output = model(torch.cat([first.pictures, second.pictures]))
    losses = terms(output, output, first, second, kinds, torch.randn(15, TINY.dim))
    assert set(losses) == set(PHOTO_WEIGHTS)
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    # Masks that nobody trusts teach nothing.
    blind = [
        type(views)(views.pictures, views.figure, 0 * views.sure, views.windows, views.own) for views in (first, second)
    ]
    untold = terms(output, output, *blind, kinds, torch.randn(15, TINY.dim))
    assert untold["photo_saliency"].item() == untold["figure"].item() == 0.0
    assert untold["places"].item() == pytest.approx(losses["places"].item())


def test_some_scenes_lie_before_photographs(photographs: Photographs) -> None:
    scenes = SceneMaker(0).draw(8, SIZE)
    changed = with_grounds(scenes, photographs, Rng(3))
    differs = (changed.pictures != scenes.pictures).flatten(1).any(1)
    assert 0 < int(differs.sum()) < 16
    deep = -torch.nn.functional.max_pool2d(-(scenes.parts > 0).float()[:, None], 3, 1, 1) > 0
    assert torch.allclose(
        changed.pictures[deep.expand_as(changed.pictures)], scenes.pictures[deep.expand_as(scenes.pictures)]
    )
    assert torch.equal(changed.parts, scenes.parts)


def config(folder: Path, weights: Path, steps: int) -> TrainingConfig:
    return TrainingConfig(
        steps=steps, species=2, seed=5, half=False, vit=TINY, photos=folder, photos_per_step=3, weights=weights
    )


def test_a_stopped_run_goes_on_with_its_masks_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_weights(SmallViT(TINY), tmp_path / "first.safetensors")
    through = train(config(folder, tmp_path / "first.safetensors", 3), tmp_path / "through", 1, 10, batches=1)
    assert (tmp_path / "through" / "masks-0.pt").is_file()
    first = Trainer(config(folder, tmp_path / "first.safetensors", 3))
    first.photographs.masks = through.photographs.masks
    first.step()
    again = Trainer(config(folder, tmp_path / "first.safetensors", 3))
    again.restore(first.state())
    again.photographs.masks = through.photographs.masks
    for _ in range(2):
        again.step()
    for name, value in through.average.state_dict().items():
        assert torch.equal(value, again.average.state_dict()[name]), name


def test_the_weights_that_training_began_with_can_be_mixed_in(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_weights(SmallViT(TINY), tmp_path / "first.safetensors")
    made = {}
    for keep in (0.0, 0.5, 1.0):
        chosen = dataclasses.replace(config(folder, tmp_path / "first.safetensors", 2), keep=keep)
        train(chosen, tmp_path / str(keep), 10, 10, batches=1)
        made[keep] = load_file(tmp_path / str(keep) / EXPORTED)
    first, name = load_file(tmp_path / "first.safetensors"), "blocks.0.attn.qkv.weight"
    assert torch.equal(made[1.0][name], first[name])
    assert torch.allclose(made[0.5][name], (made[0.0][name] + first[name]) / 2, atol=2e-3)
    assert not torch.equal(made[0.0][name], first[name])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures in"):
        Photographs(tmp_path)
