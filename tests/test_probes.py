"""Probes: cases worked by hand, altered videos against what they claim to be, and a real tiny run through the verbs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics.bleu import BLEU
from systems import Case, recipe_of

from signcl import evaluate, fit
from signcl.cli import main
from signcl.data.batch import Batch, Sample
from signcl.data.loading import collate
from signcl.evaluation.probes import (
    ALTERED,
    PROBES,
    Look,
    alter,
    another_clip,
    changed_sentences,
    changes,
    convention_table,
    measure_look,
    overlap_table,
    probe,
    sentence_scores,
)
from signcl.evaluation.probes.conventions import with_dot, without_dot
from signcl.evaluation.probes.overlap import nearest_sentences
from signcl.evaluation.scoring import read_predictions
from signcl.metrics import bleu, rouge_l

# -- overlap -----------------------------------------------------------------------------------------------------------


def test_sentences_are_told_apart_by_what_training_has_seen():
    # By hand: "a b c d" is in training (spaces aside); "a b c x" keeps 3 of 4 tokens of it: 0.75; "u v w" keeps none.
    train = ["a  b c d", "a b c d", "m n o"]
    references = ["a b c d", "a b c x", "u v w"]
    found = overlap_table(["1", "2", "3"], ["a b c d", "m n o", "m n o"], references, train, samples=0)
    assert {kind: group["sentences"] for kind, group in found["groups"].items()} == {"seen": 1, "near": 1, "new": 1}
    assert found["groups"]["seen"]["bleu4"] == pytest.approx(100)
    assert found["groups"]["new"]["rouge_l"] == 0
    assert found["groups"]["near"]["percent"] == pytest.approx(100 / 3)
    assert found["training_sentences"] == 2
    (twin,) = found["near_duplicates"]
    assert (twin["name"], twin["similarity"], twin["training"]) == ("2", 0.75, "a b c d")
    assert found["copied"] == {"all": 100.0, "of_new": 100.0}  # every answer is a training sentence
    stricter = overlap_table(["1", "2", "3"], references, references, train, near=0.76, samples=0)
    assert stricter["groups"].keys() == {"seen", "new"}
    assert stricter["copied"] == {"all": pytest.approx(100 / 3), "of_new": 0.0}


def test_chinese_sentences_are_near_by_characters():
    found = overlap_table(["1"], ["他买了钢琴"], ["他买了电脑"], ["他卖了电脑"], tokenize="zh", samples=0)
    assert found["groups"].keys() == {"near"}  # 4 of 5 characters; as one word it would be new
    assert found["unit"] == "character"


def test_the_nearest_sentence_is_that_of_a_plain_loop():
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(list("abcdefg"), random.integers(1, 8))) for _ in range(700)]
    asked, train = lines[:300], lines[300:]
    places, nearness = nearest_sentences(asked, train)
    for line, place, near in zip(asked[::7], places[::7], nearness[::7]):
        each = [Levenshtein.normalized_similarity(line.split(), other.split()) for other in train]
        assert near == pytest.approx(max(each), abs=1e-6)
        assert place == int(np.argmax(np.float32(each)))


def test_an_overlap_without_training_or_with_a_strange_share_is_refused():
    with pytest.raises(ValueError, match="above 0 and at most 1, got near=0"):
        overlap_table(["1"], ["a"], ["a"], ["a"], near=0)
    with pytest.raises(ValueError, match="needs the training sentences"):
        overlap_table(["1"], ["a"], ["a"], [])


# -- conventions -------------------------------------------------------------------------------------------------------


def test_full_stops_are_put_and_taken():
    assert [without_dot(line) for line in ("a b .", "a b.", "a b", "买了。", ".")] == ["a b", "a b", "a b", "买了", ""]
    dotted = [with_dot(line) for line in ("a b", "a b .", "a b.", "买了", "")]
    assert dotted == ["a b .", "a b .", "a b .", "买了。", "."]


def test_each_convention_is_what_it_says():
    # By hand, BLEU-1 without smoothing at work: "der wind" against "Der wind ." has 1 of 2 words, length 2 for 3.
    rows = convention_table(["der wind", "regen ."], ["Der wind .", "regen ."])
    assert len(rows) == 3 * 4 * 2
    row = {(r["dot"], r["tokenize"], r["case"]): r for r in rows}
    assert row["as written", "none", "as written"]["scored"]
    assert sum(r["scored"] for r in rows) == 1
    # 3 of 4 words right, brevity exp(1 - 5/4); with dots on both sides 4 of 5; without, lower: all
    assert row["as written", "none", "as written"]["bleu1"] == pytest.approx(75 * np.exp(-0.25))
    assert row["with", "none", "as written"]["bleu1"] == pytest.approx(80)
    assert row["without", "none", "lower"]["bleu1"] == pytest.approx(100)
    assert row["without", "none", "as written"]["bleu1"] == pytest.approx(200 / 3)
    own = bleu(["der wind", "regen ."], ["Der wind .", "regen ."], "13a")
    assert row["as written", "13a", "as written"]["bleu4"] == pytest.approx(own.bleu4)
    assert row["as written", "char", "as written"]["signature"] != row["as written", "zh", "as written"]["signature"]


# -- changes -----------------------------------------------------------------------------------------------------------


def test_the_sentences_that_changed_most_are_listed_both_ways():
    references = ["a b c d", "a b c d", "a b c d", "a b c d"]
    a = ["a b c d", "x", "a b c d", "a"]
    b = ["x", "a b c d", "a b c  d", "a b"]
    found = changed_sentences(list("pqrs"), references, a, b, examples=1)
    assert found["counts"] == {"b_better": 2, "a_better": 1, "equal": 1, "same_answer": 1}
    assert [(r["name"], r["difference"]) for r in found["b_better"]] == [("q", 100.0)]
    assert [(r["name"], r["difference"]) for r in found["a_better"]] == [("p", -100.0)]
    assert found["p_value"] == pytest.approx(1.0)  # 2 against 1
    both = changed_sentences(list("pqrs"), references, a, b, examples=9)
    assert [r["name"] for r in both["b_better"]] == ["q", "s"]
    with pytest.raises(ValueError, match="at least 1 example"):
        changed_sentences(list("pqrs"), references, a, b, examples=0)


def test_sentence_scores_are_those_of_the_metrics():
    hypotheses = ["der wind weht heute aus norden", "regen"]
    references = ["der wind weht aus norden", "regen im norden"]
    for one, other, score in zip(hypotheses, references, sentence_scores(hypotheses, references)):
        assert score == pytest.approx(rouge_l([one], [other]))
    theirs = BLEU(tokenize="none", effective_order=True)
    for one, other, score in zip(hypotheses, references, sentence_scores(hypotheses, references, "bleu")):
        assert score == pytest.approx(theirs.sentence_score(one, [other]).score)
    with pytest.raises(ValueError, match="rouge_l or bleu, got 'chrf'"):
        sentence_scores(hypotheses, references, "chrf")


# -- altered videos ----------------------------------------------------------------------------------------------------


def clips(pixels: bool) -> Batch:
    random = np.random.default_rng(0)
    shape = (8, 6, 3) if pixels else (5,)
    frames = [random.integers(0, 256, size=(n, *shape)) for n in (7, 4)]
    kind = np.uint8 if pixels else np.float32
    return collate([Sample("one", "a b"), Sample("two", "c")], [f.astype(kind) for f in frames])


@pytest.mark.parametrize("pixels", [True, False])
def test_altered_frames_are_what_they_claim(pixels):
    batch = clips(pixels)
    look = measure_look([batch.inputs[:3], batch.inputs[3:]])
    flat = batch.inputs.double().reshape(-1, batch.inputs.shape[-1])
    torch.testing.assert_close(look.mean, flat.mean(dim=0).float())
    torch.testing.assert_close(look.deviation, flat.std(dim=0, correction=0).float())
    seen = {kind: alter(batch, kind, look) for kind in ALTERED}
    for changed in seen.values():
        assert changed.inputs.dtype == batch.inputs.dtype
        assert changed.inputs.shape == batch.inputs.shape
        assert torch.equal(changed.lengths, batch.lengths)
    assert not seen["zeros"].inputs.any()
    assert seen["mean"].inputs.unique(dim=0).shape[0] == 1
    first, second = seen["shuffled"].inputs.split([7, 4])
    assert not torch.equal(first, batch.inputs[:7])
    for own, clip in ((first, batch.inputs[:7]), (second, batch.inputs[7:])):  # the clip's own frames, each once
        assert sorted(map(str, own.tolist())) == sorted(map(str, clip.tolist()))
    assert not torch.equal(seen["noise"].inputs[0], seen["noise"].inputs[1])


def test_noise_is_like_the_split():
    batch = collate([Sample("one", "a")], [np.zeros((400, 4), np.float32)])
    look = Look(torch.tensor([1.0, -2.0, 0.0, 5.0]), torch.tensor([1.0, 0.5, 0.0, 2.0]))
    drawn = alter(batch, "noise", look).inputs
    torch.testing.assert_close(drawn.mean(dim=0), look.mean, atol=0.25, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0), look.deviation, atol=0.2, rtol=0)


def test_a_clip_is_altered_alike_in_any_company_and_otherwise_under_another_seed():
    batch = clips(pixels=False)
    look = measure_look([batch.inputs])
    alone = collate([Sample("two", "c")], [batch.inputs[7:].numpy()])
    for kind in ALTERED:
        assert torch.equal(alter(batch, kind, look).inputs[7:], alter(alone, kind, look).inputs)
    for kind in ("shuffled", "noise"):
        assert not torch.equal(alter(batch, kind, look).inputs, alter(batch, kind, look, seed=1).inputs)
    with pytest.raises(ValueError, match="shuffled, zeros, mean, noise; got 'upside down'"):
        alter(batch, "upside down", look)


def test_another_clip_never_has_the_same_sentence():
    references = ["a", "a", "a", "b", "c", "a"]
    for seed in range(20):
        others = another_clip(references, seed=seed)
        assert all(references[i] != references[other] for i, other in enumerate(others))
    assert another_clip(references, seed=3) == another_clip(references, seed=3)
    different = [another_clip(list("abcdefgh"), seed=seed) for seed in range(3)]
    assert all(sorted(one) == list(range(8)) for one in different)  # each video once where sentences differ
    assert different[0] != different[1]
    with pytest.raises(ValueError, match="at least 2 different sentences"):
        another_clip(["a", "a"])


# -- on runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(corpora, tmp_path_factory):
    """A run that has learnt its signs, and one that has learnt nothing."""
    top = tmp_path_factory.mktemp("probes")
    good = recipe_of(Case("gfslt", weights={"translation": 1.0}), corpora, top / "good", epochs=50, evaluate_every=50)
    good.loss.weights = {"translation": 1.0}
    bad = recipe_of(Case("gfslt", weights={"translation": 1.0}), corpora, top / "bad", max_steps=1, epochs=1)
    bad.loss.weights = {"translation": 1.0}
    return fit(good, progress=False), fit(bad, progress=False)


def test_a_run_is_probed_and_the_result_kept_beside_its_scores(runs, capsys):
    good, _ = runs
    evaluate(good, "train", progress=False)
    whole = json.loads((good / "scores.json").read_text())["train"]
    stamp = (good / "predictions.train.tsv").stat().st_mtime_ns
    assert main(["evaluate", str(good), "--split", "train", "--probe", "overlap", "visual", "dot", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == set(PROBES)
    assert (good / "predictions.train.tsv").stat().st_mtime_ns == stamp, "answers of these weights are not made again"
    kept = json.loads((good / "scores.json").read_text())["train"]
    assert kept.pop("probes") == found
    assert kept == whole
    assert found["overlap"]["groups"].keys() == {"seen"}  # train against itself
    scored = next(row for row in found["dot"]["rows"] if row["scored"])
    assert scored["bleu4"] == pytest.approx(whole["bleu4"])
    rows = {row["video"]: row for row in found["visual"]["rows"]}
    assert list(rows) == ["intact", *ALTERED, "another"]
    assert rows["intact"]["bleu4"] == pytest.approx(whole["bleu4"])
    assert rows["intact"]["bleu4"] > 90, "it has learnt its clips by heart"
    assert rows["zeros"]["distinct_hypotheses"] <= 3, "without a video only the length tells clips apart"
    for kind in ("zeros", "mean", "noise", "another"):
        gap = rows[kind]["difference"]["rouge_l"]
        assert gap["value"] == pytest.approx(rows[kind]["rouge_l"] - rows["intact"]["rouge_l"])
        assert gap["low"] <= gap["value"] <= gap["high"] < 0, kind
        assert rows[kind]["remaining"]["bleu4"] == pytest.approx(100 * rows[kind]["bleu4"] / rows["intact"]["bleu4"])
        assert rows[kind]["remaining"]["rouge_l"] < 80
    assert main(["evaluate", str(good), "--split", "train", "--probe", "visual", "overlap", "dot"]) == 0
    text = capsys.readouterr().out
    assert "BLEU-4 less intact" in text
    assert "* as written" in text
    assert "in training word for word" in text


def test_the_same_seed_gives_the_same_probe(runs):
    good, _ = runs
    one, two = (probe(good, ["visual"], "dev", bootstrap=20, progress=False) for _ in range(2))
    assert one == two
    alone = probe(good, ["visual"], "dev", bootstrap=20, batch_size=1, progress=False)
    assert alone["visual"]["rows"] == one["visual"]["rows"], "batches do not matter"


def test_another_clips_video_gives_that_clips_answer(runs, corpora):
    """Against the real thing: translate the clips with their files exchanged."""
    from signcl.inference.answers import predict
    from signcl.training.recipe import recipe_samples
    from signcl.training.runs import load_run

    good, _ = runs
    probe(good, ["visual"], "test", bootstrap=0, progress=False)
    names, references, _ = read_predictions(good / "predictions.test.tsv")
    run = load_run(good)
    samples = {s.name: s for s in recipe_samples(run.recipe, "test")}
    others = another_clip(references)
    swapped = [replace(samples[n], features=samples[names[o]].features, num_frames=None) for n, o in zip(names, others)]
    told, _ = predict(run, swapped, device="cpu", progress=False)
    row = json.loads((good / "scores.json").read_text())["test"]["probes"]["visual"]["rows"][-1]
    assert row["rouge_l"] == pytest.approx(rouge_l([told[n] for n in names], references))


def test_new_weights_or_beams_make_new_answers(runs):
    import os

    good, _ = runs
    probe(good, ["dot"], "dev", bootstrap=0, progress=False)
    made = json.loads((good / "scores.json").read_text())["dev"]["made"]
    assert made["beams"] == 2
    probe(good, ["dot"], "dev", bootstrap=0, beams=1, progress=False)
    entry = json.loads((good / "scores.json").read_text())["dev"]
    assert entry["made"]["beams"] == 1
    assert entry["probes"].keys() == {"dot"}, "probes of other answers are gone"
    past = (good / "model.safetensors").stat().st_mtime - 100
    os.utime(good / "predictions.dev.tsv", (past, past))
    probe(good, ["overlap"], "dev", bootstrap=0, progress=False)
    assert json.loads((good / "scores.json").read_text())["dev"]["made"]["beams"] == 2
    assert (good / "predictions.dev.tsv").stat().st_mtime > past


def test_two_runs_are_compared_sentence_by_sentence(runs, capsys):
    good, bad = runs
    for run in runs:
        evaluate(run, "train", bootstrap=0, progress=False)
    found = changes(bad, good, "train", examples=2)
    assert found["counts"]["b_better"] > found["counts"]["a_better"]
    assert len(found["b_better"]) == 2
    assert main(["compare", str(bad), str(good), "--split", "train", "--examples", "2", "--by", "bleu", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["changes"]["by"].startswith("sentence BLEU-4")
    assert [row["metric"] for row in both["scores"]] == ["bleu4", "bleu1", "rouge_l", "chrf"]
    assert main(["compare", str(bad), str(good), "--split", "train", "--examples", "1"]) == 0
    text = capsys.readouterr().out
    assert "B gained most:" in text
    assert "by sentence ROUGE-L" in text
    assert main(["compare", str(bad), str(good), "--split", "train", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


def test_wrong_use_gets_one_line(runs, corpora, tmp_path, capsys):
    good, _ = runs
    with pytest.raises(ValueError, match="the probes are overlap, visual, dot; got smell"):
        probe(good, ["smell"])
    assert main(["evaluate", str(good), "--probe", "dot", "--grid"]) == 2
    assert "run --grid first, then --probe" in capsys.readouterr().err
    recipe = recipe_of(Case("recogniser"), corpora, tmp_path / "recogniser", max_steps=1, epochs=1)
    folder = fit(recipe, progress=False)
    assert main(["evaluate", str(folder), "--probe", "dot"]) == 2
    assert "is a recognise run; only the scores of a finetune run are probed" in capsys.readouterr().err
