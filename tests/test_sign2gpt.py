"""Sign2GPT: a language model that reads signs, inside its attention (XGLM) or by a hook before its layers (any other).

Gates, what is trained, beams, published folders there and gone. test_released_sign2gpt.py has the official numbers.
"""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from systems import having, losses, make
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    XGLMConfig,
)

from signcl import evaluate, fit, load_recipe
from signcl.data.batch import Sample, frame_mask
from signcl.data.loading import ClipDataset, collate
from signcl.data.text import VocabularyTokenizer, build_tokenizer, load_tokenizer
from signcl.inference.translation import load_model, translate
from signcl.systems.encoders import DINOV2_SIZES, DINOv2, build_visual
from signcl.systems.parts.adapted_lm import AdaptedLM, AdapterConfig, SignAdapter
from signcl.systems.parts.lm import Marks
from signcl.systems.parts.lora import attention_maps, decoder_layers
from signcl.systems.parts.signs_in_attention import SignAttention, open_gate
from signcl.systems.pgp import PGP
from signcl.systems.sign2gpt import Sign2GPT
from signcl.systems.targets import Targets
from signcl.systems.targets.pseudo_glosses import PseudoGlosses
from signcl.training import run_folder, runs
from signcl.training.optimizer import count_parameters, make_optimizer
from signcl.training.prepare import prepare
from signcl.training.recipe import TrainRecipe, recipe_from_dict
from signcl.training.runs import build_model, initialise

WORDS = ["regen", "sonne", "wind", "morgen", "norden", "und"]
DIM, V, END, START, PAD = 6, 13, 2, 1, 0
IDS = {"vocab_size": V, "bos_token_id": START, "eos_token_id": END, "pad_token_id": None}
CONFIGS = {
    "gpt2": GPT2Config(n_layer=2, n_embd=16, n_head=2, n_inner=24, n_positions=40, **IDS),
    "xglm": XGLMConfig(num_layers=2, d_model=16, attention_heads=2, ffn_dim=24, max_position_embeddings=40, **IDS),
    "opt": OPTConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, ffn_dim=24,
                     max_position_embeddings=40, word_embed_proj_dim=16, **{**IDS, "pad_token_id": PAD}),
    "llama": LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=1,
                         intermediate_size=24, max_position_embeddings=40, **IDS),
}  # fmt: skip
HOOK = {"adapters": "hook", "adapter_width": 8, "adapter_heads": 2}
"""Of every language model here but XGLM, which reads signs inside its attention."""
SIGNS = {"width": 16, "heads": 2, "ffn": 24, "layer_scale": 0.5}


def lm_of(name, seed=0):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]), dtype=torch.float32)


def model_of(name="gpt2", gate=0.7, seed=0, **options):
    torch.manual_seed(seed)
    keys = set(AdapterConfig.__dataclass_fields__) - set(SIGNS)
    own = {key: options.pop(key) for key in list(options) if key in keys}
    lm = AdapterConfig(**{**({} if name == "xglm" else HOOK), "gate": gate, **own})
    ids = {"vocab_size": V, "pad_id": PAD, "start_id": START, "end_id": END}
    decoder = {"decoder": CONFIGS[name].to_dict()}
    visual = build_visual("identity", feature_dim=DIM)
    model = make(Sign2GPT, visual, **ids, lm=lm, described=decoder, **(SIGNS | options))
    model.encoder.norm.running_mean.uniform_(-1, 1)
    model.encoder.norm.running_var.uniform_(0.5, 2)
    return model.eval()


