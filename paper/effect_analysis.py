"""Analysis of `paper.density_effect`, fixed before its runs: arms, contrasts and mediation.

All of it is computed from `runs.csv` and `predictions.tsv.gz`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from paper.effect_design import BLOCKS, Block
from paper.pooled import Contrast, fit_model, holm
from paper.raw_results import Answers, Key, Rows
from paper.statistics import mean_and_spread
from signcl.metrics.bootstrap import resampled_score

__all__ = ["EXPLORED", "SHOWN", "analyse", "pushed_nothing"]

EXPLORED = (("both", "push"),)
"""Contrasts that were chosen after the results were known."""
COLLAPSED = "pull"
"""The arm whose features collapse; `explored` repeats the slopes without it."""
RESAMPLES = 1000
SHOWN = (("bleu4", "BLEU-4"), ("rouge_l", "ROUGE-L"), ("sdr", "SDR %"), ("map", "mAP %"), ("one_nn", "nearest %"))


def analyse(
    rows: Rows, answers: Answers, references: Mapping[str, str], block: Block = BLOCKS["core"]
) -> dict[str, Any]:
    """Computes every table of a block's part of the page.

    Runs whose loss never had a legal negative are listed in `pushed nothing` and excluded from averages, contrasts and
    slopes.

    Args:
        rows: runs of one block (`paper.effect_page.block_of`).

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

    def among(compared: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """(start, arm, arm, ...) of the contrasts of which every arm was trained."""
        return [(s, *c) for s in _starts(rows) for c in compared if {(s, arm) for arm in c} <= arms.keys()]

    primary, rest = among([question.arms for question in block.questions]), among(block.secondary)
    found: dict[str, Any] = {"seeds": sorted({key[2] for key in whole}), "runs": len(whole)}
    found["pushed nothing"] = {
        arm: len(runs) for arm, runs in _by_arm({k: r for k, r in whole.items() if k not in rows}).items()
    }
    drawn = _resampled(answers, references)
    for metric, _ in SHOWN:
        made = _contrasts(metric, arms, (*primary, *rest), drawn)
        found[metric] = [*holm(made[: len(primary)]), *made[len(primary) :]]
    found["primary"] = primary
    found["arms"] = {
        arm: {metric: mean_and_spread([row[metric] for row in runs.values()]) for metric, _ in SHOWN}
        for arm, runs in arms.items()
    }
    found["mediation"] = _mediation(rows)
    found["explored"] = {
        "slopes": _mediation({key: row for key, row in rows.items() if key[1] != COLLAPSED}),
        **{metric: _contrasts(metric, arms, among(EXPLORED), drawn) for metric, _ in SHOWN},
    }
    return found


SIGNS = (1.0, -1.0, -1.0, 1.0)
"""Weights of the arms of a contrast: `a − b`, or `(a − b) − (c − d)`."""


def _contrasts(
    metric: str,
    arms: Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]],
    compared: Sequence[tuple[str, ...]],
    drawn: Mapping[Key, np.ndarray],
) -> list[Contrast]:
    """Contrasts (start, arm, arm, ...) of a score, one model over all runs; BLEU-4 with the variance over sentences."""
    model = fit_model({"|".join(arm): {s: r[metric] for s, r in runs.items()} for arm, runs in arms.items()})
    made = []
    for start, *named in compared:
        weights = dict(zip(named, SIGNS))
        sentences = _sentence_variance(drawn, start, weights) if metric == "bleu4" else 0.0
        title = "({} − {}) − ({} − {})" if len(named) == 4 else "{} − {}"
        over = {f"{start}|{arm}": weight for arm, weight in weights.items()}
        made.append(model.contrast(f"{start}: {title.format(*named)}", over, sentences))
    return made


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


def _sentence_variance(drawn: Mapping[Key, np.ndarray], start: str, weights: Mapping[str, float]) -> float:
    """Variance, over resamples of the sentences, of a contrast of the arms' mean scores."""
    found = {name: [v for (s, arm, _), v in drawn.items() if (s, arm) == (start, name)] for name in weights}
    if not all(found.values()):
        return 0.0
    return float(np.var(sum(weight * np.mean(found[name], axis=0) for name, weight in weights.items()), ddof=1))


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
