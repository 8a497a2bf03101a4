"""Checks that every system and corpus must pass, as functions for their authors.

    from signcl.testing import check_system
    check_system("my_system")                      # or the class; raises AssertionError on failure

The checks run on a tiny generated corpus, on a CPU, in about ten seconds per system. The package's own systems use the
same functions (tests/test_systems.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, Sample
from signcl.data.bounds import numbers_without_bounds
from signcl.data.corpora import CORPORA, SPLITS
from signcl.data.corpus_check import check_corpus as corpus_problems
from signcl.data.loading import ClipDataset
from signcl.inference.answers import answers
from signcl.systems import SYSTEMS, Decode, System, system_class
from signcl.systems.parts.cpu_half import cpu_half
from signcl.systems.parts.written import mean_features, sentence_log_probs
from signcl.systems.terms import compute_terms, weighted_sum
from signcl.systems.terms.frame_terms import contrast_of
from signcl.training import run_folder
from signcl.training.fitting import fit
from signcl.training.optimizer import term_context
from signcl.training.prepare import Material, prepare
from signcl.training.recipe import Recipe, field_docs, recipe_from_dict
from signcl.training.record import read_record
from signcl.training.runs import attach_memory, build_model, load_run

__all__ = ["CHECKS", "SMALL", "check_corpus", "check_system", "tiny_recipe", "write_tiny_corpus"]

SIGNS = {"HAUS": "haus", "REGEN": "regen", "SONNE": "sonne", "WIND": "wind", "NORD": "norden"}
SMALL: dict[str, Any] = {
    **{"width": 32, "conv_width": 32, "encoder_layers": 2, "decoder_layers": 1, "heads": 4, "ffn": 48, "dropout": 0.0},
    **{"text_layers": 1, "text_heads": 4, "text_ffn": 48, "text_dropout": 0.0},
}
"""Tiny values for the keys that a system's config has."""
SMALL_LM: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2, "ffn": 64}
"""Tiny values for a language model in it, under `model.lm`."""
OF_FEATURES = ("feature_mlp", "feature_streams", "identity")


