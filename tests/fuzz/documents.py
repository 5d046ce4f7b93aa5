"""Malicious settings: invalid values, YAML bombs, YAML that would run code."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.corpus import SETTINGS
from tests.fuzz.mutations import any_value, damage_bytes, damage_document

_DEFAULTS = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"


def damage_settings(random: Random, bait: Path) -> bytes:
    """A malformed or malicious YAML file of settings."""
    choice = random.random()
    if choice < 0.55:
        return _one_value(random)
    if choice < 0.75:
        whole = _quick(yaml.safe_load(_DEFAULTS.read_text()))
        return json.dumps(damage_document(random, whole)).encode("utf-8", "surrogatepass")
    if choice < 0.85:
        return damage_bytes(random, SETTINGS.encode())
    return random.choice(hostile_settings(bait))


def hostile_settings(bait: Path) -> list[bytes]:
    """A YAML bomb, or YAML that would write to `bait`."""
    bomb = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12))
    merged = b"m0: &m0 {parts: 3}\n" + b"".join(
        b"m%d: &m%d {<<: [%s]}\n" % (n, n, b", ".join([b"*m%d" % (n - 1)] * 10)) for n in range(1, 12)
    )
    touched = str(bait / "touched").encode()
    return [
        bomb,
        b"cluster: " + b"".join(b"&b%d [*b%d]\n" % (n, n) for n in range(3)),
        merged,
        b"cluster: &c {parts: *c}\n",
        b"&c cluster: *c\n",
        b"cluster: &c [*c]\n",
        b"model: !!python/object/apply:os.system ['touch " + touched + b"']\n",
        b"model: !!python/object/new:os.mkdir ['" + touched + b"']\n",
        b"model: !!python/name:os.system\n",
        b"model: !include /etc/passwd\n",
        b"{" * 5000,
        b"[" * 100_000,
        b"a: " * 20_000,
        b"cluster: " + b"{a: " * 3000 + b"1" + b"}" * 3000,
        b"- " * 50_000,
        b"? " * 5000,
        b"cluster: {parts: " + b"9" * 200_000 + b"}",
        b"cluster: {parts: 1" + b"_0" * 100_000 + b"}",
        b"cluster: {parts: 1:" + b"59:" * 2000 + b"1}",
        b"cluster: {parts: 0x" + b"f" * 100_000 + b"}",
        b"run: {seed: 2001-99-99}",
        b"run: {seed: 2001-01-01 00:00:00 +99:99}",
        b"model: !!binary ====",
        b"model: !!binary \xc3\xa4",
        b"cluster: !!set {parts, frames}",
        b"cluster: !!omap [parts: 3]",
        b"cluster: !!pairs [parts: 3, parts: 4]",
        b"1: 2\n",
        b"null: 2\n",
        b"true: 2\n",
        b"[a, b]: 2\n",
        b"{a: b}: 2\n",
        b"2001-01-01: 2\n",
        b"cluster: {1: 2}\n",
        b"cluster: {[1]: 2}\n",
        b"--- a\n--- b\n",
        b"%YAML 9.9\n---\na: 1\n",
        b"%TAG ! tag:x,2000:\n--- !x\na: 1\n",
        b"\xff\xfe\x00",
        b"\x00",
        b"a: \x07",
        b"\xef\xbb\xbfcluster: {parts: 3}\n",
        "cluster: {parts: 3}\n".encode("utf-16"),
        b"cluster:\n\tparts: 3\n",
        b"model: |\n" + b" x\n" * 100_000,
        b"cluster: {parts: 3, parts: 4}\n",
        b"cluster: {<<: 3}\n",
        b"cluster: {<<: [1, 2]}\n",
        b"=: 1\n",
        b"cluster: {parts: =}\n",
        b"x: 1\n" * 1,
        b"",
        b"~",
        b"...",
    ]


def _one_value(random: Random) -> bytes:
    whole = _quick(yaml.safe_load(_DEFAULTS.read_text()))
    section = random.choice(list(whole))
    value: Any = any_value(random)
    if isinstance(whole[section], dict) and random.random() < 0.9:
        content: Any = {section: {random.choice(list(whole[section])): value}}
    else:
        content = {section: value}
    if "cluster" not in content:
        content.update(yaml.safe_load("cluster: {restarts: 1, iterations: 20, sample_interval: 3}"))
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _quick(settings: dict[str, Any]) -> dict[str, Any]:
    settings["cluster"] |= {"restarts": 1, "iterations": 20, "sample_interval": 3}
    settings["crf"]["iterations"] = 2
    return settings
