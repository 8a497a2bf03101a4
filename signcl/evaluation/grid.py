"""Grid search of beams and length penalty on dev, then scoring with the best pair, as for the Sign Language
Transformers.

The test split does not affect the choice: it is translated once, with the pair that is best on dev.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signcl.data.batch import Batch
from signcl.data.progress import say
from signcl.evaluation.scoring import evaluate, keep_scores
from signcl.inference.answers import answers
from signcl.metrics import bleu
from signcl.training import runs
from signcl.training.recipe import recipe_samples
from signcl.training.runs import Run

__all__ = ["ALPHAS", "BEAMS", "evaluate_grid", "search_grid"]

BEAMS = tuple(range(1, 11))
ALPHAS = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Length penalties of the grid, as in neccam/slt and GASLT; -1 is none."""


def search_grid(
    run: Run,
    *,
    split: str = "dev",
    root: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    beams: Sequence[int] = BEAMS,
    alphas: Sequence[float] = ALPHAS,
    progress: bool = True,
) -> dict[str, Any]:
    """BLEU-4 of a split for every number of beams and every length penalty; higher is better.

    Args:
        run: a run of a system with the length penalty ((5 + length) / 6) ** alpha: slt, gaslt.
        beams, alphas: the grid.

    Returns:
        The grid, its values `bleu4` (one row per number of beams), and the `best` pair. Ties go to the fewest beams,
        then to the first alpha.

    Raises:
        ValueError: another system, or no readable clip.
    """
    search: Any = getattr(run.model, "generate_grid", None)
    if search is None:
        raise ValueError(
            f"{run.folder} is a run of {run.recipe.model.name}; the grid is only for slt and gaslt; for others use "
            f"--beams and --length-penalty"
        )
    samples, started = recipe_samples(run.recipe, split, root), time.perf_counter()

    def sentences(batch: Batch) -> dict[str, dict[tuple[int, float], str]]:
        ids = search(batch, beams=beams, alphas=alphas, max_new_tokens=run.recipe.decode.max_new_tokens)
        rows = {pair: tokens.tolist() for pair, tokens in ids.items()}
        return {
            name: {pair: run.tokenizer.decode(tokens[i]) for pair, tokens in rows.items()}
            for i, name in enumerate(batch.names)
        }

    found, broken = answers(
        run, samples, sentences, f"searching {split}", device=device, batch_size=batch_size, progress=progress
    )
    if not found:
        raise ValueError(f"no clip of split {split} could be read; run `signcl corpus check` on the corpus")
    if broken:
        say(f"{len(broken)} clips of {split} could not be read and were left out of the grid")
    texts, tokenize = [s.text for s in samples if s.name in found], run.recipe.bleu_tokenize
    rows = [
        [bleu([said[width, alpha] for said in found.values()], texts, tokenize=tokenize).bleu4 for alpha in alphas]
        for width in beams
    ]
    best = max(((i, j) for i in range(len(beams)) for j in range(len(alphas))), key=lambda at: rows[at[0]][at[1]])
    return {
        "split": split,
        "clips": len(found),
        "beams": list(beams),
        "length_penalties": list(alphas),
        "bleu4": rows,
        "best": {
            "beams": beams[best[0]],
            "length_penalty": alphas[best[1]],
            "bleu4": rows[best[0]][best[1]],
        },
        "seconds": round(time.perf_counter() - started, 2),
    }


def evaluate_grid(
    folder: str | Path,
    split: str = "test",
    *,
    root: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    bootstrap: int = 1000,
    beams: Sequence[int] = BEAMS,
    alphas: Sequence[float] = ALPHAS,
    progress: bool = True,
) -> dict[str, Any]:
    """Choose beams and length penalty on dev and score a split with them; see `search_grid` and `evaluate`.

    Returns:
        The split's entry of `scores.json`, with the grid under `grid`.
    """
    run = runs.load_run(folder)
    grid = search_grid(
        run, root=root, device=device, batch_size=batch_size, beams=beams, alphas=alphas, progress=progress
    )
    scores = evaluate(
        folder,
        split,
        root=root,
        device=device,
        beams=grid["best"]["beams"],
        length_penalty=grid["best"]["length_penalty"],
        batch_size=batch_size,
        bootstrap=bootstrap,
        progress=progress,
    )
    scores["grid"] = grid
    keep_scores(run.folder, split, scores)
    return scores
