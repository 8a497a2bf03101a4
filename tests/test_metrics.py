"""Scores against logged runs, independent double loops, sacreBLEU's public functions, and hand-worked sentences."""

import csv
import gzip
import math
import random
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signcl.metrics import (
    bleu,
    bootstrap_interval,
    chrf,
    clean_phoenix_2014_trans,
    exact_match,
    paired_bootstrap,
    rouge_l,
    score_all,
    scores,
    wer,
)
from signcl.metrics.from_counts import bleu_of_sums, chrf_of_sums

# Two decimals, as the training log prints them (signjoey-phoenix14t-outputs/train.log.tail).
LOGGED = {
    "dev": {"bleu": (47.81, 34.54, 27.00, 22.10), "chrf": 44.70, "rouge": 48.38, "wer": (37.74, 11.05, 22.66, 4.03)},
    "test": {"bleu": (47.64, 34.81, 27.12, 22.17), "chrf": 45.03, "rouge": 47.75, "wer": (36.11, 10.92, 21.23, 3.97)},
}


def outputs(root, split):
    """Hypotheses and references of text and gloss, in one order: (text, text references, gloss, gloss references)."""
    with gzip.open(root / "phoenix14t-alignments" / f"{split}.tsv.gz", "rt", encoding="utf-8") as file:
        truth = {row["name"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    folder = root / "signjoey-phoenix14t-outputs"

    def read(name):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("|", 1) for line in lines)

    text, gloss = (read(f"best.IT_00093000.{kind}") for kind in (f"BW_02.A_4.{split}.txt", f"BW_004.{split}.gls"))
    names = list(text)
    assert set(names) == set(truth) == set(gloss)
    return (
        [text[name] for name in names],
        [truth[name]["text"] for name in names],
        [gloss[name] for name in names],
        [truth[name]["gloss"] for name in names],
    )


@pytest.mark.parametrize("split", ["dev", "test"])
def test_logged_scores_come_out_to_two_decimals(real_data, split):
    text, text_references, gloss, gloss_references = outputs(real_data, split)
    logged = LOGGED[split]
    result = bleu(text, text_references)
    assert (result.bleu1, result.bleu2, result.bleu3, result.bleu4) == pytest.approx(logged["bleu"], abs=0.00501)
    assert chrf(text, text_references) == pytest.approx(logged["chrf"], abs=0.00501)
    assert rouge_l(text, text_references) == pytest.approx(logged["rouge"], abs=0.00501)
    clean = [[clean_phoenix_2014_trans(line) for line in side] for side in (gloss, gloss_references)]
    for costs in ("sclite", "plain"):
        error = wer(*clean, costs=costs)
        split_up = (error.wer, error.substitutions, error.deletions, error.insertions)
        assert split_up == pytest.approx(logged["wer"], abs=0.00501)


def test_clean_up_matters_for_the_logged_wer(real_data):
    _, _, gloss, references = outputs(real_data, "test")
    assert wer(gloss, references).wer == pytest.approx(36.16, abs=0.005)


# --- BLEU ---


def bleu_loop(hypotheses, references, order):
    """Papineni's formula, n-gram by n-gram, without smoothing."""
    matches, totals = [0] * order, [0] * order
    ours_length = theirs_length = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        ours, theirs = hypothesis.split(), reference.split()
        ours_length, theirs_length = ours_length + len(ours), theirs_length + len(theirs)
        for n in range(order):
            grams, others = (Counter(tuple(x[i : i + n + 1]) for i in range(len(x) - n)) for x in (ours, theirs))
            matches[n] += sum(min(count, others[gram]) for gram, count in grams.items())
            totals[n] += sum(grams.values())
    if not all(matches):
        return 0.0
    penalty = min(1.0, math.exp(1 - theirs_length / ours_length))
    return 100 * penalty * math.exp(sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / order)


def sentences(count, seed, vocabulary=12, longest=14):
    chance = random.Random(seed)
    references = [
        " ".join(chance.choices("abcdefghijklmnop"[:vocabulary], k=chance.randint(4, longest))) for _ in range(count)
    ]
    hypotheses = []
    for reference in references:
        words = [chance.choice("abcdef") if chance.random() < 0.2 else word for word in reference.split()]
        hypotheses.append(" ".join(words[chance.randint(0, 1) :]))
    return hypotheses, references


def test_bleu_by_hand():
    # 5 words each: 1-grams 4/5, 2-grams 2/4, 3-grams 1/3, no 4-gram; equally long, so no brevity penalty.
    hypothesis, reference = ["der regen kommt am montag"], ["der regen kommt im montag"]
    result = bleu(hypothesis, reference, smoothing="none")
    assert result.bleu1 == pytest.approx(80)
    assert result.bleu2 == pytest.approx(100 * math.sqrt(0.8 * 0.5))
    assert result.bleu3 == pytest.approx(100 * (0.8 * 0.5 / 3) ** (1 / 3))
    assert result.bleu4 == 0
    assert result.matches == (4, 2, 1, 0)
    # "exp": the first empty order counts as half a match.
    assert bleu(hypothesis, reference).bleu4 == pytest.approx(100 * (0.8 * 0.5 / 3 * 0.25) ** 0.25)
    assert "smooth:exp" in bleu(hypothesis, reference).signature
    assert "tok:none" in result.signature
    assert "smooth:none" in result.signature
    floor = bleu(hypothesis, reference, smoothing="floor", smoothing_value=0.01)
    assert floor.bleu4 == pytest.approx(100 * (0.8 * 0.5 / 3 * 0.005) ** 0.25)
    assert "smooth:floor[0.01]" in floor.signature


def test_every_order_equals_a_loop_and_sacrebleu_of_that_order():
    from sacrebleu.metrics import BLEU

    hypotheses, references = sentences(40, seed=1)
    result = bleu(hypotheses, references)
    for order in (1, 2, 3, 4):
        ours = getattr(result, f"bleu{order}")
        assert ours == pytest.approx(bleu_loop(hypotheses, references, order))
        public = BLEU(tokenize="none", max_ngram_order=order, force=True).corpus_score(hypotheses, [references])
        assert ours == pytest.approx(public.score)


def test_chinese_is_scored_by_characters_whether_spaced_or_not():
    plain, spaced = ["今天下雨了"], ["今 天 下 雨 了"]
    other = ["明天下雨了"]
    for tokenize in ("zh", "char"):
        assert bleu(plain, other, tokenize).bleu1 == pytest.approx(80)
        assert bleu(spaced, other, tokenize).bleu4 == pytest.approx(bleu(plain, other, tokenize).bleu4)
        assert f"tok:{tokenize}" in bleu(plain, other, tokenize).signature
    assert bleu(plain, other, "none").bleu1 == 0
    assert rouge_l(plain, other, unit="character") == rouge_l(spaced, other, unit="character") == pytest.approx(80)
    assert wer(plain, other, unit="character").wer == pytest.approx(20)


def test_chrf_is_sacrebleus():
    from sacrebleu import corpus_chrf

    hypotheses, references = sentences(20, seed=2)
    assert chrf(hypotheses, references) == corpus_chrf(hypotheses, [references]).score


# --- ROUGE-L, WER, exact match ---


def common_loop(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_rouge_by_hand():
    # LCS "a c" = 2, P = 2/3, R = 2/4: F = 2.44 x (1/3) / (0.5 + 1.44 x 2/3).
    assert rouge_l(["a x c"], ["a b c d"]) == pytest.approx(100 * 2.44 / 3 / (0.5 + 0.96))
    assert rouge_l(["a b", ""], ["a b", "c"]) == pytest.approx(50)
    assert rouge_l(["b a"], ["a b"], beta=1.0) == pytest.approx(50)


words = st.lists(st.sampled_from("abcd"), max_size=9)


@settings(max_examples=150, deadline=None)
@given(words, words, st.sampled_from([1.0, 1.2]))
def test_rouge_equals_the_double_loop(ours, theirs, beta):
    common, expected = common_loop(ours, theirs), 0.0
    if common:
        precision, recall = common / len(ours), common / len(theirs)
        expected = 100 * (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert rouge_l([" ".join(ours)], [" ".join(theirs)], beta) == pytest.approx(expected)


def edits_loop(ours, theirs, gap, swap, prefer):
    """Best (cost, tie, substitutions, deletions, insertions) over all alignments; ties by `prefer` x substitutions."""
    best = {(0, 0): (0, 0, 0, 0, 0)}
    for i in range(len(theirs) + 1):
        for j in range(len(ours) + 1):
            steps = []
            if i and j:
                cost, tie, s, d, n = best[i - 1, j - 1]
                same = theirs[i - 1] == ours[j - 1]
                steps.append((cost, tie, s, d, n) if same else (cost + swap, tie + prefer, s + 1, d, n))
            if i:
                cost, tie, s, d, n = best[i - 1, j]
                steps.append((cost + gap, tie, s, d + 1, n))
            if j:
                cost, tie, s, d, n = best[i, j - 1]
                steps.append((cost + gap, tie, s, d, n + 1))
            if steps:
                best[i, j] = min(steps)
    return best[len(theirs), len(ours)][2:]


@settings(max_examples=300, deadline=None)
@given(words, words.filter(bool), st.sampled_from(["plain", "sclite"]))
def test_wer_and_its_split_equal_the_double_loop(ours, theirs, costs):
    gap, swap, prefer = (1, 1, 1) if costs == "plain" else (3, 4, -1)
    expected = [100 * count / len(theirs) for count in edits_loop(ours, theirs, gap, swap, prefer)]
    error = wer([" ".join(ours)], [" ".join(theirs)], costs)
    assert [error.substitutions, error.deletions, error.insertions] == pytest.approx(expected)
    assert error.wer == pytest.approx(sum(expected))


@settings(max_examples=100, deadline=None)
@given(words.filter(bool), words.filter(bool), words.filter(bool))
def test_edit_distance_is_a_distance(a, b, c):
    def distance(x, y):
        return wer([" ".join(x)], [" ".join(y)]).wer * len(y) / 100

    assert distance(a, a) == 0
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9
    assert abs(len(a) - len(b)) - 1e-9 <= distance(a, b) <= max(len(a), len(b)) + 1e-9


def test_wer_by_hand_where_the_costs_disagree():
    # Swapped neighbours: two edits either way; "plain" keeps the match (1 deletion, 1 insertion).
    error = wer(["b a"], ["a b"])
    assert (error.substitutions, error.deletions, error.insertions, error.wer) == (0, 50, 50, 100)
    # sclite: deletion + insertion cost 6, two substitutions 8, so it keeps the match too.
    assert wer(["b a"], ["a b"], "sclite").substitutions == 0
    # Five substitutions cost 20, three deletions + three insertions (with two matches) 18.
    assert wer(["d e x y z"], ["a b c d e"]).wer == pytest.approx(100)
    assert wer(["d e x y z"], ["a b c d e"], "sclite").wer == pytest.approx(120)
    # Pooled over sentences, not averaged: 1 edit of 5 words.
    assert wer(["a", "b c d e"], ["a", "b c d f"]).wer == pytest.approx(20)
    assert wer(["a a a"], ["b"]).wer == pytest.approx(300)
    assert wer([""], ["a b"]).deletions == 100


def test_exact_match_ignores_runs_of_spaces_only():
    assert exact_match(["a  b ", "a b", "A b"], ["a b", "a c", "a b"]) == pytest.approx(100 / 3)


# --- the PHOENIX clean-up ---


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("__ON__ LIEB ZUSCHAUER __OFF__", "LIEB ZUSCHAUER"),
        ("loc-NORD cl-KOMMEN REGEN-PLUSPLUS", "NORD KOMMEN REGEN"),
        ("NORDRAUM RAUM", "NORD RAUM"),
        ("WIE AUSSEHEN WIE", "WIE-AUSSEHEN WIE"),
        ("A B C REGEN", "A+B+C REGEN"),
        ("MORGEN A NN B", "MORGEN A+NN+B"),
        ("REGEN SCH A", "REGEN SCH+A"),
        ("REGEN A SCH", "REGEN A SCH"),
        ("REGEN REGEN REGEN WIND REGEN", "REGEN WIND REGEN"),
        ("REGEN loc-REGEN", "REGEN"),
        ("__LEFTHAND__", ""),
        ("  ICH   OST ", "ICH OST"),
        ("IX poss-BAYERN", "IX poss-BAYERN"),  # a rule of PHOENIX-2014, not of 2014T
    ],
)
def test_clean_up_rules(raw, clean):
    assert clean_phoenix_2014_trans(raw) == clean
    assert clean_phoenix_2014_trans(clean) == clean


# --- uncertainty ---


@pytest.mark.parametrize("name", ["bleu1", "bleu4", "chrf", "rouge_l", "wer", "exact_match"])
def test_counting_gives_what_scoring_every_resample_gives(name):
    a, references = sentences(25, seed=3)
    b, _ = sentences(25, seed=4)
    b = [x if i % 3 else y for i, (x, y) in enumerate(zip(b, references, strict=True))]
    plain = {
        "bleu1": lambda h, r: bleu(h, r).bleu1,
        "bleu4": lambda h, r: bleu(h, r).bleu4,
        "chrf": chrf,
        "rouge_l": rouge_l,
        "wer": lambda h, r: wer(h, r).wer,
        "exact_match": exact_match,
    }[name]
    fast = paired_bootstrap(name, a, b, references, samples=20, seed=5)
    slow = paired_bootstrap(lambda h, r: plain(h, r), a, b, references, samples=20, seed=5)
    assert (fast.low, fast.high, fast.p_value) == pytest.approx((slow.low, slow.high, slow.p_value))
    assert (fast.a, fast.b) == pytest.approx((plain(a, references), plain(b, references)))
    assert fast.difference == pytest.approx(fast.a - fast.b)
    one = bootstrap_interval(name, a, references, samples=20, seed=5)
    assert one.value == pytest.approx(plain(a, references))
    assert one.low <= one.high


def test_functions_of_ours_stand_for_their_names():
    a, references = sentences(15, seed=6)
    assert paired_bootstrap(bleu, a, references, references, samples=10) == paired_bootstrap(
        "bleu4", a, references, references, samples=10
    )
    assert bootstrap_interval(wer, a, references, samples=10) == bootstrap_interval("wer", a, references, samples=10)


def test_no_difference_is_seen_where_there_is_none_and_a_large_one_is():
    a, references = sentences(60, seed=7)
    same = paired_bootstrap("bleu4", a, a, references, samples=200)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    better = paired_bootstrap("bleu4", references, a, references, samples=200)
    assert better.low > 0
    assert better.p_value == pytest.approx(2 / 201)
    mirrored = paired_bootstrap("bleu4", a, references, references, samples=200)
    assert mirrored.difference == pytest.approx(-better.difference)
    assert mirrored.p_value == better.p_value


def test_p_value_is_even_when_both_systems_are_drawn_alike():
    # Two systems that differ by chance only: p should spread over 0-1, below 0.05 in about one case of twenty.
    small = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        references = ["x"] * 80
        a, b = ([["x", "y"][k] for k in chance.integers(2, size=80)] for _ in "ab")
        small += paired_bootstrap("exact_match", a, b, references, samples=200, seed=seed).p_value < 0.05
    assert small <= 9


def test_a_thousand_resamples_of_the_phoenix_test_set_take_less_than_a_second(real_data):
    text, references, _, _ = outputs(real_data, "test")
    start = time.process_time()
    result = bootstrap_interval("bleu4", text, references, samples=1000)
    assert time.process_time() - start < 1.0
    # The field's half width on this test set: about 2.2 (2609.03734).
    assert (result.high - result.low) / 2 == pytest.approx(2.2, abs=0.5)


def test_score_all_says_how_each_number_was_made():
    hypotheses, references = sentences(12, seed=8)
    hypotheses[0] = ""
    references = [line + " ." for line in references]
    scores = score_all(hypotheses, references, samples=20)
    assert scores["bleu4"] == pytest.approx(bleu(hypotheses, references).bleu4)
    assert scores["wer"] == pytest.approx(sum(scores["wer_split"].values()))
    assert scores["counts"]["sentences"] == 12
    assert scores["counts"]["empty_hypotheses"] == 1
    assert scores["final_dot"] == {"hypotheses": 0.0, "references": 100.0, "agree": False}
    assert set(scores["signatures"]) == {"bleu", "chrf", "chrf++", "exact_match", "rouge_l", "wer"}
    assert "version" in scores["signatures"]["chrf"]
    low, high = scores["intervals"]["bleu4"]
    assert low <= high
    assert "intervals" not in score_all(hypotheses, references, samples=0)
    chinese = score_all(["今天下雨了"], ["明天下雨了"], tokenize="zh", samples=0)
    assert "unit:character" in chinese["signatures"]["rouge_l"]
    assert chinese["wer"] == pytest.approx(20)


@pytest.mark.parametrize("score", [bleu, chrf, rouge_l, wer, exact_match, score_all])
def test_what_cannot_be_scored_is_refused_in_one_line(score):
    for hypotheses, references, message in [
        (["a"], ["a", "b"], "got 1 hypotheses, 2 references"),
        ([], [], "at least one sentence"),
        ("a b", ["a b"], "got one string"),
        (["a", None], ["a", "b"], "got NoneType as hypothesis 1"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            score(hypotheses, references)
        assert "\n" not in str(caught.value)


def test_empty_sentences_are_scored_not_refused():
    assert bleu(["", "a"], ["b c", "a"]).bleu1 > 0
    assert bleu(["", ""], ["b c", "a"]).bleu4 == 0
    assert chrf([""], ["a"]) == rouge_l([""], ["a"]) == exact_match([""], ["a"]) == 0
    with pytest.raises(ValueError, match="at least one reference token"):
        wer(["a"], [""])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bleu(["a"], ["a"], "moses"), "tokenize = auto, none, 13a"),
        (lambda: bleu(["a"], ["a"], smoothing="laplace"), "smoothing = exp"),
        (lambda: wer(["a"], ["a"], "sclight"), "'plain' or 'sclite'"),
        (lambda: rouge_l(["a"], ["a"], unit="piece"), "'word' or 'character'"),
        (lambda: paired_bootstrap("bleurt", ["a"], ["a"], ["a"]), "one of bleu1"),
        (lambda: paired_bootstrap("wer", ["a"], ["a"], ["a"], samples=0), "samples >= 1"),
        (lambda: paired_bootstrap("wer", ["a"], ["a", "b"], ["a"]), "got 2 hypotheses"),
        (lambda: bootstrap_interval("wer", ["a"], ["a"], level=95), "level between 0 and 1"),
    ],
)
def test_unknown_choices_list_the_known_ones(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("smoothing", ["exp", "none", "floor", "add-k"])
@pytest.mark.parametrize("order", [1, 4])
def test_bleu_of_many_sums_is_sacrebleus(smoothing, order):
    scorer = scores.sacrebleu_metric("none", smoothing, order=order)
    generator = np.random.default_rng(0)
    total = np.sort(generator.integers(0, 9, size=(400, order)), axis=1)[:, ::-1]  # fewer n-grams of higher orders
    correct = generator.integers(0, 9, size=(400, order)) * (generator.random((400, order)) < 0.6)
    lengths = np.stack([total[:, 0], generator.integers(1, 12, size=400)], axis=1)
    sums = np.concatenate([lengths, np.minimum(correct, total), total], axis=1)
    theirs = [scorer._compute_score_from_stats(row.tolist()).score for row in sums]
    np.testing.assert_allclose(bleu_of_sums(sums, scorer), theirs, rtol=1e-12, atol=1e-12)
    assert 0 < np.count_nonzero(theirs) < 400


def test_chrf_of_many_sums_is_sacrebleus():
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    generator = np.random.default_rng(0)
    sides = generator.integers(0, 5, size=(400, scorer.order, 2))
    match = np.minimum(generator.integers(0, 5, size=(400, scorer.order)), sides.min(axis=2))
    sums = np.concatenate([sides, match[:, :, None]], axis=2).reshape(400, -1)
    theirs = [scorer._compute_score_from_stats(row.tolist()).score for row in sums]
    np.testing.assert_allclose(chrf_of_sums(sums, scorer), theirs, rtol=1e-12, atol=1e-12)
