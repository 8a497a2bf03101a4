"""Text processing: tokenizers, gloss vocabularies, word splitting for any script, vocabulary checks, word vectors."""

from signcl.data.text.tokenizers import (
    GlossVocabulary,
    SentencePieceTokenizer,
    Tokenizer,
    VocabularyTokenizer,
    build_tokenizer,
    load_glosses,
    load_tokenizer,
    pretrained_sentencepiece,
)
from signcl.data.text.writing_systems import (
    CHARACTERS_PER_WORD,
    characters,
    count_words,
    cut,
    has_unspaced,
    is_segmented,
    is_spaced,
    mask_words,
    normal_form,
    script_names,
    units,
)

__all__ = [
    "CHARACTERS_PER_WORD",
    "GlossVocabulary",
    "SentencePieceTokenizer",
    "Tokenizer",
    "VocabularyTokenizer",
    "build_tokenizer",
    "characters",
    "count_words",
    "cut",
    "has_unspaced",
    "is_segmented",
    "is_spaced",
    "load_glosses",
    "load_tokenizer",
    "mask_words",
    "normal_form",
    "pretrained_sentencepiece",
    "script_names",
    "units",
]
