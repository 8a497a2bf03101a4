"""The run card: what was trained, on what, from which weights, by which command; and where the recipes differ."""

from __future__ import annotations

import shlex
from typing import Any

from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Cell, Html, code, duration, html, joined, key, table, text
from signcl.pages.page_words import Words
from signcl.pages.report_runs import RunFiles
from signcl.training.recipe import recipe_to_dict

__all__ = ["cards_section", "flat", "what_was_trained"]

STAGES = ("recognise", "pretrain", "finetune")
NOT_DIFFERENCES = ("out",)  # every run has its own


def what_was_trained(runs: list[RunFiles], say: Words) -> Html:
    """System, corpus and clips in a sentence, once if all runs share it, and the loss of each run."""
    facts, losses = [], []
    for run in runs:
        recipe, clips, frames = run.recipe, run.card.get("clips", {}), run.card.get("frames", {})
        system = f"{recipe.system.label or recipe.model.name} ({recipe.model.visual})"
        facts.append(
            say.plain(
                f"card.trained_{recipe.stage if recipe.stage in STAGES else 'otherwise'}",
                system=system,
                corpus=recipe.corpus.name,
                stage=recipe.stage,
                clips=say.decimals(clips.get("train"), 0),
                frames=say.decimals(frames.get("train"), 0),
                epochs=run.card.get("epochs", 0),
                seed=recipe.train.seed,
            )
        )
        terms = (f"{say.localized(f'{weight:g}')} {name}" for name, weight in recipe.loss.weights.items())
        losses.append(say.plain("card.loss", terms=" + ".join(terms)))
    if len(set(facts)) == 1:
        shared = html('<p class="facts">{}</p>', facts[0])
    else:
        shared, losses = Html(), [f"{fact} {loss}" for fact, loss in zip(facts, losses)]
    own = [html("<span>{} {}</span>", key(i, run.label), loss) for i, (run, loss) in enumerate(zip(runs, losses))]
    return shared + html('<p class="facts each">{}</p>', joined(own))


def cards_section(runs: list[RunFiles], say: Words) -> Html:
    """A table of facts with a column per run, the differences between the recipes, and the recipes."""
    columns = [_facts(run, say) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    header = [key(i, run.label) for i, run in enumerate(runs)]
    parts = [table(header, rows, caption=say.plain("report.card"), kind="words", name=say("card.run"))]
    if len(runs) > 1:
        parts.append(_recipe_differences(runs, header, say))
    for i, run in enumerate(runs):
        content = (run.folder / "recipe.yaml").read_text(encoding="utf-8")
        details = "<details><summary>{}</summary><pre>{}</pre></details>"
        parts.append(html(details, say("card.recipe", run=key(i, run.label)), content))
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


def _facts(run: RunFiles, say: Words) -> dict[str, Cell | str]:
    card = run.card
    clips, frames = card.get("clips", {}), card.get("frames", {})
    facts: dict[str, Cell | str] = {"folder": code(run.folder), "stage": text(run.recipe.stage)}
    facts["corpus"] = say("card.corpus_in", corpus=run.recipe.corpus.name, folder=code(run.recipe.corpus.root))
    for split in clips:
        counts = say.decimals(clips[split], 0), say.decimals(frames.get(split), 0)
        facts[f"clips.{split}"] = say("card.clips_frames", clips=counts[0], frames=counts[1])
    facts["parameters"] = say.decimals(card.get("parameters"), 0)
    if run.recipe.model.init_from:
        facts["started"] = code(run.recipe.model.init_from)
    if card.get("initialised"):
        facts["taken"] = joined(card["initialised"], html("<br>"))
    facts["trained"] = say(
        "card.trained_for",
        epochs=card.get("epochs", "–"),
        steps=card.get("steps", "–"),
        time=duration(card.get("seconds", 0)),
    )
    if card.get("best") is not None:
        select = run.recipe.select
        facts["kept"] = html("dev {} {}", code(select.lstrip("-")), say.decimals(abs(card["best"])))
    facts["device"] = text(card.get("device", "–")) + (f" × {card['ranks']}" if card.get("ranks", 1) > 1 else "")
    facts["seed"] = text(card.get("seed", "–"))
    facts["commit"] = code(card["commit"]) if card.get("commit") else "–"
    facts["command"] = code(_command(str(card.get("command", "–"))))
    facts["versions"] = text(", ".join(f"{name} {version}" for name, version in card.get("versions", {}).items()))
    facts["skipped"] = _skipped(card.get("broken", {}), say)
    if card.get("cut_sentences"):
        facts["cut"] = say("card.cut_to", count=card["cut_sentences"], tokens=run.recipe.text.max_tokens)
    return {_fact(name, say): cell for name, cell in facts.items()}


def _fact(name: str, say: Words) -> str:
    first, _, split = name.partition(".")
    return say.plain(f"card.row_{first}", split=split) if split else say.plain(f"card.row_{first}")


def _command(words: str) -> str:
    """The command without the folder of the installed program."""
    first, _, rest = words.partition(" ")
    return f"{first.rsplit('/', 1)[-1]} {rest}".strip()


def _skipped(broken: dict[str, str], say: Words) -> Cell | str:
    if not broken:
        return say("none")
    lines = [html("<li>{}: {}</li>", name, say.english(reason)) for name, reason in list(broken.items())[:50]]
    if len(broken) > 50:
        lines.append(html("<li>{}</li>", say("card.more_skipped", count=len(broken) - 50)))
    return html("<details><summary>{}</summary><ul>{}</ul></details>", len(broken), joined(lines))


def _recipe_differences(runs: list[RunFiles], header: list[Cell], say: Words) -> Html:
    recipes = [flat(recipe_to_dict(run.recipe)) for run in runs]
    names = [n for n in dict.fromkeys(n for r in recipes for n in r) if n not in NOT_DIFFERENCES]
    missing = object()
    rows = [
        [code(n), *(code(r[n]) if n in r else "–" for r in recipes)]
        for n in names
        if any(r.get(n, missing) != recipes[0].get(n, missing) for r in recipes)
    ]
    if not rows:
        return html('<p class="note">{}</p>', say("card.same_recipes"))
    whole = table(header, rows, caption=say.plain("card.keys_differ"), kind="words", name=say("card.key"))
    return html("<h3>{}</h3>{}", say("card.recipes_differ"), whole)


def quoted(runs: list[RunFiles], language: str) -> str:
    """The command that makes this page."""
    split = "" if runs[0].split == "test" else f" --split {shlex.quote(runs[0].split)}"
    chosen = "" if language == LANGUAGES[0] else f" --language {language}"
    return "signcl report " + " ".join(shlex.quote(str(run.folder)) for run in runs) + split + chosen
