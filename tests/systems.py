"""The table of systems that tests/test_systems.py and tests/test_compile.py go through, and their tiny corpus.

A further system is one more row of `CASES`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from signcl.data.batch import Batch
from signcl.data.loading import ClipDataset
from signcl.training.build import build_model
from signcl.training.prepare import Material, prepare
from signcl.training.recipe import SYSTEMS, Recipe, recipe_from_dict

SIGNS = {"HAUS": "haus", "REGEN": "regen", "SONNE": "sonne", "WIND": "wind", "NORD": "norden"}
SMALL = {"conv_width": 32, "width": 32, "encoder_layers": 2, "decoder_layers": 1, "heads": 4, "ffn": 48,
         "text_layers": 1, "text_heads": 4, "text_ffn": 48, "dropout": 0.0, "text_dropout": 0.0}  # fmt: skip


I3D = {"i3d": {"window": 4, "stride": 2, "width_factor": 1 / 16, "norm_momentum": 0.3}}


@dataclass(frozen=True)
class Case:
    """One system in the stage that trains it, as small as it gets."""

    name: str
    model: dict = field(default_factory=dict)
    """Recipe values beside `SMALL`."""
    weights: dict = field(default_factory=dict)
    """Terms beside signcl; empty takes the system's own."""
    visual: str = "feature_mlp"
    """feature_mlp reads the corpus of features; any other the corpus of frames."""
    loss: dict = field(default_factory=dict)
    label: str = ""
    corpus: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.label or self.name


CASES = [
    Case("gfslt"),
    Case("gfslt", visual="small_cnn", label="gfslt-pixels"),
    Case("gfslt", {"form": "as_released"}, label="gfslt-released"),
    Case("gfslt", {"adapter": "mlp"}, label="gfslt-mlp-adapter"),
    Case("pgp", {"pgp": {"layer_scale": 0.1, "prototype_dim": 16, "max_share": 1.0}}),
    Case(
        "pgp", {"pgp": {"layer_scale": 0.1, "prototype_dim": 16, "max_share": 1.0}}, visual="dinov2", label="pgp-dinov2"
    ),
    Case(
        "sign2gpt",
        {"pgp": {"layer_scale": 0.1}, "lm": {"width": 32, "adapter_width": 16, "adapter_heads": 2, "gate": 0.5}},
    ),
    Case(
        "sign2gpt",
        {
            "pgp": {"layer_scale": 0.1},
            "lm": {
                "architecture": "xglm",
                "train": "all",
                "lora_rank": 0,
                "width": 32,
                "adapter_width": 16,
                "adapter_heads": 2,
                "gate": 0.5,
            },
        },
        label="sign2gpt-xglm",
    ),
    Case("vlp"),
    Case("vlp", {"sign_emb": True}, {"clip": 1.0}, label="vlp-version1"),
    Case("vlp", {}, {"token_clip": 1.0}, label="vlp-token"),
    Case("slt", label="nslt"),
    Case("slt", {"activation": "gelu"}, {"translation": 1.0, "recognition": 0.2}, label="joint-slt"),
    Case("slt", {"signcl_tap": "layer1"}, label="nslt-layer1"),
    Case("recogniser"),
    *(Case(name, I3D, visual="i3d", label=f"{name}-i3d") for name in ("gfslt", "vlp", "slt", "recogniser")),
    Case("classifier", corpus={"isolated": True}),
    Case("classifier", I3D, visual="i3d", label="classifier-i3d", corpus={"isolated": True}),
    Case("gaslt", {"gaslt": {"keys": 5}}),
    Case("gaslt", {"signcl_tap": "layer1", "gaslt": {"edge": "wrap", "word_dim": 20}}, label="gaslt-wrap-layer1"),
    Case("smkd"),
    Case(
        "smkd",
        {"smkd": {"share_classifier": False, "weight_norm": False}, "width": 24},
        visual="small_cnn",
        label="vac-pixels",
    ),
    Case("cnn_ctc"),
]
ALL = pytest.mark.parametrize("case", CASES, ids=str)
CONTRASTED = pytest.mark.parametrize("case", [c for c in CASES if "signcl" in SYSTEMS[c.name].terms], ids=str)
"""All but those whose clips are of one sign, where nothing is to be kept apart."""


def write_corpus(root: Path, *, pixels: bool) -> Path:
    """Sentences of two to four signs, each sign a vector (or a place in the picture) held for 6 to 12 frames."""
    random = np.random.default_rng(0)
    glosses, signs = list(SIGNS), random.normal(size=(len(SIGNS), 12))
    root.mkdir()
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
                folder = root / name
                folder.mkdir()
                for number, row in enumerate(rows):
                    picture = np.kron(row.reshape(3, 4), np.ones((8, 6)))[:, :, None] * 40 + [110, 128, 140]
                    write_png(folder / f"{number:03d}.png", picture.clip(0, 255).astype(np.uint8))
                lines.append(f"{name}\t{name}\t{text}\t{gloss}\t{' '.join(spans)}")
            else:
                np.save(root / f"{name}.npy", rows.astype(np.float32))
                lines.append(f"{name}\t{name}.npy\t{text}\t{gloss}\t{' '.join(spans)}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


def write_png(path: Path, picture: np.ndarray) -> None:
    import cv2

    assert cv2.imwrite(str(path), picture)


def recipe_of(case: Case, corpora: dict[bool, Path], out: Path, **train) -> Recipe:
    system = SYSTEMS[case.name]
    weights = dict(case.weights or dict.fromkeys(system.default, 1.0))
    if "signcl" in system.terms:
        weights["signcl"] = 1.0
    return recipe_from_dict({
        "stage": system.stage,
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpora[case.visual != "feature_mlp"]), **case.corpus},
        "input": {"size": 24, "max_frames": 60},
        "model": {"name": case.name, "visual": case.visual, "visual_dim": 16, **SMALL, **case.model},
        "loss": {"weights": weights, "signcl": {"distance_margin": 4.0, "frame_margin_floor": 2,
                 "words_per_gloss": 1.0}, **case.loss},
        "train": {"epochs": 8, "batch_size": 4, "device": "cpu", "lr": 3e-3, "schedule": "constant",
                  "evaluate_every": 8, **train},
        "decode": {"beams": 2, "max_new_tokens": 8, "gloss_beams": 3},
    })  # fmt: skip


def built(recipe: Recipe) -> tuple[torch.nn.Module, Material]:
    material = prepare(recipe)
    torch.manual_seed(0)
    glosses = None if material.glosses is None else len(material.glosses)
    model = build_model(recipe, material.tokenizer, material.feature_dim, glosses, material.targets)
    return model, material


def batch_of(material: Material, recipe: Recipe, indices: list[int]) -> Batch:
    """Training clips as dev gives them: nothing drawn."""
    made = {"glosses": material.glosses, "targets": material.targets, "dim": material.feature_dim}
    data = ClipDataset(material.train.samples, material.tokenizer, recipe, training=False, **made)
    loaded = data[indices]
    assert not loaded.broken
    assert loaded.batch is not None
    return loaded.batch


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Batch norms with statistics as after some training, so that evaluation mode is not the identity."""
    torch.manual_seed(1)
    for part in model.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2)
    return model
