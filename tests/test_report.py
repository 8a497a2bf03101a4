"""The report page: whole, self-contained, escaped; with one run, two runs, a pretraining run, and pieces missing."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signcl.pages.report import report
from signcl.training.recipe import Recipe, recipe_from_dict, save_recipe

NASTY = 'a <script>alert("1")</script> & <b>bold</b>'
GLOSSES = ["HAUS", "REGEN", "SONNE", "WIND", "MORGEN", "NORD", "SUED", "KOMMEN", "<i>GEHEN</i>", "STURM"]


def make_corpus(root: Path, *, clips: int = 12, size: int = 32, features: bool = False) -> None:
    """A folder corpus of moving gradients (or features) whose third sentence is hostile."""
    from signcl.data.video import write_video

    random = np.random.default_rng(0)
    root.mkdir(parents=True)
    rows = []
    for number in range(clips):
        name, frames = f"clip{number:03d}", int(random.integers(20, 40))
        if features:
            np.save(root / f"{name}.npy", random.normal(size=(frames, 100)).cumsum(axis=0).astype(np.float32))
        else:
            ramp = np.arange(size)[None, :, None] + np.arange(size)[None, None, :]
            grey = (4 * ramp + 6 * np.arange(frames)[:, None, None]) % 256
            write_video(root / f"{name}.mp4", np.repeat(grey[..., None], 3, axis=3).astype(np.uint8))
        glosses = [GLOSSES[(number + i) % len(GLOSSES)] for i in range(3)]
        spans = " ".join(f"{g}:{2 + 6 * i}-{7 + 6 * i}" for i, g in enumerate(glosses))
        words = NASTY if number == 2 else " ".join(g.strip("<i>/").lower() for g in glosses) + f" tag {number}"
        rows.append([name, f"{name}.{'npy' if features else 'mp4'}", words, "anna", " ".join(glosses), frames, spans])
    header = ["name", "path", "text", "signer", "gloss", "num_frames", "spans"]
    lines = ["\t".join(map(str, row)) for row in [header, *rows]]
    (root / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_run(
    folder: Path, corpus: Path, *, stage: str = "finetune", signcl: bool = False, measured: bool = True, best: int = 5
) -> Path:
    """A run folder in the formats that fit, evaluate and density write; made-up numbers."""
    random = np.random.default_rng(int(signcl))
    folder.mkdir(parents=True)
    terms = {"finetune": ["translation"], "pretrain": ["clip", "masked_text"]}[stage] + ["signcl"] * signcl
    recipe = recipe_from_dict(
        {
            "stage": stage,
            "out": str(folder),
            "corpus": {"name": "folder", "root": str(corpus)},
            "model": {"name": {"finetune": "gfslt", "pretrain": "vlp"}[stage]},
            "loss": {"weights": {term: 0.03 if term == "signcl" else 1.0 for term in terms}},
        }
    )
    save_recipe(recipe, folder / "recipe.yaml")
    write(folder / "card.json", card(recipe, signcl))
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 361):
            down = 3 * np.exp(-step / 90) + 1 + random.normal() * 0.1
            values = {term: (8 if term == "signcl" else 1) * down for term in terms}
            if step == 1 or step % 10 == 0:
                line = {
                    "kind": "train",
                    "step": step,
                    "epoch": step // 30,
                    **values,
                    "loss": 1.2 * down,
                    "lr": 1e-3 / step,
                }
                file.write(json.dumps(line | {"gradient_norm": down}) + "\n")
            if step % 60 == 0:
                dev = {"kind": "dev", "step": step, "epoch": step // 30, **values, "loss": 1.3 * down}
                scores = {f"bleu{n}": step / 10 / n for n in (1, 2, 3, 4)} | {"rouge_l": step / 9, "exact_match": 1.0}
                file.write(json.dumps(dev | (scores if stage == "finetune" else {"retrieval": step / 5})) + "\n")
        file.write('{"kind": "train", "st')  # a kill cut the last line
    if measured:
        write_scores(folder, corpus, stage, best)
        write_density(folder, random, 0.45 if signcl else 0.65)
    return folder


def write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def card(recipe: Recipe, signcl: bool) -> dict[str, Any]:
    return {
        "stage": recipe.stage,
        "command": "/opt/venv/bin/signcl fit recipes/synthetic/finetune.yaml",
        "seed": 0,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": {"python": "3.12.1", "torch": "2.13.0", "machine": "x86_64, 2 cores"},
        "parameters": 3_456_789,
        "feature_dim": None,
        "clips": {"train": 480, "dev": 60},
        "frames": {"train": 26_000, "dev": 3_300},
        "initialised": ["frame encoder: 12 tensors from pretrain"],
        "steps": 360,
        "epochs": 12,
        "seconds": 131.5 if signcl else 123.4,
        "select": "",
        "best": 9.0,
        "device": "cpu",
        "ranks": 1,
        "broken": {"clip<9>": "truncated"},
        "cut_sentences": 0,
    }


def write_scores(folder: Path, corpus: Path, stage: str, best: int) -> None:
    made = {
        "split": "test", "clips": 12, "skipped": {}, "seconds": 3.2, "beams": 4, "length_penalty": 1.0, "seed": 0,
        "trained_with_commit": "0123456789abcdef", "scored_with_commit": "0123456789abcdef+changes", "device": "cpu",
    }  # fmt: skip
    if stage == "pretrain":
        write(folder / "scores.json", {"test": {"loss": 1.2345, "clip": 0.5, "retrieval": 61.25, "made": made}})
        return
    scores = {"bleu1": 52.31, "bleu2": 41.07, "bleu3": 33.33, "bleu4": 27.18 + best, "rouge_l": 50.5, "chrf": 48.25}
    signatures = {"bleu": "nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:2.5", "chrf": "nc:6|nw:0"}
    entry = {
        **scores,
        "exact_match": 8.33,
        "signatures": signatures,
        "wer": 61.7,
        "wer_split": {"substitutions": 30.0, "deletions": 20.5, "insertions": 11.2},
        "intervals": {"level": 0.95, "samples": 1000, "seed": 0, "bleu4": [20.11, 34.22], "chrf": [44.0, 51.5]},
        "counts": {"sentences": 12, "reference_tokens": 60, "distinct_hypotheses": 11},
        "final_dot": {"hypotheses": 0.0, "references": 0.0, "agree": True},
        "seen_in_training": {"sentences": 2, "percent": 16.7},
        "unseen": {**{k: v - 1 for k, v in scores.items()}, "exact_match": 7.0},
        "vocabulary_round_trip": {"changed_references": 1, "note": ""},
        "made": made,
    }
    write(folder / "scores.json", {"test": entry})
    with (corpus / "test.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = ["name\treference\thypothesis"]
    for number, row in enumerate(rows):
        words = row["text"].split()
        said = [*words[: max(1, number % 5)], "<u>falsch</u>", *words[3:]] if number % 5 < best else words
        lines.append(f"{row['name']}\t{row['text']}\t{' '.join(said)}")
    (folder / "predictions.test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_density(folder: Path, random: np.random.Generator, level: float, glosses: list[str] = GLOSSES) -> None:
    ratios = np.sort(level + 0.1 * random.normal(size=len(glosses)))[::-1]
    lines = ["gloss,count,intra,inter,sdr"] + [
        f"{g},{9 - i % 7},{r * 4:.6g},4.0,{r:.6g}" for i, (g, r) in enumerate(zip(glosses, ratios))
    ]
    (folder / "density.test.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    mean = 100 * float(ratios.mean())
    summary = {
        "split": "test", "sdr": mean, "interval": [mean - 4, mean + 5], "shuffled": 99.8, "intra": 2.1, "inter": 4.0,
        "feature_norm": 11.2, "glosses": len(glosses), "glosses_left_out": 1, "instances": 60,
        "densest": [], "sparsest": [],
        "made": {"frame": "centre", "tap": "features", "distance": "euclidean", "inter": "gloss", "min_count": 2},
        "tsne": {"perplexity": 19.0, "seed": 0},
    }  # fmt: skip
    write(folder / "density.test.json", summary)
    points = []
    for i, gloss in enumerate(glosses):
        centre = 20 * random.normal(size=2)
        for k in range(9 - i % 7):
            x, y = centre + 8 * level * random.normal(size=2)
            points.append({"x": x, "y": y, "gloss": gloss, "clip": f"clip{k:03d}", "start": 3, "stop": 9})
    write(folder / "density.test.points.json", points)


class Reader(HTMLParser):
    """Collects what a browser would fetch, the ids, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.without_alt = 0
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "link", "img", "br", "input", "path", "circle", "line"):
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [found["id"] or ""] if "id" in found else []
        self.without_alt += tag == "img" and not found.get("alt")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def look(page: Path) -> Reader:
    """Parse a page and hold it to what every page must be: well formed, self-contained, small."""
    reader = Reader()
    content = page.read_text(encoding="utf-8")
    reader.feed(content)
    assert not reader.open, f"never closed: {reader.open}"
    assert all(value.startswith(("data:", "#")) for value in reader.fetched)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", content)
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.without_alt == 0
    assert page.stat().st_size < 3_000_000
    return reader


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus of clips and two runs on it, one without and one with SignCL."""
    place = tmp_path_factory.mktemp("report")
    make_corpus(place / "corpus")
    make_run(place / "finetune", place / "corpus")
    make_run(place / "finetune-signcl", place / "corpus", signcl=True, best=3)
    return place


def test_two_runs_side_by_side_with_their_numbers(place):
    page = report([place / "finetune", place / "finetune-signcl"], out=place / "two.html")
    assert page == place / "two.html"
    seen = look(page)
    for number in ("32.18", "30.18", "52.31", "8.33", "20.11–34.22", "2 min 03 s", "2 min 12 s", "3 456 789"):
        assert number in seen.text
    assert seen.text.count("finetune-signcl") > 10
    assert "31.18" in seen.text  # the unseen part
    assert "tok:none|smooth:exp|version:2.5" in seen.text
    assert "loss.weights.signcl" in seen.text  # where the recipes differ
    assert seen.tags.count("img") == 10  # ten filmstrips
    assert seen.tags.count("article") == 10
    assert "python 3.12.1" in seen.text
    assert "clip<9>: truncated" in seen.text


def test_a_german_page_has_no_english_sentence(place):
    from signcl.pages.page_words import words

    page = report([place / "finetune", place / "finetune-signcl"], out=place / "zwei.html", language="de")
    assert '<html lang="de"' in page.read_text(encoding="utf-8")
    seen = look(page)
    for piece in ("32,18", "20,11–34,22", "3 456 789", "Übersetzungsverlust", "Glossen", "95-%-Intervall",
                  "gebärdet von", "BLEU-4", "tok:none|smooth:exp|version:2.5", "--language de"):  # fmt: skip
        assert piece in seen.text, piece
    own = words("de")
    for key, text in words("en").items():
        for part in re.split(r"\{[^}]*\}", text):
            if len(part) > 12 and " " in part.strip() and part not in own[key]:
                assert part not in seen.text, key
    with pytest.raises(ValueError, match="language: needs one of en, de"):
        report([place / "finetune"], out=place / "fr.html", language="fr")


def test_differences_are_the_second_run_less_the_first(place):
    # the second run has more sentences right and a lower density
    from signcl.pages.report_runs import read_run
    from signcl.pages.score_tables import differences

    runs = [read_run(place / name, "test", name) for name in ("finetune", "finetune-signcl")]
    found = {d.metric: d for d in differences(runs)}
    for d in found.values():
        assert d.low <= d.b - d.a <= d.high
    assert found["sdr"].b < found["sdr"].a
    assert found["sdr"].high < 0
    assert found["sdr"].seen
    assert found["bleu4"].b > found["bleu4"].a
    assert found["bleu4"].high > 0


def test_text_of_a_corpus_is_escaped_wherever_it_stands(place):
    content = report([place / "finetune"], out=place / "one.html").read_text(encoding="utf-8")
    for hostile in ("<script>alert", "<u>falsch", "<i>GEHEN", "clip<9>"):
        assert hostile not in content
    assert "&lt;u&gt;falsch&lt;/u&gt;" in content
    assert "&lt;i&gt;GEHEN" in content
    assert "\\u003ci>GEHEN" in content  # in the data of the script
    look(place / "one.html")


def test_one_run_is_written_into_its_folder_by_default(place):
    page = report([place / "finetune"])
    assert page == place / "finetune" / "report.html"
    seen = look(page)
    assert "Differences" not in seen.text
    assert [p for p in page.parent.iterdir() if p.name.startswith(".report")] == []


def test_a_pretraining_run_has_losses_and_no_translations(place):
    run = make_run(place / "pretrain", place / "corpus", stage="pretrain", signcl=True)
    seen = look(report([run]))
    assert "61.25" in seen.text
    assert "1.234" in seen.text
    assert "pretraining run does not translate" in seen.text
    assert "Masked-text loss" in seen.text


def test_missing_pieces_name_the_command_that_makes_them(place):
    run = make_run(place / "new run", place / "corpus", measured=False)
    seen = look(report([run], split="dev"))
    assert f"signcl evaluate '{run}' --split dev" in seen.text
    assert f"signcl density '{run}' --split dev" in seen.text
    look(report([run, place / "finetune"], out=place / "half.html"))  # beside a run that has them


def test_a_run_that_has_not_logged_yet_has_a_page(place):
    run = make_run(place / "fresh", place / "corpus", measured=False)
    (run / "metrics.jsonl").unlink()
    assert "metrics.jsonl holds no values yet" in look(report([run])).text


def test_a_corpus_of_features_is_drawn_as_heat_strips(tmp_path):
    make_corpus(tmp_path / "corpus", features=True)
    seen = look(report([make_run(tmp_path / "run", tmp_path / "corpus")]))
    assert "64 of 100 feature dimensions" in seen.text
    assert seen.tags.count("img") == 10


def test_the_page_is_made_without_its_corpus_and_with_a_broken_clip(tmp_path):
    make_corpus(tmp_path / "corpus")
    run = make_run(tmp_path / "run", tmp_path / "corpus")
    for clip in (tmp_path / "corpus").glob("*.mp4"):
        clip.write_bytes(b"not a video")
    seen = look(report([run]))
    assert seen.tags.count("img") == 0
    assert seen.text.count("No picture:") == 10
    (tmp_path / "corpus").rename(tmp_path / "moved")
    seen = look(report([run]))
    assert "No pictures:" in seen.text
    assert seen.tags.count("article") == 10


def test_large_runs_stay_small_pages(place):
    run = make_run(place / "large", place / "corpus")
    glosses = [f"GLOSS{i}" for i in range(1100)]
    write_density(run, np.random.default_rng(0), 0.6, glosses)
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n")  # the cut line stays: what follows it is not read
    lines = [{"kind": "train", "step": 10 * i, "epoch": i // 50, "loss": 2 + i % 3} for i in range(1, 20_000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = report([run])
    seen = look(page)
    assert "All 1100 glosses" in seen.text
    assert "The 30 most crowded" in seen.text
    assert "means of equal parts" in seen.text
    assert page.stat().st_size < 1_000_000


def test_runs_of_one_name_are_told_apart(place, tmp_path):
    from signcl.pages.report_runs import labels

    assert labels([Path("/a/x/run"), Path("/b/y/run")]) == ["x/run", "y/run"]
    assert labels([Path("/a/run"), Path("/b/other")]) == ["run", "other"]
    with pytest.raises(ValueError, match="different runs"):
        report([place / "finetune", place / "finetune"])


def test_a_folder_that_is_no_run_is_refused(place, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder at"):
        report([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        report([place / "corpus"])
    with pytest.raises(ValueError, match="1 to 6 run folders, got 0"):
        report([])
    with pytest.raises(ValueError, match="needs a file name"):
        report([place / "finetune"], out=tmp_path)
    run = make_run(tmp_path / "damaged", place / "corpus")
    (run / "scores.json").write_text('{"test": {')
    with pytest.raises(ValueError, match=r"scores.json is damaged.*signcl evaluate"):
        report([run])
    for confidence, why in (
        ({"quality": "chrF", "mean_quality": 0.5}, "confidence has no 'risk_coverage'"),
        (
            {"quality": "chrF", "mean_quality": 0.5, "risk_coverage": {"area": 0.5, "by_chance": 0.5, "best": 0.2}},
            "bins",
        ),
    ):
        (run / "scores.json").write_text(json.dumps({"test": {"confidence": confidence}}))
        with pytest.raises(ValueError, match=rf"scores.json is damaged.*{why}"):
            report([run])
    (run / "scores.json").unlink()
    (run / "density.test.csv").write_text("gloss,other\nA,1\n")
    with pytest.raises(ValueError, match=r"density.test.csv needs the columns.*signcl density"):
        report([run])
    assert not (run / "report.html").exists()


def test_samples_lie_evenly_between_the_worst_and_the_best():
    from signcl.pages.translations import choose

    # Sentence i has i of 19 words right, so the order by chrF is 0, 1, ... 19.
    words = [f"wort{i:02d}" for i in range(19)]
    predictions = {
        f"s{i}": (" ".join(words), " ".join(words[:i] + ["xyz"] * (19 - i)))
        for i in np.random.default_rng(0).permutation(20)
    }
    names, quality, ranks = choose(predictions)
    assert names == ["s0", "s2", "s4", "s6", "s8", "s11", "s13", "s15", "s17", "s19"]
    assert ranks == [int(name[1:]) + 1 for name in names]
    assert quality == sorted(quality)
    assert len(choose(dict(list(predictions.items())[:4]))[0]) == 4


def test_differences_between_words_are_marked():
    from signcl.pages.translations import marked

    assert marked("a b c", "a b c").startswith("a b c <span")
    assert marked("a b c", "a x c") == 'a <mark title="instead of: b">x</mark> c'
    assert marked("a b c", "a c") == 'a <del title="missing">b</del> c'
    assert marked("a c", "a b c") == 'a <mark title="not in the reference">b</mark> c'
    assert marked("a b", "a x y") == 'a <mark title="instead of: b">x y</mark>'
    assert marked("你 好", "你 们", by_character=True) == '你<mark title="instead of: 好">们</mark>'
    assert marked("a", "") == '<del title="missing">a</del>'


def test_axes_end_at_round_numbers():
    from signcl.pages.curves import nice_axis, thinned

    axis = nice_axis(0.13, 4.7)
    assert (axis.low, axis.high) == (0, 6)
    assert axis.ticks == [0, 2, 4, 6]
    assert nice_axis(3.0, 3.0).high > 3.0
    assert nice_axis(0.0, 0.0).ticks
    log = nice_axis(0.02, 300, log=True)
    assert (log.low, log.high, log.place(log.low), log.place(log.high)) == (0.01, 1000, 0, 1)
    row = [float(i) for i in range(1000)]
    steps, _, values = thinned(row, row, row)
    assert len(steps) == len(values) == 200
    assert np.mean(values) == pytest.approx(np.mean(row))