def some_batch(lengths=(9, 23, 12), seed=0):
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(length, DIM)).astype(np.float32) for length in lengths]
    samples = [Sample(f"c{i}", " ".join(WORDS[: i + 2])) for i in range(len(lengths))]
    batch = collate(samples, arrays)
    tokenizer = VocabularyTokenizer(sorted(WORDS))
    ids = [tokenizer.encode(s.text) for s in samples]
    batch.token_lengths = torch.tensor([len(row) for row in ids])
    batch.tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in ids], batch_first=True)
    return batch, samples, arrays


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_reads_the_clip_and_a_padded_batch_changes_nothing(name):
    batch, samples, arrays = some_batch()
    model = model_of(name)
    together = model(batch)
    assert together.logits.shape == (3, 5, V)
    for i, (sample, array) in enumerate(zip(samples, arrays)):
        alone, length = collate([sample], [array]), int(batch.token_lengths[i])
        alone.tokens, alone.token_lengths = batch.tokens[i : i + 1, :length], batch.token_lengths[i : i + 1]
        torch.testing.assert_close(model(alone).logits[0], together.logits[i, :length], atol=1e-5, rtol=0)
        for beams in (1, 3):
            found = model.generate(alone, num_beams=beams, max_new_tokens=9)[0].tolist()
            row = model.generate(batch, num_beams=beams, max_new_tokens=9)[i].tolist()
            assert found == row[: len(found)]
            assert set(row[len(found) :]) <= {PAD}
    other = some_batch(seed=1)[0]
    assert (model(other).logits[1] - together.logits[1]).abs().max() > 3e-4, "the clip does not reach the words"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_closed_gate_leaves_the_language_model_as_it_was(name):
    batch, *_ = some_batch()
    model = model_of(name, gate=0.0)
    read = torch.cat([torch.full((3, 1), START), batch.tokens[:, :-1]], dim=1)
    with torch.no_grad():
        theirs = lm_of(name).eval()(input_ids=read).logits
    for row, length in enumerate(batch.token_lengths.tolist()):  # what stands at padding differs and means nothing
        torch.testing.assert_close(model(batch).logits[row, :length], theirs[row, :length], atol=1e-5, rtol=0)
    model(batch).logits.square().sum().backward()
    reader = model.decoder.readers()[0]
    gate, behind = (reader.sign_gate, reader.lora_sign_v.up) if name == "xglm" else (reader.gate, reader.value)
    assert gate.grad.all()
    assert not behind.weight.grad.any(), "behind a closed gate nothing else moves in the first step"


def test_the_adapter_is_plain_attention():
    torch.manual_seed(0)
    adapter = SignAdapter(6, 4, 2, gate=0.3).eval()
    states, steps = torch.randn(4, 3, 6), torch.randn(2, 5, 4)  # two clips, two beams each
    lengths = torch.tensor([5, 2])
    assert torch.equal(adapter(states), states)  # nothing remembered
    adapter.remember(steps, frame_mask(lengths, 5))
    found = adapter(states)
    for row in range(4):
        real = steps[row // 2, : lengths[row // 2]]
        q, k, v = adapter.query(adapter.norm(states[row])), adapter.key(real), adapter.value(real)
        heads = [(q[:, h] @ k[:, h].T / 2**0.5).softmax(1) @ v[:, h] for h in (slice(0, 2), slice(2, 4))]
        expected = states[row] + torch.tanh(torch.tensor(0.3)) * adapter.out(torch.cat(heads, dim=1))
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=0)


