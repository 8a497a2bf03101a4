"""The official Sign2GPT on small random weights (tests/references): its checkpoints, imported, give its numbers."""

import pickle

import pytest
import torch
from test_official import close
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from signcl.losses import label_smoothed_cross_entropy, pseudo_gloss_log_probs, pseudo_gloss_loss
from signcl.training.importing import import_checkpoint
from signcl.training.runs import load_run
from tests.references import Reference

WORDS = ["regen", "sonne", "wind", "morgen", "norden"]
ALPHA = 3.0  # of LoRA in the references; no tensor says it, and the published 4 would hide a wrong scale
VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghi"]  # XGLM's order


def steps_of(model, reference):
    """Features, steps and their number of the reference's clips, in float64 as the official code ran."""
    model.double()
    lengths = reference["lengths"]
    features = model.visual._encode(reference["frames"].double())
    padded = torch.nn.utils.rnn.pad_sequence(features.split(lengths.tolist()), batch_first=True)
    return features, *model.encoder(padded, lengths)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The run of a checkpoint of the first stage, with the vocabulary that the official script writes."""
    place = tmp_path_factory.mktemp("pgp")
    weights = {f"module.{name}": value for name, value in Reference("pgp").weights().items()}
    torch.save({"model": weights, "optimizer": {"state": {}}}, place / "latest.pt")
    words = {word: i for i, word in reversed(list(enumerate(WORDS)))}
    (place / "processed_words.phx_pkl").write_bytes(pickle.dumps({"dict_lem_to_id": words}))
    made = import_checkpoint("pgp", place / "latest.pt", place / "run", overrides=[f"model.dinov2.lora_alpha={ALPHA}"])
    assert made.fresh == {}
    assert set(made.left.values()) == {"a table of sines, computed again", "the null class, always zero"}
    return made.folder


def test_the_first_stage_gives_the_official_numbers(first):
    reference, run = Reference("pgp"), load_run(first)
    model, config = run.model, run.recipe.model
    assert (config.width, config.heads, config.ffn, config.blocks) == (16, 2, 32, (2, 2))
    assert (config.dinov2.lora_rank, config.dinov2.lora_blocks, config.learn_temperatures) == (2, 2, True)
    assert run.targets.makers["pseudo_gloss"].vocabulary == WORDS
    features, steps, lengths = steps_of(model, reference)
    close(features, reference["features"].double())
    assert lengths.tolist() == reference["step_lengths"].tolist() == [7, 5, 3, 1]
    close(steps, reference["steps"].double())
    similarity = model.head(steps)
    real = torch.arange(steps.shape[1])[None] < lengths[:, None]
    close(similarity[real], reference["similarity"].double()[:, :, :5][real])
    heats = model.head.class_temperature, model.head.time_temperature
    assert heats[1] < 0.01, "the reference holds a temperature below its bound"
    found, _ = pseudo_gloss_log_probs(similarity, lengths, *heats)
    close(found.exp(), reference["probabilities"].double())
    loss = 10 * pseudo_gloss_loss(similarity, lengths, reference["targets"], *heats)
    close(loss.reshape(1), reference["loss"].double())


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """The run of a checkpoint of the second stage."""
    place = tmp_path_factory.mktemp("sign2gpt")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(place / "xglm")
    torch.save({"model": Reference("sign2gpt").weights()}, place / "latest.pt")
    told = [f"model.dinov2.lora_alpha={ALPHA}", f"model.lm.lora_alpha={ALPHA}", "decode.max_new_tokens=6",
            f"text.tokenizer=pretrained:{place}/xglm"]  # fmt: skip
    made = import_checkpoint("sign2gpt", place / "latest.pt", place / "run", overrides=told)
    assert made.fresh == {}
    return made.folder


def test_the_second_stage_gives_the_official_scores_and_sentences(second):
    reference, run = Reference("sign2gpt"), load_run(second)
    decoder = run.model.decoder
    decoder.start_id = 2  # XGLM's tokenizer puts </s> before a text; the one of this test puts nothing
    gates = torch.cat([reader.sign_gate for reader in decoder.readers()])
    assert gates.min() < 0, "the reference holds gates beyond both bounds"
    assert gates.max() > 1
    _, steps, lengths = steps_of(run.model, reference)
    tokens = reference["tokens"]
    logits = decoder(tokens, steps, lengths)
    close(logits[tokens != 1], reference["logits"].double()[tokens != 1])
    close(label_smoothed_cross_entropy(logits, tokens, 1, 0.1).reshape(1), reference["loss"].double())
    written = decoder.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=6)
    assert written.tolist() == reference["greedy"][:, : written.shape[1]].tolist()


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    weights = Reference("sign2gpt").weights()
    torch.save({"model": {**weights, "lang_model.model.layers.0.lora_w1_l1.weight": torch.zeros(2)}}, tmp_path / "s.pt")
    with pytest.raises(
        ValueError, match=r"1 of \d+ tensors are not in the released form of a sign2gpt .*first lang_model.*lora_w1_l1"
    ):
        import_checkpoint("sign2gpt", tmp_path / "s.pt", tmp_path / "run")
    with pytest.raises(ValueError, match="is a checkpoint of kind sign2gpt, not pgp"):
        import_checkpoint("pgp", tmp_path / "s.pt", tmp_path / "run")
    torch.save({"model": Reference("pgp").weights()}, tmp_path / "p.pt")
    with pytest.raises(FileNotFoundError, match=r"processed_words.phx_pkl; name the file with --words"):
        import_checkpoint("pgp", tmp_path / "p.pt", tmp_path / "run")
    words = tmp_path / "processed_words.phx_pkl"
    for content, message in (
        ({"dict_lem_to_id": {"a": 0, "b": 1}}, "has 5 pseudo-glosses and its vocabulary 2"),
        ({"dict_lem_to_id": {"a": 0, "b": 2}}, "needs dict_lem_to_id, a dictionary of pseudo-glosses to 0, 1, 2"),
    ):
        words.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=message):
            import_checkpoint("pgp", tmp_path / "p.pt", tmp_path / "run")
