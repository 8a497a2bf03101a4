"""paper/: what a run is known by, what one command plans and runs, and the page of claims."""

import argparse
import ast
import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paper_tiny import ROOT, TINY, options_of, place_of_features

from paper import __main__ as everything
from paper import (
    figure7,
    findings,
    jobs,
    plan,
    settings,
    surface,
    sweep,
    table1,
    table6,
    table7,
    table8,
)
from paper.jobs import Fit, Place, run_all
from paper.output import Claim, Table
from paper.page import TOPICS, read_tables, topic_of, write_page
from paper.version import without_words


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return place_of_features(tmp_path_factory.mktemp("paper"))


def test_every_run_on_clips_starts_from_the_same_frame_encoder(place):
    encoder = place.out / "isolated-0123456789-seed0"
    where = dataclasses.replace(place, encoder=encoder)
    first, scratch = Fit("synthetic/pretrain.yaml"), Fit("synthetic/pretrain.yaml", ("model.visual_weights=",))
    second = Fit("synthetic/finetune.yaml", start=first)
    probe = Fit("synthetic/features-nslt.yaml", features=jobs.Extract(first))
    assert jobs.recipe_of(first, where).model.visual_weights == f"pretrained:{encoder}"
    for other in (second, probe, scratch):  # they start from a run, from features, from what someone said
        assert jobs.recipe_of(other, where).model.visual_weights == ""
    elsewhere = dataclasses.replace(where, out=Path("other"), encoder=Path("other") / encoder.name)
    assert jobs.folder_of(first, where).name == jobs.folder_of(first, elsewhere).name
    changed = dataclasses.replace(where, encoder=place.out / "isolated-9876543210-seed0")
    for job in (first, second, probe):
        assert jobs.folder_of(job, where).name != jobs.folder_of(job, changed).name


def test_two_arms_that_come_to_the_same_run_are_trained_once(place, capsys):
    plain = Fit("imu_numbers/nslt.yaml", (*TINY, "train.seed=7"))
    same = Fit("imu_numbers/nslt.yaml", (*TINY, "loss.label_smoothing=0.1", "train.seed=7"))
    found = run_all([plain, same], place)
    assert "0 of 1 runs are done; 1 to make" in capsys.readouterr().err
    assert found[plain].folder == found[same].folder


def test_a_run_is_refused_where_code_or_recipe_changed_since_the_command_began(place):
    job = Fit("imu_numbers/nslt.yaml", (*TINY, "train.seed=8"))
    with pytest.raises(RuntimeError, match="has changed since this command began; start it again"):
        jobs._work(job, place.out / "nslt-of-another-code-seed8", place)
    assert not (place.out / "nslt-of-another-code-seed8").exists()


def test_a_preset_changes_runs_on_clips_and_leaves_features(tmp_path):
    options = options_of(tmp_path, "synthetic", "--preset", "gpu", "--seeds", "1")
    where = settings.place_of(options, make=False)
    assert (where.out.name, where.device) == ("synthetic-gpu", "cuda")
    wanted = table1.jobs("synthetic", [])
    assert jobs.recipe_of(wanted["smkd", "density"], where).model.visual == "resnet18"
    assert jobs.recipe_of(wanted["smkd", "density"], where).input.size == 112
    assert jobs.recipe_of(wanted["smkd", "nslt"], where).model.visual == "identity"
    for name in settings.PRESETS:  # every recipe of every script loads under every preset
        options = options_of(tmp_path, "synthetic", "--preset", name)
        where = settings.place_of(options, make=False)
        for script in (table1, table6, table7, figure7, surface, findings):
            for job in script.planned(options, where).values():
                jobs.recipe_of(job, where)
    assert sweep.sweep_of(options_of(tmp_path, "synthetic")).system == "features-nslt"
    assert sweep.sweep_of(options).system == "gfslt"


