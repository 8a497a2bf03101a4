"""The preregistered experiment: its analysis by hand and against scipy, its raw numbers, its arms."""

import argparse
import contextlib
import functools
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_tiny import ROOT

from paper import density_effect
from paper.effect_analysis import analyse
from paper.effect_design import ARMS, BLOCKS, STARTS
from paper.effect_page import winners
from paper.jobs import Place, Result, folder_of, recipe_of
from paper.pooled import fit_model, holm
from paper.raw_results import read_rows, rows_of, write_rows
from paper.version import code_version, imported_files
from signcl.evaluation.scoring import evaluate
from signcl.systems import system_class
from signcl.testing import tiny_recipe
from signcl.training import fit, run_folder


def test_two_arms_and_two_seeds_by_hand():
    # Differences by seed: 2 and 4. Mean 3; the residuals are -.5, .5, .5, -.5, so the variance is 1 on 1 degree.
    model = fit_model({"a": {0: 1.0, 1: 2.0}, "b": {0: 3.0, 1: 6.0}})
    found = model.contrast("b - a", {"b": 1.0, "a": -1.0})
    assert (found.estimate, found.freedom) == (pytest.approx(3.0), 1)
    assert model.variance == pytest.approx(1.0)
    half = 12.7062 * math.sqrt(1.0 * (1 / 2 + 1 / 2))
    assert (found.low, found.high) == (pytest.approx(3 - half, rel=1e-4), pytest.approx(3 + half, rel=1e-4))


def test_a_pair_of_arms_is_the_paired_t_test():
    from scipy.stats import ttest_rel

    draw = np.random.default_rng(0)
    a, b = draw.normal(size=8), draw.normal(size=8) + 0.5
    found = fit_model({"a": dict(enumerate(a)), "b": dict(enumerate(b))}).contrast("", {"b": 1.0, "a": -1.0})
    theirs = ttest_rel(b, a)
    low, high = theirs.confidence_interval()
    assert (found.p_value, found.low, found.high) == pytest.approx((theirs.pvalue, low, high))


def test_pooling_narrows_and_keeps_its_level():
    draw, misses, narrower = np.random.default_rng(1), 0, 0
    for _ in range(300):
        values = {arm: dict(enumerate(draw.normal(size=4))) for arm in "abcdef"}
        found = fit_model(values).contrast("", {"a": 1.0, "b": -1.0})
        alone = fit_model({arm: values[arm] for arm in "ab"}).contrast("", {"a": 1.0, "b": -1.0})
        misses += not found.low <= 0 <= found.high
        narrower += found.high - found.low < alone.high - alone.low
    assert 0.02 <= misses / 300 <= 0.09
    assert narrower > 200


def test_a_missing_run_is_adjusted_for_its_seed():
    # Seed 1 is 10 better for everybody: without its run of b the raw means would say -4.
    model = fit_model({"a": {0: 0.0, 1: 10.0, 2: 0.0}, "b": {0: 1.0, 2: 1.0}})
    assert model.contrast("", {"b": 1.0, "a": -1.0}).estimate == pytest.approx(1.0)


def test_sentences_widen_and_power_is_said():
    model = fit_model({"a": {0: 1.0, 1: 2.0, 2: 4.0}, "b": {0: 3.0, 1: 6.0, 2: 5.0}})
    narrow, wide = (model.contrast("", {"b": 1.0, "a": -1.0}, sentences=s) for s in (0.0, 4.0))
    assert wide.high - wide.low > narrow.high - narrow.low
    assert narrow.could_see > (narrow.high - narrow.low) / 2
    with pytest.raises(ValueError, match="weights of the arms that add up to 0"):
        model.contrast("", {"b": 1.0})
    with pytest.raises(ValueError, match="a run of every arm, got none of b"):
        fit_model({"a": {0: 1.0}, "b": {}})


