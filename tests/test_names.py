"""Recipes, runs, verbs and options by name, and the answers to typos."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from signcl.cli import main, make_parser
from signcl.cli.parsing import every_parser
from signcl.data.corpora import load_samples
from signcl.inference.clips import pick_device
from signcl.training.recipe import find_recipe, load_recipe, recipe_names
from signcl.training.run_folder import check_run_folder


def said(capsys, *words: str) -> str:
    """The one line that a mistake is answered."""
    capsys.readouterr()
    try:
        code = main(list(words))
    except SystemExit as stop:
        code = stop.code
    out, error = capsys.readouterr()
    assert code == 2, words
    assert out == ""
    assert error.count("\n") == 1, error
    return error


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(here) -> Path:
    """A folder with two runs that have nothing but names."""
    for name in ("first", "second"):
        (here / "runs" / name).mkdir(parents=True)
        recipe = yaml.safe_load(find_recipe("synthetic/finetune").read_text(encoding="utf-8"))
        (here / "runs" / name / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return here / "runs"


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["evalute", "x"], "did you mean evaluate?"),
        (["corpus", "mak", "x"], "did you mean make?"),
        (["recipes", "lst"], "did you mean list?"),
        (["evaluate", "x", "--beam", "3"], "did you mean --beams?"),
        (["evaluate", "x", "--bootsrap=3"], "did you mean --bootstrap?"),
        (["corpus", "make", "x", "--frames", "3"], "did you mean --sign-frames?"),
        (["fit", "synthetic/finetune", "--epochs", "1"], "did you mean train.epochs?"),
        (["fit", "synthetic/finetune", "--train.epoch", "1"], "did you mean train.epochs?"),
        (["fit", "phoenix/gaslt"], "did you mean phoenix14t/gaslt?"),
        (["recipes", "show", "synthetic/finetun"], "did you mean synthetic/finetune?"),
        (["recipes", "show", "sinthetic/finetune"], "did you mean synthetic/finetune?"),
        (["recipes", "show", "phoenix14t/x"], "`signcl recipes list phoenix14t` lists those of phoenix14t: cnn_ctc,"),
        (["fit", "somebody/x"], "`signcl recipes` lists them; to start from a run of the hub"),
        (["systems", "gslt"], "did you mean"),
        (["systems", "GFSLT"], "did you mean gfslt?"),
        (["train", "x"], "did you mean fit?"),
        (["predict", "x"], "did you mean translate?"),
        (["fit", "synthetic/finetune", "--dryrun"], "did you mean --dry-run?"),
        (["fit", "synthetic/finetune", "--dry_run=1"], "did you mean --dry-run?"),
        (["fit", "synthetic/finetune", "--plugin", "x.py"], "did you mean --plugins?"),
        (["fit", "synthetic/finetune", "--config", "x.yaml"], "without an option: `signcl fit x.yaml`"),
        (["fit", "synthetic/finetune", "--train.epochs"], "written --train.epochs=VALUE"),
        (["fit", "synthetic/finetune", "stray"], "does not take the argument stray"),
        (["fit", "synthetic/finetune", "--learning-rate", "1"], "did you mean train.lr?"),
        (["fit", "synthetic/finetune", "--train_epochs=1"], "did you mean train.epochs?"),
        (["fit", "synthetic/finetune", "--train.batch-size", "1"], "did you mean train.batch_size?"),
        (["fit", "synthetic/finetune", "--train.beams=1"], "did you mean decode.beams?"),
        (["fit", "synthetic/finetune", "--widht=1"], "did you mean model.width?"),
        (["fit", "synthetic/finetune", "--logger=wandb"], "write [wandb]"),
        (["fit", "synthetic/finetune", "--loss.weights={signcl:1}"], "put a space after the colon"),
        (["fit", "synthetic"], "`signcl recipes list synthetic` lists those of synthetic: best, "),
        (["evaluate", "https://huggingface.co/org/name"], "is written org/name"),
        (["evaluate", "org/name@"], "as in org/name@main"),
        (["serve", "demo:synthetic", "--prot", "1"], "did you mean --port?"),
        (["--traceback", "fit"], "--traceback is an option of fit; give it after the command"),
        (["evaluate", "demo:syntetic"], "did you mean demo:synthetic?"),
        (["compare", "demo:synthetic", "demo:poses", "--split", "tets"], "at demo:synthetic/predictions.tets.tsv; "),
        (["compare", "demo:synthetic", "demo:poses", "--split", "train"], "`signcl evaluate demo:synthetic --split tr"),
        (["translate", "demo:synthetic", "demo:numbers/clip-1"], "may not be redistributed"),
    ],
)
def test_a_typo_gets_a_suggestion(here, capsys, words, suggestion):
    assert suggestion in said(capsys, *words)


@pytest.mark.parametrize("words", [["infer"], ["corpus", "stats", "x", "--split=dev"], ["fit", "a/b", "--zzz", "1"]])
def test_a_word_that_is_like_no_other_gets_no_wrong_suggestion(here, capsys, words):
    assert "did you mean" not in said(capsys, *words).replace("did you mean translate?", "")


def test_no_flag_can_be_shortened():
    parser = make_parser(["corpus", "make"])
    for command in every_parser(parser):
        assert not command.allow_abbrev, command.prog


def test_what_is_no_run_is_told_what_it_is(runs, capsys):
    assert "did you mean runs/first?" in said(capsys, "evaluate", "runs/frist")
    assert re.search("the runs (first, second|second, first) are in it", said(capsys, "report", "runs"))
    for verb in ("evaluate", "explore", "report"):
        line = said(capsys, verb, "runs/nothing")
        assert "no run folder at runs/nothing" in line
        assert "first" in line
    line = said(capsys, "evaluate", "synthetic/finetune")
    assert "is a recipe" in line
    assert "`signcl fit synthetic/finetune` makes one" in line
    (runs / "notes.txt").write_text("x")
    assert "is a file" in said(capsys, "evaluate", "runs/notes.txt")
    assert check_run_folder("runs/first") == Path("runs/first")


def test_what_is_no_recipe_is_told_what_there_is(runs, capsys):
    (runs.parent / "mine").mkdir()
    (runs.parent / "mine" / "a.yaml").write_text("{}")
    assert "its recipes are a.yaml" in said(capsys, "fit", "mine")
    assert "its runs are first, second" in said(capsys, "fit", "runs")
    assert "`signcl recipes` lists them" in said(capsys, "fit", "runs/x")
    assert "signcl fit synthetic/finetune" in said(capsys, "fit")


def test_a_recipe_by_name_by_path_and_of_a_run_is_the_same(runs):
    by_name = load_recipe("synthetic/finetune")
    assert load_recipe("synthetic/finetune.yaml") == by_name
    assert load_recipe(find_recipe("synthetic/finetune")) == by_name
    assert load_recipe(runs / "first") == by_name
    assert by_name.model.name == "gfslt"
    assert "synthetic/finetune" in recipe_names()


def test_a_file_of_yours_goes_before_a_recipe_of_the_package(here):
    (here / "synthetic").mkdir()
    (here / "synthetic" / "finetune.yaml").write_text("mine: 1\n")
    assert find_recipe("synthetic/finetune.yaml") == Path("synthetic/finetune.yaml")


def test_values_as_a_mapping_or_as_words(capsys, here):
    changed = load_recipe("synthetic/finetune", {"train.epochs": 3, "model.freeze": ["visual"], "out": "runs/7"})
    assert changed == load_recipe("synthetic/finetune", ["train.epochs=3", "--model.freeze=[visual]", "out=runs/7"])
    assert (changed.train.epochs, changed.model.freeze, changed.out) == (3, ["visual"], "runs/7")
    for wrong in ("train.epochs=3", None, [("train.epochs", 3)]):
        with pytest.raises(ValueError, match=r"list of texts such as .* or a mapping"):
            load_recipe("synthetic/finetune", wrong)
    given = {"--train.epochs": np.int64(3), "out": Path("runs/7"), "model.freeze": ("visual",)}
    assert load_recipe("synthetic/finetune", given) == changed
    section = load_recipe("synthetic/finetune", {"train": {"epochs": 3}, "loss.signcl": {"variant": "released"}})
    assert section.train == changed.train, "the other keys of a section stay"
    assert section == load_recipe("synthetic/finetune", ["train={epochs: 3}", "loss.signcl.variant=released"])
    assert load_recipe("synthetic/finetune", {"loss.weights": {"translation": 2}}).loss.weights == {"translation": 2}
    with pytest.raises(ValueError, match=r"did you mean train\.epochs"):
        load_recipe("synthetic/finetune", {"train.epoch": 3})
    words = ["fit", "synthetic/finetune", "--train.epochs", "3", "--train.lr=0.1", "--out", "runs/7", "--print-config"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["train"]["epochs"], found["train"]["lr"], found["out"]) == (3, 0.1, "runs/7")
    assert main(words) == 0
    (here / "printed.yaml").write_text(capsys.readouterr().out)
    assert main(["fit", "printed.yaml", "--print-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_recipes_are_listed_shown_and_copied(here, capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in recipe_names())
    assert main(["recipes", "list", "gaslt", "phoenix14t", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {name for name in recipe_names() if name.startswith("phoenix14t/gaslt")}
    assert all(row["system"] == "gaslt" and row["what"] for row in rows)
    assert main(["recipes", "show", "synthetic/finetune"]) == 0
    shown = capsys.readouterr().out
    assert main(["recipes", "copy", "synthetic/finetune", "mine.yaml"]) == 0
    assert Path("mine.yaml").read_text(encoding="utf-8") == shown
    assert load_recipe("mine.yaml") == load_recipe("synthetic/finetune")
    capsys.readouterr()
    assert main(["recipes", "copy", "synthetic/finetune", "new/folder/"]) == 0
    assert Path("new/folder/finetune.yaml").is_file()
    capsys.readouterr()
    assert main(["recipes", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(recipe_names())
    assert main(["fit", "synthetic/nslt", "--keys", "--json"]) == 0
    keys = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert (keys["train.epochs"]["default"], keys["train.epochs"]["bounds"]) == (20, "1 to 1000000")
    assert keys["train.optimizer"]["choices"] == ["adamw", "adam", "sgd"]
    assert {"model.width", "loss.signcl.distance_margin", "input.augment.flip"} <= keys.keys()
    assert "already exists" in said(capsys, "recipes", "copy", "synthetic/finetune", "mine.yaml")


def test_every_recipe_says_what_it_trains(capsys):
    assert main(["recipes", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out) if not row["what"]] == []


WITHOUT_JSON = {"signcl serve", "signcl completion"}
"""Verbs without a result: one runs until it is stopped, one prints a script."""


def test_every_verb_prints_json_on_request():
    without = {
        parser.prog
        for parser in every_parser(make_parser(["corpus", "make"]))
        if parser.get_default("run") and "--json" not in parser._option_string_actions
    }
    assert without == WITHOUT_JSON


def test_splits_by_the_names_that_others_use(tmp_path):
    (tmp_path / "train.tsv").write_text("name\ttext\n")
    for name in ("imu_numbers", "folder", "synthetic", "csl_daily"):
        with pytest.raises(ValueError, match="the split val is called dev here"):
            load_samples(name, tmp_path, "val")
        with pytest.raises(ValueError, match="the split VAL is called dev here"):
            load_samples(name, tmp_path, "VAL")
        with pytest.raises(ValueError, match=r"did you mean train\?"):
            load_samples(name, tmp_path, "trian")
    (tmp_path / "recipe.yaml").write_text("{}")
    with pytest.raises(ValueError, match="is a run folder, and the folder of a corpus is needed"):
        load_samples("folder", tmp_path, "dev")


def test_a_run_folder_is_no_clip(here, capsys):
    folder = Path(shutil.copytree(check_run_folder("demo:synthetic"), here / "run"))
    (folder / "density.png").write_bytes(b"")
    assert "is a run folder; a clip or a folder of clips is needed" in said(
        capsys, "translate", str(folder), str(folder)
    )


@pytest.mark.parametrize(
    ("device", "answer"), [("gpu", "did you mean cuda?"), ("cpuu", "did you mean cpu?"), ("", "needs auto")]
)
def test_a_device_is_named_in_one_line(device, answer):
    with pytest.raises(ValueError, match=re.escape(answer)) as found:
        pick_device(device)
    assert len(str(found.value)) < 120


def test_a_shell_completes_verbs_flags_and_files(capsys, tmp_path):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "signcl.bash"
    script.write_text(capsys.readouterr().out)
    ask = f"""source {script}
        COMP_WORDS=(signcl evaluate --bo); COMP_CWORD=2; COMP_LINE='signcl evaluate --bo'; COMP_POINT=20
        _shtab_signcl signcl --bo evaluate; echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(signcl rec); COMP_CWORD=1; _shtab_signcl signcl rec signcl; echo "${{COMPREPLY[@]}}" """
    ask += """
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
            COMPREPLY=(); _shtab_signcl "$1" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"; echo "${COMPREPLY[@]}"; }
        ask signcl fit imu_numbers/nslt2; ask signcl corpus make --cli
        ask signcl evaluate x --split d; ask signcl systems sl"""
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    found = ["--bootstrap", "recipes", "imu_numbers/nslt2018", "--clips", "dev", "slt"]
    assert done.stdout.split() == found, done.stderr
    assert main(["completion", "fish"]) == 0
    assert "imu_numbers/nslt2018" in capsys.readouterr().out


def test_a_rehearsal_takes_real_steps_and_writes_nothing(here, capsys, real_data):
    words = ["fit", "imu_numbers/finetune", f"--corpus.root={real_data / 'imu-number-signs'}", "--train.device=cpu"]
    words += ["--model.width=16", "--model.ffn=16", "--model.heads=2", "--model.conv_width=16", "--train.batch_size=4"]
    assert main([*words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == 560
    assert found["steps"] == 140 * found["epochs"]
    assert found["seconds_per_step"] > 0
    assert found["memory_bytes"] > 4 * 4 * found["parameters"]  # weights, gradients and two states of AdamW in float32
    assert re.search(r"about \d+ \w+ of training steps", found["time"])
    assert list(here.iterdir()) == []


def test_a_table_of_a_translated_folder_is_scored_against_a_corpus_table(here, capsys):
    (here / "answers.tsv").write_text("name\thypothesis\n0/b.mp4\tc d\n0/a.mp4\ta b c d e\n")
    (here / "test.tsv").write_text("name\tpath\ttext\na\tclips/0/a.mp4\ta b c d e\nb\tclips/0/b.mp4\tc e\n")
    assert main(["score", "answers.tsv", "test.tsv", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["systems"][0]["scores"]["exact_match"] == 50
    assert "matched by their names without folder and ending" in printed.out + printed.err
    assert "did you mean test.tsv?" in said(capsys, "score", "answers.tsv", "tset.tsv")
