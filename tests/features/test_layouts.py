"""Checkpoints as training scripts leave them: the wanted ViT's tensors come out, whatever is around and beside them."""

import argparse
import datetime
import pathlib
import pickle
import shlex
import subprocess
import sys
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

from pipeline.errors import ModelError
from pipeline.features.checkpoints import normalise, read_checkpoint
from pipeline.features.layouts import choose_weights
from pipeline.features.weights import load_file

NAMESPACE = argparse.Namespace(lr=0.1, output_dir=pathlib.Path("out"), arch="vit_small", seed=np.int64(3))


@pytest.fixture
def state(tiny_model):
    return load_tensors(tiny_model)


@pytest.fixture
def other(state):
    """The same ViT with other numbers, such as a student's."""
    return {name: tensor + 1 for name, tensor in state.items()}


def under(prefix, state):
    return OrderedDict((f"{prefix}{name}", tensor) for name, tensor in state.items())


def chunked(state, size, own_numbers=False):
    """Names as DINOv2 gives them with `block_chunks`; `own_numbers`: each chunk counts from 0."""
    found = {}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            number = int(block) % size if own_numbers else block
            found[f"blocks.{int(block) // size}.{number}.{rest}"] = tensor
        else:
            found[name] = tensor
    return found


def beside(**more):
    """What else a script saves."""
    adam = {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}
    return {"optimizer": adam, "epoch": 7, "args": NAMESPACE, "best": np.float64(0.5), **more}