def test_attention_to_signs_is_plain_attention_with_the_maps_of_the_words():
    torch.manual_seed(0)
    layer = lm_of("xglm").model.layers[0]
    words = copy.deepcopy(layer.self_attn).eval()
    reader = SignAttention(layer.self_attn, layer.self_attn_layer_norm, gate=0.3, rank=2, alpha=4.0, dropout=0.5).eval()
    torch.nn.init.normal_(layer.self_attn_layer_norm.weight)
    torch.nn.init.normal_(reader.lora_sign_q.up.weight)
    with torch.no_grad():
        reader.sign_gate.copy_(torch.tensor([0.3, 1.7]))
    states, steps, lengths = torch.randn(4, 3, 16), torch.randn(2, 5, 16), torch.tensor([5, 2])  # two beams a clip
    alone = reader(states)[0]
    mask = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1) > 0, -torch.inf).expand(4, 1, 3, 3)
    torch.testing.assert_close(alone, words(states, attention_mask=mask)[0])  # nothing remembered
    reader.remember(steps, frame_mask(lengths, 5))
    found = reader(states, attention_mask=mask)[0]
    for row in range(4):
        real = layer.self_attn_layer_norm(steps[row // 2, : lengths[row // 2]])
        q = words.q_proj(states[row]) + 2 * reader.lora_sign_q.up(reader.lora_sign_q.down(states[row]))
        k = words.k_proj(real) + 2 * reader.lora_sign_k.up(reader.lora_sign_k.down(real))
        v = words.v_proj(real) + 2 * reader.lora_sign_v.up(reader.lora_sign_v.down(real))
        heads = [gate * (q[:, h] @ k[:, h].T / 8**0.5).softmax(1) @ v[:, h]
                 for gate, h in ((0.3, slice(0, 8)), (1.0, slice(8, 16)))]  # fmt: skip
        expected = alone[row] + torch.cat(heads, dim=1) @ words.out_proj.weight.T
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


def test_a_gate_at_its_bounds_still_moves():
    gate = torch.tensor([-0.5, 0.0, 0.4, 1.5], requires_grad=True)
    held = open_gate(gate)
    assert held.tolist() == pytest.approx([0, 0, 0.4, 1])
    held.sum().backward()
    assert gate.grad.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", CONFIGS)
def test_step_by_step_generation_is_teacher_forcing(name):
    batch, *_ = some_batch()
    model = model_of(name, seed=3)
    found = model.generate(batch, num_beams=1, max_new_tokens=8)
    batch.tokens, batch.token_lengths = found, (found != PAD).sum(dim=1)
    best = model(batch).logits.argmax(dim=2)
    for row, tokens in enumerate(found.tolist()):
        end = tokens.index(END) + 1 if END in tokens else len(tokens)
        assert best[row, :end].tolist() == tokens[:end]
        assert set(tokens[end:]) <= {PAD}


def test_a_beam_is_never_worse_than_greedy_and_remembers_its_own_clip():
    batch, *_ = some_batch()
    model = model_of(seed=5, gate=2.0)

    @torch.no_grad()
    def score(ids):
        batch.tokens = ids
        picked = model(batch).logits.log_softmax(dim=2).gather(2, ids.clamp(max=V - 1)[:, :, None])[:, :, 0]
        ends = [row.index(END) + 1 if END in row else len(row) for row in ids.tolist()]
        return [float(picked[row, :end].sum()) for row, end in enumerate(ends)]

    greedy = model.generate(batch, num_beams=1, length_penalty=0.0, max_new_tokens=6)
    beam = model.generate(batch, num_beams=V, length_penalty=0.0, max_new_tokens=6)
    assert all(b >= g - 1e-4 for b, g in zip(score(beam), score(greedy)))


@pytest.mark.parametrize("name", CONFIGS)
def test_only_what_the_formula_counts_is_trained(name):
    model = model_of(name, lora_rank=4)
    total, trained = count_parameters(model)
    w, a, W, layers = 16, 8, 16, 2
    maps = {"gpt2": (16 + 48) + (16 + 16), "llama": 2 * (16 + 16) + 2 * (16 + 8)}.get(name, 4 * (16 + 16))
    adapter = 2 * W + (W * a + a) + 2 * (a * a + a) + (a * W + W) + 1
    signs = sum(p.numel() for p in model.encoder.parameters())
    if name == "xglm":
        assert trained == signs + (w * W + W) + layers * (14 * 4 * W + 2)
    else:
        assert trained == signs + (w * a + a + 2 * a) + layers * (4 * maps + adapter)
    assert total == trained + sum(p.numel() for p in lm_of(name).parameters())

    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    assert all(n.startswith("decoder.lm.") and ".lora_" not in n and "sign_gate" not in n for n in frozen)
    optimizer = make_optimizer(model.train(), TrainRecipe(lr=0.1))
    batch, *_ = some_batch()
    for _ in range(2):  # behind LoRA's zero matrix the other one moves from the second step on
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch).logits.flatten(0, 1), batch.tokens.flatten()).backward()
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        optimizer.step()
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == trained
    assert len(optimizer.state) == sum(p.requires_grad for p in model.parameters())


