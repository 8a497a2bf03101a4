"""Writes the page, the table, the contrasts and the picture of `paper.density_effect` from its committed numbers.

The page is reproduced in seconds, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from paper.effect_analysis import ALL_WORDS, LOSSES, SHOWN, WITHOUT_SHORT, analyse, pushed_nothing
from paper.output import Claim, Table
from paper.pooled import Contrast, p_shown, verdict
from paper.raw_results import Rows, read_rows
from signcl.data.files import atomic_write, write_text

__all__ = ["ARMS", "PREREGISTERED", "RUNS", "block_of", "winners", "write_effect_page"]

T = TypeVar("T")
PREREGISTERED = "5d601f7"
"""The commit that fixed the design, before every run."""


RUNS = {"core": 96, "challengers": 96, "all-words": 96}
"""Number of runs in the design: 8 seeds of each arm in each start."""
TITLES = {
    "core": "The core",
    "challengers": "The challengers, with fresh seeds",
    "all-words": "The word losses again, with short words",
}
OPTIONS = {"core": "", "challengers": " --challengers", "all-words": " --all-words"}
STARTS = {"random": "random weights", "signs": "an encoder of other signs"}
"""How the page names the starts."""
ARMS = {
    "none": "translation alone",
    "pull": "the pull of SignCL alone, weight .03",
    "push": "the push of SignCL alone, weight .03",
    "both": "SignCL, weight .03; its margin is the mean distance between signs without SignCL",
    "paper": "SignCL with the paper's weight .01 and margin 64",
    "slow + SIGReg": "neighbouring frames together, and all features towards an isotropic Gaussian, instead of SignCL",
    "slow + invariance + SIGReg": "the same, and two noisy views of a clip together",
    "word-aware SignCL": "SignCL, weight .03, which spares far frames of one word",
    "word contrast": "frames of one word in different clips together, weight .1",
    "word-aware SignCL, all words": "the same as word-aware SignCL, and words of up to three letters are used too",
    "word contrast, all words": "the same as word contrast, and words of up to three letters are used too",
}
"""What each arm trains with, in the order of the page."""
COMMAND = "python -m paper.density_effect --from-results"
QUESTIONS = {
    ("both", "none"): ("Does SignCL raise BLEU-4?", "SignCL raises BLEU-4"),
    ("both", "pull"): ("Does the push of SignCL add to its pull?", "SignCL raises BLEU-4 over its pull alone"),
    **{
        (loss, other): (question.format(loss=shown), claim.format(loss=shown))
        for loss in ("slow + SIGReg", *LOSSES["challengers"], *LOSSES["all-words"])
        for shown in (loss.replace(", all", " with all"),)
        for other, question, claim in (
            ("none", "Does {loss} raise BLEU-4?", "{loss} raises BLEU-4"),
            ("both", "Is {loss} better than SignCL?", "{loss} raises BLEU-4 over SignCL"),
        )
    },
    ("slow + invariance + SIGReg", "slow + SIGReg"): (
        "Does invariance add to slow + SIGReg?",
        "slow + invariance + SIGReg raises BLEU-4 over slow + SIGReg",
    ),
}
"""Primary contrast -> the question on its page, and the claim in `paper/README.md`."""


def write_effect_page(results: Path, page: Path, title: str) -> None:
    """Writes the page, the tables, the contrasts as CSV, and the pictures from the committed numbers.

    Raises:
        ValueError: no runs yet.
    """
    rows, answers, references = read_rows(results)
    if not rows:
        raise ValueError(f"no runs at {results}; run `python -m paper.density_effect --minutes 60` first")
    parts = [_head(title, rows)]
    for name in RUNS:
        block = block_of(name, rows)
        if not block:
            continue
        told = {key: answers[key] for key in block if key in answers}
        found = analyse(block, told, references)
        where = f"results/{results.name}" if page.parent != results else "."
        picture = f"![gain in BLEU-4 against change in SDR and in retrieval]({where}/gains-{name}.png)"
        parts.append(_block(name, found, picture))
        _write_contrasts(results / f"contrasts-{name}.csv", found)
        _table(name, found, block, title).write(results)
        _picture(results / f"gains-{name}.png", {key: row for key, row in block.items() if not pushed_nothing(row)})
    write_text(page, "\n".join(parts))


def block_of(name: str, rows: Rows) -> Rows:
    """The runs of a block. The first seeds are the core's; the block all-words has no runs without its own losses."""
    if name == "core":
        return {key: row for key, row in rows.items() if key[2] < 100}
    own = {key: row for key, row in rows.items() if key[2] >= 100}
    again = LOSSES["all-words"]
    if name == "challengers":
        return {key: row for key, row in own.items() if key[1] not in again}
    if not any(arm in again for _, arm, _ in own):
        return {}
    compared = {arm for pair in (*ALL_WORDS, *WITHOUT_SHORT) for arm in pair}
    return {key: row for key, row in own.items() if key[1] in compared}


