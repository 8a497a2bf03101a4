"""The shared pass over the clips of a run: all verbs treat broken clips and mixed sizes equally; no run is changed."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from systems import Case, recipe_of

from signcl import evaluate, extract, fit
from signcl.data.video import write_video
from signcl.inference.alignment import align_run
from signcl.inference.answers import predict, search_of
from signcl.inference.run_density import run_density
from signcl.inference.translation import load_model, translate
from signcl.training.recipe import recipe_from_dict, recipe_samples, recipe_to_dict
from signcl.training.runs import load_run

GLOSSES = ["HAUS", "REGEN", "SONNE", "WIND"]


def write_clips(root: Path, sizes: dict[str, list[int]]) -> Path:
    """Clips of one sign each, every clip with a side of its own."""
    root.mkdir()
    random = np.random.default_rng(0)
    for split, sides in sizes.items():
        lines = ["name\tpath\ttext\tgloss\tspans"]
        for i, side in enumerate(sides):
            frames = random.integers(0, 255, size=(12, side, side, 3), dtype=np.uint8)
            write_video(root / f"{split}{i}.mp4", frames, fps=25)
            gloss = GLOSSES[i % len(GLOSSES)]
            lines.append(f"{split}{i}\t{split}{i}.mp4\t{gloss.lower()}\t{gloss}\t{gloss}:0-12")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> tuple[Path, Path]:
    """A recogniser without `input.size`, and its corpus: three test clips of 48 x 48 and one of 64 x 64."""
    place = tmp_path_factory.mktemp("mixed")
    root = write_clips(place / "corpus", {"train": [48] * 4, "dev": [48] * 2, "test": [48, 48, 48, 64]})
    recipe = recipe_from_dict({
        "stage": "recognise",
        "out": str(place / "run"),
        "corpus": {"name": "folder", "root": str(root)},
        "model": {"name": "recogniser", "visual": "small_cnn", "visual_dim": 16, "width": 16, "heads": 2, "ffn": 16},
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu"},
        "decode": {"gloss_beams": 2},
    })  # fmt: skip
    return fit(recipe, progress=False), root


def test_frames_of_several_sizes_are_refused_by_every_verb(mixed, tmp_path):
    # signcl align once dropped such clips and said "4 signs of 2 clips ... left out: 0"
    run, _ = mixed
    refusal = r"the clips of a batch differ in frame size, 48x48 and 64x64 .*set input\.size in the recipe"
    with pytest.raises(ValueError, match=refusal):
        evaluate(run, "test", device="cpu", bootstrap=0, progress=False)
    with pytest.raises(ValueError, match=refusal):
        align_run(run, "test", tmp_path / "spans.tsv", device="cpu", progress=False)
    with pytest.raises(ValueError, match=refusal):
        extract(run, tmp_path / "store", "test", device="cpu", progress=False)
    with pytest.raises(ValueError, match=refusal):
        run_density(run, "test", device="cpu", picture=False, progress=False)
    assert not (tmp_path / "spans.tsv").exists()


def test_a_broken_clip_is_left_out_and_named_by_every_verb(mixed, tmp_path, capsys):
    run, root = mixed
    split = "dev"
    content = (root / "dev0.mp4").read_bytes()
    (root / "dev0.mp4").write_bytes(content[:200])
    try:
        scores = evaluate(run, split, device="cpu", bootstrap=0, progress=False)
        assert list(scores["made"]["skipped"]) == ["dev0"]
        assert scores["made"]["clips"] == 1
        report = align_run(run, split, tmp_path / "spans.tsv", device="cpu", progress=False)
        assert list(report["left_out"]) == ["dev0"]
        assert report["clips"] == 1
        found = extract(run, tmp_path / "store", split, device="cpu", progress=False)
        assert list(found.broken) == ["dev0"]
        assert capsys.readouterr().err.count(" dev0: ") == 3  # each of them says it
    finally:
        (root / "dev0.mp4").write_bytes(content)


def test_a_recipe_that_stops_at_broken_clips_stops_extraction_alone(mixed, tmp_path):
    # scores name the clips that they lack; features become training data
    run, root = mixed
    content = (root / "dev0.mp4").read_bytes()
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    (root / "dev0.mp4").write_bytes(content[:200])
    (run / "recipe.yaml").write_text(recipe.replace("on_broken: skip", "on_broken: stop"), encoding="utf-8")
    try:
        scores = evaluate(run, "dev", device="cpu", bootstrap=0, progress=False)
        assert list(scores["made"]["skipped"]) == ["dev0"]
        report = align_run(run, "dev", tmp_path / "spans.tsv", device="cpu", progress=False)
        assert list(report["left_out"]) == ["dev0"]
        with pytest.raises(ValueError, match="clip dev0 cannot be used: "):
            extract(run, tmp_path / "store", "dev", device="cpu", progress=False)
    finally:
        (root / "dev0.mp4").write_bytes(content)
        (run / "recipe.yaml").write_text(recipe, encoding="utf-8")


def test_asking_a_run_changes_nothing_of_it(corpora, tmp_path, monkeypatch):
    # a length penalty of one call once became that of all later ones
    run = load_run(fit(recipe_of(Case("slt"), corpora, tmp_path / "run", max_steps=1), progress=False))
    samples, used = recipe_samples(run.recipe, "test"), []
    before = recipe_to_dict(run.recipe)
    original = type(run.model).generate

    def watched(self, batch, *, length_penalty, **options):
        used.append(length_penalty)
        return original(self, batch, length_penalty=length_penalty, **options)

    monkeypatch.setattr(type(run.model), "generate", watched)
    for options in ({}, {"length_penalty": 0.0}, {}):
        predict(run, samples, device="cpu", progress=False, **options)
    assert used == [1.0, 0.0, 1.0]
    predict(run, samples, device="cpu", beams=3, progress=False)
    assert recipe_to_dict(run.recipe) == before
    assert evaluate(run.folder, device="cpu", bootstrap=0, progress=False)["made"]["length_penalty"] == 1.0
    greedy = evaluate(run.folder, device="cpu", bootstrap=0, beams=1, progress=False)["made"]
    assert (greedy["beams"], greedy["length_penalty"]) == (1, 1.0)
    assert search_of(run, 3) == dataclasses.replace(run.recipe.decode, beams=3)
    with pytest.raises(ValueError, match=r"^decode\.beams: needs a number from 1 to 1000, got 0"):
        search_of(run, 0)
    for wrong in ({"length_penalty": math.nan}, {"beams": 10**8}, {"beams": 2.5}):
        for ask in (evaluate, lambda folder, **options: predict(load_run(folder), samples, **options)):
            with pytest.raises(ValueError, match=f"^decode.{next(iter(wrong))}: needs a ") as caught:
                ask(run.folder, device="cpu", progress=False, **wrong)
            assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^decode\.beams: needs a number from 1 to 1000, got 5000$"):
        translate(load_model(run.folder, device="cpu"), "clip.mp4", beams=5000)


@pytest.mark.parametrize(
    ("case", "searched"),
    [(Case("recogniser"), {"beams": 3}), (Case("classifier", corpus={"isolated": True}), {}), (Case("vlp"), {})],
    ids=str,
)
def test_scores_tell_of_a_search_only_where_there_was_one(case, searched, corpora, tmp_path):
    folder = fit(recipe_of(case, corpora, tmp_path / "run", max_steps=1), progress=False)
    made = evaluate(folder, device="cpu", bootstrap=0, progress=False)["made"]
    assert {key: made[key] for key in ("beams", "length_penalty") if key in made} == searched
