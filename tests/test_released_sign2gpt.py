"""The official Sign2GPT on small random weights (tests/references): ours, imported by name, gives the same numbers."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from systems import make
from transformers import XGLMConfig

from signcl.losses import label_smoothed_cross_entropy, pseudo_gloss_log_probs, pseudo_gloss_loss
from signcl.systems import Sizes
from signcl.systems.encoders import DINOv2
from signcl.systems.parts.released_sign2gpt import released_pgp, released_sign2gpt
from signcl.systems.pgp import PGP
from signcl.systems.sign2gpt import LMConfig, Sign2GPT
from signcl.systems.targets import Targets
from signcl.systems.targets.pseudo_glosses import PseudoGlosses

REFERENCES = Path(__file__).parent / "references"
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 20,
       "patch_size": 4}  # fmt: skip
"""What no shape says of the references: heads of the ViT, alpha of LoRA, and the sizes of XGLM's tables."""
ALPHA = 3.0
XGLM = {"num_layers": 2, "d_model": 16, "attention_heads": 2, "ffn_dim": 24, "vocab_size": 13, "pad_token_id": 1,
        "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 2}  # fmt: skip


def reference(name):
    with safe_open(REFERENCES / f"{name}.safetensors", "pt") as file:
        data = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
        assert file.metadata()["repository"] == "ryanwongsa/Sign2GPT"
    parts = {"weight": {}, "input": {}, "output": {}}
    for key, value in data.items():
        kind, _, rest = key.partition("/")
        parts[kind][rest] = value
    return parts["weight"], parts["input"], parts["output"]


def close(ours, theirs, real=None):
    ours, theirs = (ours, theirs) if real is None else (ours[real], theirs[real])
    torch.testing.assert_close(ours, theirs.to(ours.dtype), atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)


def dinov2(values):
    return DINOv2(VIT, lora_blocks=values["lora_blocks"], lora_rank=values["lora_rank"], lora_alpha=ALPHA)


def filled(model, found):
    """The model with the tensors of a checkpoint: every one of its own has to come from there."""
    assert model.state_dict().keys() == found.tensors.keys()
    model.load_state_dict(found.tensors)
    return model.double().eval()


def steps_of(model, given):
    lengths = given["lengths"]
    features = model.visual._encode(given["frames"].double())
    padded = torch.nn.utils.rnn.pad_sequence(features.split(lengths.tolist()), batch_first=True)
    return features, *model.encoder(padded, lengths)


def test_the_first_stage_gives_the_official_numbers():
    weights, given, expected = reference("pgp")
    found = released_pgp({f"module.{name}": value for name, value in weights.items()})
    assert found.model == {"name": "pgp", "visual": "dinov2", "dinov2": {"lora_rank": 2, "lora_blocks": 2}, "width": 16,
                           "heads": 2, "ffn": 32, "blocks": (2, 2), "prototype_dim": 300,
                           "learn_temperatures": True}  # fmt: skip
    named = set(found.left) | {"sign_model.spatial_model.lin.weight"}
    assert named < set(weights)
    values = {key: found.model[key] for key in ("width", "heads", "ffn", "blocks", "prototype_dim")}
    words = Targets({"pseudo_gloss": PseudoGlosses(list("abcde"), "words")})
    sizes = Sizes(visual=dinov2(found.model["dinov2"]), targets=words, terms=("pseudo_gloss",))
    model = filled(PGP(PGP.Config(activation="gelu", **values), sizes), found)

    features, steps, lengths = steps_of(model, given)
    close(features, expected["features"])
    assert lengths.tolist() == expected["step_lengths"].tolist() == [7, 5, 3, 1]
    close(steps, expected["steps"])
    real = torch.arange(steps.shape[1])[None] < lengths[:, None]
    similarity = model.head(steps)
    close(similarity, expected["similarity"][:, :, :5], real)
    heads = model.head.class_temperature, model.head.time_temperature
    assert heads[1] < 0.01, "the reference holds a temperature below its bound"
    probabilities, _ = pseudo_gloss_log_probs(similarity, lengths, *heads)
    close(probabilities.exp(), expected["probabilities"])
    loss = 10 * pseudo_gloss_loss(similarity, lengths, given["targets"], *heads)
    close(loss.reshape(1), expected["loss"])


def sign2gpt(found):
    values = {key: found.model[key] for key in ("width", "heads", "ffn", "blocks")}
    lm = LMConfig(**found.model["lm"], lora_alpha=ALPHA)
    visual = dinov2(found.model["dinov2"])
    described = {"decoder": XGLMConfig(**XGLM).to_dict()}
    ids = {"vocab_size": 13, "pad_id": 1, "start_id": 2, "end_id": 2}
    return make(Sign2GPT, visual, **ids, lm=lm, described=described, activation="gelu", **values)


def test_the_second_stage_gives_the_official_numbers():
    weights, given, expected = reference("sign2gpt")
    found = released_sign2gpt(weights)
    assert found.model["lm"] == {"architecture": "xglm", "adapters": "inside", "layers": 2, "width": 16, "heads": 2,
                                 "ffn": 24, "lora_rank": 2}  # fmt: skip
    model = filled(sign2gpt(found), found)
    gates = torch.cat([reader.sign_gate for reader in model.decoder.readers()])
    assert gates.min() < 0, "the reference holds gates beyond both bounds"
    assert gates.max() > 1

    _, steps, lengths = steps_of(model, given)
    tokens = given["tokens"]
    logits = model.decoder(tokens, steps, lengths)
    close(logits, expected["logits"], tokens != 1)
    close(label_smoothed_cross_entropy(logits, tokens, 1, 0.1).reshape(1), expected["loss"])
    written = model.decoder.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=6)
    assert written.tolist() == expected["greedy"][:, : written.shape[1]].tolist()


def test_a_checkpoint_with_parts_that_ours_has_no_place_for_is_refused():
    weights, *_ = reference("sign2gpt")
    strange = {**weights, "lang_model.model.layers.0.lora_w1_l1.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match=r"no place for 1 tensors of this checkpoint, first lang_model.*lora_w1_l1"):
        released_sign2gpt(strange)
    with pytest.raises(ValueError, match=r"pgp needs a released checkpoint of Sign2GPT with sign_model"):
        released_pgp({"weight": torch.zeros(1)})