def winners(found: Mapping[str, Any], losses: Sequence[str] = LOSSES["core"]) -> list[str]:
    """The losses that meet the design's rule: supported over none, with a higher mean mAP, in both starts."""
    raised = {(start, *pair) for pair, start, contrast in _primary(found) if verdict(contrast) == "supported"}
    retrieval = {c.name: c.estimate for c in found["map"]}
    return [
        loss
        for loss in losses
        if all((start, loss, "none") in raised and retrieval[f"{start}: {loss} − none"] > 0 for start in STARTS)
    ]


def _complete(name: str, found: Mapping[str, Any]) -> bool:
    return bool(found["runs"] >= RUNS[name])


def _head(title: str, rows: Rows) -> str:
    hours = sum(row["seconds"] for row in rows.values()) / 3600
    return (
        "# Does a lower density translate better?\n\n"
        f"`{COMMAND}` writes this page from `runs.csv` and `predictions.tsv.gz` "
        f"({len(rows)} runs, {hours:.1f} hours of training on one core each; {title}). "
        f"[preregistered.md](preregistered.md) fixed the corpus, the arms and the analysis in commit "
        f"`{PREREGISTERED}`, before the first run.\n"
    )


def _block(name: str, found: dict[str, Any], picture: str) -> str:
    whole = _complete(name, found)
    lines = [f"## {TITLES[name]}", ""]
    if whole:
        lines += ["### Answers", "", *_answers(found), ""]
        won = " and ".join(winners(found, LOSSES[name]))
        lines += [
            f"By the rule of the design (supported over none and a higher mAP, in both starts), "
            f"{f'the winner is {won}' if won else 'no loss is a winner'}.",
            "",
        ]
    lines += [picture, "", "A small mark is a run, a large one the mean of an arm in one start.", ""]
    lines += ["### Scores", "", *_scores(name, found), "", "### Contrasts", "", *_contrasts(found, whole=whole), ""]
    lines += ["### What goes with BLEU-4 over all runs", ""]
    lines += ["Linear regression of BLEU-4 on SDR and on mAP, with an intercept for each start:", ""]
    lines += [*_slopes(found["mediation"]), ""]
    return "\n".join([*lines, *(_explored(found["explored"]) if name == "core" else [])])


def _explored(found: Mapping[str, Any]) -> list[str]:
    lines = ["### Explored after the results were known", ""]
    lines += [
        "No verdict: these comparisons were chosen after the tables above were seen. SignCL against its push alone:"
    ]
    lines += ["", "| contrast | BLEU-4 | SDR | mAP |", "|---|---|---|---|"]
    for b, s, m in zip(found["bleu4"], found["sdr"], found["map"], strict=True):
        lines.append(f"| {b.name} | {b} | {s} | {m} |")
    lines += ["", "The slopes again, without the runs of `pull`, whose features collapse:", ""]
    return [*lines, *_slopes(found["slopes"]), ""]


