"""Analysis of `paper.density_effect`, fixed before its runs: contrasts, mediation, a picture and a page.

All of it is computed from `runs.csv` and `predictions.tsv.gz`, so the page can be reproduced in seconds, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper.pooled import Contrast, fit_model, holm
from paper.raw_results import Answers, Key, Rows, read_rows
from paper.statistics import mean_and_spread
from signcl.data.files import atomic_write, write_text
from signcl.metrics.bootstrap import resampled_score

__all__ = ["PREREGISTERED", "PRIMARY", "analyse", "write_effect_page"]

PREREGISTERED = "5d601f7"
"""The commit that fixed the design, before every run."""
PRIMARY = (("both", "none"), ("both", "pull"), ("slow + SIGReg", "none"), ("slow + SIGReg", "both"))
"""The primary contrasts of the core, in each start; Holm corrects for all of them together."""
CHALLENGES = tuple(("slow + invariance + SIGReg", other) for other in ("none", "both", "slow + SIGReg"))
"""The primary contrasts of the challengers' block."""
SECONDARY = (("pull", "none"), ("push", "none"), ("paper", "none"))
RESAMPLES = 1000
SHOWN = (("bleu4", "BLEU-4"), ("rouge_l", "ROUGE-L"), ("sdr", "SDR %"), ("map", "mAP %"), ("one_nn", "nearest %"))


