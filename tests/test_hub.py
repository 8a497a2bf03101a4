"""Runs on the hub: pushed without anything private, downloaded by name, equal in what they answer, and each mistake one
line. The hub is a real server (tests/hub_site.py); the client is the hub's own library."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hub_site import READER, WRITER, hub  # noqa: F401 (a fixture)
from systems import CASES, recipe_of

import signcl
from signcl.cli import main, make_parser
from signcl.cli.parsing import every_parser
from signcl.data.text.pretrained import PretrainedTokenizer
from signcl.evaluation.scoring import evaluate
from signcl.pages.publishing import cut_paths
from signcl.training import fit
from signcl.training.hub import RUN_FILES, HubName, hub_label, hub_name
from signcl.training.run_folder import check_run_folder


@pytest.fixture(scope="module")
def run(corpora, tmp_path_factory) -> Path:
    """A tiny run, trained and scored, that knows paths of this machine."""
    folder = tmp_path_factory.mktemp("alice s home") / "my run"
    fit(recipe_of(next(case for case in CASES if case.name == "gfslt"), corpora, folder, epochs=1), progress=False)
    for split in ("dev", "test"):
        evaluate(folder, split, bootstrap=20, progress=False)
    return folder


@pytest.fixture
def pushed(hub, run, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HF_TOKEN", WRITER)
    done = signcl.push_to_hub(run, "org/tiny", license="mit", data_license="CC BY 4.0", language="de")
    monkeypatch.delenv("HF_TOKEN")
    return done


def said(capsys, *words: str, code: int = 2) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    return capsys.readouterr().err


def test_a_pushed_run_gives_the_same_answers_and_scores(pushed, run, corpora, capsys, tmp_path, monkeypatch):
    clip = str(next(corpora[False].glob("test*.npy")))
    capsys.readouterr()
    outputs = []
    for name in (str(run), "org/tiny", f"org/tiny@{pushed.commit}", "hf://org/tiny@main"):
        assert main(["translate", name, clip, "--json"]) == 0
        outputs.append(
            {k: v for k, v in json.loads(capsys.readouterr().out).items() if k not in ("seconds", "nearest")}
        )
        outputs[-1].pop("why_no_confidence", None)  # it names the folder
    assert outputs[1:] == outputs[:1] * 3
    ours = json.loads((run / "scores.json").read_text())["test"]
    theirs = signcl.evaluate("org/tiny", root=str(corpora[False]), bootstrap=20, progress=False)
    assert [theirs[k] for k in ("bleu4", "chrf", "intervals")] == [ours[k] for k in ("bleu4", "chrf", "intervals")]
    model = signcl.load_model("org/tiny")
    assert model.judge is not None
    assert set(model.judge.texts) == {""}
    assert hub_label(model.run.folder) == f"org/tiny@{pushed.commit[:7]}"
    assert main(["report", "org/tiny", "-o", str(tmp_path / "page.html")]) == 0
    assert "org/tiny@" in (tmp_path / "page.html").read_text()
    assert main(["pull", "org/tiny", "-o", str(tmp_path / "mine")]) == 0
    assert signcl.translate(signcl.load_model(tmp_path / "mine"), clip).text == outputs[0]["text"]
    assert "is not empty" in said(capsys, "pull", "org/tiny", "-o", str(tmp_path / "mine"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["translate", "org/tiny", clip]) == 0
    assert "an earlier download" in capsys.readouterr().err


def test_nothing_private_is_pushed(pushed, hub, run, corpora):  # noqa: F811
    _, files = hub.at("org/tiny", "main")
    assert set(files) - {".gitattributes", "README.md"} <= set(RUN_FILES)
    assert set(files) >= {"recipe.yaml", "card.json", "manifest.json", "model.safetensors", "tokenizer.json"}
    assert "state/" in pushed.left_out
    assert {"predictions.test.tsv", "confidence.test.tsv"} <= set(pushed.left_out)
    assert pushed.files["model.safetensors"] == (run / "model.safetensors").stat().st_size
    everything = b"\n".join(files.values()).decode("utf-8", "replace")
    for secret in ("alice", str(corpora[False]), str(Path.home()) + "/", str(Path.cwd()), "train0", "test1"):
        assert secret not in everything, secret
    sentences = {row.split("\t")[2] for row in (corpora[False] / "train.tsv").read_text().splitlines()[1:]}
    assert not [sentence for sentence in sentences if " " in sentence and sentence in everything]
    recipe = yaml.safe_load(files["recipe.yaml"])
    assert (recipe["out"], recipe["corpus"]["root"]) == ("runs/tiny", corpora[False].name)


def test_the_card_says_what_the_run_is(pushed, hub):  # noqa: F811
    card = hub.at("org/tiny", "main")[1]["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["language"], head["library_name"]) == ("mit", ["de"], "signcl")
    results = head["model-index"][0]["results"]
    assert {r["dataset"]["split"] for r in results} == {"dev", "test"}
    bleu4 = next(m for r in results for m in r["metrics"] if m["name"] == "BLEU-4")
    assert "tok:none" in bleu4["args"]["signature"]
    for text in ("trained for only 2 steps", "Licence of the data: CC BY 4.0", "signcl translate org/tiny features.npy",
                 "`nrefs:1|case:mixed", "Do not use it where", 'signcl.load_model("org/tiny")'):  # fmt: skip
        assert text in card, text


def test_pushing_again(pushed, hub, run, monkeypatch, capsys, tmp_path):  # noqa: F811
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.put("org/tiny", {"README.md": b"---\nlicense: mit\n---\nmine", "notes.md": b"x", "glosses.json": b"[]"})
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "confidence.json").unlink()
    assert main(["push", str(copy), "org/tiny", "--json"]) == 0
    printed = capsys.readouterr()
    assert "is kept" in printed.err
    assert "in all" in printed.err
    assert json.loads(printed.out)["repo"] == "org/tiny"
    files = hub.at("org/tiny", "main")[1]
    assert files["README.md"].endswith(b"mine")
    assert "notes.md" in files
    assert not {"confidence.json", "glosses.json"} & set(files)
    # a branch; private; a run that was downloaded; what would be pushed
    assert main(["push", str(run), "org/tiny", "--revision", "v2"]) == 0
    assert set(hub.repos["org/tiny"]["branches"]) == {"main", "v2"}
    assert "confidence.json" in hub.at("org/tiny", "v2")[1]
    assert "is public" in said(capsys, "push", str(run), "org/tiny", "--private")
    signcl.load_run("org/tiny@v2").push_to_hub("org/other", private=True)
    assert hub.repos["org/other"]["private"]
    asked = len(hub.asked)
    assert "model.safetensors" in said(capsys, "push", str(run), "org/third", "--dry-run", code=0)
    assert len(hub.asked) == asked


def test_bad_names_are_one_line(pushed, hub, run, monkeypatch, capsys, tmp_path):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    hub.put("org/secret", {"recipe.yaml": b"x"}, private=True)
    hub.put("org/plain", {"model.safetensors": b"x" * 100})
    hub.put("org/broken", {**hub.at("org/tiny", "main")[1], "tokenizer.json": b"{}"})
    (tmp_path / "runs" / "here").mkdir(parents=True)
    (tmp_path / "org2").mkdir()
    for name, answer in (
        ("org/nothing", "no such repository on the hub that you may read"),
        ("org/secret", "if it is private, log in"),
        ("org/tiny@v9", "no revision v9; it has main"),
        ("org/tiny@mian", "did you mean main?"),
        ("org/plain", "is not a signcl run: no recipe.yaml"),
        ("org/broken", "tokenizer.json is not what this run wrote"),
        ("hf://org", "is written hf://org/name"),
        ("or--g/na..me", "not a valid hub name"),
        ("org2/name", "no run folder at org2/name"),
        ("runs/nothing", "no run folder at runs/nothing"),
    ):
        line = said(capsys, "evaluate", name)
        assert answer in line, line
        assert [part for part in line.splitlines() if part.startswith("signcl: ")] == line.splitlines()[-1:]
        assert len(line.splitlines()) <= 2, line  # a download is named first
    assert "plain/resolve" not in "".join(hub.asked), "nothing of what is no run is downloaded"
    assert "needs a token" in said(capsys, "push", str(run), "org/new")
    monkeypatch.setenv("HF_TOKEN", READER)
    assert "log in with a token that may write" in said(capsys, "push", str(run), "org/new")
    assert "named org/name" in said(capsys, "push", str(run), "new")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE blocks" in said(capsys, "translate", "org/other", "x.npy")


def test_a_folder_wins_over_a_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name("org/name") == HubName("org/name")
    assert hub_name("org/name-v1.0@refs/pr/1") == HubName("org/name-v1.0", "refs/pr/1")
    for path in (
        "name",
        "org/name/more",
        "./name",
        "../name",
        "/org/name",
        "runs/x",
        "x/clips.npz",
        "synthetic/finetune",
    ):
        assert hub_name(path) is None, path
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert hub_name("org/name") is hub_name("org/typo") is None
    assert hub_name("hf://org/typo") == HubName("org/typo")
    with pytest.raises(FileNotFoundError, match=r"beside it|of the hub: hf://org/typo"):
        check_run_folder("org/typo")


def test_every_argument_that_is_a_run_may_be_a_name():
    for command in every_parser(make_parser(["evaluate"])):
        for action in command._actions:
            if action.metavar == "RUN" and action.dest != "out":
                assert action.dest in command.runs, (command.prog, action.dest)


def test_a_tokenizer_that_names_code_is_refused_without_a_question(tmp_path):
    told = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["evil/repo--tok.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "evil/repo--c.C"}})
    )
    with pytest.raises(ValueError, match="no tokenizer can be read"):
        PretrainedTokenizer.read(str(tmp_path), writes=False)


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/home/jane doe/data/phoenix", "phoenix"),
        ("pretrained:/home/jane doe/mbart", "pretrained:mbart"),
        ("C:\\Users\\jane\\runs\\a", "a"),
        ("\\\\server\\share\\runs\\a", "a"),
        ("~/runs/a", "a"),
        ("../jane/a", "a"),
        ("data/../../jane/a", "a"),
        ("features from /home/jane/a.npy: 3 of 4, and ~/b/c", "features from a.npy: 3 of 4, and c"),
        ("file from C:\\Users\\jane\\a.pt (gfslt)", "file from a.pt (gfslt)"),
        ("runs/a", "runs/a"),
        ("pretrained:facebook/mbart", "pretrained:facebook/mbart"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("nrefs:1|case:mixed|tok:13a", "nrefs:1|case:mixed|tok:13a"),
        ("and/or 1/2 </s> /", "and/or 1/2 </s> /"),
    ],
)
def test_paths_are_cut(text, published):
    assert cut_paths(text) == published
    assert cut_paths({"a": [text, 1, None]}) == {"a": [published, 1, None]}