def _in_order(arms: Mapping[tuple[str, str], T]) -> list[tuple[tuple[str, str], T]]:
    return sorted(arms.items(), key=lambda item: (item[0][0], list(ARMS).index(item[0][1])))


def _answers(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "An answer is `supported` or `contradicted` if its p-value, corrected by Holm, is below 0.05. Each interval"
    ]
    lines += [
        "is for its own row and is not corrected, so the answer can be `not seen` for an interval that excludes 0.",
        "",
    ]
    lines += ["| question | start | difference in BLEU-4 (95 % interval) | answer |", "|---|---|---|---|"]
    for pair, start, contrast in _primary(found):
        lines.append(f"| {QUESTIONS[pair][0]} | {STARTS[start]} | {contrast} | **{verdict(contrast)}** |")
    return lines


def _primary(found: Mapping[str, Any]) -> list[tuple[tuple[str, str], str, Contrast]]:
    """(arms, start, contrast) of each primary contrast, sorted by question."""
    made = [((a, b), start, contrast) for (start, a, b), contrast in zip(found["primary"], found["bleu4"])]
    return sorted(made, key=lambda row: (list(QUESTIONS).index(row[0]), row[1]))


def _scores(name: str, found: Mapping[str, Any]) -> list[str]:
    seeds = f"seeds {found['seeds'][0]} to {found['seeds'][-1]}"
    runs = f"{found['runs']} runs"
    if not _complete(name, found):
        runs = f"{found['runs']} of {RUNS[name]} runs, so no verdict yet"
    lines = [f"{runs}; {seeds}. Mean ± standard deviation over seeds, on test. `mAP` and `nearest` measure how well a"]
    lines += ["sign is found among the signs of other clips ([density.md](../docs/density.md)).", ""]
    lines += [f"- `{arm}`: {ARMS[arm]}" for arm in ARMS if any(arm == a for _, a in found["arms"])] + [""]
    lines += ["| start | arm | " + " | ".join(shown for _, shown in SHOWN) + " |", "|---|---|" + "---|" * len(SHOWN)]
    for (start, arm), values in _in_order(found["arms"]):
        lines.append(f"| {start} | {arm} | " + " | ".join(values.values()) + " |")
    for (start, arm), count in found["pushed nothing"].items():
        lines += ["", f"Left out of every average: {start}, {arm}. In {count} of its runs no frame of any batch had a"]
        lines += ["legal negative, so the loss pushed nothing apart."]
    return lines


def _contrasts(found: Mapping[str, Any], *, whole: bool) -> list[str]:
    lines = [
        "One linear model over all runs: seeds are blocks, residuals are pooled, and the variance over sentences is"
    ]
    lines += ["added for BLEU-4. Rows with a value in `p, Holm` are primary and corrected together. The column"]
    lines += ["`detectable` is the smallest true difference in BLEU-4 that these runs find with a power of 80 %.", ""]
    lines += ["| contrast | BLEU-4 | p | p, Holm | verdict | detectable | SDR | mAP |", "|---" * 8 + "|"]
    for place, (b, s, m) in enumerate(zip(found["bleu4"], found["sdr"], found["map"], strict=True)):
        primary = place < len(found["primary"])
        corrected, said = (f"**{p_shown(b.p_holm)}**", verdict(b) if whole else "–") if primary else ("–", "–")
        lines.append(
            f"| {b.name} | {b} | {p_shown(b.p_value)} | {corrected} | {said} | {b.could_see:.2f} | {s} | {m} |"
        )
    return lines


