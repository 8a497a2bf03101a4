"""The run card: what was trained, on what, from which weights, by which command; and where the recipes differ."""

from __future__ import annotations

import shlex
from typing import Any

from signcl.pages.markup import Cell, Html, code, decimals, duration, html, joined, key, table, text
from signcl.pages.report_runs import RunFiles
from signcl.training.recipe import recipe_to_dict

__all__ = ["cards_section", "flat", "what_was_trained"]

STAGES = {"recognise": "trained to recognise", "pretrain": "pretrained", "finetune": "finetuned"}
NOT_DIFFERENCES = ("out",)  # every run has its own


def what_was_trained(runs: list[RunFiles]) -> Html:
    """System, corpus and clips in a sentence, once if all runs share it, and the loss of each run."""
    facts, losses = [], []
    for run in runs:
        recipe, clips, frames = run.recipe, run.card.get("clips", {}), run.card.get("frames", {})
        system = f"{recipe.system.label or recipe.model.name} ({recipe.model.visual})"
        facts.append(
            f"{system}, {STAGES.get(recipe.stage, recipe.stage)} on {recipe.corpus.name}: "
            f"{decimals(clips.get('train'), 0)} training clips ({decimals(frames.get('train'), 0)} frames), "
            f"{run.card.get('epochs', 0)} epochs, seed {recipe.train.seed}."
        )
        losses.append("Loss: " + " + ".join(f"{weight:g} {name}" for name, weight in recipe.loss.weights.items()))
    if len(set(facts)) == 1:
        shared = html('<p class="facts">{}</p>', facts[0])
    else:
        shared, losses = Html(), [f"{fact} {loss}" for fact, loss in zip(facts, losses)]
    own = [html("<span>{} {}</span>", key(i, run.label), loss) for i, (run, loss) in enumerate(zip(runs, losses))]
    return shared + html('<p class="facts each">{}</p>', joined(own))


def cards_section(runs: list[RunFiles]) -> Html:
    """A table of facts with a column per run, the differences between the recipes, and the recipes."""
    columns = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    header = [key(i, run.label) for i, run in enumerate(runs)]
    parts = [table(header, rows, caption="Run card", kind="words", name="Run")]
    if len(runs) > 1:
        parts.append(_recipe_differences(runs, header))
    for i, run in enumerate(runs):
        content = (run.folder / "recipe.yaml").read_text(encoding="utf-8")
        details = "<details><summary>Recipe of {}</summary><pre>{}</pre></details>"
        parts.append(html(details, key(i, run.label), content))
    return joined(parts)


def flat(recipe: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Flatten nested recipe keys to `section.key`."""
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, dict):
            found |= flat(value, f"{where}{name}.")
        else:
            found[where + name] = value
    return found


def _facts(run: RunFiles) -> dict[str, Cell | str]:
    card = run.card
    clips, frames = card.get("clips", {}), card.get("frames", {})
    facts: dict[str, Cell | str] = {"Folder": code(run.folder), "Stage": text(run.recipe.stage)}
    facts["Corpus"] = html("{} in {}", run.recipe.corpus.name, code(run.recipe.corpus.root))
    for split in clips:
        facts[f"Clips, {split}"] = f"{decimals(clips[split], 0)} ({decimals(frames.get(split), 0)} frames)"
    facts["Parameters"] = decimals(card.get("parameters"), 0)
    if run.recipe.model.init_from:
        facts["Started from"] = code(run.recipe.model.init_from)
    if card.get("initialised"):
        facts["Weights taken over"] = joined(card["initialised"], html("<br>"))
    facts["Trained"] = (
        f"{card.get('epochs', '–')} epochs, {card.get('steps', '–')} steps, {duration(card.get('seconds', 0))}"
    )
    if card.get("best") is not None:
        select = run.recipe.select
        facts["Weights kept by"] = html("dev {} {}", code(select.lstrip("-")), decimals(abs(card["best"])))
    facts["Device"] = text(card.get("device", "–")) + (f" × {card['ranks']}" if card.get("ranks", 1) > 1 else "")
    facts["Seed"] = text(card.get("seed", "–"))
    facts["Commit"] = code(card["commit"]) if card.get("commit") else "–"
    facts["Command"] = code(_command(str(card.get("command", "–"))))
    facts["Versions"] = text(", ".join(f"{name} {version}" for name, version in card.get("versions", {}).items()))
    facts["Skipped clips"] = _skipped(card.get("broken", {}))
    if card.get("cut_sentences"):
        facts["Sentences cut"] = f"{card['cut_sentences']} to {run.recipe.text.max_tokens} tokens"
    return facts


def _command(words: str) -> str:
    """The command without the folder of the installed program."""
    first, _, rest = words.partition(" ")
    return f"{first.rsplit('/', 1)[-1]} {rest}".strip()


def _skipped(broken: dict[str, str]) -> Cell | str:
    if not broken:
        return "none"
    lines = [html("<li>{}: {}</li>", name, reason) for name, reason in list(broken.items())[:50]]
    lines += [html("<li>and {} more, all in card.json</li>", len(broken) - 50)] if len(broken) > 50 else []
    return html("<details><summary>{}</summary><ul>{}</ul></details>", len(broken), joined(lines))


def _recipe_differences(runs: list[RunFiles], header: list[Cell]) -> Html:
    recipes = [flat(recipe_to_dict(run.recipe)) for run in runs]
    names = [n for n in dict.fromkeys(n for r in recipes for n in r) if n not in NOT_DIFFERENCES]
    missing = object()
    rows = [
        [code(n), *(code(r[n]) if n in r else "–" for r in recipes)]
        for n in names
        if any(r.get(n, missing) != recipes[0].get(n, missing) for r in recipes)
    ]
    if not rows:
        return html('<p class="note">The recipes differ only in the folder.</p>')
    whole = table(header, rows, caption="Recipe keys that differ between the runs", kind="words", name="Key")
    return html("<h3>Where the recipes differ</h3>{}", whole)


def quoted(runs: list[RunFiles]) -> str:
    """The command that makes this page."""
    split = "" if runs[0].split == "test" else f" --split {shlex.quote(runs[0].split)}"
    return "signcl report " + " ".join(shlex.quote(str(run.folder)) for run in runs) + split
