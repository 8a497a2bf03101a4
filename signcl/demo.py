"""`signcl demo`: the main job end to end, on a corpus that the package draws itself.

The same system is pretrained and finetuned twice, without and with SignCL, scored on held-out clips, and measured.
Everything is an ordinary run of an ordinary recipe (recipes/synthetic), so stopping and resuming work as always.
"""

from __future__ import annotations

import time
from pathlib import Path

from signcl.progress import say

__all__ = ["demo", "recipe_path"]

ARMS = {"without SignCL": "", "with SignCL": "-signcl"}


def recipe_path(name: str) -> Path:
    """A recipe that comes with the package, in a checkout or installed."""
    here = Path(__file__).parent
    for folder in (here.parent / "recipes", here / "recipes"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"the recipe {name} is not installed with signcl; reinstall the package")


def demo(out: Path, *, quick: bool = False) -> str:
    """Run it; the table that `make demo` prints.

    Args:
        out: folder for the corpus, the runs and the report. A second call goes on where the first was stopped.
        quick: fewer clips and epochs: shows that everything works, learns little.

    Returns:
        Table of SDR, BLEU-1..4, ROUGE-L and seconds for both systems, the paired difference, the report's path.
    """
    from signcl.analysis import run_density
    from signcl.corpora.synthetic import SyntheticSettings, make_corpus
    from signcl.evaluation import compare, evaluate
    from signcl.report import report
    from signcl.tables import comparison_table, table

    started = time.perf_counter()
    corpus = out / "corpus"
    make_corpus(corpus, SyntheticSettings(clips=120 if quick else 600, size=48))
    rows, runs = [], []
    for arm, suffix in ARMS.items():
        say(f"--- {arm}")
        run, seconds = _train(out, corpus, suffix, quick)
        scores = evaluate(run, "test", bootstrap=200 if quick else 1000)
        density = run_density(run, "test")
        figures = [density["sdr"], *(scores[f"bleu{n}"] for n in (1, 2, 3, 4)), scores["rouge_l"]]
        rows.append([arm, *(f"{x:.2f}" for x in figures), f"{seconds:.0f}"])
        runs.append(run)
    page = report(runs, out=out / "report.html")
    header = ["system", "SDR %", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "train s"]
    lines = [
        "",
        table(rows, header),
        "",
        "Paired bootstrap over the test sentences, A = without, B = with SignCL, one seed each:",
        comparison_table(compare(runs[0], runs[1], "test", samples=200 if quick else 1000)),
        "",
        f"{time.perf_counter() - started:.0f} s in all. Report: {page}",
    ]
    if quick:
        lines.insert(
            -1, "(quick pass: trained for seconds on 96 clips; the numbers mean nothing but that all of it runs)"
        )
    return "\n".join(lines)


def _train(out: Path, corpus: Path, suffix: str, quick: bool) -> tuple[Path, float]:
    from signcl.checkpoint import read_card
    from signcl.recipe import load_recipe
    from signcl.train import fit

    seconds = 0.0
    folders = {stage: out / f"{stage}{suffix}" for stage in ("pretrain", "finetune")}
    for stage, folder in folders.items():
        changes = [f"corpus.root={corpus}", f"out={folder}"]
        if stage == "finetune":
            changes.append(f"model.init_from={folders['pretrain']}")
        if quick:
            changes += ["train.epochs=2", "train.evaluate_every=2"]
        fit(load_recipe(recipe_path(f"synthetic/{stage}{suffix}.yaml"), changes))
        seconds += read_card(folder)["seconds"]
    return folders["finetune"], seconds
