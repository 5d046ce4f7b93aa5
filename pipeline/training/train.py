"""Trains the bundled backbone on made-up scenes: `python -m pipeline.training.train --minutes 60 --out DIR`.

Seeded and resumable: DIR holds `state.pt`, `log.jsonl` and the exported `vidparts_vit.safetensors`; the same command
goes on where it was stopped. With `--steps` alone, equal seeds give equal weights on one machine.
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

from pipeline.training.dice import Dice
from pipeline.training.losses import Distillation, PartPrototypes, contrast_loss, label_patches, saliency_loss
from pipeline.training.measure import measure_scenes
from pipeline.training.model import Shape, SmallViT, export_weights, load_weights
from pipeline.training.regions import as_keys, region_table
from pipeline.training.scenes import SceneMaker, Scenes

EASY_UNTIL, SMALL_UNTIL = 0.3, 0.6
"""Shares of the training in which scenes are eased, and pictures are small."""
SMALL = ((64, 64, 8),)
LARGE = ((160, 160, 8), (128, 224, 8), (160, 256, 8), (112, 176, 8), (88, 144, 4))
"""Height, width, stride of the pictures of a step."""
WEIGHTS = {"saliency": 1.0, "contrast": 0.5, "parts": 1.5, "distillation": 0.1}
DISTIL_EVERY = 8
LONGEST_STEP_S = 20.0
"""What a step counts at most, so that a pause of the process doesn't use up its minutes."""
EXPORTED = "vidparts_vit.safetensors"


@dataclass(frozen=True)
class Plan:
    """How long and how: `steps` or `minutes` (whichever ends first), species a step, peak learning rate, seed.

    `half` computes in bfloat16 where that is safe; `workers` processes draw the scenes (0: the training's own, as a GPU
    wants it).
    """

    steps: int = 1_000_000
    minutes: float = math.inf
    species: int = 16
    rate: float = 1.5e-3
    seed: int = 0
    device: str = "cpu"
    half: bool = True
    workers: int = 0
    shape: Shape = field(default_factory=Shape)
    weights: Path | None = None


class SceneFeed(Dataset[tuple[Scenes, int]]):
    """The scenes of each step and the stride to read them at; step number and progress alone decide them."""

    def __init__(self, plan: Plan) -> None:
        """Prepare; the textures are drawn where the scenes are, at first use."""
        self.plan = plan
        self.clock = Value("d", 0.0, lock=False)

    def progress(self, steps: int) -> float:
        """Share of the plan that is done after so many steps, 0 to 1."""
        timed: float = self.clock.value / (60 * self.plan.minutes)
        return min(1.0, max(steps / self.plan.steps, timed))

    def __getitem__(self, step: int) -> tuple[Scenes, int]:
        """Draw the scenes of a step."""
        progress = 1.0 if self.plan.weights else self.progress(step)
        sizes = SMALL if progress < SMALL_UNTIL else LARGE
        height, width, stride = sizes[step % len(sizes)]
        self.maker.dice = dice_of_step(self.plan, step)
        return self.maker.draw(self.plan.species, (height, width), max(0.0, 1 - progress / EASY_UNTIL)), stride

    @cached_property
    def maker(self) -> SceneMaker:
        """What draws the scenes."""
        return SceneMaker(self.plan.seed, self.plan.device)

    def batches(self, first: int) -> Iterator[tuple[Scenes, int]]:
        """Draw the scenes from a step on, in a process of their own where the plan says so."""
        steps = range(first, self.plan.steps)
        return iter(DataLoader(self, None, sampler=steps, num_workers=self.plan.workers, collate_fn=_as_it_is))


def dice_of_step(plan: Plan, step: int) -> Dice:
    """Give the dice of one step."""
    return Dice(plan.seed * 1_000_003 + step, plan.device)


def _as_it_is(scenes: Any) -> Any:
    return scenes