def test_runs_end_when_what_started_them_is_killed(tmp_path):
    """A parent that is killed leaves no worker that writes into the folder which the next call writes into."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from paper import jobs\n"
        "jobs.PRELOADED = ('paper.jobs',)\n"
        "if __name__ == '__main__':\n"
        '    write = \'while True:\\n open(name, "a").write("."); time.sleep(0.02)\'\n'
        "    with jobs._processes(2) as pool:\n"
        "        for name in sys.argv[2:]:\n"
        "            pool.submit(exec, f'import time; name = {name!r}\\n' + write)\n"
    )
    script = tmp_path / "start.py"
    script.write_text(code)
    files = [tmp_path / "one", tmp_path / "two"]
    parent = subprocess.Popen([sys.executable, str(script), str(ROOT), *map(str, files)])
    for _ in range(600):
        if all(file.is_file() for file in files):
            break
        time.sleep(0.1)
    assert all(file.is_file() for file in files), "the workers have not begun within a minute"
    sizes = [file.stat().st_size for file in files]
    time.sleep(0.5)
    assert [file.stat().st_size for file in files] > sizes, "they write"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    time.sleep(1.0)
    sizes = [file.stat().st_size for file in files]
    time.sleep(1.0)
    assert [file.stat().st_size for file in files] == sizes


def result(folder: Path, name: str, corpus: str, *claims: Claim) -> None:
    made = {"corpus": corpus, "seeds": 3, "code": "abcd"}
    Table(name, f"Title of {name}", f"python -m paper.{name}", ["a"], [["1"]], [], list(claims), made).write(
        folder / corpus
    )


def test_the_page_holds_what_commands_made_and_nothing_else(tmp_path):
    head, page, results = tmp_path / "HEAD.md", tmp_path / "README.md", tmp_path / "results"
    head.write_text("# The evidence\n\nBy hand.\n\n")
    assert "Nothing has been run yet" in write_page(results, page, head)[0]
    result(results, "zebra", "synthetic")
    result(results, "table6", "synthetic", Claim("it | matters little", "0.25", "spread 0.1", "within seed noise"))
    result(results, "table8", "synthetic", Claim("VLP raises it", "+1.49", "+0.10 (-1.00 to +1.20)", "not seen"),
           Claim("it falls", "-6.21", "-2.00 (-3.00 to -1.00)", "supported"))  # fmt: skip
    result(results, "table8", "phoenix14t", Claim("it rises", "+1.49", "-0.10 (-0.20 to -0.05)", "contradicted"))
    (results / "synthetic" / "table8.png").write_bytes(b"")
    summary, text = write_page(results, page, head)
    assert page.read_text() == summary
    assert (tmp_path / "claims.md").read_text() == text
    assert summary.startswith(
        "# The evidence\n\nBy hand.\n\n## Claims\n\n4 in all, each with its interval in [claims.md]"
    )
    assert "| What VLP brings | 1 | – | 1 | – | – |" in summary
    assert "| Denser features: recognised and translated worse? | 2 | 1 | – | 1 | – |" in summary
    assert "| Margins and weight of SignCL | 1 | – | – | – | 1 |" in summary
    row = "| VLP raises it | synthetic | `python -m paper.table8` | +1.49 | +0.10 (-1.00 to +1.20) | **not seen** |"
    assert row in text
    assert "it \\| matters little" in text
    rows = [line for line in text.splitlines() if line.startswith(("| it", "| VLP raises"))]
    assert [row.split(" | ")[1] for row in rows] == ["phoenix14t", "synthetic", "synthetic", "synthetic"]
    assert "[png](results/synthetic/table8.png)" in text
    assert text.count("[png]") == 1
    assert text.index("Title of table6") < text.index("Title of zebra")
    for row in (summary + text).splitlines():
        if row.startswith("|"):
            assert row.replace("\\|", "").count("|") in (5, 7)  # files of tables; claims and their counts
    (results / "synthetic" / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken.json: a table has name, title, command, claims, made"):
        write_page(results, page, head)


def test_rows_that_were_not_run_are_named_with_their_command(tmp_path):
    table = Table("table2", "Table 2", "python -m paper.table2", ["system"], [["GFSLT-VLP"]], [], [], {"seeds": 3})
    table.write(tmp_path / "results" / "synthetic")
    part = Table("table2-gaslt", "Table 2: GASLT", "python -m paper.table2 --systems gaslt", ["system"], [["GASLT"]])
    part.write(tmp_path / "results" / "synthetic")
    head = tmp_path / "HEAD.md"
    head.write_text("# The evidence\n")
    _, text = write_page(tmp_path / "results", tmp_path / "README.md", head)
    assert "| NSLT (2018) | table2 | not run | `python -m paper.table2 --corpus synthetic --systems nslt2018` |" in text
    assert "| GASLT | table2 | not run" not in text
    alone = Claim("SignCL raises BLEU-4", "+1", "+1 (-inf to +inf)", "not seen")
    Table("table2", "Table 2", "python -m paper.table2", ["system"], [["GFSLT-VLP"]], [], [alone], {"seeds": 1}).write(
        tmp_path / "results" / "synthetic"
    )
    assert "SignCL raises" not in write_page(tmp_path / "results", tmp_path / "README.md", head)[1], "one seed"
    assert "| GFSLT-VLP | table2 | not run" not in text
    assert "| SMKD | table1 | not run" not in text, "of tables that are not there nothing is listed"


def test_every_shipped_claim_has_its_place_on_the_page():
    tables = read_tables(ROOT / "paper" / "results")
    about = {topic_of(table["name"], claim["text"]) for _, table in tables for claim in table["claims"]}
    baselines = "Against the systems that Tables 2 and 3 quote"
    assert topic_of("table2", "GFSLT-VLP is better than the baseline GASLT, in BLEU-4") == baselines
    assert about | {baselines, TOPICS[0]} == set(TOPICS)  # the page says which of those have not been run
    assert topic_of("density_effect", "SignCL raises BLEU-4, from random weights") == TOPICS[0]
    assert topic_of("table8", "SignCL in both lowers SDR of GFSLT-VLP") == "Does SignCL lower density?"
    assert topic_of("table1", "SignCL in extraction lowers WER on VLP") == TOPICS[1]
    assert topic_of("table1", "gloss-free VLP is denser than gloss-based SMKD").startswith("Denser features")


def test_one_command_plans_runs_and_goes_on_past_a_failure(tmp_path, monkeypatch, capsys):
    words = ["--data", str(tmp_path / "none"), "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    assert everything.main([*words, "--plan"]) == 0
    said = capsys.readouterr().err
    assert "figure6 on phoenix14t: left out, needs " in said
    assert "table8 on synthetic: 34 runs to make, about " in said
    minutes = float(said.rsplit("about ", 1)[1].split(" min")[0])
    assert 60 < minutes <= 240, "all of it takes at most four hours of two cores"
    assert not (tmp_path / "results").exists()
    called = []

    def script(name: str):
        def main(words: list[str]) -> None:
            called.append((name, words))
            if name == "table6":
                raise RuntimeError("2 runs failed")
            result(tmp_path / "results", name, "synthetic", Claim("seen", "+1", "+1 (0 to 2)", "supported"))

        return main

    def broken(words: list[str]) -> None:
        raise KeyError("a fault of the script")

    monkeypatch.setattr("paper.table9.main", broken)
    for name in ("table6", "figure7"):
        monkeypatch.setattr(f"paper.{name}.main", script(name))
    assert everything.main([*words, "--only", "figure7", "table6", "--seeds", "2"]) == 1
    assert [name for name, _ in called] == ["table6", "figure7"]
    assert called[0][1][:2] == ["--corpus", "synthetic"]
    assert called[0][1][called[0][1].index("--seeds") + 1] == "2"
    assert "table6 on synthetic failed: 2 runs failed" in capsys.readouterr().err
    assert "| seen | synthetic |" in (tmp_path / "results" / "claims.md").read_text()
    assert not (tmp_path / "README.md").exists()
    assert everything.main([*words, "--only", "table9"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "failed: table9 on synthetic" in said
    called.clear()
    assert everything.main([*words, "--only", "figure7", "--minutes", "0"]) == 0
    assert called == []
    assert "not started: figure7 on synthetic" in capsys.readouterr().err


def test_runs_that_scripts_share_are_counted_once(tmp_path):
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    options = parser.parse_args(["--out", str(tmp_path)])
    counted: set[Path] = set()
    alone = plan.estimate(plan.Step("table6", "synthetic"), options, set())
    first = plan.estimate(plan.Step("table1", "synthetic"), options, counted)
    after = plan.estimate(plan.Step("table6", "synthetic"), options, counted)
    assert (first.runs, alone.runs) == (2 + 1 + 3 * (5 + 5 + 26), 1 + 3 * (1 + 1 + 6))
    assert after.runs == 3 * 5  # VLP, its features and the recipe's own arm are there
    assert after.minutes < alone.minutes
    assert settings.core_seconds(table1.jobs("synthetic", [])["vlp", "nslt"], Place(tmp_path, tmp_path, "")) == (
        settings.OVERHEAD + 0.045 * 30 * 16
    )
    elsewhere = Place(tmp_path, tmp_path, "", "cuda")
    assert settings.core_seconds(table1.jobs("synthetic", [])["vlp", "nslt"], elsewhere) is None


def test_the_page_of_this_repository_is_that_of_its_results(tmp_path):
    paper = ROOT / "paper"
    page = tmp_path / "paper" / "README.md"
    shutil.copytree(paper / "results", tmp_path / "paper" / "results")
    written = write_page(page.parent / "results", page, paper / "HEAD.md")
    assert ((paper / "README.md").read_text(), (paper / "claims.md").read_text()) == written


def test_every_committed_table_comes_from_the_committed_numbers(tmp_path, capsys):
    copy, committed = tmp_path / "results", ROOT / "paper" / "results"
    shutil.copytree(committed, copy, ignore=shutil.ignore_patterns("density_effect", "*.png"))
    for path in [*copy.glob("*/*.md"), *copy.glob("*/*.csv"), *copy.glob("*/*.tex")]:
        if path.name != "runs.csv" and not path.name.startswith("figure6"):
            path.unlink()
    assert everything.main(["--from-results", "--results", str(copy)]) == 0, capsys.readouterr().err
    made = [path.relative_to(copy) for path in copy.glob("*/*") if path.suffix in (".md", ".csv", ".tex", ".json")]
    assert {path.stem for path in made if path.suffix == ".tex"} >= {
        *("table1", "table2", "table6", "table7", "table8", "table9", "table10"),
        *("figure2", "figure3", "figure5", "figure7", "surface", "trust"),
        "best",
        "contrast",
        "challengers",
        "challengers-all-words",
        "all_systems",
        "imu",
    }
    assert {Path(corpus, "findings.tex") for corpus in ("synthetic", "imu_numbers")} <= set(made)
    assert Path("imu_numbers/figure3.tex") in made
    assert [str(name) for name in made if (copy / name).read_bytes() != (committed / name).read_bytes()] == []


def test_one_command_at_a_time_makes_runs_in_a_folder(place):
    job = Fit("imu_numbers/nslt.yaml", (*TINY, "train.seed=9"))
    with jobs._alone(place.out), pytest.raises(RuntimeError, match="another command is making runs in"):
        run_all([job], place)
    assert run_all([job], place)[job].scores["bleu4"] >= 0


@pytest.mark.parametrize(("words", "said"), [
    (["--seeds", "0"], "needs a whole number from 1 to 1000, got 0"),
    (["--jobs", "two"], "needs a whole number from 1 to 256, got 'two'"),
    (["--changes", "train.epochs=1"], "name a folder with --results"),
    (["--corpus", "phoenix14t"], "phoenix14t is needed at data/phoenix14t"),
])  # fmt: skip
def test_wrong_words_end_with_2_before_anything_is_made(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["table8", *words])
    with pytest.raises(SystemExit) as ended:
        table8.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_licensed_corpus_is_not_trained_on_a_cpu_unasked(tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(SystemExit, match="--device cuda, or --device cpu to insist"):
        settings.place_of(options_of(tmp_path, "phoenix14t", "--root", str(tmp_path / "corpus")))


def test_jobs_at_a_time_follow_the_device():
    assert settings.jobs_at_a_time(None, "cuda") == 1
    assert settings.jobs_at_a_time(None, "cpu") in (1, 2)
    assert settings.jobs_at_a_time(3, "cuda") == 3


def test_every_number_of_a_command_has_bounds():
    plain = [
        f"{path.name}: {ast.unparse(node)}"
        for path in (ROOT / "paper").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        for word in node.keywords
        if word.arg == "type" and ast.unparse(word.value) in ("int", "float")
    ]
    assert plain == []


def test_words_are_no_part_of_the_code():
    said = without_words('"""Doc."""\nclass A:\n    """Doc."""\n    x: int = 1\n    """Of x."""\n# comment\n')
    assert said == without_words("class A:\n    x: int = 1\n")
    assert said != without_words("class A:\n    x: int = 2\n")
    assert without_words("def f(): ...") != without_words("def f(): pass")
