"""Vocabularies of language models, cut down to a corpus: what a tokenizer can write, and a model without the rest.

`check_vocabulary` writes every sentence of a corpus with a tokenizer and reads it back; `trim_language_model` makes an
mBART whose tokenizer and word table hold what a corpus needs and nothing else.
"""

from signcl.vocabulary.checking import SplitCheck, check_vocabulary
from signcl.vocabulary.pieces import needed_pieces, trim_pieces
from signcl.vocabulary.trimming import Trimmed, trim_language_model

__all__ = [
    "SplitCheck",
    "Trimmed",
    "check_vocabulary",
    "needed_pieces",
    "trim_language_model",
    "trim_pieces",
]