def test_the_counts_at_the_published_sizes_are_those_of_the_released_modules():
    with torch.device("meta"):
        sizes = XGLMConfig(num_layers=24, d_model=2048, attention_heads=16, ffn_dim=8192, vocab_size=256008)
        visual, ids = build_visual("identity", feature_dim=384), {"pad_id": 1, "start_id": 2, "end_id": 2}
        model = make(Sign2GPT, visual, **ids, described={"decoder": sizes.to_dict()})
        model.visual = DINOv2(DINOV2_SIZES["small"])
        targets = Targets({"pseudo_gloss": PseudoGlosses([f"w{i}" for i in range(2306)], "words")})
        first = make(PGP, DINOv2(DINOV2_SIZES["small"]), targets=targets, terms=("pseudo_gloss",))
    dinov2, lora, signs, xglm = 22_056_576, 73_728, 12_811_776, 1_732_907_008
    trained = lora + signs + 153_902
    assert count_parameters(first) == (dinov2 + trained, trained) == (35_095_982, 13_039_406)
    assert first.head.vectors.numel() == 691_800  # beside them: with these the released modules count 35,787,782
    trained = lora + signs + 1_050_624 + 2_752_896
    assert count_parameters(model) == (dinov2 + xglm + trained, trained) == (1_771_652_608, 16_689_024)


def test_a_language_model_without_lora_or_trained_whole():
    plain = model_of(lora_rank=0)
    assert not any(p.requires_grad for p in plain.decoder.lm.parameters())
    assert not any("lora" in name for name in plain.state_dict())
    assert not any("lora" in name for name in model_of("xglm", lora_rank=0).state_dict())
    assert all(p.requires_grad for p in model_of(lora_rank=0, train="all").parameters())


def test_without_peft_the_answer_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)  # as where it is not installed
    with pytest.raises(ValueError, match=r"model.lm.lora_rank=4 needs the package peft: pip install 'signcl\[lora\]'"):
        model_of()
    model_of(lora_rank=0)


def test_layers_and_attention_are_found_or_said_to_be_missing():
    assert attention_maps(lm_of("gpt2")) == [
        f"transformer.h.{i}.attn.{n}" for i in (0, 1) for n in ("c_attn", "c_proj")
    ]
    assert len(attention_maps(lm_of("llama"))) == len(attention_maps(lm_of("opt"))) == 8
    odd = lm_of("gpt2")
    odd.config.n_layer = 5
    with pytest.raises(ValueError, match="no list of 5 layers in GPT2LMHeadModel"):
        decoder_layers(odd)
    with pytest.raises(ValueError, match="adapters=inside needs an XGLM, as published, got gpt2; set it to hook"):
        AdaptedLM(lm_of("gpt2"), 4, Marks(V, START, END), AdapterConfig())
    with pytest.raises(ValueError, match="longer than the 40 positions"):
        model_of().generate(some_batch()[0], max_new_tokens=41)
    with pytest.raises(ValueError, match="needs num_beams and max_new_tokens of at least 1"):
        model_of().generate(some_batch()[0], num_beams=0)


@pytest.mark.parametrize("name", ["gpt2", "xglm"])
def test_a_copy_of_the_model_reads_its_own_clips(name):
    batch, *_ = some_batch()
    model = model_of(name)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for reader in twin.decoder.readers():
            (reader.sign_gate if name == "xglm" else reader.gate).zero_()
        assert not torch.equal(twin(batch).logits, model(batch).logits)
        assert twin.decoder.readers()[0].memory is None is model.decoder.readers()[0].memory
    if name == "xglm":
        layer = twin.decoder.lm.model.layers[0]
        assert layer.self_attn._norm[0] is layer.self_attn_layer_norm


