"""A system, a term and a corpus from outside: what the docs on adding a system and a loss show, run as shown.

Every command runs in a new process, as a user's would.
"""

import json
import re
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import fresh_process
import numpy as np
import pytest

from signcl import load_plugins, load_recipe
from signcl.cli import main
from signcl.data import registry
from signcl.data.corpora import CORPORA, register_corpus
from signcl.data.registry import Registry
from signcl.systems import SYSTEMS, System, register, system_class
from signcl.systems.terms import TERMS, shown_scores
from signcl.testing import check_system
from signcl.training.recipe import recipe_from_dict, recipe_to_dict
from signcl.training.runs import load_run

ROOT = Path(__file__).parents[1]
SIGNCL = [sys.executable, "-m", "signcl"]


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def command(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess:
    done = fresh_process.run(words, cwd)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The example's files, and its run, which was killed in the middle and went on."""
    place = tmp_path_factory.mktemp("outside")
    (place / "my_system.py").write_text(blocks("adding-a-system.md", "python")[0], encoding="utf-8")
    (place / "recipe.yaml").write_text(blocks("adding-a-system.md", "yaml")[0], encoding="utf-8")
    (place / "data").mkdir()
    (place / "data/counting").touch()
    first = fresh_process.start(["fit", "recipe.yaml"], place, place / "said")
    state = place / "runs/recurrent/state/last.pt"
    for _ in range(1200):
        if state.is_file() or not first.is_alive():
            break
        time.sleep(0.05)
    first.kill()
    first.join()
    assert state.is_file()
    again = command("fit", "recipe.yaml", cwd=place)
    assert "from step" in again.stderr
    return place


def test_the_example_is_one_short_file(folder):
    assert len((folder / "my_system.py").read_text().splitlines()) <= 120


def test_every_verb_finds_the_run_again_with_its_plugin_named(folder):
    shown = [line for line in blocks("adding-a-system.md", "sh")[0].splitlines() if line.startswith("signcl ")]
    assert [line.split()[1] for line in shown] == ["fit", "evaluate", "extract", "density", "report", "systems"]
    found = {line.split()[1]: command(*line.split()[1:], cwd=folder) for line in shown if line.split()[1] != "fit"}
    assert "BLEU-4" in found["evaluate"].stdout
    assert "rows of 64, tap steps" in found["extract"].stdout
    assert "SDR" in found["density"].stdout
    assert (folder / "runs/recurrent/report.html").is_file()
    assert "Slowness loss" in (folder / "runs/recurrent/report.html").read_text(encoding="utf-8")
    assert "Recurrent: LSTM encoder" in found["systems"].stdout
    np.save(folder / "clip.npy", np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32))
    said = command("translate", "runs/recurrent", "clip.npy", "--plugins", "my_system.py", cwd=folder).stdout
    assert said.startswith("clip.npy\t")
    card = json.loads((folder / "runs/recurrent/card.json").read_text())
    assert list(card["plugins"]) == ["my_system.py"]
    assert len(card["plugins"]["my_system.py"]) == 16


def test_nothing_is_imported_that_the_user_has_not_named(folder):
    marker = "import pathlib; pathlib.Path('imported').touch()\n"
    text = (folder / "my_system.py").read_text(encoding="utf-8")
    (folder / "my_system.py").write_text(marker + text, encoding="utf-8")
    try:
        refused = command("evaluate", "runs/recurrent", cwd=folder, code=2)
        assert "needs the plugins my_system.py" in refused.stderr
        assert "add --plugins my_system.py" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        with pytest.raises(ValueError, match=r"needs the plugins my_system\.py"):
            load_recipe(folder / "recipe.yaml")
        assert not (folder / "imported").exists()
    finally:
        (folder / "my_system.py").write_text(text, encoding="utf-8")


@pytest.fixture
def forgotten():
    """Whatever a test registers and imports from outside is forgotten after it."""
    for name in SYSTEMS.names():
        system_class(name)  # imported once: a later import would not register again
    kept = [(known, dict(known._things)) for known in (SYSTEMS, TERMS, CORPORA)]
    yield
    for known, things in kept:
        known._left_out.clear()
        known._things.clear()
        known._things.update(things)
    registry._LOADED.clear()
    for name in [name for name in sys.modules if name.startswith(("signcl_plugin_", "outside_"))]:
        del sys.modules[name]


