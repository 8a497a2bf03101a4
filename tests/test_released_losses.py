"""Losses as published trainers count them, held to what their own code gave on small random inputs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from signcl.data.batch import Sample
from signcl.data.loading import collate
from signcl.losses import ctc_loss, label_smoothed_cross_entropy, signcl_loss, weighted_sum
from signcl.systems import Sizes, system_class
from signcl.systems.terms import TermContext
from signcl.systems.terms.shared import frame_contrast
from signcl.training.recipe import load_recipe, recipe_from_dict

REFERENCES = Path(__file__).parent / "references"
RECIPES = Path(__file__).parents[1] / "recipes"
JOINT = load_file(REFERENCES / "joint_slt_loss.safetensors")
RELEASED = load_file(REFERENCES / "released_signcl.safetensors")
BATCHES = sorted({name.split(".")[0] for name in RELEASED})


def test_per_gloss_ctc_and_translation_per_token_are_those_of_neccam_slt():
    gloss_logits, word_logits = (JOINT[f"{kind}_logits"].requires_grad_() for kind in ("gloss", "word"))
    tokens, pad_id = JOINT["tokens"], int(JOINT["pad_id"])
    mean_tokens = float((tokens != pad_id).sum()) / len(tokens)  # of a sentence; theirs is summed over them
    terms = {
        "recognition": ctc_loss(
            gloss_logits.log_softmax(2),
            JOINT["glosses"],
            JOINT["step_lengths"],
            JOINT["gloss_lengths"],
            reduction="gloss",
        ),
        "translation": label_smoothed_cross_entropy(word_logits, tokens, pad_id),
    }
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(terms["recognition"], JOINT["recognition"][0], **close)
    torch.testing.assert_close(mean_tokens * terms["translation"], JOINT["translation"][0], **close)
    total = weighted_sum(terms, {"translation": 1.0, "recognition": 1 / mean_tokens})  # the recipes' rule
    torch.testing.assert_close(mean_tokens * total, JOINT["total"][0], **close)
    (mean_tokens * total).backward()
    torch.testing.assert_close(gloss_logits.grad, JOINT["gloss_gradient"], **close)
    torch.testing.assert_close(word_logits.grad, JOINT["word_gradient"], **close)


def test_the_recipes_weigh_ctc_as_neccam_slt():
    # Mean tokens of a training sentence: PHOENIX-2014T 14.96 words and full stop + end mark, CSL-Daily 15.82 + 1.
    for corpus, tokens in (("phoenix14t", 15.96), ("csl_daily", 16.82)):
        loss = load_recipe(RECIPES / corpus / "joint-slt.yaml").loss
        assert loss.ctc_reduction == "gloss"
        assert loss.weights["recognition"] / loss.weights["translation"] == pytest.approx(1 / tokens, rel=0.02)
        assert load_recipe(RECIPES / corpus / "recogniser.yaml").loss.ctc_reduction == "gloss"
        assert load_recipe(RECIPES / corpus / "smkd.yaml").loss.ctc_reduction == "clip"  # VAC: a mean of clips


@pytest.mark.parametrize("name", BATCHES)
def test_the_released_loss_gives_what_the_released_code_gave(name):
    found = {key.partition(".")[2]: value for key, value in RELEASED.items() if key.startswith(f"{name}.")}
    x = found["features"].double().requires_grad_()
    lengths = torch.full((len(x),), x.shape[1])
    loss = signcl_loss(x, lengths, int(found["margin"]), variant="released", negatives=found["negatives"].long())
    torch.testing.assert_close(loss, found["loss"][0], rtol=1e-9, atol=0)
    loss.backward()
    torch.testing.assert_close(x.grad.float(), found["gradient"], rtol=1e-5, atol=1e-7)


def clips_of(name: str):
    """The clips of a reference as a batch of features, with as many tokens as the reference's sentences had."""
    lengths = RELEASED[f"{name}.lengths"].tolist()
    rows = [part.numpy() for part in RELEASED[f"{name}.clips"].split(lengths)]
    batch = collate([Sample(f"c{i}", "a b", features=part) for i, part in enumerate(rows)], rows)
    batch.tokens = torch.full((len(rows), int(RELEASED[f"{name}.tokens"])), 2)
    batch.token_lengths = torch.full((len(rows),), batch.tokens.shape[1])
    return batch


