"""Train the bundled backbone: `python -m pipeline.training.train --minutes 60 --out DIR`.

DIR gets the checkpoint `state.pt`, `log.jsonl` and the exported `vidparts_vit.safetensors`; the same command resumes a
stopped run. With `--steps` instead of `--minutes`, equal seeds give equal weights on one machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import Value
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pipeline.training.losses import PartPrototypes, contrast_loss, label_patches, saliency_loss
from pipeline.training.model import SmallViT, SmallViTConfig, export_weights, load_weights
from pipeline.training.own_masks import own_masks
from pipeline.training.photo_losses import PHOTO_WEIGHTS, PhotoTerms, with_grounds
from pipeline.training.photos import Photographs
from pipeline.training.regions import as_keys, region_table
from pipeline.training.rng import Rng
from pipeline.training.scenes import SceneMaker, Scenes
from pipeline.training.validation import validate

EASY_UNTIL, SMALL_UNTIL = 0.3, 0.6
"""Curriculum: shares of the training until which scenes are made easier, and pictures are small."""
SMALL = ((64, 64, 8),)
LARGE = ((160, 160, 8), (128, 224, 8), (160, 256, 8), (112, 176, 8), (88, 144, 4))
"""Height and width of a step's pictures, and stride of its patches."""
WEIGHTS = {"saliency": 1.0, "contrast": 0.5, "parts": 1.5} | PHOTO_WEIGHTS
PHOTO_SIZES = ((128, 128), (96, 144), (144, 112), (112, 192), (168, 168))
"""Height and width of a step's views of photographs."""
LONGEST_STEP_S = 20.0
"""Upper limit of the time counted for a step, so that a suspended process doesn't use up its minutes."""
EXPORTED = "vidparts_vit.safetensors"


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a training run.

    Attributes:
        steps: maximum number of steps.
        minutes: maximum training time, without validation; the first limit reached ends the run.
        species: species per step, two pictures each.
        rate: peak learning rate.
        seed: of weights, scenes and samples.
        device: device of model and scenes.
        half: bfloat16 autocast.
        workers: processes that draw scenes; 0 draws them in the training process, as needed on a GPU.
        vit: sizes of the model.
        weights: weights to start from; None for random ones.
        photos: folder of photographs, one folder a kind, that are learnt from beside the scenes; None: scenes alone.
        photos_per_step: photographs in a step, two views each.
        mask_rounds: how often the photographs' own masks are made anew.
        kinds: weight of the kinds' names.
        keep: share of the weights to start from in the exported ones.
    """

    steps: int = 1_000_000
    minutes: float = math.inf
    species: int = 16
    rate: float = 1.5e-3
    seed: int = 0
    device: str = "cpu"
    half: bool = True
    workers: int = 0
    vit: SmallViTConfig = field(default_factory=SmallViTConfig)
    weights: Path | None = None
    photos: Path | None = None
    photos_per_step: int = 16
    mask_rounds: int = 1
    kinds: float = 0.2
    keep: float = 0.0


class SceneFeed(Dataset[tuple[Scenes, int]]):
    """Scenes and patch stride of each step; a function of seed, step number and progress."""

    def __init__(self, config: TrainingConfig) -> None:
        """Prepare; each worker process draws its textures at first use."""
        self.config = config
        self.clock = Value("d", 0.0, lock=False)

    def progress(self, steps: int) -> float:
        """Share of the run that is done after some steps, 0 to 1, by steps or by time."""
        timed: float = self.clock.value / (60 * self.config.minutes)
        return min(1.0, max(steps / self.config.steps, timed))

    def __getitem__(self, step: int) -> tuple[Scenes, int]:
        """Draw the scenes of a step."""
        progress = 1.0 if self.config.weights else self.progress(step)
        sizes = SMALL if progress < SMALL_UNTIL else LARGE
        height, width, stride = sizes[step % len(sizes)]
        self.maker.rng = rng_of_step(self.config, step)
        return self.maker.draw(self.config.species, (height, width), max(0.0, 1 - progress / EASY_UNTIL)), stride

    @cached_property
    def maker(self) -> SceneMaker:
        """Source of the scenes."""
        return SceneMaker(self.config.seed, self.config.device)

    def batches(self, first: int) -> Iterator[tuple[Scenes, int]]:
        """Iterate over the scenes from a step on, drawn by `workers` processes."""
        steps = range(first, self.config.steps)
        return iter(DataLoader(self, None, sampler=steps, num_workers=self.config.workers, collate_fn=_as_it_is))


def rng_of_step(config: TrainingConfig, step: int) -> Rng:
    """Return the random generator of a step."""
    return Rng(config.seed * 1_000_003 + step, config.device)


def _as_it_is(scenes: Any) -> Any:
    return scenes


class Trainer:
    """Student, teacher (moving average), optimisers and scenes; `state` and `restore` make and load checkpoints."""

    def __init__(self, config: TrainingConfig) -> None:
        """Initialise from the config's seed."""
        torch.manual_seed(config.seed)
        self.config = config
        self.feed = SceneFeed(config)
        self.batches: Iterator[tuple[Scenes, int]] | None = None
        self.student = SmallViT(config.vit).to(config.device)
        if config.weights:
            load_weights(self.student, config.weights)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.parts = PartPrototypes(config.vit.dim).to(config.device)
        if config.weights:
            self._begin_at_regions(config.weights)
        self.photographs = Photographs(config.photos) if config.photos else None
        if self.photographs:
            self.photo_terms = PhotoTerms(config.vit.dim, self.photographs.kinds).to(config.device)
        self.optimisers = self._optimisers()
        self.steps, self.seconds = 0, 0.0

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.feed.progress(self.steps)

    def step(self) -> dict[str, float]:
        """Draw scenes, take one optimisation step and return the losses."""
        began = time.monotonic()
        progress = self.progress
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * learning_rate_share(self.steps, progress)
        losses = self._losses()
        total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers:
            optimiser.step()
        self._follow()
        self.steps += 1
        self.seconds += min(time.monotonic() - began, LONGEST_STEP_S)
        self.feed.clock.value = self.seconds
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def state(self) -> dict[str, Any]:
        """Return a checkpoint, all that a later run needs to resume."""
        modules = {name: getattr(self, name).state_dict() for name in self._names}
        counters = {
            "steps": self.steps,
            "seconds": self.seconds,
            "optimisers": [o.state_dict() for o in self.optimisers],
        }
        return modules | counters

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        for name in self._names:
            getattr(self, name).load_state_dict(state[name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.steps, self.seconds, self.batches = state["steps"], state["seconds"], None
        self.feed.clock.value = self.seconds

    @property
    def _names(self) -> tuple[str, ...]:
        """Modules of a checkpoint."""
        return "student", "average", "parts", *(("photo_terms",) if self.photographs else ())

    def _begin_at_regions(self, weights: Path) -> None:
        """Initialise the prototypes with the region keys in the weight file, if it has any."""
        table = load_file(weights).get("region_keys")
        if table is not None:
            self.parts.begin_at(as_keys(table.float(), self.config.vit.heads).to(self.config.device))

    def _losses(self) -> dict[str, Tensor]:
        if self.batches is None:
            self.batches = self.feed.batches(self.steps)
        scenes, stride = next(self.batches)
        rng = rng_of_step(self.config, self.steps)
        if self.photographs:
            scenes = with_grounds(scenes, self.photographs, rng)
        labels = label_patches(scenes, self.config.vit.patch, stride)
        with self._arithmetic():
            output = self.student(scenes.pictures, stride)
        losses = {
            "saliency": saliency_loss(output, labels),
            "contrast": contrast_loss(output.keys, labels, rng),
            "parts": self.parts(output.keys, labels),
        }
        if self.photographs:
            losses |= self._photo_losses(self.photographs, rng)
        return losses

    def _photo_losses(self, photographs: Photographs, rng: Rng) -> dict[str, Tensor]:
        size_hw = PHOTO_SIZES[self.steps % len(PHOTO_SIZES)]
        kinds, first, second = photographs.draw(rng, self.config.photos_per_step, size_hw)
        both = torch.cat([first.pictures, second.pictures])
        with self._arithmetic():
            student = self.student(both)
            with torch.no_grad():
                teacher = self.average(both)
        losses: dict[str, Tensor] = self.photo_terms(student, teacher, first, second, kinds, self.parts.directions)
        losses["kinds"] = losses["kinds"] * self.config.kinds
        return losses

    def _arithmetic(self) -> Any:
        device = torch.device(self.config.device).type
        return torch.autocast(device, torch.bfloat16) if self.config.half else nullcontext()

    def _follow(self) -> None:
        """Update the moving averages of the student, with a smaller momentum at first."""
        keep = min(0.995, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.student.parameters()), 1 - keep)

    def _parameters(self) -> Iterator[nn.Parameter]:
        for module in (self.student, self.parts):
            yield from module.parameters()
        if self.photographs:
            yield from self.photo_terms.parameters()

    def _optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Muon for the blocks' matrices, which needs half as many scenes as AdamW; AdamW for all other parameters."""
        matrices = [parameter for parameter in self.student.blocks.parameters() if parameter.ndim == 2]
        theirs = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in self._parameters() if id(parameter) not in theirs]
        rate = self.config.rate
        both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, rate, 0.02, 0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, rate / 3, (0.9, 0.98), weight_decay=0.0),
        )
        for optimiser in both:
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]
        return both


