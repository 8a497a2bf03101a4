"""Writes the page, the table, the contrasts and the picture of `paper.density_effect` from its committed numbers.

The page is reproduced in seconds, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from paper.effect_analysis import SHOWN, analyse, pushed_nothing
from paper.effect_design import ARMS, BLOCKS, STARTS, Block, Question
from paper.output import Claim, Table
from paper.pooled import Contrast, p_shown, verdict
from paper.raw_results import Rows, read_rows
from signcl.data.files import atomic_write, write_text

__all__ = ["PREREGISTERED", "TABLES", "block_of", "winners", "write_effect_pages"]

T = TypeVar("T")
PREREGISTERED = "5d601f7"
"""The commit that fixed the design, before every run."""
TABLES = {name: "density_effect" if name == "core" else f"density_effect-{name}" for name in BLOCKS}
"""Block -> name of its table."""


def write_effect_pages(results: Path, page: Path, titles: Mapping[str, str], option: str = "") -> None:
    """Writes the page, the tables, the contrasts as CSV, and the pictures from the committed numbers.

    Args:
        results: folder of the numbers.
        page: the file to write; with several cells, a table of all of them.
        titles: subfolder of `results` -> what was trained there; one with the name "" has no subfolder.
        option: option of the command that names the preset.

    Raises:
        ValueError: no runs yet.
    """
    command = f"python -m paper.density_effect{option}"
    made = {name for name in titles if (results / name / "runs.csv").is_file()}
    if not made:
        raise ValueError(f"no runs at {results}; run `{command} --minutes 60` first")
    if set(titles) == {""}:
        _write_cell(results, page, titles[""], command)
        return
    found = {
        titles[name]: _write_cell(results / name, results / name / "README.md", titles[name], command)
        for name in titles
        if name in made
    }
    table = _overview(results.name, found, len(titles), command)
    table.write(results)
    links = [f"- [{titles[name]}]({name}/README.md)" for name in titles if name in made]
    write_text(page, "\n".join([table.markdown(), *links, ""]))


def _write_cell(results: Path, page: Path, title: str, command: str) -> dict[str, dict[str, Any]]:
    """Writes everything of one cell; returns the analysis of each block."""
    rows, answers, references = read_rows(results)
    parts, analyses = [_head(title, rows, page, command)], {}
    for name, block in BLOCKS.items():
        own = block_of(block, rows)
        if not own:
            continue
        told = {key: answers[key] for key in own if key in answers}
        found = analyses[name] = analyse(own, told, references, block)
        where = f"results/{results.name}" if page.parent != results else "."
        picture = f"![gain in BLEU-4 against change in SDR and in retrieval]({where}/gains-{name}.png)"
        parts.append(_block(name, found, picture))
        _write_contrasts(results / f"contrasts-{name}.csv", found)
        _table(name, found, own, title, command).write(results)
        _picture(results / f"gains-{name}.png", {key: row for key, row in own.items() if not pushed_nothing(row)})
    write_text(page, "\n".join(parts))
    return analyses


def _overview(name: str, cells: Mapping[str, Mapping[str, Any]], count: int, command: str) -> Table:
    """Every primary contrast of every cell. A cell's answers stand there once all of its runs are made."""
    rows: list[list[str]] = []
    claims: list[Claim] = []
    runs = 0
    for title, analyses in cells.items():
        for block_name, found in analyses.items():
            block = BLOCKS[block_name]
            whole, runs = _complete(block, found), runs + found["runs"]
            claims += _claims(found, block, f" ({title})")
            by_metric = (_primary(found, block, metric) for metric in ("bleu4", "sdr", "map"))
            for (asked, start, contrast), *others in zip(*by_metric):
                answer = verdict(contrast) if whole else f"{found['runs']} of {block.runs} runs"
                shown = [str(other) for *_, other in others]
                rows.append([title, asked.text, STARTS[start], str(contrast), *shown, answer])
    return Table(
        name,
        "Does a lower density translate better? Sizes of training",
        command,
        ["training", "question", "start", "difference in BLEU-4", "in SDR", "in mAP", "answer"],
        rows,
        [
            f"{len(cells)} of {count} sizes. 95 % intervals; the answers of one size are corrected together by Holm. A "
            "size has no answer before all of its runs are made."
        ],
        claims,
        {"corpus": "synthetic-long", "runs": runs},
    )


def block_of(block: Block, rows: Rows) -> Rows:
    """The runs of a block: those of its arms, starts and seeds. Empty if none of the arms that it trains is there."""
    found = {
        key: row
        for key, row in rows.items()
        if key[2] in range(block.first_seed, block.first_seed + 100)
        and key[1] in block.compared
        and key[0] in block.starts
    }
    return found if any(arm in block.trained for _, arm, _ in found) else {}


def winners(found: Mapping[str, Any], block: Block = BLOCKS["core"]) -> list[str]:
    """The losses that meet the design's rule: supported over none, with a higher mean mAP, in both starts."""
    raised = {(start, *asked.arms) for asked, start, made in _primary(found, block) if verdict(made) == "supported"}
    retrieval = {c.name: c.estimate for c in found["map"]}
    return [
        loss
        for loss in block.losses
        if all((start, loss, "none") in raised and retrieval[f"{start}: {loss} − none"] > 0 for start in STARTS)
    ]