def test_holm_by_hand():
    # p = .01, .04, .03, .005 of four: .03, .06, .06, .02.
    model = fit_model({"a": {0: 1.0, 1: 2.0}, "b": {0: 3.0, 1: 6.0}})
    base = model.contrast("", {"b": 1.0, "a": -1.0})
    found = holm([replace(base, p_value=p) for p in (0.01, 0.04, 0.03, 0.005)])
    assert [c.p_holm for c in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def made_up(seeds=4, arms=BLOCKS["core"].trained, first=0):
    """Runs in which retrieval helps and density does nothing."""
    draw, rows, answers = np.random.default_rng(0), {}, {}
    words = ["the", "woman", "buys", "a", "red", "book", "and", "the", "man", "sleeps"]
    references = {f"test-{i}": " ".join(draw.permutation(words)) for i in range(30)}
    for start in STARTS:
        for arm in arms:
            for seed in range(first, first + seeds):
                found, dense = 60 + 10 * draw.random(), 40 + 30 * draw.random()
                bleu = 0.5 * found + draw.normal() + (5 if arm == "both" else 0)
                values = {"bleu1": bleu, "bleu2": bleu, "bleu3": bleu, "bleu4": bleu, "rouge_l": bleu, "chrf": bleu}
                row = {"start": start, "arm": arm, "seed": seed, **values, "exact_match": 0.0, "sdr": dense}
                row |= {"inter": 5.0, "map": found, "one_nn": found, "auc": 0.8, "hubness": 0.5, "norm": 9.0}
                rows[start, arm, seed] = row | {"seconds": 100.0, "steps": 10, "run": f"finetune-x-seed{seed}"}
                answers[start, arm, seed] = dict(references)
    return rows, answers, references


def test_raw_numbers_come_back_and_the_page_is_the_same_bytes(tmp_path):
    write_rows(tmp_path / "density_effect", *made_up())
    again = read_rows(tmp_path / "density_effect")
    assert again[0]["random", "both", 2]["run"] == "finetune-x-seed2"
    assert again[1:] == made_up()[1:]
    files = {}
    for _ in range(2):
        assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 0
        now = {p.name: p.read_bytes() for p in (tmp_path / "density_effect").iterdir()}
        assert not files or files == now
        files = now
    table = {f"density_effect.{suffix}" for suffix in ("csv", "json", "md", "tex")}
    assert set(files) == table | {"runs.csv", "predictions.tsv.gz", "contrasts-core.csv", "gains-core.png", "README.md"}
    page = files["README.md"].decode()
    assert "random: both − none" in page
    assert page.count("**") == 2 * 8, "eight primary contrasts"
    assert "48 of 96 runs, so no verdict yet" in page
    assert "supported" not in page


def test_every_arm_is_trained_by_a_block_and_compared_with_runs_of_its_seeds():
    assert set(ARMS) == {arm for block in BLOCKS.values() for arm in block.trained}
    assert {name: block.runs for name, block in BLOCKS.items()} == {
        "core": 96,
        "challengers": 96,
        "all-words": 96,
        "longer": 32,
        "settings": 40,
    }
    for name, block in BLOCKS.items():
        with_its_seeds = {
            arm
            for other in BLOCKS.values()
            if other.first_seed == block.first_seed and set(block.starts) <= set(other.starts)
            for arm in (*other.trained, *block.trained)
        }
        assert set(block.compared) <= with_its_seeds, name


def test_verdicts_wait_for_every_run(tmp_path):
    write_rows(tmp_path / "density_effect", *made_up(seeds=8))
    assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 0
    lines = (tmp_path / "density_effect/README.md").read_text().splitlines()
    said = {
        line.split("|")[1].strip(): line.split("|")[5].strip()
        for line in lines
        if " − " in line and line.count("|") == 9
    }
    assert len(said) == 14
    assert said["random: slow + SIGReg − none"] == "not seen"
    assert said["random: push − none"] == "–"
    answers = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in lines if "? | random weights" in line}
    assert answers["Does SignCL raise BLEU-4?"] == f"**{said['random: both − none']}**"
    assert len(answers) == 4
    claims = json.loads((tmp_path / "density_effect/density_effect.json").read_text())["claims"]
    assert len(claims) == 8
    explored = lines[lines.index("### Explored after the results were known") :]
    assert sum("both − push" in line for line in explored) == 2
    assert claims[0]["text"] == "SignCL raises BLEU-4, from random weights"
    assert claims[0]["verdict"] == said["random: both − none"]


