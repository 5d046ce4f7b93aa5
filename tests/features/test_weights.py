"""Weights by name and from files: parameter names, metadata, offline use, malicious files."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

from pipeline.errors import ModelError, OutputError, UsageError
from pipeline.features import weights
from pipeline.features.checkpoints import Checkpoint, normalise, read_checkpoint
from pipeline.features.models import IMAGENET_MEAN, MODELS, PAPER_HEADS
from pipeline.features.vit import Reading, Tap
from pipeline.features.weights import load_file, load_named, resolve_model, save_model
from pipeline.tasks.info import fetch

VIT = Path(__file__).resolve().parents[1] / "data" / "parity" / "vit.safetensors"


@pytest.fixture
def state():
    return load_tensors(VIT)


@pytest.fixture
def save(tmp_path):
    def write(state, name="vit.safetensors", **metadata):
        file = tmp_path / name
        if file.suffix == ".safetensors":
            save_file(state, file, metadata={"num_heads": "6", **metadata})
        else:
            torch.save(state, file)
        return file

    return write


def test_a_file_says_what_a_state_dict_cannot(state, save):
    file = save(state, mean="0.5,0.25,0.125", std="[0.5, 0.25, 0.125]", saliency_heads="1 3", img_size="64x64")
    identity = load_file(file).identity
    assert identity.name == "vit.safetensors"
    assert (identity.heads, identity.patch_px, identity.depth, identity.embed_dim) == (6, 8, 12, 48)
    assert identity.grid_hw == (8, 8)
    assert identity.mean == identity.std == (0.5, 0.25, 0.125)
    assert identity.saliency_heads == (1, 3)
    assert identity.notes == ()


def test_a_plain_vit_of_six_heads_gets_the_papers_saliency_heads_and_a_note():
    identity = load_file(VIT).identity
    assert identity.mean == IMAGENET_MEAN
    assert identity.saliency_heads == PAPER_HEADS
    assert "0, 2, 4, 5" in identity.notes[0]


def test_another_number_of_heads_averages_all_and_says_so(state, save):
    identity = load_file(save(state, num_heads="8")).identity
    assert identity.heads == 8
    assert identity.saliency_heads is None
    assert "all heads" in identity.notes[0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"teacher": {f"backbone.{k}": v for k, v in state.items()}, "epoch": 3},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": {f"module.backbone.{k}": v for k, v in state.items()}, "optimizer": {"lr": 1}},
        lambda state: state | {"head.mlp.0.weight": torch.ones(3, 3), "norm.weight": torch.ones(48)},
        lambda state: {k: v.double() for k, v in state.items()},
    ],
)
def test_wrapped_checkpoints_are_the_same_model(wrap, state, save):
    model = load_file(save(wrap(state), "vit.pth"), heads=6)
    assert model.identity.fingerprint == load_file(VIT).identity.fingerprint


def test_one_changed_number_changes_the_fingerprint(state, save):
    state["blocks.11.mlp.fc2.bias"][0] += 1
    assert load_file(save(state)).identity.fingerprint != load_file(VIT).identity.fingerprint


def test_heads_are_asked_for_where_nothing_says_them(state, save):
    with pytest.raises(ModelError, match="--heads"):
        load_file(save(state, "vit.pth"))
    with pytest.raises(ModelError, match="7 heads can't share 48 channels"):
        load_file(save(state, "vit.pth"), heads=7)


def test_a_trained_grid_need_not_be_square(state, save):
    state["pos_embed"] = torch.cat((state["pos_embed"], torch.zeros(1, 8, 48)), dim=1)
    assert load_file(save(state, img_size="64x72")).identity.grid_hw == (8, 9)
    with pytest.raises(ModelError, match="img_size"):
        load_file(save(state))
    with pytest.raises(ModelError, match="img_size='80'"):
        load_file(save(state, img_size="80"))


def test_the_original_dinov2_naming_is_timms_model(save):
    torch.manual_seed(0)
    reference = timm.create_model(
        "vit_small_patch14_reg4_dinov2", num_classes=0, embed_dim=64, depth=2, num_heads=1, img_size=56
    )
    ours = dict(reference.state_dict())
    class_position = torch.randn(1, 1, 64)
    original = {k: v.clone() for k, v in ours.items() if k not in ("reg_token", "pos_embed", "cls_token")}
    original["register_tokens"] = ours["reg_token"].clone()
    original["pos_embed"] = torch.cat((class_position, ours["pos_embed"]), dim=1)
    original["cls_token"] = ours["cls_token"] - class_position
    original["mask_token"] = torch.zeros(1, 64)
    found, config = normalise(Checkpoint(original))
    expected, _ = normalise(Checkpoint(ours))
    assert (config.registers, config.layer_scale, config.grid_hw) == (4, True, (4, 4))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("cls_token"), "no usable 'cls_token'"),
        (lambda s: s.pop("blocks.3.norm1.weight"), "no ViT that can be run here"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("blocks.3.")], "blocks are missing"),
        (lambda s: s.update({"blocks.0.attn.q_norm.weight": torch.ones(8)}), "no ViT that can be run here"),
        (lambda s: s.update({"pos_embed": torch.ones(1, 60, 48)}), "no square grid"),
        (lambda s: s.update({"pos_embed": torch.ones(65)}), "no ViT has"),
        (lambda s: s.update({"cls_token": torch.full((1, 1, 48), torch.nan)}), "aren't finite"),
        (lambda s: s.update({"blocks.9999.norm1.weight": torch.ones(48)}), "blocks are missing"),
        (lambda s: s.update({"patch_embed.proj.weight": torch.ones(48, 3, 8, 4)}), "square"),
        (lambda s: s.update({"patch_embed.proj.weight": torch.ones(48, 1, 8, 8)}), "no ViT that can be run here"),
        (lambda s: s.update({"blocks.0.mlp.fc1.weight": torch.ones(3)}), "no ViT that can be run here"),
        (lambda s: s.update({"reg_token": torch.ones(4)}), "reg_token"),
    ],
)
def test_what_is_no_vit_is_refused_in_one_line(change, message, state, save):
    change(state)
    with pytest.raises(ModelError, match=message) as caught:
        load_file(save(state))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"num_heads": "many"},
        {"num_heads": "0"},
        {"num_heads": "1e300"},
        {"patch_size": "16"},
        {"img_size": "0"},
        {"mean": "0.5"},
        {"mean": "nan nan nan"},
        {"std": "0,0,0"},
        {"saliency_heads": "6"},
        {"saliency_heads": "-1"},
        {"saliency_heads": ""},
    ],
)
def test_metadata_that_lies_is_refused(metadata, state, save):
    with pytest.raises(ModelError):
        load_file(save(state, **metadata))


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def huge_header(file):
    header = {"cls_token": {"dtype": "F32", "shape": [1, 1, 2**40], "data_offsets": [0, 2**42]}}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)


def claim_a_huge_shape(file):
    torch.save({"cls_token": torch.zeros(1).expand(1, 2**20, 2**20)}, file)


def zip_of_nothing(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/b", "c")


def zip_bomb(file):
    torch.save({"cls_token": torch.zeros(2**20)}, file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.safetensors", lambda file: file.write_bytes(b"")),
        ("a.safetensors", lambda file: file.write_bytes(VIT.read_bytes()[:-1000])),
        ("a.safetensors", lambda file: file.write_bytes(struct.pack("<Q", 2**62) + b"{}")),
        ("a.safetensors", huge_header),
        ("a.pth", lambda file: file.write_bytes(b"")),
        ("a.pth", lambda file: file.write_bytes(b"no weights at all")),
        ("a.pth", lambda file: file.write_bytes(pickle.dumps(Bomb()))),
        ("a.pth", lambda file: torch.save({"cls_token": Bomb()}, file)),
        ("a.pth", lambda file: torch.save([1, 2], file)),
        ("a.pth", lambda file: torch.save({"epoch": 3}, file)),
        ("a.pth", claim_a_huge_shape),
        ("a.pth", zip_of_nothing),
        ("a.pth", lambda file: torch.save({"cls_token": torch.empty(3, device="meta")}, file)),
        ("a.pth", zip_bomb),
        ("a.pth", lambda file: file.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.")),
        ("a.pth", lambda file: file.write_bytes(b"\x80\x02" + b"]" * 200_000 + b".")),
        ("x" * 300 + ".pth", lambda file: None),
        ("a.pth", Path.mkdir),
        ("a.bin", lambda file: file.write_bytes(b"x")),
        ("a.safetensors", lambda file: None),
    ],
)
def test_damaged_and_hostile_files_are_refused_in_one_line(name, write, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(ModelError) as caught:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()
    assert not [warned for warned in recwarn if "pickle" in str(warned.message)]


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """An empty cache and an unreachable hub; counts the requests."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(weights, "BUNDLED_FILE", tmp_path / "bundled.safetensors")
    return asked


