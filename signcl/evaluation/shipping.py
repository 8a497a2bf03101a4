"""Rebuilds the shipped runs: `python -m signcl.evaluation.shipping [NAME ...]`, from a checkout.

It generates corpora in `data/` and trains runs in `runs/shipped/` as the recipes specify, and reuses what exists. A
shipped run has only what is needed to use it: matrices in half precision (norms, biases and statistics stay in single
precision, which the variance of sensors needs), no optimizer state, scores of exactly these weights, a model card, and
sample clips if the data may be redistributed.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from signcl.data.batch import Sample
from signcl.data.corpora.synthetic import SyntheticSettings, make_corpus
from signcl.data.files import atomic_write, write_json, write_text
from signcl.data.progress import say
from signcl.evaluation.scoring import evaluate, read_predictions
from signcl.inference.translation import load_model, translate
from signcl.training import fit, run_folder
from signcl.training.manifest import BESIDE_WEIGHTS, checked_write
from signcl.training.recipe import load_recipe, recipe_path, recipe_samples
from signcl.training.result_files import read_scores
from signcl.training.shipped_runs import ANSWERS, MARK, SAMPLES, SHIPPED

__all__ = ["SHIPMENTS", "Shipment", "ship"]

EASY = SyntheticSettings(
    clips=800, size=64, signs=24, density=0, variation=0, looseness=0.7, sign_frames=8, transition_frames=3,
    dev_share=0.05, test_share=0.1,
)  # fmt: skip
OTHER_SIGNS = SyntheticSettings(clips=400, size=64, signs=96, signers=8, unseen_signers=0, seed=1000)
"""Corpus for the frame encoder, with a different lexicon and signers."""
SMALL = 1024
"""Size of a tensor below which half precision saves nothing."""
DRAWN = "drawn by this package (`signcl corpus make`), so under the package's own licence, Apache-2.0"
GLOVE = (
    "Persian Sign Language numbers from a sensor glove by Ayoub Parvizi, CC BY 4.0, "
    "https://github.com/ayoubprz/IMU-based-ContinuesSignLanguageDataset. The signals are in the history of that "
    "repository only, and its licence file is newer than their removal. The weights are a derived work: name the "
    "source when you pass them on. No recording comes with them"
)


@dataclass(frozen=True)
class Shipment:
    """How one shipped run is made."""

    recipe: str
    """Name of its recipe."""
    what: str
    """One sentence: input and output."""
    data: str
    """Source and licence of its training data."""
    clip: str
    """Description of its input clips."""
    first: tuple[str, ...] = ()
    """Recipes to train before it."""
    corpora: dict[str, SyntheticSettings] = field(default_factory=dict)
    """Corpora to generate, by folder."""
    samples: int = 3
    """Number of sample clips; 0 if recordings may not be redistributed."""


CORPUS = {"data/synthetic-shipped": EASY}
SHIPMENTS = {
    "synthetic": Shipment(
        "synthetic/shipped",
        "Translates videos of the synthetic signed corpus (64 x 64 pixels, 25 frames per second) to English sentences.",
        DRAWN,
        "a video of `signcl corpus make` with the settings in the recipe's head",
        first=("synthetic/shipped-encoder",),
        corpora={"data/synthetic-signs-64": OTHER_SIGNS, **CORPUS},
    ),
    "poses": Shipment(
        "synthetic/shipped-poses",
        "Translates key points of the synthetic signed corpus (COCO-WholeBody, 133 per frame) to English sentences.",
        DRAWN,
        "a .npy of key points, [frames, 133, 3], as `signcl corpus make --poses` writes them",
        corpora=CORPUS,
    ),
    "numbers": Shipment(
        "imu_numbers/shipped",
        "Translates readings of a sensor glove (36 per frame, 60 frames per second) to numbers in English words.",
        GLOVE,
        "a .npy of raw readings, [frames, 36] float32; docs/shipped-runs.md has the lines that write one",
        samples=0,
    ),
}


def ship(name: str, to: Path = SHIPPED) -> Path:
    """Train, pack and describe one run; returns the shipped folder. Paths are relative to the current folder.

    Raises:
        ValueError, OSError: an unknown name; a missing corpus that cannot be generated.
    """
    if name not in SHIPMENTS:
        raise ValueError(f"no run {name} is shipped; there are {', '.join(SHIPMENTS)}")
    plan = SHIPMENTS[name]
    for root, settings in plan.corpora.items():
        make_corpus(root, settings, poses=root in CORPUS)
    for recipe in (*plan.first, plan.recipe):
        run = fit(load_recipe(recipe_path(recipe)))
    folder = run.with_name(f"{name}-packed")
    shutil.rmtree(folder, ignore_errors=True)
    _pack(run, folder, f"python -m signcl.evaluation.shipping {name}")
    for split in ("dev", "test"):  # dev first: calibrates
        evaluate(folder, split)
    if plan.samples:
        _write_samples(folder, plan.samples)
    else:  # sentences and names of recordings are part of the data
        for table in (*folder.glob("predictions.*.tsv"), *folder.glob("confidence.*.tsv")):
            table.unlink()
    write_text(folder / "README.md", _card(name, plan, folder))
    shutil.rmtree(to / name, ignore_errors=True)  # last, so that a stop keeps the old run
    folder = Path(shutil.copytree(folder, to / name))
    say(f"{folder}: {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.2f} MB")
    return folder


def _pack(run: Path, folder: Path, command: str) -> None:
    """Copy the files needed to use a run, with matrices in half precision."""
    folder.mkdir(parents=True)
    for file in ("recipe.yaml", "manifest.json", "metrics.jsonl", *BESIDE_WEIGHTS):
        if (run / file).is_file():
            shutil.copyfile(run / file, folder / file)
    card = run_folder.read_card(run) | {"command": command}
    card["versions"].pop("machine", None)
    write_json(folder / "card.json", card)
    from safetensors.torch import save_file

    tensors = {name: _half(tensor) for name, tensor in run_folder.read_weights(run).items()}
    with checked_write(folder / "model.safetensors") as temporary:
        save_file(tensors, str(temporary))


def _half(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype != torch.float32 or tensor.numel() < SMALL:
        return tensor
    return tensor.half()


def _write_samples(folder: Path, count: int) -> None:
    """Write the longest test clips that the run translates correctly, one per sentence, and its answers."""
    recipe = load_recipe(folder / "recipe.yaml", of_run=True)
    clips = {sample.name: sample for sample in recipe_samples(recipe, "test")}
    right, seen = [], set[str]()
    for name, reference, answer in zip(*read_predictions(folder / "predictions.test.tsv")):
        if reference == answer and reference not in seen:
            seen.add(reference)
            right.append(clips[name])
    longest = sorted(right, key=lambda sample: -len(sample.text.split()))[:count]
    model, rows = load_model(folder), []
    for number, sample in enumerate(longest, start=1):
        path = _copied(sample, folder / SAMPLES, f"clip-{number}")
        rows.append([path.name, sample.text, translate(model, path).text])
    lines = ["\t".join(row) for row in (["clip", "reference", "answer"], *rows)]
    write_text(folder / SAMPLES / ANSWERS, "\n".join(lines) + "\n")


def _copied(sample: Sample, folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    source = sample.clip if sample.features is None else sample.features
    assert isinstance(source, Path)
    path = folder / f"{name}{source.suffix}"
    if source.suffix == ".npy":  # key points rounded to 1/16 pixel
        points = np.load(source)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, (np.round(points * 16) / 16).astype(np.float16))
    else:
        shutil.copyfile(source, path)
    return path


def _card(name: str, plan: Shipment, folder: Path) -> str:
    scores, card = read_scores(folder), run_folder.read_card(folder)
    test, dev = scores["test"], scores["dev"]
    low, high = test["intervals"]["bleu4"]
    lines = [
        f"# {MARK}{name}",
        "",
        f"{plan.what} A small run to try the tools with, trained in {card['steps']:,} steps on one CPU core. "
        "It knows nothing of any sign language beyond its corpus: do not use it for people.",
        "",
        f"- **Use**: `signcl translate {MARK}{name} CLIP`, where CLIP is {plan.clip}.",
        f"- **Data**: {plan.data}.",
        f"- **Recipe**: `signcl recipes show {plan.recipe}`. This folder again: `{card['command']}`.",
        f"- **Size**: {card['parameters']:,} parameters, matrices in half precision.",
        f"- **Scores on test** ({test['made']['clips']} clips, none in training; with these weights): BLEU-4 "
        f"{test['bleu4']:.2f} (95 %: {low:.2f} to {high:.2f}), ROUGE-L {test['rouge_l']:.2f}, exact match "
        f"{test['exact_match']:.2f} %; on dev BLEU-4 {dev['bleu4']:.2f}.",
    ]
    unseen = test.get("unseen") or {}
    if unseen.get("bleu4") is not None:
        lines.append(f"- On test sentences that training does not have word by word: BLEU-4 {unseen['bleu4']:.2f}.")
    lines += [f"- **Note**: {finding['text']}." for finding in test.get("health", [])]
    if plan.samples:
        lines.append(
            f"- **Samples**: `{MARK}{name}/clip-1` to `clip-{plan.samples}`, the longest test clips that it translates "
            "without a mistake; the scores above show how often it does."
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Rebuild the named runs, or all."""
    parser = argparse.ArgumentParser(prog="python -m signcl.evaluation.shipping", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHIPMENTS)}; default all")
    for name in parser.parse_args(arguments).names or SHIPMENTS:
        ship(name)


if __name__ == "__main__":
    main()