@pytest.fixture
def outside(folder, forgotten, monkeypatch):
    """The example imported here."""
    monkeypatch.chdir(folder)
    load_plugins(["my_system.py"])
    return folder


def test_the_example_passes_the_checks_as_shown(outside, capsys):
    (outside / "check.py").write_text(blocks("adding-a-system.md", "python")[1], encoding="utf-8")
    exec((outside / "check.py").read_text(), {})
    said = "['documented', 'terms', 'padding', 'taps', 'saved', 'half', 'probability', 'by_heart']\n36\n"
    assert said in capsys.readouterr().out


def test_a_bad_value_of_an_outside_system_is_one_line_with_its_bounds(outside):
    with pytest.raises(ValueError, match=r"model\.width: needs a number from 4 to 4096, got 3"):
        recipe_from_dict({"model": {"name": "recurrent", "width": 3}})
    with pytest.raises(ValueError, match=r"model\.widht; did you mean model\.width\?"):
        recipe_from_dict({"model": {"name": "recurrent", "widht": 8}})
    with pytest.raises(ValueError, match="stage pretrain trains"):
        recipe_from_dict({"stage": "pretrain", "model": {"name": "recurrent"}})


def test_a_name_is_given_once(outside):
    class Second(system_class("recurrent")):
        pass

    with pytest.raises(ValueError, match="there is already a system 'recurrent'"):
        SYSTEMS.add("recurrent", Second)
    with pytest.raises(ValueError, match=r"there is already a system 'slt'|signcl already has a system 'slt'"):
        SYSTEMS.add("slt", Second)


def test_a_term_with_settings_as_the_page_of_losses_shows(outside, capsys):
    (outside / "my_loss.py").write_text(blocks("adding-a-loss.md", "python")[0], encoding="utf-8")
    exec(blocks("adding-a-loss.md", "python")[1], {})
    assert "['terms', 'half']" in capsys.readouterr().out
    loss = {"weights": {"translation": 1.0, "norm": 0.01}, "norm": {"target": 8.0}}
    recipe = recipe_from_dict({"loss": loss})
    assert recipe.loss.sections["norm"].target == 8.0
    again = recipe_from_dict(recipe_to_dict(recipe))
    assert again == recipe
    assert recipe_to_dict(recipe)["loss"]["norm"] == {"target": 8.0}
    with pytest.raises(ValueError, match=r"loss\.norm\.target: needs a number above 0"):
        recipe_from_dict({"loss": {**loss, "norm": {"target": -1.0}}})
    with pytest.raises(ValueError, match=r"loss\.norm: these settings need a weight"):
        recipe_from_dict({"loss": {"weights": {"translation": 1.0}, "norm": {"target": 8.0}}})
    assert blocks("adding-a-loss.md", "yaml")[0].count("norm") == 2


def test_an_installed_entry_point_is_found_by_name(outside, monkeypatch):
    module = next(name for name in sys.modules if name.startswith("signcl_plugin_my_system"))
    entry = EntryPoint("recurrent", f"{module}:Recurrent", "signcl.systems")
    known = Registry("system", key="model.name", entry_points="signcl.systems")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == "signcl.systems" else [])
    assert known.names() == ["recurrent"]
    assert known["recurrent"] is system_class("recurrent")
    broken = EntryPoint("broken", "no_such_package.here:Thing", "signcl.systems")
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken])
    with pytest.raises(ValueError, match=r"the system .broken. of the installed package .* cannot be loaded"):
        known["broken"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.py", None, "no plugin at gone.py; the path is relative to the current folder, /.*; give the path"),
        ("no_such_package_here.mine", None, "no plugin no_such_package_here.mine"),
        ("bad.py", "raise RuntimeError('boom')\n", r"the plugin bad.py fails: RuntimeError: boom \(.*bad.py, line 1\)"),
        ("needs.py", "import no_such_package_here\n", "needs the module no_such_package_here, which is not installed"),
        (
            "syntax.py",
            "x = 1\ndef (\n",
            r"the plugin syntax.py fails: SyntaxError: invalid syntax \(.*syntax.py, line 2\)$",
        ),
        ("number.py", "\nint('x')\n", r"the plugin number.py fails: ValueError: invalid .* \(.*number.py, line 2\)$"),
        (
            "melted.py",
            "from dataclasses import dataclass\nfrom signcl import System\nclass S(System):\n"
            "    @dataclass(kw_only=True)\n    class Config(System.Config):\n        name: str = 'melted'\n",
            r"the plugin melted.py fails: TypeError: cannot inherit .* \(.*melted.py, line \d\)$",
        ),
        (
            "taken.py",
            "from signcl import register_corpus\n@register_corpus('folder')\ndef read(root, split): ...\n",
            "^(signcl already has|there is already) a corpus 'folder'.*; give yours another name$",
        ),
    ],
)
def test_a_plugin_that_cannot_be_is_one_line(name, content, message, tmp_path, monkeypatch, forgotten):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_plugins([name])


