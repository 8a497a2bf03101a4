"""Recipes of version 0.1: a run folder of it is read as it is, and in a recipe an old key says its new name."""

import pytest
import yaml

from signcl.training.recipe import load_recipe, recipe_to_dict
from signcl.training.recipe.old_recipes import of_today

OLD_MODEL = {
    "name": "gfslt", "visual": "small_cnn", "visual_weights": "", "visual_dim": 16, "conv_width": 32, "width": 32,
    "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "ffn": 32, "decoder_heads": None, "dropout": 0.1,
    "attention_dropout": 0.0, "activation": "relu", "signcl_tap": "embedding", "tie_embeddings": False,
    "text_layers": 2, "text_heads": 4, "text_ffn": 512, "text_dropout": 0.1, "text_attention_dropout": 0.0,
    "text_activation": "relu", "masked_text": True, "masked_text_trains_encoder": False, "sign_emb": False,
    "max_positions": 1024, "sync_norm": False, "form": "fixed", "language_model": "", "encoder_from": "init_from",
    "decoder_from": "init_from", "adapter": "sign_emb", "init_from": "", "init_parts": [], "freeze": [], "chunk": None,
    "smkd": {"share_classifier": True, "weight_norm": True, "pixels": "imagenet", "weights": ""},
    "cnn_ctc": {"window": 5},
    "i3d": {"window": 8, "stride": 2, "width_factor": 1.0, "channels": "rgb", "norm_momentum": 0.01},
    "gaslt": {"keys": 7, "edge": "stop", "embedding_dropout": None, "word_dim": None, "word_vectors": "",
              "sentence_encoder": "tfidf"},
    "pgp": {"vit": "tiny", "lora_rank": 4, "lora_alpha": 4.0, "lora_dropout": 0.1, "lora_blocks": 3, "blocks": [2, 2],
            "window": 7, "layer_scale": 1e-05, "drop_path": 0.1, "prototype_dim": 300, "vectors": "",
            "learn_prototypes": False, "temperature": 0.1, "lemmatiser": "words", "max_share": 0.4, "min_count": 1,
            "stop_length": 3, "stop_share": 0.05, "vocabulary": "train"},
    "lm": {"name": "", "architecture": "gpt2", "layers": 2, "width": 128, "heads": 4, "ffn": 256, "train": "adapters",
           "lora_rank": 4, "lora_alpha": 4.0, "lora_dropout": 0.1, "adapter_width": 256, "adapter_heads": 8,
           "gate": 0.0},
}  # fmt: skip
"""The section `model` as version 0.1 wrote it into every run folder."""

CHANGES = {
    "gfslt": ("finetune", {"adapter": "mlp"}, {"adapter": "mlp"}),
    "vlp": ("pretrain", {"text_layers": 1, "masked_text": False}, {"text_layers": 1, "masked_text": False}),
    "gaslt": ("finetune", {"gaslt": {"keys": 5, "word_dim": 20}}, {"keys": 5, "word_dim": 20}),
    "smkd": ("recognise", {"smkd": {"weight_norm": False}}, {"weight_norm": False}),
    "cnn_ctc": ("recognise", {"cnn_ctc": {"window": 7}}, {"window": 7}),
    "recogniser": ("recognise", {"signcl_tap": "layer1"}, {"signcl_tap": "layer1"}),
    "slt": ("finetune", {"decoder_heads": 2}, {"decoder_heads": 2}),
    "classifier": ("recognise", {"dropout": 0.5}, {"dropout": 0.5}),
}


def old(name: str, changes: dict) -> dict:
    model = {**OLD_MODEL, "name": name}
    for key, value in changes.items():
        model[key] = {**model[key], **value} if isinstance(value, dict) else value
    return model


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_of_version_0_1_keeps_its_values(name, tmp_path):
    stage, changes, kept = CHANGES[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stage": stage, "model": old(name, changes)}), encoding="utf-8")
    recipe = load_recipe(path, of_run=True)
    assert recipe.model.name == name
    assert recipe.model.visual_dim == 16
    for key, value in kept.items():
        assert getattr(recipe.model, key) == value
    today = recipe_to_dict(recipe)
    assert of_today(today) == today


@pytest.mark.parametrize(("name", "stage"), [("pgp", "pretrain"), ("sign2gpt", "finetune")])
def test_a_run_of_version_0_1_with_another_network_is_refused_in_a_line(name, stage, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stage": stage, "model": old(name, {})}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"a run of {name} of version 0\.1 has a different network .*; train it again"
    ):
        load_recipe(path, of_run=True)


def test_a_dinov2_of_version_0_1_keeps_its_adapters(tmp_path):
    model = old("gfslt", {"visual": "dinov2", "pgp": {"vit": "small", "lora_blocks": 2}})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stage": "finetune", "model": model}), encoding="utf-8")
    found = load_recipe(path, of_run=True).model.dinov2
    assert (found.vit, found.lora_blocks) == ("small", 2)


def test_an_old_key_in_a_recipe_says_where_it_is_now(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {name: gaslt, gaslt: {keys: 3}}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.gaslt: since version 0\.2 the keys of model\.gaslt are in model"):
        load_recipe(path)
    with pytest.raises(ValueError, match=r"model\.pgp: .*\(of a DINOv2: model\.dinov2\)"):
        load_recipe(path, ["model={name: pgp}", "stage=pretrain", "model.pgp.vit=small"])
    path.write_text("model: {name: slt, text_layers: 3}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.text_layers belongs to vlp, not to slt"):
        load_recipe(path)


def test_the_recipe_of_an_old_run_can_be_fitted_again(tmp_path):
    model = old("gaslt", {"gaslt": {"keys": 3}})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stage": "finetune", "model": model}), encoding="utf-8")
    with pytest.raises(ValueError, match="model"):
        load_recipe(path)
    (tmp_path / "card.json").write_text("{}", encoding="utf-8")  # it lies in a run folder
    assert load_recipe(path, ["out=elsewhere"]).model.keys == 3


@pytest.mark.parametrize(
    ("stage", "select", "kept"),
    [("pretrain", "", "-loss"), ("pretrain", "retrieval", "retrieval"), ("finetune", "", "")],
)
def test_a_run_from_before_ctc_reduction_keeps_its_meaning(stage, select, kept):
    # CTC was per clip, and pretraining was kept by the lowest loss, whatever was in it.
    old_run = {"stage": stage, "loss": {"weights": {"signcl": 1.0}}, "train": {"select": select, "epochs": 3}}
    now = of_today(old_run)
    assert now["loss"] == {"weights": {"signcl": 1.0}, "ctc_reduction": "clip"}
    assert now["train"] == {"select": kept, "epochs": 3}
    assert of_today(now) == now
