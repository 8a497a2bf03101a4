"""Words, characters and punctuation of every script: counts, margins, masks, pseudo-glosses, runs on toy corpora."""

import csv
import gzip
import json
import re
import unicodedata

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signcl.cli import main
from signcl.data.text import (
    CHARACTERS_PER_WORD,
    characters,
    count_words,
    cut,
    is_segmented,
    is_spaced,
    mask_words,
    normal_form,
    script_names,
    units,
)
from signcl.metrics import rouge_l, wer
from signcl.pages.translations import marked
from signcl.systems.targets.pseudo_glosses import PseudoGlosses, lemmas
from signcl.training.prepare import prepare
from signcl.training.recipe import recipe_from_dict

THAI, KANA, KANJI = "วันนี้อากาศดีมาก", "きょうはいいてんきですね", "今日は天気がいいですね。"
KOREAN, CHINESE = "오늘 날씨가 좋습니다", "他今年四岁。"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (KOREAN, 3),
        ("大韓民國은 民主共和國이다.", 2),  # Chinese characters of a Korean word
        (THAI, 12 / 3.2),  # วั น นี้ อ า ก า ศ ดี ม า ก
        (KANA, 12 / 1.8),
        (KANJI, 11 / 1.8),
        (CHINESE, 2.3 * 6 / 2.18),
        ("ພາສາລາວ", 7 / 3.4),
        ("ភាសាខ្មែរ", 4 / 2.4),
        ("ကျောင်း", 4 / 3.7),
        ("བོད་སྐད་ཡིག་གསུམ།", 9 / 2.9),
        ("मौसम आज अच्छा है।", 4),
        ("مرحبا بالعالم", 2),
        ("שלום עולם", 2),
        ("می‌خواهم بروم", 2),  # a zero-width joiner is inside a word
        ("ሰላም፡ለዓለም", 2),  # the Ethiopic wordspace parts
        ("I met 李明.", 2 + 2.3 * 2 / 2.18),
        ("My name is 李明 and I live in Berlin .", 8 + 2.3 * 2 / 2.18),
        ("我用iPhone打电话。", 1 + 2.3 * 6 / 2.18),
        ("他今年50岁。", 2.3 * 7 / 2.18),  # as before: a digit is a character of a Chinese sentence
        ("ราคา 200 บาท", 1 + 7 / 3.2),
        ("𠀀𠀁", 2.3 * 2 / 2.18),  # Chinese beyond the first 65,536 code points
        ("gibt´s das", 2),  # NFKC would make three words of it
    ],
)
def test_words_are_counted_by_the_writing_system(text, words):
    assert count_words(text) == pytest.approx(words, abs=0 if words == int(words) else 1e-9)


@pytest.mark.parametrize("text", ["", " ", "👍", "👨‍👩‍👧", "\u200b", "\u3164", "。！？", "...", "\u0e31", "\ufeff", "̈"])
def test_a_sentence_without_words_counts_one_and_nothing_fails(text):
    assert count_words(text) == 1
    assert is_spaced([text]) in (True, False)
    assert lemmas(text, "words") == [] or text == "\u3164"
    mask_words(text, 0.5, np.random.default_rng(0))


SAMPLES = [
    KOREAN,
    THAI,
    KANA,
    KANJI,
    CHINESE,
    "für Straße und Öl",
    "Việt Nam đẹp",
    "हिन्दी भाषा",
    "ガギグ パピプ",
    "カメラで撮る",
]


@pytest.mark.parametrize("text", SAMPLES)
def test_spelling_and_invisible_characters_do_not_matter(text):
    count = count_words(text)
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, text)
        assert count_words(other) == count
        assert units(other) == units(text)
        assert lemmas(other, "bigrams") == lemmas(text, "bigrams")
        assert wer([other], [text], unit="character").wer == 0
    first = unicodedata.normalize("NFC", text)
    for invisible in ("\u200b", "\ufeff", "\u2060", "\u200d"):
        assert count_words(first[:2] + invisible + first[2:]) == count


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ｶﾒﾗで撮る", "カメラで撮る"),
        ("Ｈｅｌｌｏ　ｗｏｒｌｄ", "Hello world"),
        ("他今年５０岁", "他今年50岁"),
        ("他今年四岁.", "他今年四岁。"),
        ("他 今 年 四 岁 。", "他今年四岁。"),
        ("我爱你！", "我爱你!"),
    ],
)
def test_full_and_half_width_and_spaces_between_characters_count_the_same(one, other):
    assert count_words(one) == count_words(other)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40))
