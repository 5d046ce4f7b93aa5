"""Kinds of fuzz cases: what is mutated, and which commands read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

from tests.fuzz import documents, stores, weights
from tests.fuzz.corpus import Corpus
from tests.fuzz.mutations import damage_container
from tests.fuzz.pictures import damage_directory
from tests.fuzz.sandbox import Build, Case

Kind = Callable[[Random, Corpus, Path], Case]


def builder(seed: int, corpus: Corpus) -> Build:
    """The builder of a seed's case; it depends only on the seed."""
    kind = KINDS[seed % len(KINDS)]
    return lambda play: _MAKERS[kind](Random(f"{kind} {seed}"), corpus, play)


def whole_results(play: Path) -> Callable[[Sequence[int]], str | None]:
    """A check: `verify` accepts the output of successful commands, and failed ones leave no output."""

    def check(codes: Sequence[int]) -> str | None:
        from pipeline.errors import VidpartsError
        from pipeline.tasks.verify import verify

        out = play / "out" / "new"
        results = [file.parent for file in out.glob("*/run.json")]
        if codes[0] == 0 and not results:
            return "exit code 0, and no result"
        left = [path.name for path in out.glob(".*") if path.name != ".run" or codes[0] != 4]
        if left:
            return f"left behind: {left}"
        try:
            for result in results:
                verify(result)
        except VidpartsError as error:
            return f"exit code {codes[0]}, and the result is not complete: {error}"
        return None

    return check


def _container(random: Random, corpus: Corpus, play: Path) -> Case:
    name = random.choice(sorted(corpus.films))
    film = play / name
    film.write_bytes(_damaged_film(random, corpus, name))
    if random.random() < 0.1:
        film = film.rename(play / random.choice(("x.mp4", "x.png", "x.gif", "x.avi", "x", "x.m3u8")))
    words: list[object] = ["segment", film, "-o", play / "out" / "new", *corpus.options]
    if random.random() < 0.7:
        words += ["--codebook", corpus.codebook]
    words += random.choice(([], [], [], ["--every", 2], ["--start", 0.1], ["--save-frames"], ["--end", 0.12]))
    return Case([words], whole_results(play))


def _damaged_film(random: Random, corpus: Corpus, name: str) -> bytes:
    data = corpus.films[name]
    choice = random.random()
    if choice < 0.9:
        return damage_container(random, data, f".{name.rsplit('.', 1)[1]}")
    if choice < 0.95:
        return data + corpus.films[random.choice(sorted(corpus.films))]
    return random.choice((
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        random.randbytes(3000),
        b"\0" * 4096,
        data[:100] * 200,
    ))  # fmt: skip


def _codebook(random: Random, corpus: Corpus, play: Path) -> Case:
    file = play / "codebook.safetensors"
    file.write_bytes(weights.damage_codebook(random, corpus.codebook.read_bytes()))
    words = ["segment", corpus.clip, "-o", play / "out" / "new", *corpus.options, "--codebook", file, "--every", 5]
    return Case([words], whole_results(play))


def _checkpoint(random: Random, corpus: Corpus, play: Path) -> Case:
    name, data = weights.damage_checkpoint(random, corpus.pth, play / "bait")
    (play / name).write_bytes(data)
    options = ["--model", play / name, "--load-size", 48, "--stride", 8, "--device", "cpu", "--layer", 3]
    picture = play / "a.png"
    picture.write_bytes(corpus.pictures["a.png"])
    if random.random() < 0.5:
        options += ["--heads", random.choice((3, 4, 6, 48))]
    return Case([["features", picture, "-o", play / "out" / "a.npz", *options]])


def _directory(random: Random, corpus: Corpus, play: Path) -> Case:
    given = damage_directory(random, corpus.pictures, play / "frames", play / "bait")
    words: list[list[object]] = [
        ["segment", given, "-o", play / "out" / "new", *corpus.options, "--codebook", corpus.codebook, "--save-frames"]
    ]
    tiny = ["--model", corpus.options[1], "--load-size", 48, "--stride", 8, "--device", "cpu"]
    words += random.choice((
        [["features", given, "-o", play / "out" / "a.npz", *tiny]],
        [["parts", given, "-o", play / "out" / "parts", *corpus.options[:10], "--config", corpus.options[-1]]],
        [["coseg", given, "-o", play / "out" / "coseg", *tiny, "--config", corpus.options[-1]]],
        [["saliency", given, "-o", play / "out" / "saliency", *tiny]],
        [["segment", given, "-o", play / "out" / "new", "--overwrite", *corpus.options]],
    ))  # fmt: skip
    return Case(words)


def _config(random: Random, corpus: Corpus, play: Path) -> Case:
    file = play / "settings.yaml"
    file.write_bytes(documents.damage_settings(random, play / "bait"))
    words = ["segment", corpus.clip, "-o", play / "out" / "new", *corpus.options[:-2], "--config", file]
    # Settings that cost time are fixed: a file that asks for an hour of work isn't a fault.
    words += ["--every", 7, "--facet", "key", "--layer", 11, "--batch", 1]
    if random.random() < 0.5:
        words += ["--codebook", corpus.codebook]
    return Case([words], whole_results(play))


_MAKERS: Mapping[str, Kind] = {
    "container": _container,
    "codebook": _codebook,
    "labels": stores.labels_case,
    "config": _config,
    "checkpoint": _checkpoint,
    "directory": _directory,
    "record": stores.record_case,
    "plan": stores.plan_case,
}

KINDS = tuple(_MAKERS)
"""Kind of a seed: seed modulo the number of kinds."""