def learning_rate_share(steps: int, progress: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then cosine decay to a hundredth."""
    warm = min(1.0, (steps + 1) / 150)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    config: TrainingConfig, out: Path, save_every: int = 100, measure_every: int = 300, batches: int = 24
) -> Trainer:
    """Train and write to a folder, resuming from its checkpoint; the region prior is measured on `batches` batches."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config)
    if (out / "state.pt").exists():
        trainer.restore(torch.load(out / "state.pt", map_location=config.device))
    with tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
        while trainer.progress < 1:
            if trainer.photographs:
                _give_masks(trainer, trainer.photographs, out)
            losses = trainer.step()
            bar.n = round(100 * trainer.progress, 1)
            bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()})
            record: dict[str, float] = {"step": trainer.steps, "seconds": round(trainer.seconds, 1), **losses}
            if trainer.steps % measure_every == 0:
                record |= validate(trainer.average, config.half)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            if trainer.steps % save_every == 0:
                save(trainer, out)
    save(trainer, out)
    final = copy.deepcopy(trainer.average)
    if config.weights and config.keep:
        _keep(final, config)
    export_weights(final, out / EXPORTED, region_table(final, batches))
    return trainer


def _keep(model: SmallViT, config: TrainingConfig) -> None:
    """Mix the weights that training began with into a model: what it forgot comes back, most of the new stays."""
    assert config.weights is not None
    first = SmallViT(config.vit).to(config.device)
    load_weights(first, config.weights)
    with torch.no_grad():
        torch._foreach_lerp_(list(model.parameters()), list(first.parameters()), config.keep)