def test_a_pad_id_beyond_the_vocabulary_is_never_embedded():
    batch, *_ = some_batch()
    torch.manual_seed(0)
    decoder = AdaptedLM(lm_of("gpt2"), 4, Marks(V, START, END), AdapterConfig(**HOOK)).eval()
    steps, lengths = torch.randn(3, 5, 4), torch.tensor([5, 2, 1])
    tokens = batch.tokens.masked_fill(batch.tokens == 0, V)
    logits = decoder(tokens, steps, lengths)
    assert torch.isfinite(logits).all()
    ids = decoder.generate(steps, lengths, num_beams=2, length_penalty=1.0, max_new_tokens=5)
    assert ids.shape[0] == 3


# --- whole runs, and published folders


def write_corpus(root):
    random = np.random.default_rng(0)
    directions = random.normal(size=(len(WORDS), DIM)) * 3
    root.mkdir()
    for split, count in (("train", 4), ("dev", 4), ("test", 2)):
        lines = ["name\tpath\ttext"]
        for i in range(count):
            chosen = np.random.default_rng(i).integers(len(WORDS), size=3)
            rows = np.repeat(directions[chosen], 6, axis=0) + random.normal(size=(18, DIM)) * 0.05
            np.save(root / f"{split}{i}.npy", rows.astype(np.float32))
            lines.append(f"{split}{i}\t{split}{i}.npy\t{' '.join(WORDS[c] for c in chosen)}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("sign2gpt") / "corpus")


def recipe(corpus, out, name="sign2gpt", *, model=None, lm=None, pgp=None, text=None, **train):
    stage = "pretrain" if name == "pgp" else "finetune"
    sizes = {"visual": "feature_mlp", "visual_dim": 16, "width": 32, "heads": 2, "ffn": 48, "dropout": 0.0,
             "max_positions": 40}  # fmt: skip
    own = {"layer_scale": 1.0, "drop_path": 0.0, "prototype_dim": 8, "max_share": 1.0, "stop_length": 0, **(pgp or {})}
    sizes |= own
    made = {"width": 32, "heads": 2, "ffn": 48, "gate": 0.5, **(lm or {})}
    return recipe_from_dict({
        "stage": stage,
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus)},
        "text": text or {},
        "model": {"name": name, **having(name, sizes | {"lm": made}), **(model or {})},
        "loss": {"label_smoothing": 0.0},
        "train": {"epochs": 1, "batch_size": 4, "device": "cpu", "lr": 3e-3, "weight_decay": 0.0,
                  "schedule": "constant", **train},
        "decode": {"beams": 4, "max_new_tokens": 12},
    })  # fmt: skip


@pytest.mark.slow
def test_pretraining_finds_the_words_and_translation_starts_from_it_and_is_learned_by_heart(corpus, tmp_path):
    first = fit(recipe(corpus, tmp_path / "pgp", "pgp", epochs=40, evaluate_every=40), progress=False)
    scores = evaluate(first, "dev", bootstrap=0, progress=False)
    assert scores["pseudo_gloss_map"] > 95
    assert scores["pseudo_gloss_f1"] > 90
    assert (first / "pseudo_glosses.json").is_file()

    model = {"init_from": str(first)}
    settings = {"train": "all", "lora_rank": 0}
    folder = fit(
        recipe(corpus, tmp_path / "run", model=model, lm=settings, epochs=90, evaluate_every=90), progress=False
    )
    said = run_folder.read_card(folder)["initialised"]
    assert len(said) == 1
    assert "left behind: head (5); start fresh: decoder" in said[0]
    run = runs.load_run(folder)
    data = ClipDataset(prepare(run.recipe).dev.samples, run.tokenizer, run.recipe.reading, training=False)
    batch = data[[0, 1, 2, 3]].batch
    with torch.no_grad():
        terms = losses(run.model, batch, run.recipe)
    assert float(terms["translation"]) < 0.1
    assert (
        runs.load_run(folder).model.generate(batch, max_new_tokens=9).equal(run.model.generate(batch, max_new_tokens=9))
    )
    assert evaluate(folder, "dev", bootstrap=0, progress=False)["exact_match"] == 100
    assert translate(load_model(folder, device="cpu"), corpus / "dev0.npy").text == data.samples[0].text