def test_challengers_have_their_own_answers_and_rule(tmp_path):
    arms = BLOCKS["challengers"].trained
    rows, answers, references = made_up(8, arms, first=100)
    for (start, arm, _), row in rows.items():
        if arm == "word contrast":
            row["bleu4"] += 20
            row["map"] += 5 if start == "random" else 9
    write_rows(tmp_path / "density_effect", rows, answers, references)
    assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "density_effect/README.md").read_text()
    assert "96 runs; seeds 100 to 107" in page
    assert page.count(" | **supported** |") >= 4, "word contrast over none and over SignCL, in both starts"
    assert "the winner is word contrast." in page
    claims = json.loads((tmp_path / "density_effect/density_effect-challengers.json").read_text())["claims"]
    assert len(claims) == 14
    repeated = [line for line in page.splitlines() if line.startswith("| random: both − none")]
    assert len(repeated) == 1
    assert repeated[0].split("|")[4].strip() == "–", "not corrected: it repeats a contrast of the core"


def test_word_losses_with_short_words_are_compared_with_the_runs_of_the_challengers(tmp_path):
    arms = (*BLOCKS["challengers"].trained, *BLOCKS["all-words"].trained)
    rows, answers, references = made_up(8, arms, first=100)
    for (_, arm, _), row in rows.items():
        row["bleu4"] += 20 * (arm == "word contrast, all words")
    write_rows(tmp_path / "density_effect", rows, answers, references)
    assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "density_effect/README.md").read_text()
    challengers, again = page.split("## The word losses again, with short words")
    assert "all words" not in challengers
    assert again.count("| **supported** |") == 4, "word contrast over none and over SignCL, in both starts"
    beside = next(line for line in again.splitlines() if line.startswith("| signs: word contrast, all words − word"))
    assert beside.split("|")[4].strip() == "–", "secondary: the same loss without short words"
    claims = json.loads((tmp_path / "density_effect/density_effect-all-words.json").read_text())["claims"]
    assert len(claims) == 8


@pytest.mark.parametrize(
    ("gain", "retrieval", "won"),
    [
        ({"random": 9, "signs": 9}, {"random": 3, "signs": 3}, ["both"]),
        ({"random": 9, "signs": 9}, {"random": 3, "signs": -30}, []),
        ({"random": 9, "signs": 0}, {"random": 3, "signs": 3}, []),
        ({"random": -9, "signs": 9}, {"random": 3, "signs": 3}, []),
    ],
)
def test_a_winner_translates_better_and_retrieves_better_in_both_starts(gain, retrieval, won):
    rows, answers, references = made_up(seeds=8)
    for (start, arm, seed), row in rows.items():
        noise = ((seed * 7 + len(arm)) % 5) / 5
        row["bleu4"] = 20 + noise + (gain[start] if arm == "both" else 0)
        row["map"] = 50 + noise + (retrieval[start] if arm == "both" else 0)
    assert winners(analyse(rows, answers, references)) == won


def test_mediation_finds_what_goes_with_translation():
    rows, answers, references = made_up(seeds=8)
    plain = {key: row | {"bleu4": row["bleu4"] - 5 * (key[1] == "both")} for key, row in rows.items()}
    found = analyse(plain, answers, references)["mediation"]
    slopes = {(row["model"], row["slope of"]): row["estimate"] for row in found}
    assert slopes["SDR, points and mAP, points", "mAP, points"] == pytest.approx(0.5, abs=0.1)
    assert slopes["SDR, points and mAP, points", "SDR, points"] == pytest.approx(0, abs=0.05)


