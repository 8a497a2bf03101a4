"""The text decoder of all systems: the same sentences as transformers' own search, for each family; what it refuses."""

import copy
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers
from lm_checkpoints import FAMILIES, WITH_LANGUAGES, save_checkpoint
from safetensors.torch import load_model as load_model_file
from safetensors.torch import save_model

from signcl import fit, load_model, translate
from signcl.data.text import build_tokenizer, load_tokenizer
from signcl.inference import exported_run
from signcl.inference.exporting import text_of_export
from signcl.systems import Decode
from signcl.systems.parts.four_bit import FourBitLinear
from signcl.systems.parts.lm import LMConfig, Marks, TextDecoder, build_lm
from signcl.training.optimizer import count_parameters


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder of every family as transformers saves it, made when it is asked for."""
    root, made = tmp_path_factory.mktemp("lm"), {}

    def folder(family, **wider):
        name = f"{family}-wide" if wider else family
        if name not in made:
            made[name] = save_checkpoint(family, root / name, **wider)
        return made[name]

    return folder


def decoder_of(folder, language="de_DE", **settings):
    words = build_tokenizer(f"pretrained:{folder}", [], language=language)
    config = LMConfig(name=f"pretrained:{folder}", **{"lora_rank": 0, **settings})
    decoder = TextDecoder(build_lm(config, words), words, config)
    decoder.load_published(config)
    return decoder.eval(), words


def some_steps(decoder, seed=0):
    torch.manual_seed(seed)
    return torch.randn(3, 7, decoder.width), torch.tensor([7, 3, 5])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sentences_are_those_of_transformers_own_search(family, checkpoints):
    folder = checkpoints(family)
    decoder, words = decoder_of(folder, WITH_LANGUAGES.get(family, "de_DE"), prompt="{signs} im der")
    steps, lengths = some_steps(decoder)
    encodes = decoder.encodes
    auto = transformers.AutoModelForSeq2SeqLM if encodes else transformers.AutoModelForCausalLM
    theirs = auto.from_pretrained(folder).eval()
    theirs.generation_config = transformers.GenerationConfig()
    theirs_id = transformers.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids
    for beams in (1, 3):
        ours = decoder.generate(steps, lengths, num_beams=beams, length_penalty=0.7, max_new_tokens=6)
        assert len({tuple(row) for row in ours.tolist()}) > 1, "too plain a checkpoint to tell searches apart"
        for row in (0, 1) if beams > 1 else (2,):  # each clip alone, built by hand
            around = words.around if encodes else ([words.start_id], [])
            table, prompt = theirs.get_input_embeddings(), words.bare("im der")
            scale = 4.0 if family == "marian" else 1.0
            embeds = torch.cat([
                table(torch.tensor([around[0]], dtype=torch.long)) * scale, steps[row : row + 1, : lengths[row]],
                table(torch.tensor([[*prompt, *around[1]]], dtype=torch.long)) * scale,
            ], dim=1)  # fmt: skip
            start = {"t5": 0, "mt5": 0, "marian": 1}.get(family, 2)
            start = theirs_id("de_DE") if family == "mbart" else start
            first = {"mbart50": "de_DE", "nllb": "deu_Latn", "bart": "<s>"}.get(family)
            more = {"decoder_start_token_id": start} if encodes else {}
            more |= {"forced_bos_token_id": theirs_id(first)} if first else {}
            found = theirs.generate(
                inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long), num_beams=beams,
                do_sample=False, max_new_tokens=6, pad_token_id=words.end_id, eos_token_id=words.end_id,
                **more, **({"length_penalty": 0.7} if beams > 1 else {}),
            )[0, int(encodes):].tolist()  # fmt: skip
            own = [i for i in ours[row].tolist() if i != words.pad_id]
            found = [i for i in found if i != words.pad_id]
            assert own == found[: len(own)]
            assert set(found[len(own) :]) <= {words.end_id}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_step_writes_what_the_search_does(family, checkpoints):
    # the modules of `signcl export`, without following them; clips of several lengths, with a prompt around them
    decoder, _ = decoder_of(checkpoints(family), WITH_LANGUAGES.get(family, "de_DE"), prompt="im {signs} im der")
    steps, lengths = some_steps(decoder)
    with torch.no_grad():
        wanted = decoder.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=6)
        states = decoder.exported_states(steps, lengths, decoder.prompt)
        tokens, going = torch.full((3, 1), decoder.start_id), torch.ones(3, dtype=torch.bool)
        for step in range(wanted.shape[1]):
            best = decoder.exported_word(tokens, **states).argmax(dim=1)
            if decoder.encodes and decoder.first_id is not None and step == 0:
                best = torch.full_like(best, decoder.first_id)  # as `exported_run.py` does
            assert best[going].equal(wanted[going, step])
            going &= ~torch.isin(best, torch.tensor(decoder.ends))
            tokens = torch.cat([tokens, wanted[:, step : step + 1]], dim=1)
    assert not going.all() or wanted.shape[1] == 6


@pytest.mark.parametrize("family", ["t5", "mbart50", "gpt2", "llama"])
def test_the_example_of_an_export_writes_the_runs_sentences(family, checkpoints, tmp_path, monkeypatch):
    # `exported_run.py` with the modules of `signcl export` in place of the files that torch.export makes of them
    decoder, words = decoder_of(checkpoints(family), prompt="{signs} im der")
    steps, lengths = some_steps(decoder)
    recipe = SimpleNamespace(decode=Decode(max_new_tokens=6), text=SimpleNamespace(language=""))
    run = SimpleNamespace(tokenizer=words, recipe=recipe, model=SimpleNamespace(decoder=decoder), folder=tmp_path)
    programs = {"encoder": {"outputs": ["steps", "step_lengths"]},
                "decoder": {"inputs": {"tokens": [], "steps": [], "step_lengths": []}}}  # fmt: skip
    given = {"kind": "features", "first": 0, "stride": 1, "max_frames": None, "thinning": "even"}
    spec = {"answers": "sentences", "programs": programs, "input": given, "text": text_of_export(run, tmp_path)}
    (tmp_path / "export.json").write_text(json.dumps(spec), encoding="utf-8")

    def load(folder, name):
        def encoder(rows, lengths):
            return decoder.exported_states(rows, lengths, decoder.prompt).values()

        def word(*inputs):
            return (decoder.exported_word(*inputs),)

        call = encoder if name == "encoder" else word
        return lambda *arrays: [found.numpy() for found in call(*map(torch.from_numpy, arrays))]

    monkeypatch.setattr(exported_run, "load", load)
    with torch.no_grad():
        ids = decoder.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=6)
        said = exported_run.answers(tmp_path, [row[:n].numpy() for row, n in zip(steps, lengths)])
    wanted = [words.decode(row) for row in ids.tolist()]
    assert said == wanted
    assert any(wanted)


def test_of_a_model_that_reads_pictures_too_only_the_language_model_is_used(checkpoints, tmp_path):
    # Gemma 3 of 4 billion parameters and more: its config and its tensors hold a vision tower beside the language model
    folder = tmp_path / "gemma3"
    shutil.copytree(checkpoints("gemma3"), folder)
    text = transformers.AutoConfig.from_pretrained(folder)
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.Gemma3ForConditionalGeneration(
        transformers.Gemma3Config(text_config=text.to_dict(), vision_config=vision, mm_tokens_per_image=4)
    ).eval()
    theirs.save_pretrained(folder)
    decoder, words = decoder_of(folder, specials=False)
    assert not any("vision" in name for name, _ in decoder.named_parameters())
    steps, tokens = torch.randn(2, 5, decoder.width), torch.tensor([[4, 5, words.end_id], [6, 7, words.end_id]])
    with torch.no_grad():
        read = torch.cat([steps, theirs.get_input_embeddings()(tokens[:, :-1])], dim=1)
        wanted = theirs(inputs_embeds=read).logits[:, -3:]
        torch.testing.assert_close(decoder(tokens, steps, torch.tensor([5, 5])), wanted, atol=1e-5, rtol=1e-4)
    again = build_lm(LMConfig(), words, decoder.described())  # as a run folder describes it
    assert type(again).__name__ == "Gemma3ForCausalLM"


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_search_and_of_each_clip_alone(family, checkpoints):
    decoder, words = decoder_of(checkpoints(family), WITH_LANGUAGES.get(family, "de_DE"), prompt="im {signs} der")
    steps, lengths = some_steps(decoder, seed=2)
    found = decoder.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=6)
    with torch.no_grad():
        scores = decoder(found, steps, lengths)
    for row, tokens in enumerate(found.tolist()):
        end = [*tokens, words.pad_id].index(words.pad_id)  # a random model writes padding too, which means nothing
        best = scores[row].argmax(dim=1).tolist()
        forced = int(decoder.first_id is not None and decoder.encodes)
        assert best[forced:end] == tokens[forced:end]
        if end:
            alone = decoder(found[row : row + 1, :end], steps[row : row + 1, : lengths[row]], lengths[row : row + 1])
            torch.testing.assert_close(alone[0], scores[row, :end], atol=2e-4, rtol=1e-3)


def test_a_language_is_the_first_word_of_a_sentence_or_the_start_and_is_kept(checkpoints, tmp_path):
    for family, language in WITH_LANGUAGES.items():
        words = build_tokenizer(f"pretrained:{checkpoints(family)}", [], language=language)
        ids = words.encode("regen im norden")
        code = words.pieces().index(language)
        if family == "mbart":
            assert (words.start_id, words.first_id, ids[-1]) == (code, None, words.end_id)
        else:
            assert (ids[0], words.first_id, ids[-1]) == (code, code, words.end_id)
        words.save(tmp_path)
        again = load_tokenizer(tmp_path)
        assert again.encode("regen im norden") == ids
        assert (again.start_id, again.first_id, again.around) == (words.start_id, words.first_id, words.around)
    nllb = f"pretrained:{checkpoints('nllb')}"
    with pytest.raises(
        ValueError, match=r"text.language: 'de_DE' is no language of this tokenizer; did you mean deu_L"
    ):
        build_tokenizer(nllb, [], language="de_DE")
    with pytest.raises(ValueError, match=r"'deu_Latin' is no language of this tokenizer; did you mean deu_Latn\?"):
        build_tokenizer(nllb, [], language="deu_Latin")


def test_each_clip_can_have_a_prompt_of_its_own(checkpoints):
    for family in ("t5", "gpt2"):
        decoder, _ = decoder_of(checkpoints(family))
        steps, lengths = some_steps(decoder)
        tokens = torch.tensor([[4, 5, 6]] * 3)
        prompts = ["regen {signs} sonne", "im", "und der {signs}"]
        with torch.no_grad():
            together = decoder(tokens, steps, lengths, prompts)
            for row, prompt in enumerate(prompts):
                alone = decoder(tokens[:1], steps[row : row + 1, : lengths[row]], lengths[row : row + 1], [prompt])
                torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-3)
        assert not torch.allclose(together[0], decoder(tokens, steps, lengths)[0], atol=1e-3)
        with pytest.raises(ValueError, match="needs a prompt for each of 3 clips, got 1"):
            decoder(tokens, steps, lengths, ["im"])


def test_lora_stands_where_the_recipe_says_and_on_a_tied_head(checkpoints):
    decoder, _ = decoder_of(checkpoints("t5"), lora_rank=2, lora_on=["q", "*.DenseReluDense.wo"])
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    places = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained}
    assert places == {"q", "wo"}
    assert len(trained) == 2 * (2 + 2 + 2 + 2 + 2)  # two layers: q of 3 attentions, wo of 2; two matrices each
    with pytest.raises(
        ValueError, match=r"model.lm.lora_on: no linear layer of .* is named q_proj; .*DenseReluDense|wi"
    ):
        decoder_of(checkpoints("t5"), lora_rank=2, lora_on=["q_proj"])

    head, _ = decoder_of(checkpoints("gpt2"), lora_rank=2, lora_on=["lm_head", "c_attn"], lora_dropout=0.0)
    table = head.lm.get_input_embeddings().weight
    assert head.lm.get_output_embeddings().base_layer.weight is table  # tied still
    steps, lengths = some_steps(head)
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=1.0)
    before, tokens = table.clone(), torch.tensor([[4, 5, 0]] * 3)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(tokens, steps, lengths).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
    assert torch.equal(before, table)
    plain, _ = decoder_of(checkpoints("gpt2"))
    assert not torch.equal(plain(tokens, steps, lengths), head(tokens, steps, lengths))


def test_a_run_with_a_published_model_is_the_same_where_the_folder_is_gone(checkpoints, tmp_path):
    from signcl.systems import system_class
    from signcl.testing import tiny_recipe

    for family, on in (("mt5", ["q", "v"]), ("gpt2", ["lm_head", "c_attn"])):
        folder = tmp_path / family / "published"
        shutil.copytree(checkpoints(family), folder)
        place = f"pretrained:{folder}"
        changes = {
            "text": {"tokenizer": place},
            "model": {"lm": {"name": place, "lora_rank": 2, "lora_on": on, "prompt": "{signs} im"}},
            "train": {"max_steps": 1, "epochs": 1, "batch_size": 2},
            "decode": {"max_new_tokens": 3, "beams": 1},
        }
        recipe = tiny_recipe(system_class("spamo"), tmp_path / family, changes)
        run = fit(recipe, progress=False)
        clip = tmp_path / family / "features" / "dev0.npy"
        before = load_model(run, device="cpu")
        shutil.rmtree(folder)
        after = load_model(run, device="cpu")
        own = dict(before.run.model.named_parameters())
        assert all(torch.equal(p, own[name]) for name, p in after.run.model.named_parameters())
        if family == "mt5":
            lm = after.run.model.decoder.lm
            assert not torch.equal(lm.lm_head.weight, lm.shared.weight)
        assert translate(before, clip).text == translate(after, clip).text


WIDE = {
    "mt5": {"d_model": 64, "d_kv": 32, "num_heads": 2, "d_ff": 128},
    "llama": {"hidden_size": 64, "intermediate_size": 128},
}


def test_four_bits_need_a_published_model():
    with pytest.raises(ValueError, match=r"model.lm.four_bit needs a published language model"):
        LMConfig(four_bit=True)


@pytest.mark.parametrize("place", WIDE)
def test_four_bits_are_near_and_a_run_keeps_them_to_the_bit(checkpoints, tmp_path, place):
    pytest.importorskip("bitsandbytes", reason="4 bits need bitsandbytes")
    folder = checkpoints(place, **WIDE[place])
    settings = {"lora_rank": 2, "lora_dropout": 0.0}
    whole, _ = decoder_of(folder, **settings)
    packed, _ = decoder_of(folder, four_bit=True, **settings)
    assert count_parameters(packed) == count_parameters(whole)
    steps, lengths = some_steps(whole)
    steps.requires_grad_(True)
    tokens = torch.tensor([[4, 5, 6]] * 3)
    near = packed(tokens, steps, lengths)
    assert not torch.equal(near, whole(tokens, steps, lengths))
    own = dict(whole.named_modules())
    held = {name: part for name, part in packed.named_modules() if isinstance(part, FourBitLinear)}
    assert len(held) > 10
    for name, part in held.items():  # NF4 of normal numbers: an error of about 9 %
        assert part.packed.numel() * 2 == own[name].weight.numel()
        assert (part.unpacked() - own[name].weight).norm() < 0.13 * own[name].weight.norm()
    near.sum().backward()
    assert steps.grad.abs().sum() > 0
    twin, _ = decoder_of(folder, four_bit=True, **settings)
    save_model(packed, tmp_path / f"{place}.safetensors")
    load_model_file(twin, tmp_path / f"{place}.safetensors")
    with torch.no_grad():
        assert torch.equal(twin(tokens, steps, lengths), packed(tokens, steps, lengths))


def test_a_layer_of_a_width_that_cannot_be_unpacked_is_left_as_it_is(checkpoints):
    pytest.importorskip("bitsandbytes", reason="4 bits need bitsandbytes")
    narrow, _ = decoder_of(checkpoints("llama"), four_bit=True)
    assert not any(isinstance(part, FourBitLinear) and part.in_features % 64 for part in narrow.modules())


def test_all_end_tokens_of_a_model_end_a_sentence(checkpoints, tmp_path):
    folder = tmp_path / "gpt2"
    shutil.copytree(checkpoints("gpt2"), folder)
    plain, words = decoder_of(folder)
    steps, lengths = some_steps(plain)
    found = plain.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=8)[0].tolist()
    third = found[2]
    told = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(told | {"eos_token_id": [words.end_id, third]}))
    decoder, _ = decoder_of(folder)
    cut = decoder.generate(steps, lengths, num_beams=1, length_penalty=1.0, max_new_tokens=8)[0].tolist()
    stop = found.index(third) + 1
    assert cut[:stop] == found[:stop]
    assert set(cut[stop:]) <= {words.pad_id}


def test_what_cannot_be_is_said_in_one_line(checkpoints, tmp_path, monkeypatch):
    gpt2, words = checkpoints("gpt2"), Marks(0, 1, 0)
    naked = tmp_path / "naked"
    naked.mkdir()
    shutil.copy(gpt2 / "config.json", naked)
    shutil.copy(gpt2 / "model.safetensors", naked)
    with pytest.raises(ValueError, match=r"text.tokenizer: .*naked has no tokenizer"):
        build_tokenizer(f"pretrained:{naked}", [])

    @torch.no_grad()
    def build(folder, marks=words, **settings):
        config = LMConfig(name=f"pretrained:{folder}", **settings)
        marks = type("Words", (), {**vars(marks), "vocab_size": 3})()
        return TextDecoder(build_lm(config, marks), marks, config)

    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"model.lm.name: no folder .*empty with a config.json, and no such hub id"):
        build(tmp_path / "empty")
    others = {
        "ctrl": (transformers.CTRLConfig(vocab_size=9, n_embd=8, n_head=2, n_layer=1, dff=8), "accepts only token ids"),
        "bert": (transformers.BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=1,
                                         intermediate_size=8), "a bert is a bidirectional encoder and writes no text"),
        "vit": (transformers.ViTConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8),
                "a vit has no vocabulary, so it is not a language model"),
        # looks up each token again in every layer, so an embedding alone is not enough
        "gemma4": (transformers.Gemma4TextConfig(vocab_size=9, vocab_size_per_layer_input=9, num_hidden_layers=2,
                                                 hidden_size=8, num_attention_heads=2, num_key_value_heads=1,
                                                 intermediate_size=8), "accepts only token ids"),
    }  # fmt: skip
    for name, (config, answer) in others.items():
        config.save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match=answer):
            build(tmp_path / name, lora_rank=0)
    with pytest.raises(
        ValueError, match=r"model.lm.prompt: needs \{signs\} at most once, as the position of the steps; got it 2 times"
    ):
        LMConfig(prompt="{signs} {signs}")
    other = build_tokenizer(f"pretrained:{gpt2}", [])
    config = LMConfig(name=f"pretrained:{checkpoints('t5')}", lora_rank=0)
    with pytest.raises(ValueError, match=r"text.tokenizer: .*gpt2 gives words other ids than .*; set it to pretr.*/t5"):
        TextDecoder(build_lm(config, other), other, config).load_published(config)
    decoder, _ = decoder_of(gpt2)
    with pytest.raises(ValueError, match="a clip of 70 steps and 1 tokens around it is longer than the 64"):
        decoder(torch.tensor([[3]]), torch.zeros(1, 70, decoder.width), torch.tensor([70]))
    with pytest.raises(ValueError, match="than the 64 positions of the language model"):
        decoder.generate(torch.zeros(1, 60, 16), torch.tensor([60]), num_beams=1, length_penalty=1.0, max_new_tokens=9)
    with pytest.raises(ValueError, match="reads steps of width 16, got 5"):
        decoder(torch.tensor([[3]]), torch.zeros(1, 2, 5), torch.tensor([2]))
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"four_bit needs the package bitsandbytes: pip install 'signcl\[four-bit\]'"):
        build(gpt2, four_bit=True)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ValueError, match=r"model.lm.lora_rank=4 needs the package peft: pip install 'signcl\[lora\]'"):
        build(gpt2)


def test_one_that_starts_at_random_is_trained_whole_and_a_published_one_stands_still(checkpoints):
    words = type("Words", (), {"vocab_size": 9, "pad_id": 0, "start_id": 1, "end_id": 2})()
    for architecture in ("t5", "mbart", "gpt2", "xglm", "llama"):
        config = LMConfig(architecture=architecture, layers=1, width=16, heads=2, ffn=24)
        decoder = TextDecoder(build_lm(config, words, max_positions=32), words, config)
        assert all(p.requires_grad for p in decoder.parameters())
        assert not any("lora" in name for name, _ in decoder.named_parameters())
        steps, lengths = some_steps(decoder)
        tokens = torch.tensor([[4, 5, 2], [3, 2, 0], [6, 7, 2]])
        loss = torch.nn.functional.cross_entropy(decoder(tokens, steps, lengths).flatten(0, 1), tokens.flatten())
        assert loss.item() < 2 * 2.2  # near ln 9: no architecture starts at a huge loss
        twin = copy.deepcopy(decoder)
        assert torch.equal(twin.eval()(tokens, steps, lengths), decoder.eval()(tokens, steps, lengths))
    published, _ = decoder_of(checkpoints("gpt2"))
    assert not any(p.requires_grad for p in published.parameters())