def test_pretraining_hands_over_every_tensor_of_the_visual_side(corpus, tmp_path):
    first = fit(recipe(corpus, tmp_path / "pgp", "pgp", max_steps=1), progress=False)
    source = run_folder.read_weights(first)
    r = recipe(corpus, tmp_path / "run", model={"init_from": str(first)})
    model = build_model(r, prepare(r).tokenizer, DIM)
    initialise(model, r)
    own = model.state_dict()
    carried = [name for name in source if name.startswith(("visual.", "encoder."))]
    assert carried
    assert all(torch.equal(own[name], source[name]) for name in carried)
    r = replace(r, model=replace(r.model, width=48))
    with pytest.raises(ValueError, match="tensors do not fit from one stage to the next"):
        initialise(build_model(r, prepare(r).tokenizer, DIM), r)
    r = recipe(corpus, tmp_path / "other", "pgp", model={"init_from": str(tmp_path / "run2")})
    fit(recipe(corpus, tmp_path / "run2", max_steps=1), progress=False)
    with pytest.raises(ValueError, match="is a run of sign2gpt, which cannot start pgp"):
        fit(r, progress=False)


def published(folder, *, pad=False, extra=0, kind="gpt2"):
    """A folder of a GPT-2 or XGLM as transformers saves it, with a tokenizer of its own."""
    words = {w: i for i, w in enumerate(["<|end|>", "<unk>", *WORDS, *(["<pad>"] if pad else [])])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"eos_token": "<|end|>", "unk_token": "<unk>", **({"pad_token": "<pad>"} if pad else {})}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    torch.manual_seed(4)
    sizes = {"vocab_size": len(words) + extra, "bos_token_id": 0, "eos_token_id": 0}
    config = CONFIGS[kind].__class__(**{**CONFIGS[kind].to_dict(), **sizes})
    lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    lm.save_pretrained(folder)
    return lm


def test_a_tokenizer_of_a_language_model_is_read_kept_and_the_same_again(tmp_path):
    published(tmp_path / "plain")
    tokenizer = build_tokenizer(f"pretrained:{tmp_path}/plain", [])
    assert (tokenizer.start_id, tokenizer.end_id) == (0, 0)
    assert tokenizer.pad_id == tokenizer.num_tokens == len(WORDS) + 2 == tokenizer.vocab_size - 1
    assert tokenizer.pieces() == ["<|end|>", "<unk>", *WORDS, "<pad>"]
    ids = tokenizer.encode("regen und wind")
    assert ids == [2, 7, 4, 0]
    assert tokenizer.decode([*ids, 3, tokenizer.pad_id]) == "regen und wind"
    assert tokenizer.decode([0, *ids]) == "regen und wind"  # an end before any word is the start
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.encode("sonne hagel"), again.pad_id) == (tokenizer.encode("sonne hagel"), tokenizer.pad_id)
    published(tmp_path / "padded", pad=True)
    padded = build_tokenizer(f"pretrained:{tmp_path}/padded", [])
    assert padded.pad_id == len(WORDS) + 2 == padded.vocab_size - 1
    (tmp_path / "bare").mkdir()
    lm_of("gpt2").save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"text.tokenizer: .*bare has no tokenizer .*save the tokenizer of the"):
        build_tokenizer(f"pretrained:{tmp_path}/bare", [])