@pytest.fixture(scope="module")
def runs_by_push(tmp_path_factory):
    """(frame_margin_floor, part) -> a real run of two steps, and its row."""
    folder = tmp_path_factory.mktemp("push")
    made = {}
    for floor, part in ((2, "both"), (1000, "both"), (2, "pull")):
        loss = {"weights": {"translation": 1.0, "signcl": 0.03}}
        loss["signcl"] = {"frame_margin_floor": floor, "words_per_gloss": 0.1, "part": part}
        recipe = tiny_recipe(system_class("slt"), folder, {"loss": loss})
        train = replace(recipe.train, max_steps=2, batch_size=4)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            run = fit(replace(recipe, out=str(folder / f"{floor}-{part}"), train=train), progress=False)
        scores = evaluate(run, "test", device="cpu", bootstrap=0, progress=False)
        result = Result(run, scores, None, run_folder.read_card(run))
        row = rows_of(result, Place(folder, folder, ""), {"start": "random", "arm": part, "seed": 0})[0]
        made[floor, part] = row | {"said": said.getvalue(), "folder": str(run)}
    return made


def test_a_run_counts_its_legal_negatives(runs_by_push):
    assert runs_by_push[2, "both"]["with_negative"] > 50
    assert runs_by_push[1000, "both"]["with_negative"] == 0
    assert runs_by_push[2, "pull"]["with_negative"] is None, "an arm without a push asks for none"
    assert "frames had a negative" not in runs_by_push[2, "both"]["said"] + runs_by_push[2, "pull"]["said"]
    assert "loss.weights.signcl: 0 of " in runs_by_push[1000, "both"]["said"]
    assert "frames had a negative, so the loss pushed nothing apart" in runs_by_push[1000, "both"]["said"]


def test_an_arm_without_a_legal_negative_is_named_and_in_no_average(tmp_path, runs_by_push):
    rows, answers, references = made_up(seeds=2)
    for (start, arm, _), row in rows.items():
        row["with_negative"] = {"none": None, "pull": None, "slow + SIGReg": None}.get(arm, 95.0)
        if (start, arm) == ("random", "push"):
            row["with_negative"] = runs_by_push[1000, "both"]["with_negative"]
    write_rows(tmp_path / "density_effect", rows, answers, references)
    kept = read_rows(tmp_path / "density_effect")
    assert kept[0]["random", "push", 0]["with_negative"] == 0
    assert kept[0]["random", "pull", 0]["with_negative"] is None
    assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "density_effect/README.md").read_text()
    assert "Left out of every average: random, push. In 2 of its runs no frame of any batch had" in page
    assert "| random | push |" not in page
    assert "random: push −" not in page
    assert "| signs | push |" in page
    assert "\n24 of 96 runs" in page, "they count as made"
    without = {key: row for key, row in rows.items() if key[:2] != ("random", "push")}
    ours, theirs = (analyse(r, {}, references) for r in (rows, without))
    assert [str(c) for c in ours["bleu4"]] == [str(c) for c in theirs["bleu4"]]
    assert ours["mediation"] == theirs["mediation"]
    with pytest.raises(ValueError, match="none of the 2 runs had a legal negative"):
        analyse({k: r for k, r in rows.items() if k[:2] == ("random", "push")}, {}, references)


# -- which corpus is accepted -----------------------------------------------------------------------------------------