def test_any_text_is_cut_without_loss_and_counts_at_least_one(text):
    assert "".join(piece.text for piece in cut(text)) == "".join(text.split())
    assert count_words(text) >= 1
    assert count_words(normal_form(text)) == count_words(text)
    masked = mask_words(text, 0.5, np.random.default_rng(0), shuffle=0.5)
    assert ("<mask>" in masked) == bool(text.split())
    lemmas(text, "words")


def old_words(text):
    """The count before scripts were told apart."""
    return float(max(1, sum(any(c.isalnum() for c in word) for word in text.split())))


def old_mask(text, rate, random, kind):
    words = text.split()
    count = min(len(words), max(1, int(-(-len(words) * random.uniform(0, rate) // 1))))
    chosen = (
        range(len(words) - count, len(words))
        if kind == "omit_last"
        else random.choice(len(words), size=count, replace=False)
    )
    for i in chosen:
        words[i] = "<mask>"
    return " ".join(words)


def read_texts(path):
    if path.suffix != ".gz":
        return path.read_text(encoding="utf-8").splitlines()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def test_english_and_german_are_as_before_to_the_digit(real_data):
    old_word = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
    files = ["signjoey-phoenix14t-outputs/references.dev.txt", "annotations/how2sign.test.tsv.gz"]
    for name in files:
        texts = read_texts(real_data / name)
        assert len(texts) > 500
        assert is_spaced(texts)
        for text in texts:
            assert count_words(text) == old_words(text)
            assert units(text) == [word for word in text.split() if any(c.isalnum() for c in word)]
            assert lemmas(text, "words") == old_word.findall(text.lower())
            assert characters(text) == list("".join(text.split()))
        for number, text in enumerate(texts[::10]):
            kind = ("random", "omit_last")[number % 2]
            ours = mask_words(text, 0.5, np.random.default_rng(number), kind=kind)
            assert ours == old_mask(text, 0.5, np.random.default_rng(number), kind)


def test_chinese_is_as_before_to_the_digit(real_data):
    texts = read_texts(real_data / "annotations/csl-daily.test.tsv.gz")
    assert len(texts) == 1176
    assert not is_spaced(texts)
    for text in texts:
        assert count_words(text) == max(1.0, 2.3 * len("".join(text.split())) / 2.18)
        assert characters(text) == list("".join(text.split()))


def test_a_corpus_is_spaced_by_what_most_of_its_sentences_mainly_are():
    assert is_spaced([KOREAN, "I met 李明 yesterday", "ein Wort"])
    assert not is_spaced([THAI, KANA, "hello"])
    assert not is_spaced(["他 今 年 四 岁 。"])
    assert script_names([THAI, THAI, KANJI, "hello"]) == ["Thai", "Japanese"]
    assert is_segmented("วันนี้ อากาศ ดี มาก")
    assert is_segmented("វា\u200bមាន\u200bអក្សរ")
    assert not is_segmented(THAI)


@pytest.mark.parametrize("text", [THAI, KANA, KANJI, CHINESE, "ភាសាខ្មែរ", "我用iPhone打电话。", "I met 李明 in Berlin"])
@pytest.mark.parametrize("kind", ["random", "omit_last"])
def test_masking_keeps_a_part_of_every_sentence(text, kind):
    for seed in range(20):
        masked = mask_words(text, 0.4, np.random.default_rng(seed), kind=kind)
        kept = masked.replace("<mask>", "")
        assert 0 < len(kept) < len(text)
        left = iter(characters(text))
        assert all(character in left for character in characters(kept))  # whole characters, in order
        mixed = mask_words(text, 0.4, np.random.default_rng(seed), kind=kind, shuffle=1.0)
        assert sorted(characters(mixed.replace("<mask>", ""))) == sorted(characters(kept))


def test_spaces_stand_where_they_stood():
    masked = mask_words("I met 李明 in Berlin", 0.01, np.random.default_rng(3))
    assert masked.count("<mask>") == 1
    assert masked.count(" ") == 4
    assert mask_words("สวัสดี ครับ", 0.01, np.random.default_rng(0)).count(" ") == 1


def test_pseudo_glosses_are_parts_of_a_sentence_in_every_script():
    assert lemmas("きょうは、いい", "words") == ["きょ", "ょう", "うは", "いい"]
    assert lemmas("ที่นี่ดีมาก", "bigrams") == ["ที่นี่", "นี่ดี", "ดีม", "มา", "าก"]
    assert lemmas("ที่นี่ดี", "characters") == ["ที่", "นี่", "ดี"]
    assert lemmas("他今年四岁。", "words") == ["他今", "今年", "年四", "四岁"]
    assert lemmas("他 今年 四 岁 。", "words") == ["他", "今年", "四", "岁"]  # parted by somebody: kept
    assert lemmas("हिन्दी भाषा", "words") == ["हिन्दी", "भाषा"]  # vowel signs are inside words
    assert lemmas("我用iPhone打电话", "bigrams") == ["我用", "iphone", "打电", "电话"]
    assert lemmas(KOREAN, "words") == ["오늘", "날씨가", "좋습니다"]
    texts = ["오늘 비", "오늘 눈", "내일 바람", "어제 해"]
    assert "오늘" in PseudoGlosses.train(texts, max_share=0.5).vocabulary  # five letters, though two syllables


def test_characters_of_scores_are_letters_with_their_marks():
    assert characters("ที่ นี่") == ["ที่", "นี่"]
    assert wer(["ที่นี่"], ["ที่นั่น"], unit="character").wer == pytest.approx(200 / 3)  # 3 characters: one kept
    assert rouge_l(["がぎ"], [unicodedata.normalize("NFD", "がぎ")], unit="character") == 100
    assert wer(["你好,"], ["你好，"], unit="character").substitutions > 0  # width is a convention of scoring


def test_each_ratio_is_that_of_a_script_that_unicode_knows():
    from signcl.data.text import writing_systems

    assert set(CHARACTERS_PER_WORD) == set(writing_systems._SETS)
    assert CHARACTERS_PER_WORD["Chinese"] == 2.18 / 2.3


TOYS = {
    "Korean": [
        "내일 아침 북쪽 지방에는 비가 많이 오고 바람이 강하게 불겠습니다",
        "오늘 오후 남쪽 바다에는 구름이 조금 끼고 날씨가 따뜻하겠습니다",
        "어제 저녁 서울에는 눈이 많이 내려서 길이 매우 미끄러웠습니다",
        "주말에는 전국이 대체로 맑고 낮 기온이 조금 더 오르겠습니다",
    ],
    "Japanese": [
        "明日の朝は北の地方で雨がたくさん降り、風が強く吹くでしょう。",
        "今日の午後は南の海に雲が少し出て、暖かい一日になるでしょう。",
        "きのうのよるはおおさかでゆきがたくさんふりました。",
        "週末は全国でおおむね晴れて、昼の気温が少し上がるでしょう。",
    ],
    "Thai": [
        "พรุ่งนี้เช้าภาคเหนือจะมีฝนตกหนักและลมแรง",
        "วันนี้ตอนบ่ายทะเลภาคใต้จะมีเมฆเล็กน้อยและอากาศอบอุ่น",
        "เมื่อวานตอนเย็นกรุงเทพฯมีฝนตกหนักจนถนนลื่นมาก",
        "วันหยุดนี้อากาศทั่วประเทศจะแจ่มใสและอุณหภูมิสูงขึ้นเล็กน้อย",
    ],
}
FRAMES = 120


def toy_corpus(root, texts):
    random = np.random.default_rng(0)
    root.mkdir()
    for split, part in (("train", texts), ("dev", texts[:2])):
        lines = ["name\tpath\ttext"]
        for number, text in enumerate(part):
            np.save(root / f"{split}{number}.npy", random.normal(size=(FRAMES, 8)).astype(np.float32))
            lines.append(f"{split}{number}\t{split}{number}.npy\t{text}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def warned(root, capsys, tokenizer):
    prepare(recipe_from_dict({"corpus": {"root": str(root)}, "text": {"tokenizer": tokenizer}}))
    return capsys.readouterr().err


def test_two_spellings_of_a_corpus_are_warned_about(tmp_path, capsys):
    composed, decomposed = (unicodedata.normalize(form, "für uns") for form in ("NFC", "NFD"))
    both = toy_corpus(tmp_path / "both", [composed, decomposed])
    assert "2 sentences of train and dev are not in Unicode's NFC and 2 are" in warned(both, capsys, "word")
    one = toy_corpus(tmp_path / "one", [composed, "uns", composed])
    assert "NFC" not in warned(one, capsys, "word")


def test_words_that_are_whole_sentences_are_warned_about_and_parted_ones_are_not(tmp_path, capsys):
    whole = toy_corpus(tmp_path / "whole", ["他今年四岁。", "她今年五岁。"])
    assert "2 of 2 training sentences have no spaces (Chinese)" in warned(whole, capsys, "word")
    assert "without spaces" not in warned(whole, capsys, "character")
    parted = toy_corpus(tmp_path / "parted", ["他 今年 四 岁 。", "她 今年 五 岁 。"])
    assert "without spaces" not in warned(parted, capsys, "word")


def test_a_report_marks_whole_characters():
    assert '<mark title="instead of: นี่">นั่</mark>' in marked("ที่นี่", "ที่นั่", by_character=True)


@pytest.mark.parametrize("language", TOYS)
def test_a_run_on_a_toy_corpus_has_sensible_margins_masks_and_pseudo_glosses(language, tmp_path, capsys):
    root = toy_corpus(tmp_path / "corpus", TOYS[language])
    assert main(["corpus", "stats", str(root), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)["splits"]["train"]
    # About 12 words in 120 frames. A sentence as one word has a margin of 276 frames, and then no negative at all.
    assert 9 <= stats["words_mean"] <= 16
    assert 15 <= stats["margin_median"] <= 35
    assert stats["margin_max"] <= 36
    assert stats["without_negative"] == 0
    small = {"width": 16, "heads": 2, "ffn": 16, "dropout": 0.0}
    systems = {
        "vlp": (
            {**small, "encoder_layers": 1, "decoder_layers": 1, "conv_width": 16},
            {"clip": 1.0, "masked_text": 1.0, "signcl": 0.1},
        ),
        "pgp": ({"width": 16, "heads": 2, "prototype_dim": 8, "max_share": 0.9}, {"pseudo_gloss": 1.0, "signcl": 0.1}),
    }
    for name, (model, weights) in systems.items():
        out = tmp_path / name
        recipe = {
            "stage": "pretrain",
            "out": str(out),
            "corpus": {"name": "folder", "root": str(root)},
            "text": {"tokenizer": "word"},
            "model": {"name": name, "visual": "feature_mlp", **model},
            "loss": {"weights": weights, "signcl": {"distance_margin": 5.0}},
            "train": {"epochs": 1, "batch_size": 3, "device": "cpu", "max_steps": 2},
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        assert main(["fit", str(file)]) == 0
        said = capsys.readouterr().err
        assert ("entire sentences become words" in said) == (language != "Korean")
        assert language == "Korean" or language in said
    glosses = json.loads((tmp_path / "pgp" / "pseudo_glosses.json").read_text(encoding="utf-8"))["vocabulary"]
    sentences = {normal_form(text).strip("。") for text in TOYS[language]}
    assert len(glosses) > 10
    assert not sentences & set(glosses)
    assert max(map(len, glosses)) < min(map(len, sentences))