@dataclass(frozen=True)
class Subject:
    """A tiny system with its data and a batch of four clips."""

    recipe: Recipe
    model: System
    material: Material
    folder: Path

    def batch(self, rows: Sequence[int] = (0, 1, 2, 3)) -> Batch:
        """Training clips, loaded without randomness as for dev."""
        data = ClipDataset(
            self.material.train.samples,
            self.material.tokenizer,
            self.recipe.reading,
            training=False,
            glosses=self.material.glosses,
            targets=self.material.targets,
            dim=self.material.feature_dim,
        )
        loaded = data[list(rows)].checked()
        assert loaded.batch is not None
        return loaded.batch

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The unweighted terms of the recipe."""
        context = term_context(self.model, self.recipe, self.material.tokenizer.pad_id)
        return compute_terms(self.model(batch), batch, self.recipe.terms, context)


def check_system(
    system: type[System] | str,
    recipe: Mapping[str, Any] | None = None,
    *,
    checks: Sequence[str] | None = None,
    folder: Path | str | None = None,
) -> list[str]:
    """Check the behaviour that users expect of every system.

    Args:
        system: a class, or the name of a registered one.
        recipe: recipe keys that override the tiny values, e.g. {"model": {"width": 16}, "loss": {"weights": ...}}.
        checks: some of `CHECKS`; None: all.
        folder: folder for the corpus and runs of the checks; None: a temporary folder.

    Returns:
        The names of the checks that ran.

    Raises:
        AssertionError: a check failed; says which and why.
        ValueError: an unknown check, or an invalid recipe.
    """
    kind = system_class(system) if isinstance(system, str) else system
    unknown = [name for name in checks or () if name not in CHECKS]
    if unknown:
        raise ValueError(f"the checks are {', '.join(CHECKS)}; got {', '.join(unknown)}")
    names = list(CHECKS if checks is None else checks)
    name_of_config = str(kind.Config.__dataclass_fields__["name"].default)
    with (
        tempfile.TemporaryDirectory(prefix="signcl-check-") as temporary,
        SYSTEMS.standing_in(name_of_config, kind),  # it may not be registered yet
    ):
        place = Path(temporary if folder is None else folder)
        place.mkdir(parents=True, exist_ok=True)
        whole = tiny_recipe(kind, place, recipe or {})
        for name in names:
            CHECKS[name](_subject(whole, place / name))
    return names


def _subject(recipe: Recipe, folder: Path) -> Subject:
    recipe = replace(recipe, out=str(folder))
    material = prepare(recipe)
    torch.manual_seed(0)
    model = build_model(recipe, material.tokenizer, material.feature_dim, material.glosses, material.targets)
    attach_memory(model, recipe, material.targets)
    return Subject(recipe, model, material, folder)


def tiny_recipe(system: type[System], folder: Path, changes: Mapping[str, Any]) -> Recipe:
    """A recipe of a system on the tiny corpus, which is written to `folder` if it does not exist.

    SignCL has a weight if the system supports it.
    """
    config = system.Config()
    model = dict(changes.get("model", {}))
    visual = model.get("visual", "feature_mlp")
    single = any("one_gloss" in getattr(term, "needs", ()) for term in system.terms.values())
    pixels = visual not in OF_FEATURES
    root = write_tiny_corpus(folder / ("pictures" if pixels else "features"), pixels=pixels)
    weights = dict.fromkeys(system.default_terms(config), 1.0)
    if "signcl" in system.terms:
        weights["signcl"] = 1.0
    sizes = {key: value for key, value in SMALL.items() if key in type(config).__dataclass_fields__}
    if "lm" in type(config).__dataclass_fields__:
        sizes["lm"] = SMALL_LM
    data: dict[str, Any] = {
        "stage": system.stage,
        "out": str(folder / "run"),
        "corpus": {"name": "folder", "root": str(root), "isolated": single},
        "input": {"size": 24, "max_frames": 60},
        "model": {"name": config.name, "visual": visual, "visual_dim": 16, **sizes},
        "loss": {
            "weights": weights,
            "label_smoothing": 0.0,
            "signcl": {"distance_margin": 4.0, "frame_margin_floor": 2, "words_per_gloss": 1.0},
        },
        "train": {
            **{"epochs": 20, "batch_size": 4, "device": "cpu", "lr": 5e-3, "schedule": "cosine"},
            **{"evaluate_every": 20, "weight_decay": 0.0},
        },
        "decode": {"beams": 2, "max_new_tokens": 8, "gloss_beams": 3},
    }
    return recipe_from_dict(_merged(data, changes))


def _merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(data)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping) and key != "weights":
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged


def write_tiny_corpus(root: Path, *, pixels: bool = False) -> Path:
    """Write a corpus of sentences of two to four signs; a sign is a vector (or a position) held for 6 to 12 frames."""
    if (root / "test.tsv").is_file():
        return root
    random = np.random.default_rng(0)
    glosses, signs = list(SIGNS), random.normal(size=(len(SIGNS), 12))
    root.mkdir(parents=True, exist_ok=True)
    for split, clips in (("train", 8), ("dev", 4), ("test", 4)):
        lines = ["name\tpath\ttext\tgloss\tspans"]
        for i in range(clips):
            chosen = random.permutation(len(glosses))[: 2 + i % 3]
            frames, spans, at = [], [], 0
            for c in chosen:
                length = int(random.integers(6, 13))
                spans.append(f"{glosses[c]}:{at}-{at + length}")
                frames.append(np.tile(signs[c], (length, 1)))
                at += length
            rows = np.concatenate(frames) + 0.5 * random.normal(size=(at, 12))
            name, gloss = f"{split}{i}", " ".join(glosses[c] for c in chosen)
            text = " ".join(SIGNS[glosses[c]] for c in chosen)
            if pixels:
                _write_pictures(root / name, rows)
            else:
                np.save(root / f"{name}.npy", rows.astype(np.float32))
            lines.append(f"{name}\t{name}{'' if pixels else '.npy'}\t{text}\t{gloss}\t{' '.join(spans)}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def _write_pictures(folder: Path, rows: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        picture = np.kron(row.reshape(3, 4), np.ones((8, 6)))[:, :, None] * 40 + [110, 128, 140]
        if not cv2.imwrite(str(folder / f"{number:03d}.png"), picture.clip(0, 255).astype(np.uint8)):
            raise OSError(f"{folder}: the pictures of the tiny corpus cannot be written")


# -- the checks --------------------------------------------------------------------------------------------------------


def _documented(subject: Subject) -> None:
    """It has descriptions, and every number of its config has bounds."""
    kind = type(subject.model)
    for attribute in ("title", "needs"):
        assert getattr(kind, attribute), f"{kind.__name__}.{attribute} is empty; `signcl systems` prints it"
    assert kind.__doc__, f"{kind.__name__} needs a docstring"
    bare = numbers_without_bounds(kind.Config)
    assert not bare, (
        f"numbers without bounds in {kind.__name__}.Config: {', '.join(bare)}; use signcl.data.bounds.bounded"
    )
    assert field_docs(kind.Config), f"{kind.__name__}.Config has no fields"


def _terms(subject: Subject) -> None:
    """Every term is a finite scalar, and its gradient reaches the frame encoder if it should."""
    batch, model = subject.batch(), subject.model
    with torch.no_grad():
        size = contrast_of(model(batch))[0].shape[2]
    assert size == model.contrast_dim, f"SignCL sees frames of size {size}, and contrast_dim is {model.contrast_dim}"
    terms = subject.losses(batch)
    assert terms.keys() == subject.recipe.loss.weights.keys()
    for name, value in terms.items():
        assert value.dim() == 0, f"the term {name} is {list(value.shape)}, and must be a scalar"
        assert torch.isfinite(value), f"the term {name} is {float(value)}"
        if not subject.recipe.terms[name].reaches_frames:
            continue
        subject.model.zero_grad()
        value.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        weights = [p for p in subject.model.visual.parameters() if p.requires_grad]
        moved = sum(float(p.grad.abs().sum()) for p in weights if p.grad is not None)
        assert not weights or moved > 0, f"the term {name} does not reach the frame encoder"


def _padding(subject: Subject) -> None:
    """A clip has the same outputs, taps and step lengths alone as in a batch with longer clips."""
    model = shaken(subject.model).eval()
    together = subject.batch()
    assert len(set(together.lengths.tolist())) > 1
    with torch.no_grad():
        whole = model(together)
        for row in range(4):
            alone = subject.batch([row])
            part = model(alone)
            for tap in model.TAPS:
                inside, single = model.tapped(together, tap), model.tapped(alone, tap)
                length = int(inside.lengths[row])
                assert int(single.lengths[0]) == length, f"tap {tap}: {int(single.lengths[0])} rows alone, {length} not"
                _near(inside.rows[row, :length], single.rows[0, :length], f"tap {tap} depends on padding")
            steps = model.step_lengths(together.lengths)
            assert torch.equal(model.step_lengths(alone.lengths)[0], steps[row]), "step_lengths depends on the batch"
            for name, value in vars(part).items():
                if isinstance(value, Tensor) and value.ndim and value.is_floating_point():
                    real = tuple(slice(0, size) for size in value[0].shape)
                    _near(getattr(whole, name)[row][real], value[0], f"output {name} depends on padding")


def _taps(subject: Subject) -> None:
    """Every tap gives rows with positions in time for every clip; `features` is what the terms read."""
    batch, model = subject.batch(), subject.model.eval()
    with torch.no_grad():
        outputs, seen = model(batch), model.tapped(batch)
    _near(seen.rows, outputs.features, "tap features is not forward's `features`: density and SignCL would differ")
    for tap in model.TAPS:
        seen = model.tapped(batch, tap)
        assert seen.rows.dim() == 3, f"tap {tap}: rows are [B, L, D], got {list(seen.rows.shape)}"
        assert len(seen.rows) == len(batch), f"tap {tap}: {len(seen.rows)} clips of {len(batch)}"
        assert int(seen.lengths.max()) <= seen.rows.shape[1], f"tap {tap}: lengths beyond its rows"
        assert seen.stride > 0, f"tap {tap}: stride {seen.stride}"


def _saved(subject: Subject) -> None:
    """Saving to and loading from a run folder changes nothing."""
    model = shaken(subject.model).eval()
    data, folder = subject.material, subject.folder
    run_folder.save_run_start(folder, subject.recipe, data.tokenizer, data.glosses, data.targets)
    run_folder.save_weights(folder, model)
    run_folder.save_card(folder, {"feature_dim": data.feature_dim})
    torch.manual_seed(9)
    again = load_run(folder).model
    batch = subject.batch([0, 1])
    with torch.no_grad():
        before, after = model(batch), again(batch)
    for name, value in vars(before).items():
        if isinstance(value, Tensor):
            assert torch.equal(value, getattr(after, name)), f"output {name} differs after saving and loading"


def _half(subject: Subject) -> None:
    """In bfloat16 gradients are finite and the loss is close to float32's."""
    model, batch, totals = subject.model, subject.batch(), []
    model.eval()  # no randomness
    for half in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half), cpu_half():
            totals.append(weighted_sum(subject.losses(batch), subject.recipe.loss.weights))
    totals[1].backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        finite = parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
        assert finite, f"the gradient of {name} is not finite in bfloat16"
    torch.testing.assert_close(totals[1], totals[0], rtol=0.05, atol=0.05)


