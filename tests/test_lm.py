"""The text decoder of all systems: the same sentences as transformers' own search, for each family; what it refuses."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from signcl.data.text import build_tokenizer
from signcl.systems.parts.lm import LMConfig, TextDecoder, build_lm

WORDS = ["regen", "sonne", "wind", "morgen", "norden", "und", "im", "der"]
T5 = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_kv": 8, "d_ff": 24}
BART = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 16, "encoder_attention_heads": 2, "scale_embedding": True,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64,
        "init_std": 1.0}  # fmt: skip
LLAMA = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
         "intermediate_size": 24, "max_position_embeddings": 64, "initializer_range": 1.0, "head_dim": 8}  # fmt: skip
FAMILIES = {
    "t5": (transformers.T5Config, T5 | {"initializer_factor": 1.0, "decoder_start_token_id": 0}),
    "mt5": (transformers.MT5Config, T5 | {"initializer_factor": 1.0, "decoder_start_token_id": 0}),
    "mbart": (transformers.MBartConfig, BART),
    "mbart50": (transformers.MBartConfig, BART | {"decoder_start_token_id": 2}),
    "nllb": (transformers.M2M100Config, BART | {"decoder_start_token_id": 2}),
    "bart": (transformers.BartConfig, BART | {"decoder_start_token_id": 2, "forced_bos_token_id": 0}),
    "marian": (transformers.MarianConfig, BART | {"decoder_start_token_id": 1}),
    "xglm": (transformers.XGLMConfig, {"num_layers": 2, "d_model": 16, "attention_heads": 2, "ffn_dim": 24,
                                       "max_position_embeddings": 64, "init_std": 1.0}),
    "gpt2": (transformers.GPT2Config, {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_inner": 24, "n_positions": 64,
                                       "initializer_range": 1.0}),
    "qwen2": (transformers.Qwen2Config, LLAMA),
    "qwen3": (transformers.Qwen3Config, LLAMA),
    "gemma": (transformers.GemmaConfig, LLAMA),
    "gemma3": (transformers.Gemma3TextConfig, LLAMA | {"sliding_window": 4, "initializer_range": 0.3}),
    "llama": (transformers.LlamaConfig, LLAMA),
    "opt": (transformers.OPTConfig, {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "ffn_dim": 24,
                                     "max_position_embeddings": 64, "word_embed_proj_dim": 8, "init_std": 1.0}),
    "bloom": (transformers.BloomConfig, {"n_layer": 2, "hidden_size": 16, "n_head": 2, "initializer_range": 1.0}),
}  # fmt: skip
SEEDS = {"t5": 7, "mt5": 8, "mbart": 10, "mbart50": 8, "nllb": 10, "bart": 9, "marian": 2, "xglm": 1, "gpt2": 3,
         "qwen2": 3, "qwen3": 5, "gemma": 11, "gemma3": 0, "llama": 0, "opt": 6, "bloom": 9}  # fmt: skip
"""Of weights whose sentences differ from clip to clip."""
WITH_LANGUAGES = {"mbart": "de_DE", "mbart50": "de_DE", "nllb": "deu_Latn"}


def save_tokenizer(family, folder):
    """A tokenizer of the family's rules over WORDS."""
    if family in WITH_LANGUAGES:
        marks = ["<s>", "<pad>", "</s>", "<unk>"]
        words = [*marks, *("▁" + word for word in WORDS)]
        if family == "nllb":
            tokenizer = transformers.NllbTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
        else:
            kind = transformers.MBartTokenizer if family == "mbart" else transformers.MBart50Tokenizer
            tokenizer = kind(vocab=[(word, -1.0) for word in words])
        tokenizer.save_pretrained(folder)
        return
    t5 = family in ("t5", "mt5", "marian")
    marks = ["<pad>", "</s>", "<unk>"] if t5 else ["<s>", "<pad>", "</s>", "<unk>"]
    if family == "gpt2":
        marks = ["</s>", "<unk>"]
    words = {word: i for i, word in enumerate([*marks, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    around = {"single": "$A </s>"} if t5 else {"single": "<s> $A"} if family in ("llama", "gemma", "gemma3") else None
    around = {"single": "<s> $A </s>"} if family == "bart" else {"single": "</s> $A"} if family == "xglm" else around
    if around:
        ids = [(mark, words[mark]) for mark in ("<s>", "</s>") if mark in around["single"]]
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(**around, special_tokens=ids)
    more = {} if t5 or family == "gpt2" else {"bos_token": "<s>"}
    more |= {} if family in ("gpt2", "llama") else {"pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", **more).save_pretrained(
        folder
    )


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder of every family as transformers saves it, made when it is asked for."""
    root, made = tmp_path_factory.mktemp("lm"), {}

    def folder(family):
        if family not in made:
            made[family] = root / family
            save_tokenizer(family, made[family])
            words = transformers.AutoTokenizer.from_pretrained(made[family])
            kind, sizes = FAMILIES[family]
            ids = {"vocab_size": len(words), "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
                   "pad_token_id": words.pad_token_id}  # fmt: skip
            config = kind(**ids, **sizes)
            torch.manual_seed(SEEDS[family])
            auto = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
            lm = getattr(transformers, auto).from_config(config)
            # settings of a checkpoint that must not reach the search
            lm.generation_config.update(do_sample=True, temperature=2.0, top_k=3, repetition_penalty=3.0)
            lm.save_pretrained(made[family])
        return made[family]

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
        ours = decoder.generate(steps, lengths, num_beams=beams, length_penalty=0.7, max_new_tokens=8)
        assert len({tuple(row) for row in ours.tolist()}) > 1, "too plain a checkpoint to tell searches apart"
        for row in range(3):  # each clip alone, built by hand
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
                do_sample=False, max_new_tokens=8, pad_token_id=words.end_id, eos_token_id=words.end_id,
                **more, **({"length_penalty": 0.7} if beams > 1 else {}),
            )[0, int(encodes):].tolist()  # fmt: skip
            own = [i for i in ours[row].tolist() if i != words.pad_id]
            found = [i for i in found if i != words.pad_id]
            assert own == found[: len(own)]
            assert set(found[len(own) :]) <= {words.end_id}


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
