"""`signcl demo`: translate a clip with a shipped run, then train and compare two systems.

The package generates the corpus. A frame encoder first learns the signs of another lexicon; the paper's encoder starts
from ImageNet instead. From this encoder, one system is pretrained and finetuned twice, without and with SignCL. Both
are scored on held-out clips, and their density is measured. Each training is an ordinary run of a recipe in
recipes/synthetic, so it can be stopped and resumed. The two systems train in parallel, one core each: for tensors this
small, a second thread per run gains nothing.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from signcl.data.progress import Bar, is_progress, say, track
from signcl.training.recipe import recipe_path

__all__ = ["copied_text", "copy_clips", "demo", "demo_text"]

ARMS = {"without SignCL": "", "with SignCL": "-signcl"}
STAGES = ("pretrain", "finetune")
CORPUS = {"size": 48, "dev_share": 1 / 12, "test_share": 1 / 4}
OTHER_SIGNS = {"size": 48, "signs": 96, "signers": 8, "unseen_signers": 0, "seed": 1000}
"""Settings of the frame encoder's corpus."""
SHOWN = "synthetic"
"""The shipped run that makes the first translation."""
Plan = dict[Path, list[str]]
"""Arguments of the `signcl fit` commands to run in order, by run folder."""


def demo(out: Path, *, quick: bool = False) -> dict[str, Any]:
    """Run the demo and return its numbers, which `demo_text` formats.

    Args:
        out: folder for the corpus, the runs and the report. A second call resumes a stopped demo.
        quick: use fewer clips and epochs; every step runs, but little is learned.

    Returns:
        The first translation; SDR, BLEU-1..4, ROUGE-L and training seconds of both systems; the paired comparison;
        warnings about the scores; the total seconds; and the report's path.
    """
    from signcl.data.corpora.synthetic import SyntheticSettings, make_corpus

    started = time.perf_counter()
    first = first_translation(out)
    corpus, signs = out / "corpus", out / "corpus-of-signs"
    make_corpus(signs, SyntheticSettings(clips=160 if quick else 800, **OTHER_SIGNS))  # type: ignore[arg-type]
    make_corpus(corpus, SyntheticSettings(clips=144 if quick else 720, **CORPUS))  # type: ignore[arg-type]
    _train_side_by_side("training the frame encoder", {"frame encoder": _encoder_plan(out, signs, quick)})
    plans = {arm: _plan(out, corpus, suffix, quick) for arm, suffix in ARMS.items()}
    _train_side_by_side("training both systems", plans)

    from signcl.evaluation.comparison import compare
    from signcl.evaluation.scoring import evaluate, run_health
    from signcl.inference.run_density import run_density
    from signcl.pages.report import report
    from signcl.training.run_folder import read_card

    rows, runs = [], []
    samples = 200 if quick else 1000
    for arm, suffix in ARMS.items():
        say(f"scoring the system {arm}")
        run = out / f"finetune{suffix}"
        scores = evaluate(run, "test", bootstrap=samples)
        density = run_density(run, "test")
        seconds = sum(read_card(out / f"{stage}{suffix}")["seconds"] for stage in STAGES)
        figures = {key: scores[key] for key in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")}
        rows.append({"system": arm, "run": str(run), "sdr": density["sdr"], **figures, "train_seconds": seconds})
        runs.append(run)
    found = [[asdict(finding) for finding in run_health(run, "test")] for run in runs]
    page = report(runs, out=out / "report.html")
    return {
        "first": first,
        "systems": rows,
        "comparison": compare(runs[0], runs[1], "test", samples=samples),
        "health": dict(zip(ARMS, found)),
        "seconds": time.perf_counter() - started,
        "report": str(page),
        "quick": quick,
    }


def first_translation(out: Path) -> dict[str, str]:
    """Translate a sample clip with the shipped run `demo:synthetic`, print it to stderr and draw a picture of it."""
    from signcl.data.video import read_frames
    from signcl.inference.translation import load_model, translate
    from signcl.pages.clip_picture import clip_picture
    from signcl.training.shipped_runs import sample_clips

    clip = sample_clips(SHOWN)[0]
    text = translate(load_model(f"demo:{SHOWN}", device="cpu"), clip.path).text
    picture = clip_picture(
        read_frames(clip.path), {"signed": clip.reference, "translated": text}, out / "first-translation.png"
    )
    say(f"$ signcl translate demo:{SHOWN} demo:{SHOWN}/{clip.name}")
    say(f"signed:     {clip.reference}\ntranslated: {text}")
    say(f"frames of the clip: {picture}\nNow two systems are trained from scratch, on a harder corpus.\n")
    return {"clip": clip.name, "signed": clip.reference, "translated": text, "picture": str(picture)}


def copy_clips(folder: Path) -> list[dict[str, str]]:
    """Copy the sample clips of every shipped run to FOLDER/RUN-CLIP; return the path, run and sentence of each."""
    from signcl.data.files import write_bytes
    from signcl.training.shipped_runs import sample_clips, shipped_runs

    found = []
    for name in shipped_runs():
        for clip in sample_clips(name):
            to = folder / f"{name}-{clip.path.name}"
            write_bytes(to, clip.path.read_bytes())
            found.append({"clip": str(to), "run": f"demo:{name}", "signed": clip.reference})
    return found


def copied_text(found: list[dict[str, str]]) -> str:
    """Format what `signcl demo --clips` prints."""
    return "\n".join(f"signcl translate {row['run']} {row['clip']}   # signed: {row['signed']}" for row in found)


def demo_text(found: dict[str, Any]) -> str:
    """Format the numbers of a demo. Runs that have learned nothing are not compared, and the text says why."""
    from signcl.cli.tables import comparison_table, health_lines
    from signcl.data.text_tables import table

    columns = ("sdr", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")
    cells = [[r["system"], *(f"{r[c]:.2f}" for c in columns), f"{r['train_seconds']:.0f}"] for r in found["systems"]]
    header = ["system", "SDR %", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "train s"]
    notes = [{**row, "text": f"{arm}: {row['text']}"} for arm, rows in found["health"].items() for row in rows]
    if found["quick"] or any(row["empty"] for row in notes):
        why = "seconds of training on 96 clips" if found["quick"] else "see below"
        lines = [
            "",
            f"Every step ran. These systems have not learned to translate ({why}), so their scores are noise and are "
            "not compared:",
            *(f"  {row[0]}: BLEU-4 {row[5]}, SDR {row[1]} %" for row in cells),
            *health_lines(notes),
            *(["", "`make demo`, or `signcl demo`, trains them long enough to compare."] if found["quick"] else []),
        ]
    else:
        lines = [
            "",
            table(cells, header),
            "",
            "Paired bootstrap over the test sentences, one seed each; A is without SignCL, B is with SignCL:",
            comparison_table(found["comparison"]),
            *health_lines(notes),
        ]
    first = found["first"]
    return "\n".join(
        (
            *lines,
            "",
            "What a trained run can do: signcl translate demo:synthetic demo:synthetic/" + first["clip"],
            f"  signed {first['signed']!r}, translated {first['translated']!r}; frames: {first['picture']}",
            f"Total time: {found['seconds']:.0f} s. Report: {found['report']}",
        )
    )


def _encoder_plan(out: Path, signs: Path, quick: bool) -> Plan:
    words = [str(recipe_path("synthetic/isolated.yaml")), f"--corpus.root={signs}", f"--out={out / 'isolated'}"]
    return {out / "isolated": words + (["--train.epochs=4", "--train.evaluate_every=4"] if quick else [])}


def _plan(out: Path, corpus: Path, suffix: str, quick: bool) -> Plan:
    """Return the `signcl fit` commands of one system."""
    plan = {}
    for stage in STAGES:
        folder = out / f"{stage}{suffix}"
        start = (
            f"init_from={out / f'pretrain{suffix}'}"
            if stage == "finetune"
            else f"visual_weights=pretrained:{out / 'isolated'}"
        )
        changes = [f"--corpus.root={corpus}", f"--out={folder}", f"--model.{start}"]
        if quick:
            changes += ["--train.epochs=2", "--train.evaluate_every=2"]
        plan[folder] = [str(recipe_path(f"synthetic/{stage}{suffix}.yaml")), *changes]
    return plan


def _train_side_by_side(what: str, plans: dict[str, Plan]) -> None:
    """Run the commands of each plan in order, and the plans in parallel if there are enough cores."""
    jobs = min(len(plans), os.cpu_count() or 1)
    stop = threading.Event()
    total = sum(map(_steps, plans.values()))
    with track(what, total=total) as bar, ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_train, plan, arm, bar, stop) for arm, plan in plans.items()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()  # Ctrl-C reaches the child processes too: they save their state and exit
            raise


def _steps(plan: Plan) -> int:
    from signcl.data.corpora.synthetic import samples
    from signcl.training.recipe import load_recipe

    total = 0
    for words in plan.values():
        recipe = load_recipe(words[0], words[1:])
        clips = samples(Path(recipe.corpus.root), "train")
        items = sum(len(clip.spans) for clip in clips) if recipe.corpus.isolated else len(clips)
        total += math.ceil(items / recipe.train.batch_size) * recipe.train.epochs
    return total


def _train(plan: Plan, arm: str, bar: Bar, stop: threading.Event) -> None:
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
            if is_progress(line.strip()):  # the bar over all runs shows it
                continue
            last.append(line.strip())
            say(f"[{arm}, {folder.name.split('-')[0]}] {line.rstrip()}")
        code = process.wait()
        watcher.join()
        if code == 130 or (code and stop.is_set()):
            raise KeyboardInterrupt
        if code:
            raise ValueError(f"training {folder.name} failed: {' '.join(last)}")


def _advance(process: subprocess.Popen[str], folder: Path, bar: Bar) -> None:
    """Advance the bar by the steps that a run has logged, until its process ends."""
    from signcl.training.record import read_record

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