def test_the_checks_fail_where_a_system_is_wrong(outside):
    good = system_class("recurrent")

    class Leaky(good):
        """Its states are a running sum that padding reaches from the left: the mean over padding is added."""

        def forward(self, batch):
            out = super().forward(batch)
            shifted = out.steps + out.steps.mean(dim=1, keepdim=True) + out.steps.shape[1]
            return type(out)(out.features, out.lengths, shifted, out.step_lengths, logits=out.logits)

    with pytest.raises(AssertionError, match="output steps depends on padding"):
        check_system(Leaky, checks=["padding"])

    class Deaf(good):
        """SignCL and translation never reach the frame encoder."""

        def _steps(self, batch):
            features, steps, lengths = super()._steps(batch)
            return features.detach(), steps.detach(), lengths

    with pytest.raises(AssertionError, match="the term translation does not reach the frame encoder"):
        check_system(Deaf, checks=["terms"])
    with pytest.raises(ValueError, match="the checks are documented, terms"):
        check_system(good, checks=["nothing"])


def one_line(*words: str, capsys) -> str:
    """What a command in this process says where it refuses: one line, without a traceback."""
    capsys.readouterr()
    assert main([*words]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def plugin(place: Path, name: str, text: str) -> str:
    (place / name).write_text(text, encoding="utf-8")
    return name


READER = """from signcl import register_corpus
@register_corpus("alone")
def read(root, split, *, fail=False):
    raise ValueError(f"{root}: corpus alone needs a file of sentences")
"""


def test_an_error_that_a_plugins_reader_raises_is_one_line(tmp_path, monkeypatch, capsys, forgotten):
    monkeypatch.chdir(tmp_path)
    words = ("corpus", "stats", ".", "--corpus", "alone", "--plugins", plugin(tmp_path, "alone.py", READER))
    assert one_line(*words, capsys=capsys) == "signcl: .: corpus alone needs a file of sentences"


def test_an_error_that_an_installed_reader_raises_is_one_line(tmp_path, monkeypatch, capsys, forgotten):
    plugin(tmp_path, "outside_reader.py", READER.replace('@register_corpus("alone")\n', ""))
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, EntryPoint("alone", "outside_reader:read", "signcl.corpora"))
    said = one_line("corpus", "stats", str(tmp_path), "--corpus", "alone", capsys=capsys)
    assert said.endswith("corpus alone needs a file of sentences")


def announce(monkeypatch, *entries: EntryPoint) -> None:
    """Entry points of installed packages, in place of the real ones."""
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])


def test_fit_records_the_plugins_of_the_command_line_once(outside, capsys):
    text = (outside / "recipe.yaml").read_text(encoding="utf-8").replace("plugins: [my_system.py]\n", "")
    (outside / "plain.yaml").write_text(text, encoding="utf-8")
    short = ("--train.epochs=1", "--train.evaluate_every=1", "--out=runs/plain")
    assert main(["fit", "plain.yaml", "--plugins", "my_system.py", *short]) == 0
    assert "plugins:\n- my_system.py\nlogger:" in (outside / "runs/plain/recipe.yaml").read_text(encoding="utf-8")
    assert list(json.loads((outside / "runs/plain/card.json").read_text())["plugins"]) == ["my_system.py"]
    # the same file by another path, in the recipe and on the command line, is no other recipe
    assert main(["fit", "plain.yaml", "--plugins", "./my_system.py", *short]) == 0
    assert main(["fit", "recipe.yaml", "--plugins", "./my_system.py", *short]) == 0
    assert "has changed" not in capsys.readouterr().err