def _complete(block: Block, found: Mapping[str, Any]) -> bool:
    return bool(found["runs"] >= block.runs)


def _head(title: str, rows: Rows, page: Path, command: str) -> str:
    hours = sum(row["seconds"] for row in rows.values()) / 3600
    cores = "" if "--preset" in command else " on one core each"
    design = "preregistered.md"
    design = f"[{design}]({design})" if (page.parent / design).is_file() else f"`paper/{design}`"
    return (
        "# Does a lower density translate better?\n\n"
        f"`{command} --from-results` writes this page from `runs.csv` and `predictions.tsv.gz` "
        f"({len(rows)} runs, {hours:.1f} hours of training{cores}; {title}). "
        f"{design} fixed the corpus, the arms and the analysis in commit "
        f"`{PREREGISTERED}`, before the first run.\n"
    )


def _block(name: str, found: dict[str, Any], picture: str) -> str:
    block = BLOCKS[name]
    whole = _complete(block, found)
    lines = [f"## {block.title}", ""]
    if whole:
        lines += ["### Answers", "", *_answers(found, block), ""]
    if whole and block.losses:
        won = " and ".join(winners(found, block))
        lines += [
            f"By the rule of the design (supported over none and a higher mAP, in both starts), "
            f"{f'the winner is {won}' if won else 'no loss is a winner'}.",
            "",
        ]
    lines += [picture, "", "A small mark is a run, a large one the mean of an arm in one start.", ""]
    lines += ["### Scores", "", *_scores(block, found), "", "### Contrasts", "", *_contrasts(found, whole=whole), ""]
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


def _answers(found: Mapping[str, Any], block: Block) -> list[str]:
    lines = [
        "An answer is `supported` or `contradicted` if its p-value, corrected by Holm, is below 0.05. Each interval"
    ]
    lines += [
        "is for its own row and is not corrected, so the answer can be `not seen` for an interval that excludes 0.",
        "",
    ]
    lines += ["| question | start | difference in BLEU-4 (95 % interval) | answer |", "|---|---|---|---|"]
    for asked, start, contrast in _primary(found, block):
        lines.append(f"| {asked.text} | {STARTS[start]} | {contrast} | **{verdict(contrast)}** |")
    return lines


def _claims(found: Mapping[str, Any], block: Block, where: str = "") -> list[Claim]:
    """One claim for each primary contrast, once all runs are made."""
    return [
        Claim(f"{asked.claim}, from {STARTS[start]}{where}", "–", str(contrast), verdict(contrast))
        for asked, start, contrast in (_primary(found, block) if _complete(block, found) else ())
    ]


def _primary(found: Mapping[str, Any], block: Block, metric: str = "bleu4") -> list[tuple[Question, str, Contrast]]:
    """(question, start, contrast) of each primary contrast, sorted by question."""
    made = dict(zip(found["primary"], found[metric]))
    return [
        (asked, start, made[start, *asked.arms])
        for asked in block.questions
        for start in block.starts
        if (start, *asked.arms) in made
    ]


def _scores(block: Block, found: Mapping[str, Any]) -> list[str]:
    seeds = f"seeds {found['seeds'][0]} to {found['seeds'][-1]}"
    runs = f"{found['runs']} runs"
    if not _complete(block, found):
        runs = f"{found['runs']} of {block.runs} runs, so no verdict yet"
    lines = [f"{runs}; {seeds}. Mean ± standard deviation over seeds, on test. `mAP` and `nearest` measure how well a"]
    lines += ["sign is found among the signs of other clips ([density.md](../docs/density.md)).", ""]
    lines += [f"- `{arm}`: {ARMS[arm].title}" for arm in ARMS if any(arm == a for _, a in found["arms"])] + [""]
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


def _table(name: str, found: Mapping[str, Any], rows: Rows, title: str, command: str) -> Table:
    """The scores as a table with one claim for each primary contrast, for `paper/README.md`."""
    block = BLOCKS[name]
    whole = _complete(block, found)
    return Table(
        TABLES[name],
        f"Does a lower density translate better? {title}",
        command + ("" if name == "core" else f" --{name}"),
        ["start", "arm", *(shown for _, shown in SHOWN)],
        [[start, arm, *values.values()] for (start, arm), values in _in_order(found["arms"])],
        [] if whole else [f"{found['runs']} of {block.runs} runs, so nothing is claimed yet."],
        _claims(found, block),
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
    "both, twice the steps": "#56B4E9",
    "both, margin 64": "#56B4E9",
    "both, weight .01": "#E69F00",
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
        plain = ARMS[arm].plain
        base = rows.get((start, plain, seed))
        if arm != plain and base is not None:
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
        plt.Line2D([], [], marker="s", linestyle="", color=COLOURS[arm], label=arm.replace("both", "SignCL"))
        for arm in seen
    ]
    handles += [
        plt.Line2D([], [], marker=mark, linestyle="", color="#777777", label=f"from {STARTS[start]}")
        for start, mark in MARKS.items()
        if any(start == other for other, _ in gains)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
    plt.close(figure)