def _probability(subject: Subject) -> None:
    """The log-probability of an answer equals that of teacher forcing, for greedy and for beam search; the first of
    several answers is the answer."""
    model = shaken(subject.model).eval()
    if model.answers != "sentences" or type(model).answer is not System.answer:
        return
    batch, pad_id = subject.batch(), subject.material.tokenizer.pad_id
    for beams in (1, 2):
        options: dict[str, Any] = {"num_beams": beams, "length_penalty": 1.0, "max_new_tokens": 8}
        with torch.no_grad():
            found, ids = model.generate_scored(batch, **options), model.generate(batch, **options)
            assert torch.equal(found.ids, ids), f"generate_scored and generate differ with {beams} beams"
            outputs = model(replace(batch, tokens=ids, token_lengths=(ids != pad_id).sum(dim=1)))
        forced, counts = sentence_log_probs(outputs.logits, ids, pad_id)
        _near(found.log_probs, forced, f"the log-probability with {beams} beams is not teacher forcing's")
        assert torch.equal(found.counts, counts), f"tokens of the answers: {found.counts.tolist()}, {counts.tolist()}"
        seen = mean_features(outputs.features, outputs.lengths)
        _near(found.features, seen, "the features of an answer are not the mean of forward's `features`")
    decode = Decode(beams=3, length_penalty=1.0, max_new_tokens=8)
    alone, several = model.answer_scored(batch, decode), model.answer_ranked(batch, decode, 3)
    for one, (first, *others) in zip(alone, several, strict=True):
        assert first.text == one.text, f"the first of several answers, {first.text!r}, is not the answer, {one.text!r}"
        assert len(others) <= 2, f"{1 + len(others)} answers, where 3 were asked for"
        assert all(other.log_prob is not None for other in others), "another answer has no log-probability"