def analyse(rows: Rows, answers: Answers, references: Mapping[str, str]) -> dict[str, Any]:
    """Computes every table of the page.

    Runs whose loss never had a legal negative are listed in `pushed nothing` and excluded from averages, contrasts and
    slopes.

    Args:
        rows: runs of one block: core or challengers, distinguished by their seeds.

    Raises:
        ValueError: no run is left.
    """
    whole, rows = rows, {key: row for key, row in rows.items() if not pushed_nothing(row)}
    if not rows:
        raise ValueError(
            f"none of the {len(whole)} runs had a legal negative in any batch; lower loss.signcl.words_per_gloss or "
            f"frame_margin_floor, or use longer clips"
        )
    answers = {key: told for key, told in answers.items() if key in rows}
    arms = _by_arm(rows)

    def among(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
        """(start, arm, arm) of the pairs of which both arms were trained."""
        return [(s, a, b) for s in _starts(rows) for a, b in pairs if {(s, a), (s, b)} <= arms.keys()]

    primary = among(CHALLENGES) or among(PRIMARY)
    rest = among(SECONDARY)
    found: dict[str, Any] = {"seeds": sorted({key[2] for key in whole}), "runs": len(whole)}
    found["pushed nothing"] = {
        arm: len(runs) for arm, runs in _by_arm({k: r for k, r in whole.items() if k not in rows}).items()
    }
    drawn = _resampled(answers, references)
    for metric, _ in SHOWN:
        model = fit_model({"|".join(arm): {s: r[metric] for s, r in runs.items()} for arm, runs in arms.items()})
        made = []
        for start, a, b in (*primary, *rest):
            weights = {f"{start}|{a}": 1.0, f"{start}|{b}": -1.0}
            sentences = _sentence_variance(drawn, start, a, b) if metric == "bleu4" else 0.0
            made.append(model.contrast(f"{start}: {a} − {b}", weights, sentences))
        found[metric] = [*holm(made[: len(primary)]), *made[len(primary) :]]
        found[f"{metric}_rest"] = math.sqrt(model.variance) if model.freedom > 0 else math.nan
    found["primary"] = len(primary)
    found["arms"] = {
        arm: {metric: mean_and_spread([row[metric] for row in runs.values()]) for metric, _ in SHOWN}
        for arm, runs in arms.items()
    }
    found["mediation"] = _mediation(rows)
    return found


def pushed_nothing(row: Mapping[str, Any]) -> bool:
    """Whether a run with a push term had no legal negative in any batch, so its push had no effect."""
    return row.get("with_negative") == 0


def _starts(rows: Rows) -> list[str]:
    return sorted({start for start, _, _ in rows})


def _by_arm(rows: Rows) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    arms: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for (start, arm, seed), row in sorted(rows.items()):
        arms.setdefault((start, arm), {})[seed] = row
    return arms


def _resampled(answers: Answers, references: Mapping[str, str]) -> dict[Key, np.ndarray]:
    """BLEU-4 of each run on shared resamples of the test sentences. [RESAMPLES] each"""
    if not answers:
        return {}
    names = sorted(references)
    times = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    truth = [references[name] for name in names]
    return {
        key: resampled_score("bleu4", [told[name] for name in names], truth, "none", "exp")(times)
        for key, told in answers.items()
    }


def _sentence_variance(drawn: Mapping[Key, np.ndarray], start: str, a: str, b: str) -> float:
    """Variance, over resamples of the sentences, of the difference between two arms' mean scores."""
    one, other = ([v for (s, arm, _), v in drawn.items() if (s, arm) == (start, name)] for name in (a, b))
    if not one or not other:
        return 0.0
    return float(np.var(np.mean(one, axis=0) - np.mean(other, axis=0), ddof=1))


def _mediation(rows: Rows) -> list[dict[str, float | str]]:
    """Regresses BLEU-4 of all runs on SDR and retrieval (mAP), separately and jointly, with an intercept per start."""
    from scipy.stats import t

    y = np.array([row["bleu4"] for row in rows.values()])
    starts = _starts(rows)
    base = np.array([[float(key[0] == start) for start in starts] for key in rows])
    columns = {"sdr": "SDR, points", "map": "mAP, points"}
    made: list[dict[str, float | str]] = []
    for chosen in (("sdr",), ("map",), ("sdr", "map")):
        x = np.concatenate([base, np.array([[row[name] for name in chosen] for row in rows.values()])], axis=1)
        freedom = len(y) - x.shape[1]
        if freedom < 2:
            continue
        solution, *_ = np.linalg.lstsq(x, y, rcond=None)
        rest = float(((y - x @ solution) ** 2).sum()) / freedom
        errors = np.sqrt(np.diag(np.linalg.pinv(x.T @ x)) * rest)
        for place, name in enumerate(chosen, start=len(starts)):
            half = float(t.ppf(0.975, freedom)) * float(errors[place])
            made.append({
                "model": " and ".join(columns[c] for c in chosen),
                "slope of": columns[name],
                "estimate": float(solution[place]),
                "low": float(solution[place]) - half,
                "high": float(solution[place]) + half,
            })  # fmt: skip
    return made


def write_effect_page(results: Path, page: Path, title: str) -> None:
    """Writes the page, the contrasts as CSV, and the picture from the committed numbers.

    Raises:
        ValueError: no runs yet.
    """
    rows, answers, references = read_rows(results)
    if not rows:
        raise ValueError(f"no runs at {results}; run `python -m paper.density_effect --minutes 60` first")
    blocks = {
        name: {key: row for key, row in rows.items() if (key[2] >= 100) == fresh}
        for name, fresh in (("core", False), ("challengers", True))
    }
    parts = [_head(title, rows)]
    for name, block in blocks.items():
        if not block:
            continue
        told = {key: answers[key] for key in block if key in answers}
        found = analyse(block, told, references)
        parts.append(_block(name, found))
        _write_contrasts(results / f"contrasts-{name}.csv", found)
        _picture(results / f"gains-{name}.png", {key: row for key, row in block.items() if not pushed_nothing(row)})
        where = f"results/{results.name}" if page.parent != results else "."
        parts.append(f"![gain in BLEU-4 against change in SDR and in retrieval]({where}/gains-{name}.png)\n")
    write_text(page, "\n".join(parts))


def _head(title: str, rows: Rows) -> str:
    before = f"commit `{PREREGISTERED}`, before its runs" if PREREGISTERED else "not yet"
    hours = sum(row["seconds"] for row in rows.values()) / 3600
    return (
        "# Does a lower density translate better?\n\n"
        f"`python -m paper.density_effect --from-results` writes this page from `runs.csv` and `predictions.tsv.gz` "
        f"({len(rows)} runs, {hours:.1f} hours of training on one core each; {title}). The design was fixed in "
        f"[preregistered.md](preregistered.md) ({before}).\n"
    )


RUNS = {"core": 96, "challengers": 64}
"""Number of runs in the design: 8 seeds of each arm in each start."""


def verdict(contrast: Contrast) -> str:
    """The verdict of a primary contrast, in the words of the design."""
    if contrast.p_holm >= 0.05:
        return "not seen"
    return "supported" if contrast.estimate > 0 else "contradicted"


def _block(name: str, found: dict[str, Any]) -> str:
    seeds = f"seeds {found['seeds'][0]} to {found['seeds'][-1]}"
    lines = [f"## {'The core' if name == 'core' else 'The challengers, with fresh seeds'}", ""]
    whole = found["runs"] >= RUNS[name]
    runs = f"{found['runs']} runs" if whole else f"{found['runs']} of {RUNS[name]} runs, so no verdict yet"
    lines += [f"{runs}; {seeds}. Mean ± standard deviation over seeds, on test.", ""]
    lines += ["| start | arm | " + " | ".join(shown for _, shown in SHOWN) + " |", "|---|---|" + "---|" * len(SHOWN)]
    for (start, arm), values in found["arms"].items():
        lines.append(f"| {start} | {arm} | " + " | ".join(values.values()) + " |")
    for (start, arm), runs in found["pushed nothing"].items():
        lines += ["", f"Left out of every average: {start}, {arm}. In {runs} of its runs no frame of any batch had a"]
        lines += ["legal negative, so the loss pushed nothing apart."]
    lines += [
        "",
        "Contrasts: one linear model over all runs, seeds as blocks, pooled residuals; BLEU-4 with the",
    ]
    lines += ["variance over sentences. The first rows are primary: their p-values are corrected by Holm.", ""]
    lines += [
        "| contrast | BLEU-4 | p | p, Holm | verdict | could have seen | SDR | mAP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, (b, s, m) in enumerate(zip(found["bleu4"], found["sdr"], found["map"], strict=True)):
        primary = place < found["primary"]
        corrected, said = (f"**{b.p_holm:.3f}**", verdict(b) if whole else "–") if primary else ("–", "–")
        lines.append(f"| {b.name} | {b} | {b.p_value:.3f} | {corrected} | {said} | {b.could_see:.2f} | {s} | {m} |")
    lines += ["", "What goes with BLEU-4 over all runs (slopes, starts apart):", ""]
    lines += ["| model | slope of | BLEU-4 a point |", "|---|---|---|"]
    for row in found["mediation"]:
        lines.append(
            f"| {row['model']} | {row['slope of']} | {row['estimate']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}) |"
        )
    return "\n".join([*lines, ""])


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


COLOURS = {"pull": "#0072B2", "push": "#D55E00", "both": "#009E73", "paper": "#CC79A7"}
MARKS = {"random": "o", "signs": "^"}


def _picture(path: Path, rows: Rows) -> None:
    """Plots the gain in BLEU-4 over the run without SignCL (same start and seed) against the change in SDR and mAP."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.0), sharey=True, layout="constrained")
    spare = iter(("#E69F00", "#56B4E9", "#555555"))
    seen: dict[str, str] = {}
    for (start, arm, seed), row in sorted(rows.items()):
        base = rows.get((start, "none", seed))
        if arm == "none" or base is None:
            continue
        colour = seen.setdefault(arm, COLOURS.get(arm) or next(spare, "#555555"))
        gain = row["bleu4"] - base["bleu4"]
        for axes, name in ((left, "sdr"), (right, "map")):
            axes.plot(row[name] - base[name], gain, MARKS.get(start, "s"), color=colour, markersize=6, alpha=0.85)
    for axes, shown in (
        (left, "change in SDR, points (left is less dense)"),
        (right, "change in retrieval, mAP points"),
    ):
        axes.axhline(0, color="#777777", linewidth=0.8)
        axes.axvline(0, color="#777777", linewidth=0.8)
        axes.set_xlabel(shown)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("gain in BLEU-4 over none, same seed")
    handles = [plt.Line2D([], [], marker="s", linestyle="", color=colour, label=arm) for arm, colour in seen.items()]
    handles += [
        plt.Line2D([], [], marker=mark, linestyle="", color="#777777", label=f"start: {start}")
        for start, mark in MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
    plt.close(figure)
