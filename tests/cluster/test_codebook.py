import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.cluster.codebook import Codebook, CodebookOrigin, load_codebook, require_fit, save_codebook
from pipeline.config import ClusterSettings, FeatureSettings, SaliencySettings
from pipeline.errors import CodebookError, OutputError


@pytest.fixture
def codebook() -> Codebook:
    rng = np.random.default_rng(0)
    origin = CodebookOrigin(
        model="dino_vits8",
        fingerprint="ab" * 32,
        features=FeatureSettings(),
        saliency=SaliencySettings(heads=(0, 2)),
        cluster=ClusterSettings(parts=3),
        seed=5,
        frames=64,
        objectives=(0.5, 0.25),
    )
    return Codebook(
        centroids=rng.normal(size=(5, 8)).astype(np.float32),
        part_centroids=rng.normal(size=(3, 8)).astype(np.float32),
        votes=np.array([64, 0, 50, 1, 2]),
        salient=np.array([True, False, True, False, False]),
        part_colors=np.arange(9, dtype=np.uint8).reshape(3, 3),
        origin=origin,
    )


def test_a_codebook_comes_back_as_it_was(codebook: Codebook, tmp_path: Path) -> None:
    file = tmp_path / "new" / "codebook.safetensors"
    save_codebook(codebook, file)
    back = load_codebook(file)
    for name in ("centroids", "part_centroids", "votes", "salient", "part_colors"):
        assert np.array_equal(getattr(back, name), getattr(codebook, name)), name
    assert back.origin == codebook.origin
    assert np.array_equal(back.background, codebook.centroids[[1, 3, 4]])
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_same_codebook_is_the_same_bytes(codebook: Codebook, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_codebook(codebook, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_no_codebook_is_refused(codebook: Codebook, tmp_path: Path) -> None:
    file = tmp_path / "codebook.safetensors"
    with pytest.raises(CodebookError, match="doesn't exist"):
        load_codebook(file)
    file.write_bytes(b"not safetensors at all")
    with pytest.raises(CodebookError, match="is not a codebook"):
        load_codebook(file)
    save_file({"weights": np.zeros(3, dtype=np.float32)}, file)
    with pytest.raises(CodebookError, match="is not a codebook"):
        load_codebook(file)
    save_codebook(codebook, file)
    whole = file.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(CodebookError):
            load_codebook(file)


def test_tables_that_do_not_fit_are_refused(codebook: Codebook, tmp_path: Path) -> None:
    file = tmp_path / "codebook.safetensors"
    tables = {
        "centroids": codebook.centroids,
        "part_centroids": codebook.part_centroids[:, :4].copy(),
        "votes": codebook.votes,
        "salient": codebook.salient.astype(np.uint8),
        "part_colors": codebook.part_colors,
    }
    origin = json.loads(codebook.origin.model_dump_json())
    save_file(tables, file, metadata={"vidparts": json.dumps(origin)})
    with pytest.raises(CodebookError, match="don't fit"):
        load_codebook(file)
    tables["part_centroids"] = np.full_like(codebook.part_centroids, np.nan)
    save_file(tables, file, metadata={"vidparts": json.dumps(origin)})
    with pytest.raises(CodebookError, match="finite"):
        load_codebook(file)
    tables["part_centroids"] = np.full_like(codebook.part_centroids, 1e20)
    save_file(tables, file, metadata={"vidparts": json.dumps(origin)})
    with pytest.raises(CodebookError, match="unit length"):
        load_codebook(file)
    tables["part_centroids"] = codebook.part_centroids
    deep = f'{{"model": {"[" * 100_000}'
    for words in (json.dumps({**origin, "surprise": 1}), json.dumps({**origin, "model": "\ud800"}), deep):
        save_file(tables, file, metadata={"vidparts": words})
        with pytest.raises(CodebookError):
            load_codebook(file)


@pytest.mark.parametrize(("kind", "size"), [("F64", 8), ("F8_E4M3", 1), ("BF16", 2)])
def test_a_table_of_another_type_is_refused(kind: str, size: int, codebook: Codebook, tmp_path: Path) -> None:
    file = tmp_path / "codebook.safetensors"
    save_codebook(codebook, file)
    whole = file.read_bytes()
    tables = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:tables])
    start, end = header["centroids"]["data_offsets"]
    header["centroids"] |= {"dtype": kind, "shape": [(end - start) // size]}
    words = json.dumps(header).encode()
    file.write_bytes(len(words).to_bytes(8, "little") + words + whole[tables:])
    with pytest.raises(CodebookError, match=f"centroids is {kind}, expected F32"):
        load_codebook(file)


def test_another_model_or_setting_is_named(codebook: Codebook) -> None:
    require_fit(codebook.origin, "ab" * 32, FeatureSettings(precision="bfloat16"), "c")
    with pytest.raises(CodebookError, match=r"'c' was fitted with model dino_vits8 .*abababababab, now cdcd"):
        require_fit(codebook.origin, "cd" * 32, FeatureSettings(), "c")
    with pytest.raises(CodebookError, match=r"load-size 224 \(now 128\), stride 4 \(now 8\)"):
        require_fit(codebook.origin, "ab" * 32, FeatureSettings(stride=8, load_size=128), "c")


def test_a_place_that_cannot_be_written_is_an_output_error(codebook: Codebook, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        save_codebook(codebook, tmp_path / "file" / "codebook.safetensors")