def stats_of(**changes):
    values = {"frames_mean": 118.0, "frames_without_negative": 0.09, "signs_with_sign_negative": 0.89}
    values |= {"transition_negatives": 0.3, "rest_negatives": 0.08}
    return argparse.Namespace(**(values | changes))


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"frames_mean": 100.0, "frames_without_negative": 0.10, "signs_with_sign_negative": 0.85}, []),
        ({"rest_negatives": 0.15, "frames_mean": 130.0, "transition_negatives": 0.9}, []),
        ({"frames_mean": 99.9}, ["frames a clip"]),
        ({"frames_mean": 130.1}, ["frames a clip"]),
        ({"frames_mean": None}, ["frames a clip"]),
        ({"frames_without_negative": 0.101}, ["frames without any negative"]),
        ({"signs_with_sign_negative": 0.849}, ["sign frames with a sign among their negatives"]),
        ({"rest_negatives": 0.151}, ["negative pairs with a rest frame, transitions shared"]),
        (
            {"frames_without_negative": 0.28, "signs_with_sign_negative": 0.49},
            ["frames without any negative", "sign frames with a sign among their negatives"],
        ),
    ],
)
def test_a_corpus_is_accepted_by_its_label_statistics(monkeypatch, change, broken):
    monkeypatch.setattr(density_effect, "load_samples", lambda *_: [])
    monkeypatch.setattr(density_effect, "split_stats", lambda *_: stats_of(**change))
    assert [name for name, (_, _, holds) in density_effect.accepted(Path()).items() if not holds] == broken


def test_a_corpus_that_is_not_accepted_is_not_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(density_effect, "make_synthetic", lambda *_, **__: None)
    monkeypatch.setattr(density_effect, "load_samples", lambda *_: [])
    monkeypatch.setattr(density_effect, "run_all", lambda *_, **__: pytest.fail("it trains"))
    out = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), "--jobs", "1"]
    for change, said in (
        (
            {"rest_negatives": 0.74},
            "does not meet the design's criteria: negative pairs with a rest frame, transitions shared",
        ),
        ({"signs_with_sign_negative": None}, "has no spans, so its pairs cannot be judged"),
    ):
        monkeypatch.setattr(density_effect, "split_stats", lambda *_, change=change: stats_of(**change))
        assert density_effect.main(out) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_finished_runs_of_another_machine_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(density_effect, "make_synthetic", lambda *_, **__: None)
    monkeypatch.setattr(density_effect, "accepted", lambda _: {})
    monkeypatch.setattr(density_effect, "write_effect_pages", lambda *_: None)
    made: list[str] = []
    monkeypatch.setattr(density_effect, "run_all", lambda jobs, where, **_: made.extend(map(str, jobs)) or {})
    words = ["--challengers", "--seeds", "1", "--out", str(tmp_path), "--results", str(tmp_path / "results")]
    density_effect.main([*words, "--jobs", "1", "--minutes", "0"])
    encoder, *wanted = made
    assert len(wanted) == 2 * 6
    options = argparse.Namespace(preset="cpu", jobs=1, device=None, out=tmp_path, block="challengers")
    place, _, _ = density_effect.places(options)
    jobs = {key: job.seeded(100) for key, job in density_effect.planned(options).items()}
    rows = {
        (start, arm, 100): {"start": start, "arm": arm, "seed": 100, "run": density_effect.folder_of(job, place).name}
        for (start, arm), job in jobs.items()
    }
    rows["signs", "none", 100]["run"] = "of another code"
    density_effect.write_rows(tmp_path / "results" / "density_effect", rows, {}, {})
    made.clear()
    density_effect.main([*words, "--jobs", "1", "--minutes", "0", "--only-missing"])
    assert made == [encoder, str(jobs["signs", "none"])]
    made.clear()
    rows["signs", "none", 100]["run"] = density_effect.folder_of(jobs["signs", "none"], place).name
    density_effect.write_rows(tmp_path / "results" / "density_effect", rows, {}, {})
    density_effect.main([*words, "--jobs", "1", "--only-missing"])
    assert made == []


def test_without_runs_it_says_what_to_do(tmp_path, capsys):
    assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 2
    assert "run `python -m paper.density_effect --minutes 60` first" in capsys.readouterr().err