@pytest.mark.parametrize("kind", ["gpt2", "xglm"])
def test_a_run_on_a_published_language_model_is_whole_without_its_folder(kind, corpus, tmp_path):
    lm = published(tmp_path / "lm", extra=3, kind=kind)  # more rows than tokens, as XGLM has
    name = f"pretrained:{tmp_path}/lm"
    text = {"tokenizer": name}
    adapters = {} if kind == "xglm" else HOOK
    r = recipe(corpus, tmp_path / "run", lm={"name": name, **adapters}, text=text, max_steps=2)
    folder = fit(r, progress=False)
    card = run_folder.read_card(folder)
    loaded = {"gpt2": "29 tensors of GPT2LMHeadModel", "xglm": "36 tensors of XGLMForCausalLM"}[kind]
    assert card["initialised"] == [f"language model from {name}: {loaded} loaded, no tensor missing"]
    assert card["trained_parameters"] < card["parameters"]
    weights = run_folder.read_weights(folder)
    theirs = lm.state_dict()
    frozen = {
        "gpt2": ("transformer.h.1.mlp.c_fc.weight", "transformer.wpe.weight"),
        "xglm": ("model.layers.1.self_attn.q_proj.weight", "model.layers.1.fc1.weight"),
    }
    for key in frozen[kind]:
        assert torch.equal(weights[f"decoder.lm.{key}"], theirs[key]), "the published weights are frozen"
    if kind == "gpt2":
        fused = "transformer.h.0.attn.c_attn."
        assert torch.equal(weights[f"decoder.lm.{fused}base_layer.weight"], theirs[f"{fused}weight"])

    here = runs.load_run(folder)
    batch = ClipDataset(prepare(here.recipe).dev.samples, here.tokenizer, here.recipe.reading, training=False)[
        [0, 1]
    ].batch
    expected = here.model(batch).logits
    assert expected.shape[2] == len(WORDS) + 2 + 3
    shutil.rmtree(tmp_path / "lm")
    gone = runs.load_run(folder)
    assert torch.equal(gone.model(batch).logits, expected)
    assert gone.model.generate(batch, max_new_tokens=9).equal(here.model.generate(batch, max_new_tokens=9))
    assert json.loads((folder / "architecture.json").read_text())["decoder"]["model_type"] == kind
    with pytest.raises(ValueError, match=r"model.lm.name: no folder .*lm with a config.json, and no such hub id"):
        build_model(r, here.tokenizer, DIM)


def test_language_models_that_do_not_fit_are_one_line(corpus, tmp_path):
    published(tmp_path / "lm")
    published(tmp_path / "larger", pad=True)
    text = {"tokenizer": f"pretrained:{tmp_path}/larger"}
    r = recipe(corpus, tmp_path / "run", lm={"name": f"pretrained:{tmp_path}/lm", **HOOK}, text=text)
    with pytest.raises(
        ValueError, match=r"its vocabulary has 8 rows but the tokenizer has 9 tokens; set text.tokenizer"
    ):
        build_model(r, prepare(r).tokenizer, DIM)
    torch.save({}, tmp_path / "lm" / "pytorch_model.bin")
    (tmp_path / "lm" / "model.safetensors").unlink()
    r.text.tokenizer = f"pretrained:{tmp_path}/lm"
    tokenizer = build_tokenizer(r.text.tokenizer, [])
    with pytest.raises(ValueError, match=r"model\.lm\.name: "):
        initialise(build_model(r, tokenizer, DIM), r)


RECIPES = Path(__file__).parents[1] / "recipes"
TINY = ["model.width=32", "model.heads=2", "model.ffn=32", "model.prototype_dim=8", "model.lemmatiser=words",
        "train.max_steps=2", "train.device=cpu",
        "train.batch_size=2", "train.precision=32-true", "train.workers=0", "input.size=56", "input.crop=48",
        "decode.max_new_tokens=6"]  # fmt: skip
SECOND = [change for change in TINY if "prototype" not in change and "lemmatiser" not in change]