def test_a_plugin_that_changed_since_training_is_said(outside, monkeypatch, capsys):
    monkeypatch.setitem(registry._LOADED, "my_system.py", "0" * 16)
    assert main(["fit", "recipe.yaml"]) == 0  # finished: nothing is trained
    assert "my_system.py has changed since runs/recurrent was trained with it" in capsys.readouterr().err
    load_run("runs/recurrent")
    said = capsys.readouterr().err
    assert "my_system.py has changed since runs/recurrent was trained with it" in said
    assert len(said.strip().splitlines()) == 1
    monkeypatch.undo()
    monkeypatch.chdir(outside)
    load_run("runs/recurrent")
    assert "has changed" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ("corpus: {name: alone}", "corpus.name: needs one of"),
        ("loss: {weights: {translation: 1.0, alone: 1.0}}", "loss.weights.alone: gfslt computes"),
        ("model: {name: alone}", "model.name: needs one of"),
        ("loss: {weights: {translation: 1.0}, alone: {a: 1}}", "unknown recipe key loss.alone"),
    ],
)
def test_a_plugin_is_named_whatever_it_holds(recipe, error, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(f"plugins: [alone.py]\n{recipe}\n")
    said = one_line("evaluate", str(tmp_path), capsys=capsys)
    assert "it needs the plugins alone.py" in said
    assert "add --plugins alone.py (in Python: signcl.load_plugins(['alone.py']))" in said
    assert error in said


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", r"plugins: needs a list of files or modules such as .*, got 5$"),
        ("my.py", r"plugins: needs a list of files or modules, got 'my.py'; write plugins: \[my.py\]$"),
        ("[3]", r"plugins: needs a list of files or modules such as .*, got \[3\]$"),
        ("{a: b}", r"plugins: needs a list of files or modules such as .*, got \{'a': 'b'\}$"),
    ],
)
def test_plugins_that_are_no_list_are_one_line(value, message, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(f"plugins: {value}\n")
    for verb in (("fit", str(tmp_path / "recipe.yaml")), ("evaluate", str(tmp_path))):
        assert re.search(message, one_line(*verb, capsys=capsys))
    with pytest.raises(ValueError, match=r"write plugins: \[my.py\]"):
        load_plugins("my.py")


def test_a_broken_installed_package_does_not_break_what_does_not_need_it(monkeypatch, capsys, forgotten):
    announce(monkeypatch, EntryPoint("broken", "no_such_package.here:Thing", "signcl.systems"))
    assert main(["systems"]) == 0
    shown = capsys.readouterr()
    assert "gfslt" in shown.out
    assert "broken" not in shown.out
    assert shown.err.count("left out: the system 'broken' of the installed package") == 1
    announce(monkeypatch, EntryPoint("broken", "no_such_package.here:thing", "signcl.terms"))
    assert "bleu4" in shown_scores([])
    assert recipe_from_dict({"loss": {"weights": {"translation": 1.0}}}).terms.keys() == {"translation"}
    assert "left out: the loss term 'broken' of the installed package" in capsys.readouterr().err
    announce(monkeypatch, EntryPoint("broken", "no_such_package.here:Thing", "signcl.systems"))
    for recipe, message in (
        ({"model": {"lm": {}}}, r"unknown recipe key model\.lm: model\.lm belongs to"),
        ({"stage": "pretrain", "model": {"name": "gfslt"}}, r"stage pretrain trains model\.name=pgp or vlp, got gfslt"),
        ({"loss": {"weights": {"translations": 1.0}}}, r"loss\.weights\.translations: gfslt computes"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe_from_dict(recipe)
    assert capsys.readouterr().err == ""  # said once
    with pytest.raises(
        ValueError, match=r"the system 'broken' of the installed package .* cannot be loaded: ModuleNot"
    ):
        system_class("broken")


SYSTEM = """from dataclasses import dataclass
from signcl import System
class S(System):
    @dataclass(frozen=True, kw_only=True)
    class Config(System.Config):
        name: str = "s_name"
def term(outputs, batch): return outputs.features.mean()
def reader(root, split, clips=3): return []
number = 3
"""


def test_what_an_entry_point_gives_is_checked(tmp_path, monkeypatch, forgotten):
    plugin(tmp_path, "outside_kinds.py", SYSTEM)
    monkeypatch.syspath_prepend(tmp_path)
    groups = {"signcl.systems": SYSTEMS, "signcl.corpora": CORPORA, "signcl.terms": TERMS}

    def loaded(name: str, value: str, group: str):
        announce(monkeypatch, EntryPoint(name, f"outside_kinds{value}", group))
        return groups[group][name]

    assert loaded("s_name", ":S", "signcl.systems").title == ""
    assert loaded("mean", ":term", "signcl.terms").function.__name__ == "term"
    for name, value, group, message in (
        ("other", ":S", "signcl.systems", "S.Config has the name 's_name'; call the entry point s_name"),
        ("term", ":term", "signcl.systems", "a class derived from signcl.System is needed, got <function term"),
        ("module", "", "signcl.systems", "outside_kinds registers no system named module"),
        ("module", "", "signcl.terms", "outside_kinds registers no loss term named module"),
        (
            "number",
            ":number",
            "signcl.terms",
            r"a function \(outputs, batch\) or a signcl.systems.Term is needed, got 3",
        ),
        ("number", ":number", "signcl.corpora", "needs a function .*, got 3"),
        ("reader", ":reader", "signcl.corpora", "options of its reader must be keyword-only, got 'clips=3' in reader"),
        ("gone", ":gone", "signcl.corpora", "cannot be loaded: AttributeError"),
    ):
        with pytest.raises(ValueError, match=f"{name}' of the installed package outside_kinds.*{message}"):
            loaded(name, value, group)


def test_a_file_of_the_package_that_registers_another_name_is_named(tmp_path, monkeypatch):
    package = tmp_path / "outside_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "foo.py").write_text("")
    (package / "bad.py").write_text("\nint('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    known = Registry("system", key="model.name", entry_points="signcl.none", package="outside_package")
    with pytest.raises(ValueError, match=r"^foo.py registers no system named foo; give the file the registered name$"):
        known["foo"]
    with pytest.raises(ValueError, match=r"^the system 'bad' cannot be loaded: ValueError: .*bad.py, line 2\)$"):
        known["bad"]
    assert known.loadable() == []


def test_python_m_finds_no_code_in_the_current_folder(tmp_path):
    """A run folder from a stranger, with a package that looks installed, and a module that hides one of ours."""
    info = tmp_path / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[signcl.systems]\nevil = evil_mod:Evil\n")
    touch = "import pathlib; pathlib.Path('imported').touch()\n"
    for name in ("evil_mod.py", "yaml.py"):
        (tmp_path / name).write_text(touch)
    assert "evil" not in command("systems", cwd=tmp_path).stdout
    assert not (tmp_path / "imported").exists()


def test_a_list_of_keys_runs_no_plugin(tmp_path, monkeypatch, capsys, forgotten):
    monkeypatch.chdir(tmp_path)
    plugin(tmp_path, "marks.py", "import pathlib; pathlib.Path('imported').touch()\n")
    (tmp_path / "recipe.yaml").write_text("plugins: [marks.py]\nmodel: {name: mine}\n")
    assert "add --plugins marks.py" in one_line("fit", "recipe.yaml", "--keys", capsys=capsys)
    assert not (tmp_path / "imported").exists()


def test_a_config_without_dataclass_is_named():
    class Config(System.Config):
        name: str = "forgotten"

    class OfGFSLT(system_class("gfslt").Config):
        name: str = "forgotten"

    for config in (Config, OfGFSLT):
        with pytest.raises(ValueError, match=r"Mine.Config needs the line `@dataclass\(frozen=True, kw_only=True\)`"):
            register(type("Mine", (System,), {"Config": config}))


def test_options_of_a_corpus_are_keyword_only():
    message = (
        r"corpus absent: options of its reader must be keyword-only, got 'clips=3' in read; write read\(root, split, "
    )
    with pytest.raises(ValueError, match=message):

        @register_corpus("absent")
        def read(root, split, clips=3):
            return []

    with pytest.raises(ValueError, match=r"corpus absent: the function must take \(root, split, \*, options\), got"):
        register_corpus("absent")(lambda root: [])
    with pytest.raises(ValueError, match=r"the option clips of .* needs a default"):
        register_corpus("absent")(lambda root, split, *, clips: [])
    assert "absent" not in CORPORA


def test_a_registry_lists_its_names():
    assert list(CORPORA) == CORPORA.names()
    assert len(CORPORA) == len(CORPORA.names()) > 3
    assert sorted(SYSTEMS) == sorted(SYSTEMS.names())