LAYOUTS = {
    "dino": lambda s, o: {
        "student": {**under("module.backbone.", o), "module.head.mlp.0.weight": torch.ones(2, 2)},
        "teacher": {**under("backbone.", s), "head.mlp.0.weight": torch.zeros(2, 2)},
        "fp16_scaler": {"scale": 65536.0},
        "dino_loss": {"center": torch.zeros(1, 8)},
        **beside(),
    },
    "dinov2": lambda s, o: {
        "model": {
            **under("student.backbone.", o),
            **under("teacher.backbone.", s),
            "student.dino_head.last_layer.weight_v": torch.ones(2, 2),
            "teacher.dino_head.last_layer.weight_v": torch.zeros(2, 2),
            "dino_loss.center": torch.zeros(1, 8),
        },
        "iteration": 1249,
    },
    "dinov2, the teacher first": lambda s, o: {
        "model": {**under("teacher.backbone.", s), **under("student.backbone.", o)},
    },
    "dinov2 in chunks, sharded": lambda s, o: {
        "model": {
            **under("student.backbone._fsdp_wrapped_module.", chunked(o, 4)),
            **under("teacher.backbone._fsdp_wrapped_module.", chunked(s, 4)),
        }
    },
    "chunks that count from 0": lambda s, o: chunked(s, 5, own_numbers=True),
    "one chunk": lambda s, o: chunked(s, 12),
    "compiled": lambda s, o: under("_orig_mod.", s),
    "compiled under ddp": lambda s, o: {"model": under("module._orig_mod.", s)},
    "ddp under compile": lambda s, o: {"state_dict": under("_orig_mod.module.", s)},
    "compiled attribute": lambda s, o: {"state_dict": under("model._orig_mod.", s)},
    "compiled blocks": lambda s, o: {
        name.replace(".attn", "._orig_mod.attn").replace(".mlp", "._orig_mod.mlp"): tensor for name, tensor in s.items()
    },
    "timm": lambda s, o: {"arch": "vit", "state_dict": o, "state_dict_ema": s, "amp_scaler": {}, **beside()},
    "timm without ema": lambda s, o: {"state_dict": s, "state_dict_ema": None, **beside()},
    "lightning": lambda s, o: {
        "state_dict": {**under("model.", s), "criterion.center": torch.ones(1, 8), "head.0.weight": torch.ones(2, 2)},
        "hyper_parameters": {"lr": 0.1, "path": pathlib.PurePosixPath("x")},
        "optimizer_states": [beside()["optimizer"]],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
    },
    "lightning, student and teacher": lambda s, o: {
        "state_dict": {**under("student_backbone.", o), **under("teacher_backbone.", s)},
    },
    "lightning, averaged": lambda s, o: {"state_dict": under("model.", s), "current_model_state": under("model.", o)},
    "momentum": lambda s, o: {
        "state_dict": {**under("module.base_encoder.", o), **under("module.momentum_encoder.", s)}
    },
    "target encoder": lambda s, o: {"encoder": under("module.", o), "target_encoder": under("module.", s), "opt": {}},
    "mae": lambda s, o: {
        "model": {
            **s,
            "mask_token": torch.ones(1, 1, 8),
            "decoder_pos_embed": torch.ones(1, 65, 8),
            "decoder_embed.weight": torch.ones(8, 48),
            "decoder_blocks.0.norm1.weight": torch.ones(8),
            "decoder_norm.weight": torch.ones(8),
            "decoder_pred.weight": torch.ones(192, 8),
        },
        **beside(scaler={"scale": 1.0}),
    },
    "deepspeed": lambda s, o: {"module": under("model.", s), "mp_world_size": 1},
    "a name of one's own": lambda s, o: {
        "net": under("vision.trunk.", s) | {"text.blocks.0.norm1.weight": torch.ones(9)}
    },
    "one module under two names": lambda s, o: {"state_dict": {**under("model.", s), **under("backbone.", s)}},
    "only a student": lambda s, o: {"student": under("module.backbone.", s)},
    "numpy beside it": lambda s, o: {
        "state_dict": s,
        "metric": np.float32(0.5),
        "rng": np.random.default_rng(0).integers(0, 9, 5),
        "type": np.dtype("float32"),
        "seen": defaultdict(int, {"a": 1}),
        "when": datetime.timedelta(seconds=3),
        "flags": {np.True_, np.bool_(False)},
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_the_plain_checkpoint(name, state, other, tmp_path):
    torch.save(LAYOUTS[name](state, other), tmp_path / "checkpoint.pth")
    found, _ = normalise(read_checkpoint(tmp_path / "checkpoint.pth"), heads=6)
    torch.save(state, tmp_path / "plain.pth")
    plain, _ = normalise(read_checkpoint(tmp_path / "plain.pth"), heads=6)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[key], plain[key]) for key in plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_precisions_are_the_same_numbers_in_float32(dtype, suffix, state, tmp_path):
    stored, file = {name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / f"half{suffix}"
    save_file(stored, file) if suffix == ".safetensors" else torch.save({"model": stored}, file)
    found = read_checkpoint(file).state
    assert all(torch.equal(found[name], stored[name].to(torch.float32)) for name in state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".pth.tar", ".PTH"])
def test_the_suffixes_that_scripts_give(suffix, state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / f"best{suffix}")
    assert load_file(tmp_path / f"best{suffix}", heads=6).identity.depth == 12


def test_which_weights_were_taken_is_in_the_models_notes(state, other, tmp_path):
    torch.save(LAYOUTS["dino"](state, other), tmp_path / "a.pth")
    notes = load_file(tmp_path / "a.pth", heads=6).identity.notes
    assert notes[0] == "weights are those of 'teacher.backbone'; 'student.backbone' in the same file is left out"
    torch.save(LAYOUTS["timm"](state, other), tmp_path / "b.pth")
    assert "'state_dict_ema'" in load_file(tmp_path / "b.pth", heads=6).identity.notes[0]
    torch.save(LAYOUTS["mae"](state, other), tmp_path / "c.pth")
    assert not [note for note in load_file(tmp_path / "c.pth", heads=6).identity.notes if "left out" in note]


@pytest.mark.parametrize(
    ("both", "names"),
    [
        (lambda s, o: {**s, "backbone.cls_token": o["cls_token"]}, ("'cls_token'", "'backbone.cls_token'")),
        (lambda s, o: {**s, "module.pos_embed": o["pos_embed"]}, ("'pos_embed'", "'module.pos_embed'")),
        (lambda s, o: {"state_dict": s, "model": o}, ("'state_dict.blocks.0.", "'model.blocks.0.")),
        (lambda s, o: {**under("a.", s), **under("b.", o)}, ("'a.blocks.0.", "'b.blocks.0.")),
        (lambda s, o: {**under("ema.a.", s), **under("ema.b.", o)}, ("'ema.a.blocks.0.", "'ema.b.blocks.0.")),
        (lambda s, o: {**s, **chunked(o, 4)}, ("'blocks.0.attn.proj.bias'", "'blocks.0.0.attn.proj.bias'")),
        (
            lambda s, o: {**s, "reg_token": torch.ones(1, 2, 48), "register_tokens": torch.zeros(1, 2, 48)},
            ("'reg_token'", "'register_tokens'"),
        ),
    ],
)
def test_two_tensors_of_one_name_are_an_error_that_names_both(both, names, state, other, tmp_path):
    torch.save(both(state, other), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="two tensors") as caught:
        load_file(tmp_path / "a.pth", heads=6)
    assert all(name in str(caught.value) for name in names)
    assert "\n" not in str(caught.value)


def test_mappings_that_hold_themselves_end():
    endless = {"x": torch.ones(1)}
    endless["again"] = endless
    assert choose_weights(endless).state.keys() == {"x"}


def test_what_is_not_listed_is_named_with_a_command_that_helps(state, tmp_path, monkeypatch):
    (tmp_path / "recipes.py").write_text("class Recipe:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import recipes

    file = tmp_path / "it's mine.pth"
    torch.save({"teacher": under("backbone.", state), "recipe": recipes.Recipe(), "epoch": 3}, file)
    with pytest.raises(ModelError, match=r"recipes\.Recipe.*python -c") as caught:
        load_file(file)
    command = shlex.split(str(caught.value).split("installed: ")[1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    torch.save(state, tmp_path / "plain.pth")
    saved = load_file(tmp_path / "it's mine_weights.pth", heads=6)
    assert saved.identity.fingerprint == load_file(tmp_path / "plain.pth", heads=6).identity.fingerprint


class Bomb:
    def __reduce__(self):
        return eval, ("open('exploded', 'w')",)


class Quiet:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("exploded"),)


@pytest.mark.parametrize("made", [Bomb, Quiet])
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_beyond_the_list_runs(made, legacy, state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": state, "args": argparse.Namespace(x=made())}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"eval|getattr"):
        load_file(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"args": argparse.Namespace(x=made())}, protocol=2))
    with pytest.raises(ModelError):
        load_file(tmp_path / "b.pth")
    assert not pathlib.Path("exploded").exists()


def test_listed_objects_are_not_made(state, tmp_path, monkeypatch):
    torch.save({"state_dict": state, "args": argparse.Namespace(x=1)}, tmp_path / "a.pth")
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda *_, **__: pytest.fail("it was made"))
    monkeypatch.setattr(argparse.Namespace, "__setattr__", lambda *_: pytest.fail("it was filled"))
    assert load_file(tmp_path / "a.pth", heads=6).identity.depth == 12
