"""Tokenizers: round trips, special ids, the fairseq id rule, masking."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signcl.data.text import (
    GlossVocabulary,
    SentencePieceTokenizer,
    VocabularyTokenizer,
    build_tokenizer,
    count_words,
    load_tokenizer,
    mask_words,
)

TEXTS = ["am montag regen", "am dienstag sonne", "regen und sonne am montag", "schnee"]


def test_the_vocabulary_is_by_frequency_then_alphabet():
    tokenizer = VocabularyTokenizer.train(TEXTS)
    assert tokenizer.words == ["am", "montag", "regen", "sonne", "dienstag", "schnee", "und"]
    assert tokenizer.encode("am regen") == [5, 7, tokenizer.end_id]


@pytest.mark.parametrize("kind", ["word", "character", "sentencepiece"])
def test_training_sentences_round_trip_and_survive_saving(kind, tmp_path):
    tokenizer = build_tokenizer(kind, TEXTS, vocab_size=60)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert again.encode(text) == ids
        assert max(ids) < tokenizer.vocab_size
        # a generated sequence begins with the start token and goes on with padding after the end
        assert again.decode([*ids, tokenizer.pad_id, tokenizer.pad_id]) == text
    assert again.vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize("kind", ["word", "character", "sentencepiece"])
def test_the_mask_is_one_token(kind):
    tokenizer = build_tokenizer(kind, TEXTS, vocab_size=60)
    ids = tokenizer.encode("am <mask> sonne")
    assert ids.count(tokenizer.mask_id) == 1


def test_the_fairseq_id_rule_of_mbart():
    tokenizer = build_tokenizer("sentencepiece", TEXTS, vocab_size=60, language="de_DE")
    assert isinstance(tokenizer, SentencePieceTokenizer)
    pieces = tokenizer.num_pieces
    # with the trimmed mBART of GFSLT, 2427 pieces, this is de_DE 2430, mask 2453 and 2454 ids in all
    assert tokenizer.start_id == pieces + 1 + 2
    assert tokenizer.mask_id == pieces + 26
    assert tokenizer.vocab_size == pieces + 27
    assert tokenizer.encode("regen")[-2:] == [2, tokenizer.start_id]


def test_ids_agree_with_transformers_own_tokenizer(tmp_path):
    import sentencepiece

    tokenizer = build_tokenizer("sentencepiece", TEXTS, vocab_size=60)
    tokenizer.save(tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.bpe.model"))
    for text in TEXTS:
        assert tokenizer.encode(text)[:-2] == [i + 1 for i in reference.encode(text)]


def test_a_pretrained_folder_is_read_and_one_without_tokenizer_refused(tmp_path):
    build_tokenizer("sentencepiece", TEXTS, vocab_size=60).save(tmp_path)
    tokenizer = build_tokenizer(f"pretrained:{tmp_path}", [], language="zh_CN")
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no tokenizer"):
        build_tokenizer(f"pretrained:{tmp_path}/empty", [])
    with pytest.raises(ValueError, match=r"text.language"):
        build_tokenizer(f"pretrained:{tmp_path}", [], language="german")


def test_unknown_kinds_and_empty_corpora_are_refused():
    with pytest.raises(ValueError, match=r"text.tokenizer: needs word"):
        build_tokenizer("bpe", TEXTS)
    with pytest.raises(ValueError, match="training sentences with words"):
        build_tokenizer("word", ["", " "])


def test_unknown_words_stay_visible():
    tokenizer = VocabularyTokenizer.train(TEXTS)
    assert tokenizer.decode(tokenizer.encode("am freitag regen")) == "am <unk> regen"


def test_words_are_counted_as_spoken():
    assert count_words("am tag neun bis siebzehn grad .") == 6  # the dot is no word
    assert count_words("") == 1
    # 11 characters, the stop among them, are 11 / 2.18 glosses, so frames / words * 2.3 = frames / glosses
    assert count_words("他今年四岁他今年四岁。") == pytest.approx(2.3 * 11 / 2.18)


@given(st.lists(st.sampled_from(["ja", "nein", "wind"]), min_size=1, max_size=12), st.integers(0, 99))
def test_masking_hides_at_least_one_word_and_keeps_the_rest(words, seed):
    text = " ".join(words)
    for kind in ("random", "omit_last"):
        masked = mask_words(text, 0.5, np.random.default_rng(seed), kind=kind).split()
        assert len(masked) == len(words)
        hidden = [i for i, (a, b) in enumerate(zip(words, masked)) if a != b]
        assert 1 <= len(hidden) <= max(1, -(-len(words) // 2))
        assert all(masked[i] == "<mask>" for i in hidden)
        if kind == "omit_last":
            assert hidden == list(range(len(words) - len(hidden), len(words)))


def test_an_unspaced_chinese_sentence_is_not_masked_whole():
    masked = mask_words("他今年四岁", 0.3, np.random.default_rng(0))
    assert masked.count("<mask>") < 5
    assert masked.replace("<mask>", "")


def test_gloss_classes():
    vocabulary = GlossVocabulary.train([("REGEN", "MONTAG"), ("REGEN",)])
    assert len(vocabulary) == 4
    assert vocabulary.encode(["REGEN", "MONTAG", "WIND"]) == [2, 3, 1]
    assert vocabulary.decode([0, 2, 0, 3]) == ["REGEN", "MONTAG"]


@pytest.mark.parametrize(
    ("text", "split"), [("am montag regen und wind im norden", str.split), ("他今年四岁了吗", list)]
)
def test_a_shuffled_sentence_has_the_same_words_and_masks_in_another_order(text, split):
    def parts(masked: str) -> list[str]:
        return split(masked.replace("<mask>", "M"))  # one letter, so that characters can be told apart

    moved = 0
    for seed in range(200):
        plain = mask_words(text, 0.4, np.random.default_rng(seed), kind="omit_last")
        mixed = mask_words(text, 0.4, np.random.default_rng(seed), kind="omit_last", shuffle=0.5)
        assert sorted(parts(mixed)) == sorted(parts(plain))
        moved += mixed != plain
        assert mask_words(text, 0.4, np.random.default_rng(seed), kind="omit_last", shuffle=0.0) == plain
    assert 70 < moved < 130  # half of 200, seven words in a random order being nearly always another one
    always = [mask_words(text, 0.4, np.random.default_rng(seed), kind="omit_last", shuffle=1.0) for seed in range(40)]
    assert any(parts(mixed)[-1] != "M" for mixed in always), "masks are shuffled too"
