"""Corpora of glosses without sentences, and of several languages."""

import json
from pathlib import Path

import numpy as np
import pytest

from signcl import evaluate, fit
from signcl.cli import main
from signcl.data.corpora import load_samples
from signcl.data.corpus_check import check_corpus, corpus_stats
from signcl.data.loading import collate
from signcl.training.recipe import recipe_from_dict

SIGNS = ["HAUS", "REGEN", "SONNE", "WIND"]


def corpus_of(root: Path, *, text: bool = False) -> Path:
    """Three signs a clip, each held for six frames in a direction of its own."""
    random = np.random.default_rng(0)
    root.mkdir(parents=True)
    for split, count in (("train", 12), ("dev", 3), ("test", 3)):
        lines = ["name\tpath\tgloss" + ("\ttext" if text else "")]
        for i in range(count):
            chosen = random.permutation(len(SIGNS))[:3]
            rows = np.repeat(np.eye(len(SIGNS))[chosen] * 3, 6, axis=0) + random.normal(size=(18, len(SIGNS))) * 0.1
            np.save(root / f"{split}{i}.npy", rows.astype(np.float32))
            gloss = " ".join(SIGNS[c] for c in chosen)
            lines.append(f"{split}{i}\t{split}{i}.npy\t{gloss}" + (f"\t{gloss.lower()}" if text else ""))
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


def recipe(corpus: Path, out: Path, model: dict, weights: dict, stage: str):
    return recipe_from_dict({
        "stage": stage,
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus)},
        "text": {"tokenizer": "word"},
        "model": model,
        "loss": {"weights": weights},
        "train": {"epochs": 1, "max_steps": 3, "batch_size": 4, "optimizer": "adam", "lr": 0.01, "device": "cpu"},
    })  # fmt: skip


RECOGNISER = {
    "name": "recogniser", "visual": "feature_mlp", "visual_dim": 16, "width": 16, "heads": 2, "ffn": 16,
    "encoder_layers": 1,
}  # fmt: skip


def test_a_recogniser_trains_on_a_folder_without_text_and_is_scored_by_wer(tmp_path, capsys):
    corpus = corpus_of(tmp_path / "corpus")
    sample = load_samples("folder", corpus, "train")[0]
    assert (sample.text, len(sample.gloss)) == ("", 3)
    run = fit(recipe(corpus, tmp_path / "run", RECOGNISER, {"recognition": 1.0, "signcl": 0.1}, "recognise"))
    assert "set it to 1" in capsys.readouterr().err
    scores = evaluate(str(run if isinstance(run, str | Path) else tmp_path / "run"), split="test", device="cpu")
    assert scores["wer"] >= 0
    assert scores["made"]["clips"] == 3


def test_a_translating_system_refuses_a_folder_without_text_in_one_line(tmp_path):
    corpus = corpus_of(tmp_path / "corpus")
    model = {**RECOGNISER, "name": "slt", "decoder_layers": 1}
    message = "model.name=slt learns from sentences, but 12 of the 12 training clips of corpus folder have glosses only"
    with pytest.raises(ValueError, match=message) as caught:
        fit(recipe(corpus, tmp_path / "run", model, {"translation": 1.0}, "finetune"))
    assert "\n" not in str(caught.value)


def test_glosses_stand_for_the_words_of_clips_without_a_sentence(tmp_path):
    corpus = corpus_of(tmp_path / "corpus")
    samples = load_samples("folder", corpus, "train")
    batch = collate(samples, [np.load(s.features) for s in samples])
    assert batch.num_words.tolist() == [3.0] * len(samples)
    ids = {" ".join(s.gloss): int(i) for s, i in zip(samples, batch.sentence_ids)}
    assert len(set(ids.values())) == len(ids) > 1  # clips of other glosses are no twins


def test_counts_and_checks_of_a_corpus_without_text(tmp_path, capsys):
    corpus = corpus_of(tmp_path / "corpus")
    stats = corpus_stats(corpus).splits["dev"]
    seen = {s.gloss for s in load_samples("folder", corpus, "train")}
    wanted = sum(s.gloss in seen for s in load_samples("folder", corpus, "dev"))
    assert (stats.sentences, stats.seen_in_train, stats.glosses_mean) == (3, wanted, 3.0)
    assert (stats.words_mean, stats.vocabulary, stats.margin_mean, stats.words_per_gloss) == (None, 0, None, None)
    assert not [p for p in check_corpus(corpus) if p.level == "error"]
    assert main(["corpus", "stats", str(corpus)]) in (0, None)
    assert "words mean" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name\tpath\tgloss\na\ta.npy\t\n", r"train\.tsv:2: a has no gloss, and the table has no column text"),
        ("name\tpath\na\ta.npy\n", r"train\.tsv:1: needs the columns name, path and text .*\(or gloss"),
    ],
)
def test_a_row_needs_a_text_or_a_gloss(tmp_path, table, message):
    (tmp_path / "train.tsv").write_text(table)
    with pytest.raises(ValueError, match=message):
        load_samples("folder", tmp_path, "train")


@pytest.fixture
def bilingual(tmp_path: Path) -> Path:
    header = "name\tpath\ttext\tlanguage\tnum_frames\n"
    rows = ["a\ta.mp4\tguten Tag\tde\t50", "b\tb.mp4\tgood day\ten\t20", "c\tc.mp4\tRegen im Norden\tde\t90"]
    (tmp_path / "train.tsv").write_text(header + "\n".join(rows) + "\n")
    (tmp_path / "dev.tsv").write_text(header + "d\td.mp4\tgood morning\ten\t30\n")
    return tmp_path


def test_the_language_of_a_row_reaches_the_sample_and_the_batch(bilingual):
    samples = load_samples("folder", bilingual, "train")
    assert [s.language for s in samples] == ["de", "en", "de"]
    assert collate(samples, [np.zeros((2, 3), np.float32)] * 3).languages == ("de", "en", "de")
    assert [s.name for s in load_samples("folder", bilingual, "train", language="de")] == ["a", "c"]
    with pytest.raises(ValueError, match=r"dev\.tsv: corpus\.options\.language='de' matches no row; .* has en"):
        load_samples("folder", bilingual, "dev", language="de")


def test_a_language_needs_its_column(tmp_path):
    (tmp_path / "train.tsv").write_text("name\tpath\ttext\na\ta.mp4\tone\n")
    with pytest.raises(ValueError, match=r"train\.tsv:1: corpus\.options\.language='de' needs a column language"):
        load_samples("folder", tmp_path, "train", language="de")


def test_stats_are_counted_by_language(bilingual, capsys):
    stats = corpus_stats(bilingual)
    assert stats.splits["train"].languages == {"de": 2, "en": 1}
    assert {name: part.sentences for name, part in stats.by_language.items()} == {
        "train de": 2, "train en": 1, "dev en": 1,
    }  # fmt: skip
    assert stats.by_language["train de"].frames_mean == 70
    assert stats.by_language["dev en"].unknown_words == 1  # morning; good is known from English training sentences
    main(["corpus", "stats", str(bilingual)])
    out = capsys.readouterr().out
    assert "train de" in out
    assert "de 2, en 1" in out
    main(["corpus", "stats", str(bilingual), "--json"])
    assert json.loads(capsys.readouterr().out)["by_language"]["train de"]["sentences"] == 2