class Trainer:
    """Student, slow teacher, optimiser and scenes; `step` makes one step, `state` and `restore` carry it over."""

    def __init__(self, plan: Plan) -> None:
        """Build everything from the plan's seed."""
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.feed = SceneFeed(plan)
        self.batches: Iterator[tuple[Scenes, int]] | None = None
        self.student = SmallViT(plan.shape).to(plan.device)
        if plan.weights:
            load_weights(self.student, plan.weights)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.parts = PartPrototypes(plan.shape.dim).to(plan.device)
        if plan.weights:
            self._begin_at_regions(plan.weights)
        self.distillation = Distillation(plan.shape.dim).to(plan.device)
        self.optimisers = self._optimisers()
        self.steps, self.seconds = 0, 0.0

    @property
    def progress(self) -> float:
        """Share of the plan that is done, 0 to 1."""
        return self.feed.progress(self.steps)

    def step(self) -> dict[str, float]:
        """Draw scenes, make one step, give the losses."""
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
        """Give all that a later run needs to go on."""
        modules = {name: getattr(self, name).state_dict() for name in ("student", "average", "parts", "distillation")}
        counters = {
            "steps": self.steps,
            "seconds": self.seconds,
            "optimisers": [o.state_dict() for o in self.optimisers],
        }
        return modules | counters

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name in ("student", "average", "parts", "distillation"):
            getattr(self, name).load_state_dict(state[name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.steps, self.seconds, self.batches = state["steps"], state["seconds"], None
        self.feed.clock.value = self.seconds

    def _begin_at_regions(self, weights: Path) -> None:
        """Take the directions of the regions from the table beside given weights, where there is one."""
        table = load_file(weights).get("region_keys")
        if table is not None:
            self.parts.begin_at(as_keys(table.float(), self.plan.shape.heads).to(self.plan.device))

    def _losses(self) -> dict[str, Tensor]:
        if self.batches is None:
            self.batches = self.feed.batches(self.steps)
        scenes, stride = next(self.batches)
        labels = label_patches(scenes, self.plan.shape.patch, stride)
        with self._arithmetic():
            reading = self.student(scenes.pictures, stride)
        losses = {
            "saliency": saliency_loss(reading, labels),
            "contrast": contrast_loss(reading.keys, labels, dice_of_step(self.plan, self.steps)),
            "parts": self.parts(reading.keys, labels),
        }
        if self.steps % DISTIL_EVERY == 0:
            with self._arithmetic(), torch.no_grad():
                slow = self.average(scenes.pictures, stride).cls
            losses["distillation"] = self.distillation(reading.cls, slow)
        return losses

    def _arithmetic(self) -> Any:
        device = torch.device(self.plan.device).type
        return torch.autocast(device, torch.bfloat16) if self.plan.half else nullcontext()

    def _follow(self) -> None:
        """Let the averages follow the student, faster at first."""
        keep = min(0.995, (1 + self.steps) / (10 + self.steps))
        for slow, fast in ((self.average, self.student), (self.distillation.teacher, self.distillation.student)):
            with torch.no_grad():
                torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - keep)

    def _parameters(self) -> Iterator[nn.Parameter]:
        for module in (self.student, self.parts, self.distillation.student):
            yield from module.parameters()

    def _optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Muon for the blocks' matrices, which halves the scenes that are needed, AdamW for all else."""
        matrices = [parameter for parameter in self.student.blocks.parameters() if parameter.ndim == 2]
        theirs = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in self._parameters() if id(parameter) not in theirs]
        rate = self.plan.rate
        both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, rate, 0.02, 0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, rate / 3, (0.9, 0.98), weight_decay=0.0),
        )
        for optimiser in both:
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]
        return both


def learning_rate_share(steps: int, progress: float) -> float:
    """Give the share of the peak rate: a short warm-up, then a cosine down to a hundredth."""
    warm = min(1.0, (steps + 1) / 150)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(plan: Plan, out: Path, save_every: int = 100, measure_every: int = 300, batches: int = 24) -> Trainer:
    """Train into a folder, going on from what lies there; at the end measure the regions on so many batches."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(plan)
    if (out / "state.pt").exists():
        trainer.restore(torch.load(out / "state.pt", map_location=plan.device))
    with tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
        while trainer.progress < 1:
            losses = trainer.step()
            bar.n = round(100 * trainer.progress, 1)
            bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()})
            record: dict[str, float] = {"step": trainer.steps, "seconds": round(trainer.seconds, 1), **losses}
            if trainer.steps % measure_every == 0:
                record |= measure_scenes(trainer.average, plan.half)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            if trainer.steps % save_every == 0:
                save(trainer, out)
    save(trainer, out)
    export_weights(trainer.average, out / EXPORTED, region_table(trainer.average, batches))
    return trainer


def save(trainer: Trainer, out: Path) -> None:
    """Write the state and the averaged weights; a kill in between leaves the old files whole."""
    torch.save(trainer.state(), out / "state.new")
    (out / "state.new").replace(out / "state.pt")
    export_weights(trainer.average, out / "weights.new")
    (out / "weights.new").replace(out / EXPORTED)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Trains the bundled backbone on made-up scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder of state, log and weights; resumed if there")
    parser.add_argument(
        "--from", dest="weights", type=Path, help="weights to begin with; scenes are large and hard at once"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="time to train, without measuring")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--species", type=int, default=Plan.species, help="species a step; two pictures each")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes; 0 on a GPU")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    plan = Plan(settings.steps, settings.minutes, settings.species, settings.rate, settings.seed, settings.device)
    plan = replace(plan, workers=settings.workers, weights=settings.weights)
    train(plan, settings.out)


if __name__ == "__main__":
    main()
