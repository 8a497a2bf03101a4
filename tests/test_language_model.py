"""A published mBART in GFSLT and VLP: encoder and decoder whole (LLMD), and one line for each that does not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from systems import having, make
from transformers import MBartConfig, MBartForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from signcl.data.text import build_tokenizer
from signcl.systems.encoders import Identity, ResNet
from signcl.systems.gfslt import GFSLT
from signcl.systems.parts.transfer import load_language_model
from signcl.training import run_folder
from signcl.training.recipe import load_recipe, recipe_from_dict
from signcl.training.runs import build_model, initialise

TEXTS = ["am montag regen", "am dienstag sonne", "regen und sonne am montag"]
TOKENIZER = build_tokenizer("sentencepiece", TEXTS, vocab_size=60)
MBART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
         "decoder_attention_heads": 8, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "activation_function": "gelu",
         "max_position_embeddings": 64, "scale_embedding": True}  # fmt: skip
SIZES = {"visual": "feature_mlp", "visual_dim": 16, "conv_width": 32, "width": 32, "encoder_layers": 1, "heads": 2,
         "decoder_layers": 3, "decoder_heads": 8, "ffn": 64, "activation": "gelu", "max_positions": 64,
         "text_layers": 2, "text_heads": 4, "text_ffn": 64, "text_activation": "gelu"}  # fmt: skip


def save_mbart(folder, tokenizer=TOKENIZER, **changes):
    torch.manual_seed(1)
    config = MBartConfig(vocab_size=TOKENIZER.vocab_size, **(MBART | changes))
    model = MBartForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    if tokenizer:
        tokenizer.save(folder)
    return model


@pytest.fixture(scope="module")
def mbart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mbart")
    return folder, save_mbart(folder)


def recipe(stage="finetune", weights=None, **model):
    name = {"pretrain": "vlp", "finetune": "gfslt"}[stage]
    return recipe_from_dict({
        "stage": stage, "model": {"name": name, **having(name, SIZES), **model}, "loss": {"weights": weights or {}},
        "decode": {"max_new_tokens": 20},
    })  # fmt: skip


def started(r, tokenizer=TOKENIZER):
    torch.manual_seed(0)
    model = build_model(r, tokenizer, 8)
    return model, initialise(model, r, tokenizer)


def vlp_run(folder, **model):
    r = recipe("pretrain", **model)
    torch.manual_seed(3)
    built = build_model(r, TOKENIZER, 8)
    run_folder.save_run_start(folder, r, TOKENIZER)
    run_folder.save_weights(folder, built)
    run_folder.save_card(folder, {"feature_dim": 8})
    return folder, built


def test_llmd_has_the_parameters_of_the_csl_daily_log_and_takes_every_decoder_tensor():
    # The log prints 263,920,192: 3 encoder layers of 8 heads, 12 decoder layers of a trimmed mbart-large, tied head.
    with torch.device("meta"):
        model = make(GFSLT, ResNet(18), vocab_size=2308, pad_id=1, start_id=2, end_id=2, decoder_layers=12,
                     decoder_heads=16, activation="gelu", dropout=0.5, tie_embeddings=True)  # fmt: skip
        large = MBartConfig(vocab_size=2308, scale_embedding=True)  # transformers' defaults are the large sizes
        source = MBartForConditionalGeneration(large).state_dict()
    assert sum(p.numel() for p in model.parameters()) == 263_920_192
    report = load_language_model(model, source, decoder=True)
    decoder = {name for name in model.state_dict() if name.startswith(("mbart.model.decoder.", "mbart.model.shared."))}
    assert set(report.transferred) == decoder
    # 12 layers of 26 tensors (self- and cross-attention of 8, feed-forward of 4, three layer norms of 2), positions,
    # two outer layer norms, word table
    assert len(decoder) == 12 * 26 + 1 + 4 + 1
    assert all(name.startswith("encoder.") or "bias" in name for name in report.not_transferred_source)


@pytest.mark.parametrize("tied", [True, False])
def test_the_decoder_from_a_language_model_scores_as_the_language_model_does(mbart, tied):
    folder, source = mbart
    model, said = started(
        recipe(language_model=f"pretrained:{folder}", decoder_from="language_model", tie_embeddings=tied)
    )
    states = torch.randn(2, 5, 32)
    words = torch.randint(4, TOKENIZER.vocab_size, (2, 7))
    with torch.no_grad():
        given = {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "decoder_input_ids": words}
        theirs = source(**given).logits
        torch.testing.assert_close(model.eval().mbart(**given).logits, theirs, rtol=1e-4, atol=1e-5)
    assert "start fresh: nothing" in said[0]


def test_the_encoder_from_a_language_model_encodes_as_the_language_model_does(mbart):
    folder, source = mbart
    model, _ = started(
        recipe(language_model=f"pretrained:{folder}", encoder_from="language_model", encoder_layers=2, heads=4,
               decoder_layers=1)
    )  # fmt: skip
    steps = torch.randn(2, 5, 32)
    with torch.no_grad():
        theirs = source.model.encoder(inputs_embeds=steps).last_hidden_state
        ours = model.eval().mbart.model.encoder(inputs_embeds=steps).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_text_decoder_of_pretraining_starts_from_the_language_model_too(mbart):
    folder, source = mbart
    model, _ = started(recipe("pretrain", language_model=f"pretrained:{folder}", decoder_from="language_model"))
    own, theirs = model.state_dict(), source.state_dict()
    for key in ("layers.2.fc1.weight", "layers.1.encoder_attn.q_proj.weight", "embed_positions.weight"):
        assert torch.equal(own[f"decoder.{key}"], theirs[f"model.decoder.{key}"])
    assert torch.equal(own["lm_head.weight"], theirs["model.shared.weight"])


def test_as_released_the_text_decoder_of_pretraining_is_left_behind_and_fixed_carries_it(mbart, tmp_path):
    folder, source = mbart
    run, pretrained = vlp_run(tmp_path / "vlp")
    common = {"init_from": str(run), "language_model": f"pretrained:{folder}"}
    for form in ("fixed", "as_released"):
        model, said = started(recipe(**common, decoder_from="language_model", form=form))
        own, theirs, first = model.state_dict(), source.state_dict(), pretrained.state_dict()
        assert torch.equal(own["mbart.model.decoder.layers.0.fc1.weight"], theirs["model.decoder.layers.0.fc1.weight"])
        assert torch.equal(own["mbart.model.shared.weight"], theirs["model.shared.weight"])
        assert torch.equal(own["mbart.model.encoder.layers.0.fc1.weight"], first["encoder.layers.0.fc1.weight"])
        left = said[1].split("left behind")[1].split("start fresh")[0]
        for part in ("cls_token (1)", "head (1)", "text_encoder", "words (1)", ", decoder ("):
            assert part in left
        assert "unchanged: mbart.model.shared (1), mbart.model.decoder" in said[1]
    model, said = started(recipe(init_from=str(run)))  # decoder_from=init_from: what stage 1 has trained
    own = model.state_dict()
    assert torch.equal(own["mbart.model.decoder.layers.2.fc1.weight"], first["decoder.layers.2.fc1.weight"])
    assert torch.equal(own["mbart.lm_head.weight"], first["lm_head.weight"])


def test_a_vlp_run_serves_as_language_model(tmp_path):
    run, pretrained = vlp_run(tmp_path / "vlp")
    model, said = started(
        recipe(language_model=f"pretrained:{run}", encoder_from="language_model", decoder_from="language_model",
               encoder_layers=2, heads=4)
    )  # fmt: skip
    own, theirs = model.state_dict(), pretrained.state_dict()
    for new, old in (
        ("mbart.model.encoder.layers.1.fc1.weight", "text_encoder.layers.1.fc1.weight"),
        ("mbart.model.decoder.layers.1.fc1.weight", "decoder.layers.1.fc1.weight"),
        ("mbart.model.shared.weight", "words.weight"),
        ("mbart.lm_head.weight", "lm_head.weight"),
    ):
        assert torch.equal(own[new], theirs[old])
    assert "start fresh: nothing" in said[0]


def test_parts_of_an_earlier_run_and_the_rest_from_the_language_model(mbart, tmp_path):
    light = recipe(decoder_layers=1, decoder_heads=2)
    torch.manual_seed(5)
    first = build_model(light, TOKENIZER, 8)
    run = tmp_path / "light"
    run_folder.save_run_start(run, light, TOKENIZER)
    run_folder.save_weights(run, first)
    run_folder.save_card(run, {"feature_dim": 8})
    options = {"language_model": f"pretrained:{mbart[0]}", "encoder_from": "language_model", "encoder_layers": 2,
               "decoder_from": "language_model", "heads": 4, "adapter": "mlp", "init_from": str(run)}  # fmt: skip
    model, said = started(recipe(**options, init_parts=["visual", "conv"]))
    own, theirs = model.state_dict(), mbart[1].state_dict()
    assert torch.equal(own["conv.norm2.running_var"], first.state_dict()["conv.norm2.running_var"])
    assert torch.equal(own["conv.conv1.weight"], first.state_dict()["conv.conv1.weight"])
    assert torch.equal(own["mbart.model.encoder.layers.1.fc1.weight"], theirs["model.encoder.layers.1.fc1.weight"])
    assert "unchanged: sign_emb" in said[1]
    with pytest.raises(ValueError, match=r"model.init_parts: this model has visual, conv, sign_emb, mbart .* 'cnov'"):
        started(recipe(**options, init_parts=["cnov"]))
    with pytest.raises(ValueError, match=r"sign_emb.0.weight \(absent in the source\)"):
        started(recipe(**options, init_parts=["sign_emb"]))


def foreign(folder):
    T5ForConditionalGeneration(
        T5Config(vocab_size=TOKENIZER.vocab_size, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ).save_pretrained(folder)
    TOKENIZER.save(folder)


MISFITS = {
    "no tokenizer": (lambda f: save_mbart(f, None), {}, r"has no tokenizer; .* to know the words of the embeddings"),
    "foreign": (foreign, {}, r"is a t5, but an mBART is needed, such as facebook/mbart-large-cc25"),
    "width": (lambda f: save_mbart(f, d_model=64), {}, r"does not fit model.width=32; it needs model.width=64$"),
    "heads": (save_mbart, {"decoder_heads": 4}, r"does not fit model.decoder_heads=4; it needs model.decoder_heads=8"),
    "layers": (save_mbart, {"decoder_layers": 2}, r"not fit model.decoder_layers=2; it needs model.decoder_layers=3"),
    "relu": (save_mbart, {"activation": "relu"}, r"does not fit model.activation=relu; it needs model.activation=gelu"),
    "positions": (save_mbart, {"max_positions": 99}, r"does not fit model.max_positions=99; it needs .*=64"),
    "scale": (lambda f: save_mbart(f, scale_embedding=False), {}, r"does not scale its word embeddings"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_a_language_model_that_does_not_fit_is_one_line(case, tmp_path):
    make, model, message = MISFITS[case]
    make(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        started(recipe(**{"language_model": f"pretrained:{tmp_path}", "decoder_from": "language_model"} | model))
    assert "model.language_model" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_words_are_refused_even_where_every_size_fits(mbart, tmp_path):
    other = build_tokenizer("sentencepiece", [t.replace("regen", "hagel") for t in TEXTS], vocab_size=60)
    word = build_tokenizer("word", TEXTS)
    r = recipe(language_model=f"pretrained:{mbart[0]}")
    with pytest.raises(ValueError, match=rf"has {TOKENIZER.vocab_size} words, but this run's tokenizer has 11; set"):
        started(r, word)
    same_size = build_tokenizer("sentencepiece", [t.replace("r", "z") for t in TEXTS], vocab_size=60)
    for tokenizer in (other, same_size):
        if tokenizer.vocab_size == TOKENIZER.vocab_size:
            with pytest.raises(
                ValueError, match=r"row \d+ of .* is '.*', but the tokenizer of this run has '.*' there"
            ):
                started(r, tokenizer)
    assert same_size.vocab_size == TOKENIZER.vocab_size


def test_one_file_of_weights_is_taken_with_the_tokenizer_beside_it_or_on_trust(mbart, tmp_path):
    shutil.copy(mbart[0] / "model.safetensors", tmp_path / "weights.safetensors")
    options = {"decoder_from": "language_model", "language_model": f"pretrained:{tmp_path / 'weights.safetensors'}"}
    assert "its rows are assumed to be this run's words" in started(recipe(**options))[1][0]
    TOKENIZER.save(tmp_path)
    assert "are assumed to be" not in started(recipe(**options))[1][0]
    weights = load_file(tmp_path / "weights.safetensors")
    save_file({f"t5.{key}": value for key, value in weights.items()}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"is not an mBART: it lacks encoder.layernorm_embedding.weight"):
        started(recipe(**options))


def test_a_folder_that_is_no_model_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"has no config.json, so it is not a model saved by transformers"):
        started(recipe(language_model=f"pretrained:{tmp_path}"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        started(recipe(language_model=f"pretrained:{tmp_path}"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mbart"}))
    with pytest.raises(FileNotFoundError, match=r"has none of model.safetensors"):
        started(recipe(language_model=f"pretrained:{tmp_path}"))
    light = recipe(decoder_layers=1)
    run_folder.save_run_start(tmp_path / "run", light, TOKENIZER)
    with pytest.raises(ValueError, match="is a run of gfslt; only runs of vlp with the term masked_text"):
        started(recipe(language_model=f"pretrained:{tmp_path / 'run'}"))


@pytest.mark.parametrize("adapter", ["sign_emb", "linear", "mlp"])
def test_every_adapter_maps_steps_one_by_one(adapter):
    torch.manual_seed(0)
    model = make(GFSLT, Identity(12), vocab_size=24, pad_id=1, start_id=3, end_id=2, width=32, conv_width=16,
                  encoder_layers=1, decoder_layers=1, heads=4, ffn=32, adapter=adapter).eval()  # fmt: skip
    count = sum(p.numel() for p in model.sign_emb.parameters())
    assert count == {"sign_emb": 16 * 32 + 3 * 32, "linear": 16 * 32 + 32, "mlp": 16 * 32 + 32 + 32 * 32 + 32}[adapter]
    steps = torch.randn(2, 6, 16)
    mapped = model.sign_emb(steps, torch.tensor([6, 3]))
    assert mapped.shape == (2, 6, 32)
    torch.testing.assert_close(model.sign_emb(steps[1:, :3], torch.tensor([3]))[0], mapped[1, :3])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"decoder_from": "language_model"}, "needs model.language_model=pretrained:"),
        ({"init_parts": ["visual"]}, "set model.init_from"),
        ({"adapter": "mlp", "form": "as_released"}, "set model.form=fixed"),
        ({"adapter": "mpl"}, "did you mean mlp"),
        ({"init_parts": "visual"}, "model.init_parts: a list in brackets is needed, got 'visual'"),
        ({"freeze": [True]}, "model.freeze: needs text, got True"),
    ],
)
def test_starting_points_that_make_no_sense_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        recipe(**model)
    with pytest.raises(ValueError, match=r"model.encoder_from belongs to gfslt, not to vlp"):
        recipe("pretrain", encoder_from="language_model", language_model="pretrained:x")
    with pytest.raises(ValueError, match=r"model.adapter belongs to gfslt, not to vlp"):
        recipe("pretrain", adapter="mlp")
    with pytest.raises(ValueError, match=r"model.freeze freezes the frame encoder"):
        recipe(freeze=["visual"], weights={"translation": 1.0, "signcl": 0.01})


@pytest.mark.parametrize("corpus", ["csl_daily", "phoenix14t"])
def test_the_released_recipes_build_the_network_of_the_log(corpus):
    class Words:
        vocab_size, pad_id, start_id, end_id = 2308, 1, 2304, 2

    folder = Path(__file__).parents[1] / "recipes" / corpus
    with torch.device("meta"):
        models = {
            name: build_model(load_recipe(folder / f"{name}.yaml"), Words(), None)
            for name in ("gfslt-vlp-signcl-released", "gfslt-vlp-signcl-llmd", "vlp-llmd", "fla-llm-stage2")
        }
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert counts["gfslt-vlp-signcl-released"] == counts["gfslt-vlp-signcl-llmd"] == 263_920_192
    released = models["gfslt-vlp-signcl-released"].mbart.config
    assert (released.encoder_attention_heads, released.decoder_attention_heads, released.dropout) == (8, 16, 0.5)
    # FLa-LLM: 12 encoder layers in place of 3 (12,596,224 each), an adapter of two linear layers for the sign embedding
    assert counts["fla-llm-stage2"] == 263_920_192 + 9 * 12_596_224 + 1024 * 1024 + 1024 - 2 * 1024
    pretrained = models["vlp-llmd"].decoder.state_dict()
    for key, value in models["gfslt-vlp-signcl-llmd"].mbart.model.decoder.state_dict().items():
        assert pretrained[key].shape == value.shape
