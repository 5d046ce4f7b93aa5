"""Training: losses fall, a resumed run equals an uninterrupted one, exported weights load in the pipeline."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as load_safetensors

from pipeline.config import FeatureSettings, SaliencySettings
from pipeline.features.extractor import Extractor
from pipeline.features.weights import load_file
from pipeline.training.losses import label_patches, saliency_loss
from pipeline.training.model import SmallViT, SmallViTConfig, export_weights
from pipeline.training.regions import as_descriptors
from pipeline.training.scenes import SceneMaker
from pipeline.training.skeletons import REGIONS
from pipeline.training.train import LARGE, LONGEST_STEP_S, Trainer, TrainingConfig, learning_rate_share, train
from pipeline.training.validation import figure_j, match_share

pytestmark = pytest.mark.usefixtures("few_textures")

TINY = SmallViTConfig(dim=24, depth=2, heads=3, img_size=32)


def config(steps=4, **changes):
    return TrainingConfig(steps=steps, species=2, seed=5, half=False, vit=TINY, **changes)


def test_steps_on_one_batch_lower_the_loss():
    torch.manual_seed(0)
    model = SmallViT(TINY)
    scenes = SceneMaker(0).draw(3, (32, 32), ease=1.0)
    labels = label_patches(scenes, 8, 8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = saliency_loss(model(scenes.pictures), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_resumed_run_ends_in_the_same_state():
    through, first = Trainer(config()), Trainer(config())
    for _ in range(4):
        through.step()
    for _ in range(2):
        first.step()
    second = Trainer(config())
    second.restore(first.state())
    for _ in range(2):
        second.step()
    assert second.steps == through.steps == 4
    for name, value in through.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


def test_training_into_a_folder_logs_saves_and_goes_on(tmp_path):
    train(config(2), tmp_path, save_every=1, measure_every=2, batches=1)
    done = train(config(3), tmp_path, save_every=1, measure_every=2, batches=1)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert done.steps == 3
    assert [record["step"] for record in records] == [1, 2, 3]
    assert {"saliency", "contrast", "parts"} <= records[0].keys()
    assert 0 <= records[1]["figure_j"] <= 1
    assert 0 <= records[1]["match"] <= 1
    exported = load_file(tmp_path / "vidparts_vit.safetensors")
    assert exported.identity.embed_dim == TINY.dim
    assert exported.regions is not None
    assert exported.regions.keys.shape == (len(REGIONS), TINY.dim)


def test_training_can_begin_with_given_weights(tmp_path):
    torch.manual_seed(1)
    export_weights(SmallViT(TINY), tmp_path / "vit.safetensors")
    given = Trainer(config(weights=tmp_path / "vit.safetensors"))
    assert torch.equal(given.student.cls_token.half(), load_safetensors(tmp_path / "vit.safetensors")["cls_token"])
    assert not torch.equal(given.student.cls_token, Trainer(config()).student.cls_token)
    scenes, stride = given.feed[0]
    assert (*scenes.pictures.shape[2:], stride) in LARGE
    assert Trainer(config()).feed[0][0].pictures.shape[2:] == (64, 64)


def test_directions_of_regions_begin_at_the_table_beside_given_weights(tmp_path):
    model, means = SmallViT(TINY), torch.nn.functional.normalize(torch.randn(len(REGIONS), TINY.dim), dim=1)
    means[3] = 0
    table = {"region_keys": as_descriptors(means, TINY.heads), "region_kinds": torch.ones(1, len(REGIONS))}
    export_weights(model, tmp_path / "vit.safetensors", table)
    directions = Trainer(config(weights=tmp_path / "vit.safetensors")).parts.directions.detach()
    known = torch.arange(len(REGIONS)) != 3
    assert torch.allclose(directions[known], means[known], atol=2e-3)
    assert directions[3].norm() > 0.1


def test_a_pause_counts_no_more_than_the_longest_step(monkeypatch):
    clock = iter([0.0, 1000.0])
    trainer = Trainer(config())
    monkeypatch.setattr("pipeline.training.train.time.monotonic", lambda: next(clock))
    trainer.step()
    assert trainer.seconds == LONGEST_STEP_S


def test_the_product_reads_exported_weights_as_training_does(tmp_path):
    torch.manual_seed(0)
    model = SmallViT(TINY)
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    export_weights(model, tmp_path / "vit.safetensors")
    loaded = load_file(tmp_path / "vit.safetensors")
    assert loaded.identity.saliency_heads == (0, 1, 2)
    assert loaded.identity.grid_hw == (4, 4)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    settings = FeatureSettings(load_size=32, stride=8, layer=TINY.depth - 1)
    found = Extractor(loaded, settings, SaliencySettings(half_size=False)).extract([picture], saliency=True)
    with torch.no_grad():
        output = model(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)
    attention = output.attention.view(4, 4)
    low, high = attention.min(), attention.max()
    np.testing.assert_allclose(found.saliency[0], (attention - low) / (high - low), atol=1e-2)
    # The extractor's channel order has the head as its fast axis; its position grid is scaled by a tenth of a cell.
    keys = output.keys.view(4, 4, 3, 8).transpose(2, 3).flatten(2)
    similar = torch.nn.functional.cosine_similarity(found.descriptors[0], keys, dim=-1)
    assert similar.min() > 0.97


def test_measures_of_a_perfect_reading_are_one():
    scenes = SceneMaker(0).draw(4, (32, 32))
    labels = label_patches(scenes, 8, 8)

    class Perfect:
        attention = (labels.shares[..., 0] < 0.5).float()
        keys = torch.nn.functional.one_hot(labels.part, 20).float()

    shown = (labels.shares[..., 0] < 0.5).any(1)
    assert figure_j(Perfect, labels) >= float(shown.float().mean()) - 1e-6
    both = [set(labels.part[i].tolist()) - set(labels.part[(i + 4) % 8].tolist()) for i in range(8)]
    missing = sum(sum(int(part) in lost for part in labels.part[i]) for i, lost in enumerate(both))
    assert match_share(Perfect, labels) == pytest.approx(1 - missing / int((labels.part > 0).sum()), abs=1e-6)


@pytest.mark.parametrize(("steps", "progress", "share"), [(0, 0.0, 1 / 150), (1000, 0.0, 1.0), (1000, 1.0, 0.01)])
def test_learning_rate_warms_up_and_falls(steps, progress, share):
    assert learning_rate_share(steps, progress) == pytest.approx(share)