@pytest.mark.parametrize("variant", ["", "-signcl"])
def test_the_published_recipes_train_and_score_on_the_official_layout(variant, tmp_path):
    random = np.random.default_rng(0)
    texts = ["am regen", "sonne und wind"]
    for split in ("train", "dev", "test"):
        lines = ["name|video|start|end|speaker|orth|translation"]
        for i, text in enumerate(texts):
            folder = tmp_path / f"corpus/features/fullFrame-210x260px/{split}/{split}{i}"
            folder.mkdir(parents=True)
            for frame in range(1, 9):
                picture = random.integers(0, 256, size=(64, 56, 3), dtype=np.uint8)
                assert cv2.imwrite(str(folder / f"images{frame:04d}.png"), picture)
            lines.append(f"{split}{i}|{split}{i}/1/*.png|-1|-1|S|REGEN|{text}")
        path = tmp_path / f"corpus/annotations/manual/PHOENIX-2014-T.{split}.corpus.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    Dinov2Model(Dinov2Config(**DINOV2_SIZES["tiny"])).save_pretrained(tmp_path / "dino")
    published(tmp_path / "lm", pad=True, kind="xglm")
    (tmp_path / "words.vec").write_text("sonne 1 0 0 0 0 0 0 0\n")
    lm = f"pretrained:{tmp_path}/lm"
    places = [f"corpus.root={tmp_path}/corpus", f"model.visual_weights=pretrained:{tmp_path}/dino"]
    first = load_recipe(RECIPES / f"phoenix14t/pgp{variant}.yaml", [
        *places, *TINY, f"out={tmp_path}/pgp", f"model.vectors=pretrained:{tmp_path}/words.vec",
        "model.max_share=1.0"])  # fmt: skip
    folder = fit(first, progress=False)
    assert "1 of 3; random for regen, wind" in run_folder.read_card(folder)["initialised"][1]
    assert run_folder.read_weights(folder)["head.vectors"].shape == (3, 8)
    second = load_recipe(RECIPES / f"phoenix14t/sign2gpt{variant}.yaml", [
        *places, *SECOND, f"out={tmp_path}/run", f"model.init_from={folder}", f"model.lm.name={lm}",
        f"text.tokenizer={lm}"])  # fmt: skip
    run = fit(second, progress=False)
    assert len(run_folder.read_card(run)["initialised"]) == 3
    assert evaluate(run, "test", bootstrap=0, progress=False)["made"]["clips"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lm": {"name": "pretrained:x/y"}}, r"text.tokenizer: .* needs pretrained:x/y, got 'word'"),
        ({"lm": {"name": "xglm"}}, r"model.lm.name: needs pretrained:FOLDER_OR_HUB_ID, got 'xglm'"),
        ({"lm": {"width": 10, "heads": 4}}, "heads must divide width"),
        ({"lm": {"architecture": "gpt2"}}, "model.lm.architecture=gpt2 needs model.lm.adapters=hook"),
        ({"lm": {"adapter_width": 64}}, "adapter_width and adapter_heads belong to adapters=hook"),
        ({"name": "pgp", "start_temperature": 2.0}, "model.start_temperature: needs a number from 0.01 to 1, got 2.0"),
        ({"lm": {"lora_rank": -1}}, "model.lm.lora_rank: needs a number from 0 to 4096, got -1"),
        ({"lm": {"architecture": "t5"}}, "model.lm.architecture: needs one of gpt2, xglm"),
        ({"window": 4}, "model.window: needs an odd number"),
        ({"name": "pgp", "lemmatiser": "spacey:de"}, "model.lemmatiser: needs words, .* or spacy:MODEL"),
        ({"name": "pgp", "vectors": "cc.de.300.vec"}, "model.vectors: needs pretrained:FILE"),
        ({"drop_path": 1.0}, "model.drop_path: needs a number of at least 0 and below 1, got 1.0"),
        ({"dinov2": {"vit": "giant"}}, "model.dinov2.vit: needs one of tiny, small, base, large"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_what_to_do(change, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({"model": {"name": "sign2gpt", **change}})