def test_a_hub_out_of_reach_is_asked_once(no_hub):
    with pytest.raises(ModelError, match="give its path by --model") as caught:
        load_named("dino_vitb8")
    assert len(no_hub) == 1
    assert "\n" not in str(caught.value)


def test_auto_without_any_weights_says_what_is_missing(no_hub):
    with pytest.raises(ModelError, match="no bundled backbone"):
        resolve_model("auto")


def test_auto_falls_back_to_the_bundled_backbone(no_hub):
    weights.BUNDLED_FILE.write_bytes(VIT.read_bytes())
    model = resolve_model("auto")
    assert model.identity.name == "bundled"
    assert "bundled" in model.notice
    assert "dino_vits8" in model.notice
    assert "\n" not in model.notice


@pytest.fixture
def cached(monkeypatch, tmp_path, no_hub):
    """A cache with random weights of dino_vits8."""
    torch.manual_seed(0)
    reference = timm.create_model("vit_small_patch8_224", num_classes=0)
    file = tmp_path / "model.safetensors"
    save_file(reference.state_dict(), file)
    found = {("timm/vit_small_patch8_224.dino", "model.safetensors"): str(file)}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name: found.get((repo, name)))
    return reference.eval()


def test_auto_takes_the_papers_model_where_it_is_cached(cached, no_hub):
    model = resolve_model("auto")
    assert no_hub == []
    assert "cached" in model.notice
    assert model.identity.name == "dino_vits8"
    assert model.identity.heads == 6
    assert model.identity.saliency_heads == PAPER_HEADS
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        tokens = model.backbone(pixels, 8, Reading((Tap(11, "token"),))).facets[Tap(11, "token")]
        assert torch.allclose(cached.norm(tokens), cached.forward_features(pixels), atol=1e-4)


