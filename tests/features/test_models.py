"""The registry agrees with timm."""

import pytest
import timm

from pipeline.errors import UsageError
from pipeline.features.models import MODELS, PAPER_HEADS, find_spec


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_says_what_timm_says(name):
    spec = MODELS[name]
    told = timm.get_pretrained_cfg(spec.timm_name)
    assert told.hf_hub_id == f"timm/{spec.timm_name}"
    assert spec.mean == told.mean
    assert spec.std == told.std
    assert f"patch{spec.patch_px}" in spec.timm_name


def test_the_paper_names_saliency_heads_for_one_model():
    assert {name for name, spec in MODELS.items() if spec.saliency_heads} == {"dino_vits8"}
    assert MODELS["dino_vits8"].saliency_heads == PAPER_HEADS == (0, 2, 4, 5)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'dino_vits8'"):
        find_spec("dino_vit_s8")