def model_of(name: str, **config):
    tokenizer = SimpleNamespace(vocab_size=7, pad_id=0, start_id=1, end_id=2)
    tiny = {
        "width": 8,
        "conv_width": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "heads": 2,
        "ffn": 8,
        "max_positions": 64,
    }
    text = {"text_layers": 1, "text_heads": 2, "text_ffn": 8, "masked_text": False} if name == "vlp" else {}
    kind = system_class(name)
    config = kind.Config(**{"visual": "identity", "form": "as_released", **tiny, **text, **config})
    torch.manual_seed(0)
    return kind(config, Sizes(tokenizer=tokenizer, feature_dim=RELEASED["0.clips"].shape[1]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("system", ["gfslt", "vlp"])
def test_as_released_the_frame_contrast_sees_what_the_released_trainer_gives_it(system, training):
    model = model_of(system).train(training)
    released = {"variant": "released", "frame_margin_rule": "released", "negatives": None}
    loss = recipe_from_dict({"loss": {"weights": {"translation": 1.0, "signcl": 1.0}, "signcl": released}}).loss
    for name in BATCHES:
        batch = clips_of(name)
        outputs = model(batch)
        torch.testing.assert_close(outputs.contrast[0], RELEASED[f"{name}.features"], rtol=0, atol=0)
        value = frame_contrast(outputs, batch, TermContext(loss))
        torch.testing.assert_close(value.double(), RELEASED[f"{name}.loss_of_all"][0], rtol=1e-5, atol=0)
        # Density and extraction keep to the clip's own frames.
        torch.testing.assert_close(outputs.features, model.tapped(batch).rows, rtol=0, atol=0)
        assert outputs.features.shape[1] == batch.max_length


def test_the_released_form_draws_its_negatives_once_for_the_whole_batch():
    # Equal clips then have equal losses, whatever is drawn: half of a batch of two adds up to the whole of one.
    model = model_of("gfslt").eval()
    signcl = {"variant": "released", "frame_margin_rule": "released", "negatives": 1}
    loss = recipe_from_dict({"loss": {"weights": {"translation": 1.0, "signcl": 1.0}, "signcl": signcl}}).loss
    rows = RELEASED["0.clips"][:39].numpy()
    one, two = (collate([Sample("c", "a b", features=rows)] * n, [rows] * n) for n in (1, 2))
    values = []
    for batch in (one, two):
        batch.tokens = torch.full((len(batch), 9), 2)
        torch.manual_seed(3)
        values.append(frame_contrast(model(batch), batch, TermContext(loss)))
    torch.testing.assert_close(values[0], 2 * values[1])


def test_as_released_the_frame_encoders_batch_norm_counts_every_copy():
    # By hand: a clip of 5 frames trains as ceil(5 / 4) * 4 + 16 = 24: 8 + 1 of the first, 3, and 12 of the last.
    model = model_of("gfslt", visual="feature_mlp", visual_dim=4).train()
    counted = []
    model.visual.register_forward_pre_hook(lambda module, inputs: counted.append(inputs[0]))
    rows = RELEASED["0.clips"][:5]
    batch = collate([Sample("c", "a b", features=rows.numpy())], [rows.numpy()])
    batch.tokens = torch.full((1, 4), 2)
    model(batch)
    index = [0] * 9 + [1, 2, 3] + [4] * 12
    torch.testing.assert_close(counted[0], rows[index])
    model.eval()(batch)
    assert len(counted[1]) == 5  # nothing is counted in evaluation
