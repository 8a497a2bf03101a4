"""paper/: runs as values are made once, in order, and known by their content; comparisons know seeds and sentences."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as t_distribution
from systems import write_corpus

sys.path.insert(0, str(Path(__file__).parents[1]))

from paper import jobs, output, statistics
from paper.jobs import Extract, Fit, Place, folder_of, run_all
from signcl.data.annotation.span_table import write_spans
from signcl.metrics import bleu, seeded_bootstrap
from signcl.training.recipe import recipe_samples
from signcl.training.runs import load_run

TINY = ("corpus.name=folder", "train.max_steps=2", "train.epochs=1", "model.width=16", "model.heads=2", "model.ffn=16")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    root = tmp_path_factory.mktemp("paper")
    return Place(root / "runs", write_corpus(root / "corpus", pixels=False), "one", jobs=1)


def test_runs_are_made_in_order_once_and_again_only_when_something_changed(place, capsys):
    first = Fit("imu_numbers/finetune.yaml", (*TINY, "model.conv_width=16"))
    second = Fit("imu_numbers/finetune-signcl.yaml", (*TINY, "model.conv_width=16"), start=first)
    probe = Fit("imu_numbers/nslt.yaml", TINY, features=Extract(first, "steps"))
    found = run_all([second, probe], place)
    assert found[second].scores["made"]["split"] == "test"
    assert found[second].density["instances"] > 0
    assert found[probe].card["feature_dim"] == 16  # the encoder's states, not the corpus's 12 numbers
    hypotheses, references = found[probe].answers()
    assert len(hypotheses) == len(references) == 4
    assert "0 of 4 runs are done; 4 to make" in capsys.readouterr().err
    stamps = {p: p.stat().st_mtime_ns for p in place.out.rglob("*") if p.is_file()}
    assert run_all([second, probe], place)[probe].scores == found[probe].scores
    assert {p: p.stat().st_mtime_ns for p in place.out.rglob("*") if p.is_file()} == stamps
    folders = {folder_of(job, place) for job in (first, second, probe, first.seeded(1), second.seeded(1))}
    assert len(folders) == 5
    assert folder_of(second, place) != folder_of(second, replace(place, corpus_id="two"))
    assert folder_of(second, place).name == folder_of(second, replace(place, out=Path("elsewhere"))).name


def test_a_run_that_fails_is_named_and_what_does_not_need_it_is_made(place):
    bad = Fit("imu_numbers/finetune.yaml", (*TINY, "corpus.options={no_such_option: 1}"))
    needs_it = Fit("imu_numbers/finetune.yaml", (*TINY, "model.conv_width=24"), start=bad)
    good = Fit("imu_numbers/finetune.yaml", (*TINY, "model.conv_width=8"))
    with pytest.raises(RuntimeError, match=r"1 runs failed, the first .*no_such_option"):
        run_all([bad, needs_it, good], place)
    assert (folder_of(good, place) / "result.json").is_file()
    assert (folder_of(bad, place) / "error.txt").is_file()
    assert not folder_of(needs_it, place).exists()


def test_spans_by_name_stand_in_for_those_of_the_corpus(place, tmp_path):
    job = Fit("imu_numbers/finetune.yaml", (*TINY, "model.conv_width=16"))
    own = run_all([job], place)[job]
    samples = recipe_samples(load_run(own.folder).recipe, "test")
    write_spans(tmp_path / "mine.test.tsv", {s.name: s.spans[:-1] for s in samples})
    named = run_all([job], replace(place, spans=str(tmp_path / "mine.{split}.tsv")))[job]
    assert named.folder == own.folder
    assert named.density["instances"] == own.density["instances"] - len(samples)


def test_a_run_that_succeeds_after_all_is_no_failure(place):
    job = Fit("imu_numbers/finetune.yaml", (*TINY, "model.conv_width=20"))
    folder = folder_of(job, place)
    folder.mkdir(parents=True)
    (folder / "error.txt").write_text("killed for memory")
    run_all([job], place)
    assert not (folder / "error.txt").exists()


def test_the_code_that_trains_is_part_of_a_run(place, monkeypatch):
    job = Fit("imu_numbers/finetune.yaml", TINY)
    before = folder_of(job, place)
    monkeypatch.setattr(jobs, "code_version", lambda *_, **__: "another")
    assert folder_of(job, place) != before


def test_seeds_and_sentences_are_both_drawn():
    """Against a plain loop: the same draws of sentences and seeds, each resample scored by sacreBLEU anew."""
    random = np.random.default_rng(0)
    words = ["der", "wind", "weht", "heute", "nacht", "aus", "norden", "und", "bringt", "regen"]
    references = [" ".join(random.choice(words, 7)) for _ in range(12)]

    def noisy(share: float) -> list[str]:
        return [" ".join(w if random.random() > share else "x" for w in line.split()) for line in references]

    a, b = [noisy(0.1) for _ in range(3)], [noisy(0.3) for _ in range(3)]
    found = seeded_bootstrap("bleu4", a, b, references, 40, seed=3)

    def score(lines: list[str], draw: np.ndarray) -> float:
        return bleu([lines[i] for i in draw], [references[i] for i in draw]).bleu4

    everything = np.arange(12)
    observed = [score(x, everything) - score(y, everything) for x, y in zip(a, b)]
    steps = np.random.default_rng((3, 1)).permutation(40)
    p = (steps + 0.5) / 40
    others = (2 * p - 1) / np.sqrt(2 * p * (1 - p))  # Student's quantile on two degrees of freedom, in closed form
    sentences = np.random.default_rng(3)
    drawn = []
    for number in range(40):
        draw = sentences.integers(12, size=12)
        each = [score(x, draw) - score(y, draw) for x, y in zip(a, b)]
        drawn.append(sum(each) / 3 + others[number] * np.std(observed, ddof=1) / 3**0.5)
    assert found.low == pytest.approx(np.quantile(drawn, 0.025))
    assert found.high == pytest.approx(np.quantile(drawn, 0.975))
    assert found.difference == pytest.approx(np.mean(observed))
    same = seeded_bootstrap("bleu4", a, a, references, 40)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="same seeds on both sides, got 3 and 2"):
        seeded_bootstrap("bleu4", a, b[:2], references)


def test_where_sentences_do_not_matter_the_interval_is_students():
    """All sentences alike: what is left is t over seeds, whose ends do not hang on the draws."""
    references = ["a"] * 100

    def answers(right: int) -> list[str]:
        return ["a"] * right + ["x"] * (100 - right)

    a, b = [answers(right) for right in (30, 55, 65)], [answers(10)] * 3
    found = seeded_bootstrap("exact_match", a, b, references, 10_000, together=["all"] * 100)
    gains = [20.0, 45.0, 55.0]
    by_hand = statistics.seed_interval(gains)
    assert found.low == pytest.approx(by_hand.low, abs=0.05)  # of a half width of 45
    assert found.high == pytest.approx(by_hand.high, abs=0.05)


def test_few_seeds_do_not_make_an_effect():
    """Where nothing differs but seeds, one interval in twenty may miss zero."""
    random = np.random.default_rng(0)
    references = [f"a{i} b{i}" for i in range(100)]

    def training() -> list[list[str]]:
        """Three seeds, each right in its own share of the sentences."""
        shares = random.uniform(0.3, 0.7, size=3)
        return [[r if random.random() < share else "x" for r in references] for share in shares]

    missed = 0
    for number in range(300):
        found = seeded_bootstrap("exact_match", training(), training(), references, 200, seed=number)
        missed += found.low > 0 or found.high < 0
    assert missed < 0.09 * 300


def test_arms_of_one_seed_count_once():
    references = [f"a{i}" for i in range(50)]
    right = [[r if i % 10 < n else "x" for i, r in enumerate(references)] for n in (3, 5, 8)]
    plain = [["x"] * 50] * 3
    once = seeded_bootstrap("exact_match", right, plain, references, 400)
    thrice = seeded_bootstrap("exact_match", right * 3, plain * 3, references, 400, blocks=[0, 1, 2] * 3)
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    naive = seeded_bootstrap("exact_match", right * 3, plain * 3, references, 400)
    assert naive.high - naive.low < 0.7 * (once.high - once.low)
    with pytest.raises(ValueError, match="a block for each of 3 pairs, got 2"):
        seeded_bootstrap("exact_match", right, plain, references, blocks=[0, 1])


def test_takes_of_one_text_are_drawn_together():
    references = [f"t{i // 4}" for i in range(40)]  # ten texts, four takes of each, all right or all wrong
    right = [r if int(r[1:]) % 2 else "x" for r in references]
    wrong = ["x"] * 40
    alone = seeded_bootstrap("exact_match", [right], [wrong], references, 500)
    by_text = seeded_bootstrap("exact_match", [right], [wrong], references, 500, together=references)
    assert by_text.difference == alone.difference == 50
    # By hand: the standard error of 10 coin throws is 15.8, of 40 it is 7.9.
    assert by_text.high - by_text.low == pytest.approx(4 * 15.8, rel=0.15)
    assert alone.high - alone.low == pytest.approx(4 * 7.9, rel=0.15)
    with pytest.raises(ValueError, match="a name for each of 40 sentences, got 3"):
        seeded_bootstrap("exact_match", [right], [wrong], references, together=["a", "b", "c"])


def test_intervals_over_seeds_are_students():
    # By hand: mean 2, sd 1, half width 4.303 / sqrt(3)
    found = statistics.seed_interval([1.0, 2.0, 3.0])
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5)
    assert statistics.verdict(found) == "not seen"
    assert statistics.verdict(statistics.seed_interval([2.0, 2.1, 2.2])) == "supported"
    assert statistics.verdict(statistics.seed_interval([2.0, 2.1, 2.2]), -1) == "contradicted"
    assert statistics.verdict(statistics.seed_interval([5.0])) == "not seen"  # one seed says nothing of seeds
    assert (statistics.mean_and_spread([1.0, 3.0]), statistics.mean_and_spread([5.0])) == ("2.00 ± 1.41", "5.00")


def test_independent_numbers_are_compared_by_welch():
    # By hand: means 2 and 7, variances 1 and 4, n 3 and 3; se = sqrt(5/3), df = (5/3)^2 / ((1/9 + 16/9) / 2) = 2.941
    found = statistics.unpaired([5.0, 7.0, 9.0], [1.0, 2.0, 3.0], 3, "glosses")
    assert (found.difference, found.seeds) == (5, 3)
    half = t_distribution.ppf(0.975, (5 / 3) ** 2 / ((1 / 9 + 16 / 9) / 2)) * (5 / 3) ** 0.5
    assert (found.low, found.high) == (pytest.approx(5 - half), pytest.approx(5 + half))
    assert statistics.unpaired([1.0], [2.0, 3.0], 3, "glosses").high == np.inf
    same = statistics.unpaired([1.0, 1.0], [0.0, 0.0], 3, "glosses")
    assert (same.low, same.high) == (1, 1)


def test_a_table_is_written_in_every_form(tmp_path):
    table = output.Table(
        "table0", "A_table", "python -m paper.table0", ["arm", "BLEU-4"], [["λ = 1 & 2", "3 ± 1"]],
        claims=[output.Claim("it rises", "+1.00", "+0.10 (-1.00 to +1.20)", "not seen")],
    )  # fmt: skip
    table.write(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".md", ".tex", ".csv", ".json"}
    assert "| it rises | +1.00 | +0.10 (-1.00 to +1.20) | **not seen** |" in (tmp_path / "table0.md").read_text()
    assert r"$\lambda$ = 1 \& 2 & 3 $\pm$ 1 \\" in (tmp_path / "table0.tex").read_text()
    assert (tmp_path / "table0.csv").read_text() == "arm,BLEU-4\nλ = 1 & 2,3 ± 1\n"