def test_weights_of_another_model_in_the_cache_are_refused(cached, monkeypatch, save, state):
    file = str(save(state))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: file)
    with pytest.raises(ModelError, match="can't be used"):
        load_named("dino_vits8")


def test_fetched_weights_are_used(cached, monkeypatch):
    file = huggingface_hub.try_to_load_from_cache("timm/vit_small_patch8_224.dino", "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *args, **kwargs: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **kwargs: file)
    assert "fetched" in resolve_model("auto").notice


def test_a_path_is_a_file_and_a_word_is_a_name(no_hub):
    assert resolve_model(str(VIT)).identity.name == "vit.safetensors"
    with pytest.raises(ModelError, match="does not exist"):
        resolve_model("nowhere/vit.safetensors")
    with pytest.raises(UsageError, match="no model named"):
        resolve_model("dino_vits9")


def test_regions_beside_the_weights_are_read_and_change_no_fingerprint(state, save):
    table = {"region_keys": torch.eye(3, 48), "region_kinds": torch.tensor([[1.0, 1, 0], [0, 1, 1]])}
    found = load_file(save({**state, **table}))
    assert found.identity.fingerprint == load_file(VIT).identity.fingerprint
    assert found.regions.keys.shape == (3, 48)
    assert found.regions.kinds.tolist() == [[True, True, False], [False, True, True]]
    assert load_file(VIT).regions is None


@pytest.mark.parametrize(
    ("keys", "kinds", "message"),
    [
        (torch.eye(3, 47), torch.ones(1, 3), r"region_keys.*\(3, 47\).*48"),
        (torch.eye(3, 48) / 0, torch.ones(1, 3), "finite"),
        (torch.eye(3, 48), torch.ones(1, 2), "Regions"),
        (torch.eye(3, 48), torch.zeros(1, 3), "no region"),
    ],
)
def test_regions_that_do_not_fit_are_refused(state, save, keys, kinds, message):
    with pytest.raises(ModelError, match=message):
        load_file(save({**state, "region_keys": keys, "region_kinds": kinds}))


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("vit_small_patch16_224", {"img_size": 64}),
        ("vit_small_patch14_dinov2", {"img_size": 70}),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 70}),
        ("vit_small_patch16_dinov3", {}),
    ],
)
def test_a_saved_model_is_the_same_model_again(tmp_path, architecture, sizes):
    torch.manual_seed(0)
    reference = timm.create_model(architecture, num_classes=0, embed_dim=128, depth=2, num_heads=2, **sizes)
    first = tmp_path / "first.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in reference.state_dict().items()}, first)
    model = load_file(first, heads=2)
    save_model(model, tmp_path / "second.safetensors")
    again = load_file(tmp_path / "second.safetensors")
    assert again.identity.fingerprint == model.identity.fingerprint
    assert again.backbone.config == model.backbone.config
    assert (again.identity.mean, again.identity.std) == (model.identity.mean, model.identity.std)
    assert again.identity.saliency_heads == (0, 1)


def test_a_fetched_model_is_used_as_a_file_elsewhere(cached, tmp_path):
    file = tmp_path / "dino.safetensors"
    assert f"use it by --model {file}" in fetch("dino_vits8", file)
    named, elsewhere = load_named("dino_vits8"), resolve_model(str(file))
    assert elsewhere.identity.fingerprint == named.identity.fingerprint
    assert elsewhere.identity.saliency_heads == PAPER_HEADS
    with pytest.raises(OutputError, match="exists"):
        fetch("dino_vits8", file)
    with pytest.raises(UsageError, match=r"doesn't end with \.safetensors"):
        fetch("dino_vits8", tmp_path / "dino.pth")


def test_the_hub_has_each_model_of_the_registry():
    """Needs the network; the reason of the skip says what is in its way."""
    for spec in MODELS.values():
        url = huggingface_hub.hf_hub_url(f"timm/{spec.timm_name}", "model.safetensors")
        try:
            found = huggingface_hub.get_hf_file_metadata(url, timeout=2)
        except huggingface_hub.errors.HfHubHTTPError:
            raise
        except Exception as error:  # noqa: BLE001 -- network, proxy and name service raise errors of their own
            pytest.skip(f"the hub can't be reached: {' '.join(str(error).split())[:80]}")
        assert found.size > 10 * 2**20
