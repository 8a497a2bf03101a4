"""Small random checkpoints of every family of language models, as transformers saves them."""

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

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
    "gemma2": (transformers.Gemma2Config, LLAMA | {"sliding_window": 4, "query_pre_attn_scalar": 8,
                                                   "initializer_range": 0.5}),
    "gemma3": (transformers.Gemma3TextConfig, LLAMA | {"sliding_window": 4, "initializer_range": 0.3}),
    "llama": (transformers.LlamaConfig, LLAMA),
    "opt": (transformers.OPTConfig, {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "ffn_dim": 24,
                                     "max_position_embeddings": 64, "word_embed_proj_dim": 8, "init_std": 1.0}),
    "bloom": (transformers.BloomConfig, {"n_layer": 2, "hidden_size": 16, "n_head": 2, "initializer_range": 1.0}),
}  # fmt: skip
SEEDS = {"t5": 7, "mt5": 8, "mbart": 10, "mbart50": 8, "nllb": 10, "bart": 9, "marian": 2, "xglm": 1, "gpt2": 3,
         "qwen2": 3, "qwen3": 5, "gemma": 11, "gemma2": 0, "gemma3": 0, "llama": 0, "opt": 6, "bloom": 9}  # fmt: skip
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
    around = (
        {"single": "$A </s>"}
        if t5
        else {"single": "<s> $A"}
        if family in ("llama", "gemma", "gemma2", "gemma3")
        else None
    )
    around = {"single": "<s> $A </s>"} if family == "bart" else {"single": "</s> $A"} if family == "xglm" else around
    if around:
        ids = [(mark, words[mark]) for mark in ("<s>", "</s>") if mark in around["single"]]
        tokenizer.post_processor = TemplateProcessing(**around, special_tokens=ids)
    more = {} if t5 or family == "gpt2" else {"bos_token": "<s>"}
    more |= {} if family in ("gpt2", "llama") else {"pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", **more).save_pretrained(
        folder
    )


def save_checkpoint(family, folder, seed=None, **wider):
    """A folder with a model, whose sizes may be wider, and its tokenizer."""
    save_tokenizer(family, folder)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    kind, sizes = FAMILIES[family]
    ids = {"vocab_size": len(words), "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
           "pad_token_id": words.pad_token_id}  # fmt: skip
    config = kind(**ids, **{**sizes, **wider})
    torch.manual_seed(SEEDS[family] if seed is None else seed)
    auto = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    lm = getattr(transformers, auto).from_config(config)
    # settings of a checkpoint that must not reach the search
    lm.generation_config.update(do_sample=True, temperature=2.0, top_k=3, repetition_penalty=3.0)
    lm.save_pretrained(folder)
    if family == "mt5":  # as of mT5 and Flan-T5, whose head is not the table of words
        file = folder / "model.safetensors"
        head = {"lm_head.weight": torch.randn(lm.shared.weight.shape)}
        save_file({**load_file(file), **head}, file, metadata={"format": "pt"})
    return folder