def _by_heart(subject: Subject) -> None:
    """The system can overfit four clips: it answers them correctly, or without answers its loss falls to half."""
    recipe = subject.recipe
    weights = {name: weight for name, weight in recipe.loss.weights.items() if name != "signcl"}
    own = replace(
        recipe,
        out=str(subject.folder / "run"),
        corpus=replace(recipe.corpus, root=str(_four_clips(Path(recipe.corpus.root), subject.folder))),
        loss=replace(recipe.loss, weights=weights),
    )
    torch.manual_seed(0)
    run = load_run(fit(own, progress=False))
    clips = prepare(own).dev.samples
    if run.model.answers == "nothing":
        lines = read_record(run.folder)
        before = next(line["loss"] for line in lines if str(line["kind"]) == "train")
        after = [line["loss"] for line in lines if str(line["kind"]) == "dev"][-1]
        assert after < 0.5 * before, f"the loss of four clips is {before:.3f} before and {after:.3f} after training"
        return
    found, _ = answers(
        run,
        clips,
        lambda batch: dict(zip(batch.names, run.model.answer(batch, own.decode))),
        "answering",
        device="cpu",
        batch_size=None,
        progress=False,
    )
    wanted = {clip.name: clip.text if run.model.answers == "sentences" else " ".join(clip.gloss) for clip in clips}
    wrong = [f"{found[name]!r} for {text!r}" for name, text in wanted.items() if found[name] != text]
    assert len(wrong) <= len(wanted) // 4, f"{len(wrong)} of {len(wanted)} memorised clips are wrong: {wrong}"