def _slopes(made: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| predictors | slope of | change in BLEU-4 per point |", "|---|---|---|"]
    for row in made:
        interval = f"{row['estimate']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        lines.append(f"| {row['model']} | {row['slope of']} | {interval} |")
    return lines


def _table(name: str, found: Mapping[str, Any], rows: Rows, title: str) -> Table:
    """The scores as a table with one claim for each primary contrast, for `paper/README.md`."""
    whole = _complete(name, found)
    claims = [
        Claim(f"{QUESTIONS[pair][1]}, from {STARTS[start]}", "–", str(contrast), verdict(contrast))
        for pair, start, contrast in (_primary(found) if whole else ())
    ]
    return Table(
        "density_effect" if name == "core" else f"density_effect-{name}",
        f"Does a lower density translate better? {title}",
        COMMAND.removesuffix(" --from-results") + OPTIONS[name],
        ["start", "arm", *(shown for _, shown in SHOWN)],
        [[start, arm, *values.values()] for (start, arm), values in _in_order(found["arms"])],
        [] if whole else [f"{found['runs']} of {RUNS[name]} runs, so nothing is claimed yet."],
        claims,
        {
            "corpus": "synthetic-long",
            "seeds": len(found["seeds"]),
            "runs": found["runs"],
            "training seconds": round(sum(row["seconds"] for row in rows.values())),
        },
    )


def _write_contrasts(path: Path, found: dict[str, Any]) -> None:
    lines = ["metric,contrast,estimate,low,high,p,p_holm,could_see,freedom"]
    for metric, _ in SHOWN:
        made: list[Contrast] = found[metric]
        lines += [
            f"{metric},{c.name},{c.estimate:.6g},{c.low:.6g},{c.high:.6g},{c.p_value:.6g},{c.p_holm:.6g},"
            f"{c.could_see:.6g},{c.freedom}"
            for c in made
        ]
    write_text(path, "\n".join(lines) + "\n")


COLOURS = {
    "pull": "#0072B2",
    "push": "#D55E00",
    "both": "#009E73",
    "paper": "#CC79A7",
    "slow + SIGReg": "#E69F00",
    "slow + invariance + SIGReg": "#56B4E9",
    "word-aware SignCL": "#F0E442",
    "word contrast": "#000000",
    "word-aware SignCL, all words": "#0072B2",
    "word contrast, all words": "#D55E00",
}
MARKS = {"random": "o", "signs": "^"}


def _picture(path: Path, rows: Rows) -> None:
    """Plots the gain in BLEU-4 over the run without SignCL (same start and seed) against the change in SDR and mAP.

    A small mark is a run; a large one is the mean of an arm in one start.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    gains: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for (start, arm, seed), row in sorted(rows.items()):
        base = rows.get((start, "none", seed))
        if arm != "none" and base is not None:
            made = gains.setdefault((start, arm), [])
            made.append((row["sdr"] - base["sdr"], row["map"] - base["map"], row["bleu4"] - base["bleu4"]))
    figure, panels = plt.subplots(1, 2, figsize=(8.8, 4.2), sharey=True, layout="constrained")
    labels = ("change in SDR, points (left is less dense)", "change in retrieval, mAP points")
    for place, (axes, label) in enumerate(zip(panels, labels, strict=True)):
        for (start, arm), runs in _in_order(gains):
            x, y, colour = [run[place] for run in runs], [run[2] for run in runs], COLOURS[arm]
            axes.plot(x, y, MARKS[start], color=colour, markersize=4, alpha=0.45, markeredgewidth=0)
            middle = sum(x) / len(x), sum(y) / len(y)
            axes.plot(*middle, MARKS[start], color=colour, markersize=11, markeredgecolor="black", zorder=3)
        axes.axhline(0, color="#777777", linewidth=0.8)
        axes.axvline(0, color="#777777", linewidth=0.8)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("gain in BLEU-4 over none, same seed")
    seen = [arm for arm in ARMS if any(arm == other for _, other in gains)]
    handles = [
        plt.Line2D([], [], marker="s", linestyle="", color=COLOURS[arm], label="SignCL" if arm == "both" else arm)
        for arm in seen
    ]
    handles += [
        plt.Line2D([], [], marker=mark, linestyle="", color="#777777", label=f"from {STARTS[start]}")
        for start, mark in MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
    plt.close(figure)
