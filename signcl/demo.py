"""`signcl demo`: the main job end to end, on a corpus that the package draws itself.

The same system is pretrained and finetuned twice, without and with SignCL, scored on held-out clips, and measured.
Everything is an ordinary run of an ordinary recipe (recipes/synthetic), so stopping and resuming work as always. The
two systems train side by side, one core each: for tensors this small a second thread per run gains nothing.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from signcl.progress import Bar, say, track
from signcl.recipe import recipe_path

__all__ = ["demo"]

ARMS = {"without SignCL": "", "with SignCL": "-signcl"}
STAGES = ("pretrain", "finetune")


def demo(out: Path, *, quick: bool = False) -> str:
    """Run it; the table that `make demo` prints.

    Args:
        out: folder for the corpus, the runs and the report. A second call goes on where the first was stopped.
        quick: fewer clips and epochs: shows that everything works, learns little.

    Returns:
        Table of SDR, BLEU-1..4, ROUGE-L and seconds for both systems, the paired difference, the report's path.
    """
    from signcl.corpora.synthetic import SyntheticSettings, make_corpus

    started = time.perf_counter()
    corpus = out / "corpus"
    make_corpus(corpus, SyntheticSettings(clips=120 if quick else 600, size=48))
    plans = [_plan(out, corpus, suffix, quick) for suffix in ARMS.values()]
    _train_side_by_side(plans, corpus)

    from signcl.analysis import run_density
    from signcl.checkpoint import read_card
    from signcl.comparison import compare
    from signcl.evaluation import evaluate
    from signcl.report import report
    from signcl.tables import comparison_table, table

    rows, runs = [], []
    samples = 200 if quick else 1000
    for arm, suffix in ARMS.items():
        say(f"scoring the system {arm}")
        run = out / f"finetune{suffix}"
        scores = evaluate(run, "test", bootstrap=samples)
        density = run_density(run, "test")
        seconds = sum(read_card(out / f"{stage}{suffix}")["seconds"] for stage in STAGES)
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
        comparison_table(compare(runs[0], runs[1], "test", samples=samples)),
        "",
        f"{time.perf_counter() - started:.0f} s in all. Report: {page}",
    ]
    if quick:
        lines.insert(-1, "(quick pass: seconds of training on 96 clips; the numbers show only that all of it runs)")
    return "\n".join(lines)


def _plan(out: Path, corpus: Path, suffix: str, quick: bool) -> dict[Path, list[str]]:
    """The `signcl fit` commands of one system, by run folder."""
    plan = {}
    for stage in STAGES:
        folder = out / f"{stage}{suffix}"
        changes = [f"--corpus.root={corpus}", f"--out={folder}"]
        if stage == "finetune":
            changes.append(f"--model.init_from={out / f'pretrain{suffix}'}")
        if quick:
            changes += ["--train.epochs=2", "--train.evaluate_every=2"]
        plan[folder] = [str(recipe_path(f"synthetic/{stage}{suffix}.yaml")), *changes]
    return plan


def _train_side_by_side(plans: list[dict[Path, list[str]]], corpus: Path) -> None:
    """Run the commands of each plan in order, the plans at the same time where there are cores."""
    clips = len((corpus / "train.tsv").read_text(encoding="utf-8").splitlines()) - 1
    jobs = min(len(plans), os.cpu_count() or 1)
    stop = threading.Event()
    total = sum(_steps(plan, clips) for plan in plans)
    with track("training both systems", total=total) as bar, ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_train, plan, arm, bar, stop) for plan, arm in zip(plans, ARMS, strict=True)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()  # Ctrl-C reaches the children too: they write their state and end
            raise


def _steps(plan: dict[Path, list[str]], clips: int) -> int:
    from signcl.recipe import load_recipe

    recipes = [load_recipe(words[0], words[1:]) for words in plan.values()]
    return sum(math.ceil(clips / r.train.batch_size) * r.train.epochs for r in recipes)


def _train(plan: dict[Path, list[str]], arm: str, bar: Bar, stop: threading.Event) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for folder, words in plan.items():
        if stop.is_set():
            return
        last: deque[str] = deque(maxlen=3)
        command = [sys.executable, "-m", "signcl", "fit", *words]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        watcher = threading.Thread(target=_advance, args=(process, folder, bar), daemon=True)
        watcher.start()
        assert process.stderr is not None
        for line in process.stderr:
            last.append(line.strip())
            say(f"[{arm}, {folder.name.split('-')[0]}] {line.rstrip()}")
        code = process.wait()
        watcher.join()
        if code == 130 or (code and stop.is_set()):
            raise KeyboardInterrupt
        if code:
            raise ValueError(f"training {folder.name} failed: {' '.join(last)}")


def _advance(process: subprocess.Popen[str], folder: Path, bar: Bar) -> None:
    """Move the bar by the steps that a run has logged."""
    from signcl.train.record import read_record

    done = 0
    while True:
        ended = process.poll() is not None
        lines = read_record(folder)
        if lines and int(lines[-1]["step"]) > done:
            bar.advance(int(lines[-1]["step"]) - done)
            done = int(lines[-1]["step"])
        if ended:
            return
        time.sleep(0.5)