def _give_masks(trainer: Trainer, photographs: Photographs, out: Path) -> None:
    """Make the masks at the start of each round from the averaged weights, or take them from the folder."""
    turn = int(trainer.progress * trainer.config.mask_rounds)
    file = out / f"masks-{turn}.pt"
    if file.exists() and photographs.turn == turn:
        return
    if not file.exists():
        pixels = tqdm(photographs.pixels, "masks", disable=None)
        torch.save(own_masks(trainer.average, pixels, photographs.kind.tolist()), file)
    photographs.masks, photographs.turn = torch.load(file, weights_only=False), turn


def save(trainer: Trainer, out: Path) -> None:
    """Write checkpoint and averaged weights, each atomically: a killed process leaves the old file."""
    torch.save(trainer.state(), out / "state.new")
    (out / "state.new").replace(out / "state.pt")
    export_weights(trainer.average, out / "weights.new")
    (out / "weights.new").replace(out / EXPORTED)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train the bundled backbone on synthetic scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, log and weights; resumed if any")
    parser.add_argument("--from", dest="weights", type=Path, help="weights to start from; skips the curriculum")
    parser.add_argument("--photos", type=Path, help="folder of photographs, a folder a kind, to learn from as well")
    parser.add_argument("--photos-per-step", type=int, default=TrainingConfig.photos_per_step, help="two views each")
    parser.add_argument(
        "--mask-rounds", type=int, default=TrainingConfig.mask_rounds, help="how often the photographs' masks are made"
    )
    parser.add_argument("--kinds", type=float, default=TrainingConfig.kinds, help="weight of the kinds' names")
    parser.add_argument("--keep", type=float, default=0.0, help="share of the weights of --from in the exported ones")
    parser.add_argument("--minutes", type=float, default=math.inf, help="training time, without validation")
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps)
    parser.add_argument(
        "--species", type=int, default=TrainingConfig.species, help="species per step, two pictures each"
    )
    parser.add_argument("--rate", type=float, default=TrainingConfig.rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes; use 0 on a GPU")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    config = TrainingConfig(
        settings.steps, settings.minutes, settings.species, settings.rate, settings.seed, settings.device
    )
    config = replace(config, workers=settings.workers, weights=settings.weights, photos=settings.photos)
    config = replace(config, photos_per_step=settings.photos_per_step, mask_rounds=settings.mask_rounds)
    config = replace(config, kinds=settings.kinds, keep=settings.keep)
    train(config, settings.out)


if __name__ == "__main__":
    main()