def _four_clips(corpus: Path, folder: Path) -> Path:
    """A corpus whose training split is ten copies of four clips, and whose dev split is these clips."""
    root = folder / "four"
    root.mkdir(parents=True)
    header, *rows = (corpus / "train.tsv").read_text(encoding="utf-8").splitlines()
    for row in rows[:4]:
        path = row.split("\t")[1]
        (root / path).symlink_to((corpus / path).resolve())
    copies = [f"copy{n}-{row}" for n in range(10) for row in rows[:4]]
    for split, lines in (("train", copies), ("dev", rows[:4]), ("test", rows[:4])):
        (root / f"{split}.tsv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def shaken(model: System) -> System:
    """Randomise batch norm statistics, as after some training, so that batch norm in evaluation is not the identity."""
    torch.manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.uniform_(-0.5, 0.5)
            assert part.running_var is not None
            part.running_var.uniform_(0.5, 2)
    return model


def _near(a: Tensor, b: Tensor, what: str) -> None:
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0, msg=lambda message: f"{what}: {message}")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "documented": _documented,
    "terms": _terms,
    "padding": _padding,
    "taps": _taps,
    "saved": _saved,
    "half": _half,
    "probability": _probability,
    "by_heart": _by_heart,
}
"""The checks of `check_system` by name."""


def check_corpus(
    name: str, root: Path | str, *, splits: Sequence[str] = SPLITS, fast: bool = False, **options: Any
) -> list[Sample]:
    """Check what the loader expects of every corpus: repeatable, one-line errors, clips that match their description.

    Args:
        name: a registered corpus.
        root: its folder.
        splits: splits that the folder has.
        fast: only read headers instead of decoding every frame.
        options: options of the reader.

    Returns:
        The samples of all splits.

    Raises:
        AssertionError: a check failed; lists all problems of clips.
    """
    read = CORPORA[name]
    found: list[Sample] = []
    for split in splits:
        samples = read(Path(root), split, **options)
        assert samples, f"{name}: split {split} has no sentence"
        again = read(Path(root), split, **options)
        assert [s.name for s in samples] == [s.name for s in again], f"{name}: split {split} is read in another order"
        names = [s.name for s in samples]
        assert len(set(names)) == len(names), f"{name}: split {split} has a name twice"
        for sample in samples:
            one = (sample.clip is None) != (sample.features is None)
            assert one, f"{name}: {sample.name} needs a clip or features, and not both"
            assert isinstance(sample.text, str), f"{name}: the text of {sample.name} is {type(sample.text).__name__}"
            assert isinstance(sample.gloss, tuple), f"{name}: the gloss of {sample.name} must be a tuple of strings"
        found += samples
    with tempfile.TemporaryDirectory(prefix="signcl-check-") as empty:
        for place, split in ((Path(empty), splits[0]), (Path(root), "no_such_split")):
            message = _refusal(read, place, split, options)
            assert message is not None, (
                f"{name}: {place}, split {split} is not a corpus of this kind, but was read without an error"
            )
            assert "\n" not in message, f"{name}: an error must be one line, got {message!r}"
    problems = corpus_problems(Path(root), name, fast=fast, splits=splits, options=options)
    errors = [str(problem) for problem in problems if problem.level == "error"]
    assert not errors, f"{name}: {len(errors)} problems: {'; '.join(errors[:5])}"
    return found


def _refusal(read: Callable[..., list[Sample]], root: Path, split: str, options: Mapping[str, Any]) -> str | None:
    """A reader's error message for a wrong folder; None if it raises no error."""
    try:
        return None if read(root, split, **options) else "it has no sentence"
    except (ValueError, OSError) as error:
        return str(error)
