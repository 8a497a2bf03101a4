"""Sentences: tokenizers, words and glosses, what a vocabulary must hold, word vectors."""

from signcl.data.text.tokenizers import (
    GlossVocabulary,
    SentencePieceTokenizer,
    Tokenizer,
    VocabularyTokenizer,
    build_tokenizer,
    count_words,
    is_spaced,
    load_glosses,
    load_tokenizer,
    mask_words,
    pretrained_sentencepiece,
)

__all__ = [
    "GlossVocabulary",
    "SentencePieceTokenizer",
    "Tokenizer",
    "VocabularyTokenizer",
    "build_tokenizer",
    "count_words",
    "is_spaced",
    "load_glosses",
    "load_tokenizer",
    "mask_words",
    "pretrained_sentencepiece",
]
