"""Dry run for a licensed corpus: checks that all files are present, estimates the cost, and lists published scores.

    python -m paper.check --corpus phoenix14t --root DIR [--all] [--seeds 3]

Nothing is trained or written. Errors make the tables wrong or impossible (exit code 1); warnings do not. Each published
score is given with its source. Score differences within the noise of the test set mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper.extractors import KINDS
from paper.jobs import Extract, Files, missing, recipe_of
from paper.plan import Step, runs_of
from paper.published import EXPECTED, NOISE
from paper.settings import CORPORA, SEEDS, add_arguments
from signcl.cli.tables import table as drawn
from signcl.data.batch import Sample
from signcl.training.recipe import Recipe, load_recipe, recipe_path, recipe_to_dict

__all__ = ["SCRIPTS", "Report", "check", "main"]

COUNTS = {
    "phoenix14t": {"train": 7096, "dev": 519, "test": 642},
    "csl_daily": {"train": 18401, "dev": 1077, "test": 1176},
}
MEAN_FRAMES = {"phoenix14t": 116.6, "csl_daily": 118.8}
"""Mean length of the training clips."""
LOOKED_AT = 60
"""Clips per split that are opened unless --all is given."""
PRETRAIN_HOURS, FINETUNE_HOURS = 4 * 24.0, 4 * 36.0
"""GPU hours on a 3090 for PHOENIX-2014T: 4 cards, 24 h of VLP and 36 h of finetuning (issue GFSLT-VLP#6)."""
SCRIPTS = ("table8", "table2", "table1", "table6", "table7", "figure7", "table9", "table10", "figure2", "figure3",
           "figure5", "trust")  # fmt: skip
"""Every script that trains on a licensed corpus; shared runs are trained once."""
PARAMETERS = {
    "phoenix14t": {"vlp": 270.1e6, "gfslt": 115.4e6, "slt": 26.1e6, "recogniser": 10.5e6, "smkd": 32.8e6},
    "csl_daily": {"vlp": 281.1e6, "gfslt": 122.7e6, "slt": 26.0e6, "recogniser": 11.0e6, "smkd": 33.7e6},
}
"""Parameters by system, as in docs/models.md (CSL-Daily: with its own word embeddings and gloss heads)."""
BASELINE_PARAMETERS = {"nslt2018": 59.9e6, "gaslt": 17.9e6, "pgp": 35.6e6, "sign2gpt": 1798.5e6}
"""Parameters of baselines for PHOENIX-2014T, from recipes/sizes.json; used for both corpora."""
FEATURE_DIM = 512
LOCAL = re.compile(r"(pretrained|runs|weights|data)/|[/.~]|.*/.*/|.*\.(pth|pt|bin|safetensors|vec|txt|gz)$")
"""Matches a path, not a hub id."""
TRIMMED = "docs/systems/language-models.md (`signcl vocab trim` makes it from an mBART)"
WHERE = {
    "text.tokenizer": TRIMMED,
    "model.language_model": TRIMMED,
    "model.visual_weights": "docs/models.md (torchvision's, transformers' or a GFSLT checkpoint)",
    "": "docs/systems",
}
"""Where to get weights, by the prefix of the recipe key; the first match counts."""


@dataclass
class Report:
    """Findings of the dry run."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    """(quantity, value)"""


def check(corpus: str, root: Path, *, seeds: int = 3, out: Path = Path("runs/paper"), every: bool = False) -> Report:
    """Checks a licensed corpus without training anything.

    Args:
        corpus: phoenix14t or csl_daily.
        root: its folder.
        seeds: number of seeds for the cost estimate.
        out: planned folder for runs; its free disk space is checked.
        every: open every clip instead of a sample of each split.

    Raises:
        ValueError: no such folder.
    """
    from signcl.data.corpora import load_samples

    if not root.is_dir():
        raise ValueError(f"{corpus} is needed at {root}, but there is no such folder; name it with --root")
    report = Report()
    parts: dict[str, list[Sample]] = {}
    for split in COUNTS[corpus]:
        try:
            parts[split] = load_samples(corpus, root, split)
        except (ValueError, OSError) as error:
            report.errors.append(f"{split}: {error}")
    _counts(corpus, parts, report)
    _glosses(corpus, root, parts, report)
    _texts(parts, report)
    _clips(parts, every, report)
    recipes = {name: load_recipe(recipe_path(name)) for name in dict.fromkeys(CORPORA[corpus].recipes.values())}
    _weights(recipes, report, report.errors)
    extra = dict.fromkeys(CORPORA[corpus].extra.values())
    _weights({name: load_recipe(recipe_path(name)) for name in extra}, report, report.warnings, OPTIONAL)
    _published(corpus, root, report)
    runs, features = _runs(corpus, ["--root", str(root), "--seeds", str(seeds), "--out", str(out)], report)
    _devices(corpus, recipes, runs, report)
    held = [s.num_frames for samples in parts.values() for s in samples if s.num_frames]
    mean = sum(held) / len(held) if held else MEAN_FRAMES[corpus]
    _costs(corpus, mean * sum(COUNTS[corpus].values()), runs, features, out, report)
    return report


def _counts(corpus: str, parts: dict[str, list[Sample]], report: Report) -> None:
    for split, samples in parts.items():
        wanted = COUNTS[corpus][split]
        report.facts.append((f"{split} sentences", f"{len(samples)} of {wanted}"))
        if len(samples) != wanted:
            report.errors.append(
                f"{split} has {len(samples)} sentences, the published split has {wanted}; scores on it are not "
                "comparable"
            )
    names = [sample.name for samples in parts.values() for sample in samples]
    if len(set(names)) < len(names):
        report.errors.append(f"{len(names) - len(set(names))} clips are in two splits")


def _glosses(corpus: str, root: Path, parts: dict[str, list[Sample]], report: Report) -> None:
    """Checks the source of the glosses: WER, density per gloss, aligner and Joint-SLT need annotated ones."""
    for split, samples in parts.items():
        bare = sum(not sample.gloss for sample in samples)
        if not bare:
            continue
        top = root / "PHOENIX-2014-T" if (root / "PHOENIX-2014-T").is_dir() else root
        if corpus == "phoenix14t" and bare == len(samples) and (top / f"labels.{split}").is_file():
            report.errors.append(
                f"{split}: only labels.{split} of GFSLT-VLP was found. Its glosses are not read, because they differ "
                "from the annotation (in 475 of the 642 test sentences): Tables 1, 9, 10 and Figures 2, 3 need "
                "annotations/manual/PHOENIX-2014-T.*.corpus.csv or phoenix14t.* of neccam/slt"
            )
        else:
            report.errors.append(
                f"{split}: {bare} of {len(samples)} sentences have no gloss; WER and density need them"
            )
    held = {gloss for sample in parts.get("train", ()) for gloss in sample.gloss}
    if held:
        report.facts.append(("gloss types in train", str(len(held))))
    if parts and not any(sample.spans for samples in parts.values() for sample in samples):
        report.warnings.append(
            "this corpus has no spans: for Figures 2, 3 and Table 10 the aligner of Table 9 is trained, unless you "
            "give --spans TABLE" + (" (signcl spans --phoenix-alignments DIR)" if corpus == "phoenix14t" else "")
        )


def _texts(parts: dict[str, list[Sample]], report: Report) -> None:
    """Checks the final full stop, and counts dev and test sentences that occur in training."""
    texts = [sample.text for samples in parts.values() for sample in samples]
    if not texts:
        return
    dots = sum(text.rstrip().endswith(" .") for text in texts)
    report.facts.append(("sentences that end in ' .'", f"{100 * dots / len(texts):.1f} %"))
    if 0 < dots < len(texts) / 2:
        report.warnings.append("some sentences end in ' .' and most do not; this convention changes BLEU-1 by 3 to 5")
    train = {" ".join(sample.text.split()) for sample in parts.get("train", ())}
    for split in ("dev", "test"):
        seen = sum(" ".join(sample.text.split()) in train for sample in parts.get(split, ()))
        if split in parts:
            report.facts.append((f"{split} sentences that occur in train", str(seen)))


def _clips(parts: dict[str, list[Sample]], every: bool, report: Report) -> None:
    """Checks that clips exist and have the length stated in the labels."""
    from signcl.data.video import probe

    for split, samples in parts.items():
        chosen = samples if every else samples[:: max(1, len(samples) // LOOKED_AT)]
        chosen = [sample for sample in chosen if sample.clip is not None]
        wrong, other = [], []
        for sample in chosen:
            assert sample.clip is not None
            try:
                frames = probe(sample.clip).num_frames
            except (ValueError, OSError) as error:
                wrong.append(str(error))
                continue
            if sample.num_frames is not None and frames != sample.num_frames:
                other.append(f"{sample.name}: {frames}, labels say {sample.num_frames}")
        report.facts.append((f"{split} clips opened", f"{len(chosen) - len(wrong)} of {len(chosen)}"))
        if wrong:
            report.errors.append(
                f"{split}: {len(wrong)} of {len(chosen)} clips cannot be opened, the first: {wrong[0]}"
            )
        if other:
            report.warnings.append(f"{split}: {len(other)} of {len(chosen)} clips have other lengths, first {other[0]}")
    if not every:
        report.facts.append(("opened", "some clips of each split; --all opens every one"))


def _pretrained(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yields each recipe key that names published weights or a tokenizer, and their location."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _pretrained(value, f"{above}{key}.")
        elif isinstance(value, str) and value.startswith("pretrained:"):
            yield above + key, value.removeprefix("pretrained:")


OPTIONAL = " Without it, omit its row: --systems of paper.table2, --extractors of paper.table1 and paper.figure2."
"""Advice for files that only optional rows need."""


def _published(corpus: str, root: Path, report: Report) -> None:
    """Checks that published features are present."""
    for kind, pattern in CORPORA[corpus].published.items():
        if missing_files := Files(pattern).missing(root):
            report.warnings.append(
                f"{missing_files[0].name} is not in {root}: the {KINDS[kind]} features of Tables 1, 11 and Figure 2. "
                f"See docs/systems/cnn_ctc.md.{OPTIONAL}"
            )


def _weights(recipes: dict[str, Recipe], report: Report, lines: list[str], more: str = "") -> None:
    """Checks that the weights needed by recipes are present. Paths are relative to the working directory.

    Args:
        lines: list that receives messages about missing files: errors or warnings.
        more: advice to append.
    """
    wanted: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, recipe in recipes.items():
        for key, source in _pretrained(recipe_to_dict(recipe)):
            wanted[source][key].append(name)
    there = []
    for source, keys in wanted.items():
        needed = "; ".join(f"{key} of {', '.join(names)}" for key, names in keys.items())
        path = Path(source)
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            there.append(source)
        elif path.is_dir() or LOCAL.match(source):
            docs = dict.fromkeys(next(text for start, text in WHERE.items() if key.startswith(start)) for key in keys)
            state = "empty" if path.is_dir() else "not there"
            lines.append(f"{source} is {state}: {needed}. See {', '.join(docs)}{'.' if more else ''}{more}")
        else:
            report.warnings.append(f"{source} will be loaded from the hub or its cache: {needed}")
    what = "pretrained weights of optional rows" if more else "pretrained weights"
    report.facts.append((what, f"{len(there)} of {len(wanted)} are there"))


def _runs(corpus: str, words: list[str], report: Report) -> tuple[dict[Path, Recipe], int]:
    """Every run that all scripts still have to train, by its folder, and the number of feature sets to extract."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(["--corpus", corpus, "--device", "cuda", *words])  # a run is the same on any device
    found: dict[Path, Recipe] = {}
    features: set[Path] = set()
    own: Counter[str] = Counter()
    silent: dict[str, list[str]] = defaultdict(list)
    for script in SCRIPTS:
        try:
            wanted = runs_of(Step(script, corpus), options)
        except (ValueError, OSError) as why:
            silent[str(why)].append(script)
            continue
        before = len(found)
        for place, jobs in wanted.items():
            for folder, job in missing(jobs, place).items():
                if isinstance(job, Extract):
                    features.add(folder)
                elif folder not in found:
                    found[folder] = recipe_of(job, place)
        own[script] = len(found) - before
    for error, scripts in silent.items():
        named = ", ".join(scripts)
        report.warnings.append(f"runs of {named} are not known yet and in no figure of room and time: {error}")
    each = ", ".join(f"{script} {count}" for script, count in own.items())
    many = f"{len(found)} trainings, {len(features)} sets of features: {each}"
    report.facts.append((f"to make for {options.seeds} seeds, each once", many))
    return found, len(features)


def _devices(corpus: str, recipes: dict[str, Recipe], runs: dict[Path, Recipe], report: Report) -> None:
    """Reports the GPUs of this machine and how recipes and scripts use them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    by_count: dict[int, list[str]] = defaultdict(list)
    for name, recipe in recipes.items():
        by_count[recipe.train.devices].append(Path(name).stem)
    says = "; ".join(f"{n}: {', '.join(of)}" for n, of in sorted(by_count.items(), reverse=True))
    scripts = Counter((recipe.train.devices, recipe.train.accumulate) for recipe in runs.values())
    does = [f"{many} runs on {n}, {over} batch(es) a step" for (n, over), many in sorted(scripts.items(), reverse=True)]
    report.facts += [
        (
            "CUDA GPUs here",
            f"{count}, {torch.cuda.get_device_name(0)}; --device cuda trains there" if count else "none",
        ),
        ("devices, by the recipes as shipped", says),
        ("devices, by the scripts", "; ".join(does)),
    ]
    if not count:
        longest = recipes[CORPORA[corpus].recipes["gfslt"]]
        seconds = _seconds_of_a_frame(longest.input.crop or longest.input.size)
        days = seconds * COUNTS[corpus]["train"] * MEAN_FRAMES[corpus] * longest.train.epochs / 86400
        report.warnings.append(
            f"this machine has no CUDA GPU. ResNet-18 takes {seconds:.2f} s a frame, forward and backward, here with "
            f"{torch.get_num_threads()} thread(s) (measured now): {days:,.0f} days for each finetuning of GFSLT"
        )


@functools.cache
def _seconds_of_a_frame(size: int) -> float:
    """Seconds per frame of a ResNet-18 on this CPU, forward and backward, after one warm-up pass; measured once."""
    import torch

    from signcl.systems.encoders.frame_encoders import ResNet

    encoder, frames = ResNet(18), torch.zeros(2, size, size, 3, dtype=torch.uint8)
    encoder(frames).sum().backward()
    started = time.perf_counter()
    encoder(frames).sum().backward()
    return (time.perf_counter() - started) / len(frames)


def _costs(corpus: str, frames: float, runs: dict[Path, Recipe], features: int, out: Path, report: Report) -> None:
    """Estimates disk space and time for the runs of all scripts, and states the basis of the estimate."""
    kinds: Counter[str] = Counter()
    checkpoints = 0.0
    for recipe in runs.values():
        kinds[recipe.model.name] += 1
        moments = 1 if recipe.train.optimizer == "sgd" else 2
        size = (PARAMETERS[corpus] | BASELINE_PARAMETERS)[recipe.model.name]
        checkpoints += 4 * (2 + moments) * size  # best and last weights, and the optimizer state of the last
    room = features * frames * FEATURE_DIM * 2
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    report.facts += [
        ("by system", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))),
        ("room for their weights", f"{checkpoints / 1e9:.0f} GB (best and last state in float32)"),
        (
            "room for their features",
            f"{room / 1e9:.1f} GB ({features} x {frames:,.0f} frames x {FEATURE_DIM} x 2 bytes)",
        ),
        (f"free at {place}", f"{free / 1e9:.0f} GB"),
    ]
    if free < checkpoints + room:
        report.warnings.append(
            f"{(checkpoints + room) / 1e9:.0f} GB are needed for what all scripts still have to make, "
            f"{free / 1e9:.0f} GB are free at {place}; name another disk by --out"
        )
    scale = frames / (MEAN_FRAMES["phoenix14t"] * sum(COUNTS["phoenix14t"].values()))
    hours, timed = 0.0, 0
    for part, whole in (("vlp", PRETRAIN_HOURS), ("gfslt", FINETUNE_HOURS)):
        epochs = load_recipe(recipe_path(CORPORA[corpus].recipes[part])).train.epochs
        shares = [recipe.train.epochs / epochs for recipe in runs.values() if recipe.model.name == part]
        hours, timed = hours + whole * scale * sum(shares), timed + len(shares)
    report.facts += [
        ("one pretraining", f"{PRETRAIN_HOURS * scale:.0f} GPU hours (3090)"),
        ("one finetuning", f"{FINETUNE_HOURS * scale:.0f} GPU hours (3090)"),
        (f"{timed} runs of VLP and GFSLT", f"{hours:,.0f} GPU hours (3090), by their epochs"),
        (f"{len(runs) - timed} others", "SMKD, other systems and small ones on features: no published time"),
        ("the paper's own figure", "96 GPU hours (8 A800, about 12 hours; of which runs is not said)"),
        ("basis", "GFSLT-VLP#6: 4 x 3090, 24 h and 36 h on PHOENIX-2014T; scaled by frames. Not measured here"),
    ]


def text(corpus: str, report: Report) -> str:
    """The report as text."""
    expected = [[of, number, whose] for whose, of, number in EXPECTED[corpus]]
    lines = [drawn([list(fact) for fact in report.facts], [CORPORA[corpus].title, ""]), ""]
    lines += [drawn(expected, ["BLEU-4 on test", "", "whose"]), ""]
    lines += [
        f"Noise of one test score: ± {NOISE[corpus]} BLEU-4 (95 % bootstrap over sentences); standard deviation over "
        "seeds 0.2 to 0.6. A gain within it needs a paired test and several seeds.",
        "",
    ]
    lines += [f"error: {line}" for line in report.errors] + [f"warning: {line}" for line in report.warnings]
    lines.append("ready" if not report.errors else f"not ready: {len(report.errors)} errors")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the report. Returns 0 if ready, 1 if errors were found, 2 if there is no such folder."""
    parser = argparse.ArgumentParser(prog="python -m paper.check", description=(__doc__ or "").splitlines()[0])
    licensed = [name for name, setting in CORPORA.items() if setting.licensed]
    parser.add_argument("--corpus", choices=licensed, required=True)
    parser.add_argument("--root", type=Path, help="the corpus folder, if it is not the default one")
    parser.add_argument("--seeds", type=SEEDS, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="planned folder for runs")
    parser.add_argument("--all", action="store_true", help="open every clip")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    root: Path = options.root or Path(CORPORA[options.corpus].root)
    try:
        report = check(options.corpus, root, seeds=options.seeds, out=options.out, every=options.all)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        found = {
            "errors": report.errors,
            "warnings": report.warnings,
            "facts": dict(report.facts),
            "expected": [dict(zip(("source", "system", "bleu4"), row)) for row in EXPECTED[options.corpus]],
            "noise": NOISE[options.corpus],
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(text(options.corpus, report))
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