def test_arms_are_recipes(tmp_path):
    options = argparse.Namespace(preset="cpu", jobs=1, device=None, out=tmp_path, block="core")
    where = Place(tmp_path, tmp_path, "", "cpu", 1)
    recipes = {key: recipe_of(job, where) for key, job in density_effect.planned(options).items()}
    assert len(recipes) == 2 * 6
    assert recipes["random", "pull"].loss.signcl.part == "pull"
    assert recipes["random", "paper"].loss.weights == {"translation": 1.0, "signcl": 0.01}
    assert recipes["random", "paper"].loss.signcl.distance_margin == 64
    assert recipes["random", "none"].loss.weights == {"translation": 1.0}
    assert "pretrained:" in recipes["signs", "none"].model.visual_weights
    options.block = "challengers"
    recipes = {key: recipe_of(job, where) for key, job in density_effect.planned(options).items()}
    assert len(recipes) == 2 * 6
    weights = {"translation": 1.0, "slow": 0.3, "invariance": 0.3, "sigreg": 3.0}
    assert recipes["signs", "slow + invariance + SIGReg"].loss.weights == weights
    assert recipes["signs", "word-aware SignCL"].loss.weights == {"translation": 1.0, "word_signcl": 0.03}
    assert recipes["signs", "word-aware SignCL"].loss.signcl.distance_margin == 33
    assert recipes["signs", "word contrast"].loss.weights == {"translation": 1.0, "word_contrast": 0.1}
    assert recipes["signs", "word contrast"].loss.sections["word_contrast"].stop_length == 3
    options.block = "all-words"
    recipes = {key: recipe_of(job, where) for key, job in density_effect.planned(options).items()}
    assert len(recipes) == 2 * 2
    for arm, term in (("word-aware SignCL, all words", "word_signcl"), ("word contrast, all words", "word_contrast")):
        assert recipes["signs", arm].loss.sections[term].stop_length == 0
    assert recipes["random", "word-aware SignCL, all words"].loss.signcl.distance_margin == 10


