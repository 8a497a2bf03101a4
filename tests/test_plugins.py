"""A system, a term and a corpus from outside: what the docs on adding a system and a loss show, run as shown.

Every command runs in a new process, as a user's would.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from signcl import load_plugins, load_recipe
from signcl.data import registry
from signcl.data.registry import Registry
from signcl.systems import SYSTEMS, system_class
from signcl.systems.terms import TERMS
from signcl.testing import check_system
from signcl.training.recipe import recipe_from_dict, recipe_to_dict

ROOT = Path(__file__).parents[1]
SIGNCL = [sys.executable, "-m", "signcl"]


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def command(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*SIGNCL, *words], cwd=cwd, env=environment, capture_output=True, text=True)
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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    fit = [*SIGNCL, "fit", "recipe.yaml"]
    first = subprocess.Popen(fit, cwd=place, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    state = place / "runs/recurrent/state/last.pt"
    for _ in range(1200):
        if state.is_file() or first.poll() is not None:
            break
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
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
def outside(folder, monkeypatch):
    """The example imported here, and forgotten afterwards."""
    for name in SYSTEMS.names():
        system_class(name)  # imported once: a later import would not register again
    kept = [(r, dict(r._things)) for r in (SYSTEMS, TERMS, registry_of_corpora())]
    monkeypatch.chdir(folder)
    load_plugins(["my_system.py"])
    yield folder
    for known, things in kept:
        known._things.clear()
        known._things.update(things)
    registry._LOADED.clear()
    for name in [name for name in sys.modules if name.startswith("signcl_plugin_")]:
        del sys.modules[name]


def registry_of_corpora() -> Registry:
    from signcl.data.corpora import CORPORA

    return CORPORA


def test_the_example_passes_the_checks_as_shown(outside, capsys):
    (outside / "check.py").write_text(blocks("adding-a-system.md", "python")[1], encoding="utf-8")
    exec((outside / "check.py").read_text(), {})
    assert "['documented', 'terms', 'padding', 'taps', 'saved', 'half', 'by_heart']\n36\n" in capsys.readouterr().out


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

    with pytest.raises(ValueError, match="there is a system 'recurrent' already"):
        SYSTEMS.add("recurrent", Second)
    with pytest.raises(ValueError, match=r"there is a system 'slt' already|signcl has a system 'slt' of its own"):
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
        ("gone.py", None, "no plugin at gone.py"),
        ("no_such_package_here.mine", None, "no plugin no_such_package_here.mine"),
        ("bad.py", "raise RuntimeError('boom')\n", r"the plugin bad.py fails: RuntimeError: boom \(.*bad.py, line 1\)"),
        ("needs.py", "import no_such_package_here\n", "needs the module no_such_package_here, which is not installed"),
        ("syntax.py", "def (\n", "the plugin syntax.py fails: SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_is_one_line(name, content, message, tmp_path, monkeypatch):
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