@pytest.fixture
def made_on_a_gpu(tmp_path, monkeypatch, runs_by_push):
    """Calls the GPU preset with runs that are made up but for their answers; returns the jobs that it asks for."""
    monkeypatch.setattr(density_effect, "make_synthetic", lambda *_, **__: None)
    monkeypatch.setattr(density_effect, "accepted", lambda _: {})
    run = next(iter(runs_by_push.values()))
    scores = json.loads((Path(run["folder"]) / "scores.json").read_text())["test"]
    card, asked = run_folder.read_card(Path(run["folder"])), []

    def run_all(jobs, place, until=None):
        made = {}
        for number, job in enumerate(jobs):
            recipe = recipe_of(job, place)
            if "isolated" not in job.recipe:
                asked.append(recipe)
            folder = tmp_path / "made" / folder_of(job, place).name
            folder.parent.mkdir(exist_ok=True)
            if not folder.exists():
                folder.symlink_to(run["folder"])
            value = len(asked) * 7 % 11
            start = "signs" if recipe.model.visual_weights else "random"
            dense = {"sdr": 40.0 + value, "inter": {"random": 12.34, "signs": 0.0567}[start]}
            dense |= {"retrieval": {"clips": {"map": 50.0 + number, "one_nn": 60.0}}}
            numbers = dict.fromkeys(("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "chrf"), 20.0 + value)
            made[job] = Result(folder, scores | numbers, dense, card)
        return made

    monkeypatch.setattr(density_effect, "run_all", run_all)

    def call(*words):
        asked.clear()
        shared = ["--preset", "gpu", "--device", "cpu", "--seeds", "2", "--out", str(tmp_path / "runs")]
        assert density_effect.main([*shared, "--results", str(tmp_path / "results"), *words]) == 0
        return list(asked)

    return call


def test_the_gpu_preset_asks_in_four_sizes_with_measured_margins(tmp_path, made_on_a_gpu):
    asked = made_on_a_gpu()
    pilots = [recipe for recipe in asked if recipe.train.seed == density_effect.PILOT_SEED]
    assert len(pilots) == 2 * 4
    assert all(recipe.loss.weights == {"translation": 1.0} for recipe in pilots)
    sizes = {}
    for recipe in asked:
        clips = 3000 * recipe.corpus.fraction
        steps = math.ceil(clips / recipe.train.batch_size) * recipe.train.epochs
        assert steps >= recipe.train.max_steps, "the epochs do not end training earlier"
        assert recipe.train.evaluate_every == recipe.train.epochs
        sizes.setdefault((clips, recipe.train.max_steps), []).append(recipe)
    assert {size: len(recipes) for size, recipes in sizes.items()} == {
        (300, 500): 26,
        (300, 2000): 26,
        (3000, 500): 26,
        (3000, 2000): 26,
    }
    margins = {
        bool(recipe.model.visual_weights): recipe.loss.signcl.distance_margin
        for recipe in asked
        if recipe.loss.weights.get("signcl") == 0.03
    }
    assert margins == {False: 12.0, True: 0.057}
    results = tmp_path / "results" / "density_effect-gpu"
    page = (results / "README.md").read_text()
    for name, cell in density_effect.PRESETS["gpu"].cells.items():
        assert f"({name}/README.md)" in page
        own = (results / name / "README.md").read_text()
        assert f"96 px, small CNN, {cell.title}" in own
        assert "24 of 96 runs, so no verdict yet" in own
        assert "`python -m paper.density_effect --preset gpu --from-results` writes this page" in own
    assert page.count("| 24 of 96 runs |") == 4 * 8
    assert "supported" not in page
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    made_on_a_gpu("--from-results")
    assert before == {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}


def test_the_gpu_preset_goes_on_where_it_ended(tmp_path, made_on_a_gpu):
    assert made_on_a_gpu("--minutes", "0")
    assert made_on_a_gpu("--only-missing") == [], "neither runs nor pilots again"
    file = tmp_path / "results" / "density_effect-gpu" / "300-clips-500-steps" / "margins.json"
    file.write_text('{"random": 12.0}')
    with pytest.raises(AssertionError):
        made_on_a_gpu("--only-missing")
    file.unlink()
    assert [recipe.train.seed for recipe in made_on_a_gpu("--only-missing")] == [density_effect.PILOT_SEED] * 2


# -- which code a run is known by -------------------------------------------------------------------------------------


def test_a_run_is_known_by_the_code_that_it_goes_through(tmp_path):
    package = Path(__import__("signcl").__file__).parent
    roots = ["signcl.training.fitting", "signcl.evaluation.scoring", "signcl.systems.slt"]
    files = {path.relative_to(package).as_posix() for path in imported_files(package.parent, roots)}
    assert {"systems/slt.py", "losses/signcl.py", "training/loop.py", "data/loading.py"} <= files
    assert not {"systems/smkd.py", "systems/sign2gpt.py", "systems/gaslt.py", "cli/fit.py"} & files
    assert not [name for name in files if name.startswith("pages/")]
    assert code_version("signcl.systems.slt") != code_version("signcl.systems.smkd")
    assert code_version("signcl.systems.slt") == code_version("signcl.systems.slt", None)


def test_a_run_keeps_its_number_where_code_changes_that_it_does_not_use(tmp_path):
    package = tmp_path / "signcl"
    own = Path(__import__("signcl").__file__).parent
    shutil.copytree(own, package, ignore=shutil.ignore_patterns("*.pyc", "recipes"))

    def number(system="signcl.systems.slt", corpus="signcl.data.corpora.phoenix14t"):
        return code_version(system, corpus, package)

    def changed(file, line):
        """The numbers after one more line in a file, which is then as it was."""
        path = package / file
        before = path.read_text(encoding="utf-8")
        path.write_text(before + line, encoding="utf-8")
        found = number()
        path.write_text(before, encoding="utf-8")
        return found

    first = number()
    assert first == code_version("signcl.systems.slt", "signcl.data.corpora.phoenix14t"), "the copy is the package"
    for file in ("pages/report.py", "cli/fit.py", "systems/smkd.py", "systems/gfslt.py", "data/corpora/csl_daily.py"):
        assert changed(file, "\nCHANGED = 1\n") == first, file
    for file in ("systems/slt.py", "systems/recogniser.py", "data/corpora/phoenix14t.py", "losses/signcl.py",
                 "training/loop.py", "data/loading.py", "density/ratio.py"):  # fmt: skip
        assert changed(file, "\nCHANGED = 1\n") != first, file
        assert changed(file, '\n"""Words."""  # of nobody\n') == first, file
    assert number("signcl.systems.smkd") != first
    assert number(corpus="signcl.data.corpora.csl_daily") != first


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The package, to be changed."""
    own = Path(__import__("signcl").__file__).parent
    return shutil.copytree(
        own, tmp_path_factory.mktemp("code") / "signcl", ignore=shutil.ignore_patterns("*.pyc", "recipes")
    )


def test_a_run_keeps_its_number_where_a_loss_changes_that_it_does_not_weigh(copied):
    from paper.jobs import code_of
    from signcl.training.recipe import load_recipe, recipe_path

    shared, frames = "signcl.systems.terms.shared:", "signcl.systems.terms.frame_terms:"
    translation, signcl, slow = f"{shared}translation", f"{shared}frame_contrast", f"{frames}slow"
    words = "signcl.systems.terms.word_terms:word_contrast"

    def number(*terms):
        return code_version("signcl.systems.slt", None, copied, terms)

    first = functools.cache(number)

    def changed(file, what, *terms):
        """Whether a change of a function or class makes another run of one that weighs these terms."""
        path, before = copied / file, first(*terms)
        text = path.read_text(encoding="utf-8")
        assert f"\n{what}" in text
        path.write_text(text.replace(f"\n{what}", f"\n@changed\n{what}", 1), encoding="utf-8")
        found = number(*terms)
        path.write_text(text, encoding="utf-8")
        return found != before

    assert changed("losses/regularisers.py", "def slow_loss", translation, slow)
    assert not changed("losses/regularisers.py", "def slow_loss", translation, signcl)
    for file, what in (
        ("losses/signcl.py", "def signcl_loss"),
        ("systems/terms/shared.py", "def signcl_of"),
        ("losses/lengths.py", "def one_per_clip"),  # two steps away
    ):
        assert changed(file, what, translation, signcl), file
        assert not changed(file, what, translation), file
    assert changed("losses/sentence.py", "def label_smoothed_cross_entropy", translation, slow)
    assert changed("systems/parts/word_memory.py", "class WordMemory", translation, words), "only this term imports it"
    assert not changed("systems/parts/word_memory.py", "class WordMemory", translation, signcl)
    assert changed("training/loop.py", "class ", translation), "a whole module of every run"
    plain, with_signcl = (load_recipe(recipe_path(f"synthetic/finetune{part}.yaml")) for part in ("", "-signcl"))
    assert code_of(plain) != code_of(with_signcl)
    assert code_of(plain) == code_of(load_recipe(recipe_path("synthetic/finetune.yaml"), ["loss.label_smoothing=0.1"]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_preset_for_a_gpu_draws_no_clip_without_one(tmp_path, capsys):
    assert density_effect.main(["--preset", "gpu", "--minutes", "8", "--out", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "python -m paper.density_effect: --preset gpu needs --device=cuda: device=cuda: cannot be used"
    )
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_committed_page_is_what_the_command_writes(tmp_path):
    committed = ROOT / "paper/results/density_effect"
    (tmp_path / "density_effect").mkdir()
    for name in ("runs.csv", "predictions.tsv.gz"):
        shutil.copy(committed / name, tmp_path / "density_effect" / name)
    assert density_effect.main(["--from-results", "--results", str(tmp_path)]) == 0
    for path in sorted(committed.iterdir()):
        if path.suffix != ".png":  # its bytes depend on the version of the drawing library
            assert (tmp_path / "density_effect" / path.name).read_bytes() == path.read_bytes(), path.name
    page = (tmp_path / "density_effect/README.md").read_text()
    wanted = (ROOT / "paper/density_effect.md").read_text()
    assert page.replace("(./gains-core.png)", "(results/density_effect/gains-core.png)") == wanted
