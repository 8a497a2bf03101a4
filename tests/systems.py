"""The table of systems for tests/test_systems.py and tests/test_compile.py, and their tiny corpus.

`CASES` has every system of the package: in the forms listed here, otherwise with its defaults.
"""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from signcl.data.batch import Batch
from signcl.data.loading import ClipDataset
from signcl.data.text import GlossVocabulary
from signcl.systems import Sizes, System, system_class, system_names
from signcl.systems.terms import TermContext, compute_terms
from signcl.testing import OF_FEATURES, SMALL, write_tiny_corpus
from signcl.training.prepare import Material, prepare
from signcl.training.recipe import Recipe, recipe_from_dict
from signcl.training.runs import build_model

I3D = {"i3d": {"window": 4, "stride": 2, "width_factor": 1 / 16, "norm_momentum": 0.3}}


@dataclass(frozen=True)
class Case:
    """One system in its stage, at the smallest size."""

    name: str
    model: dict = field(default_factory=dict)
    """Recipe values in addition to `SMALL`."""
    weights: dict = field(default_factory=dict)
    """Loss terms in addition to signcl; empty for the default terms of the system."""
    visual: str = "feature_mlp"
    """`feature_mlp` reads the corpus of features, other frame encoders the corpus of frames."""
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
    Case("pgp", {"layer_scale": 0.1, "prototype_dim": 16, "max_share": 1.0}),
    Case("pgp", {"layer_scale": 0.1, "prototype_dim": 16, "max_share": 1.0}, visual="dinov2", label="pgp-dinov2"),
    Case(
        "sign2gpt",
        {
            "layer_scale": 0.1,
            "lm": {
                "adapters": "hook",
                "architecture": "gpt2",
                "width": 32,
                "adapter_width": 16,
                "adapter_heads": 2,
                "gate": 0.5,
            },
        },
        label="sign2gpt-hook",
    ),
    Case("sign2gpt", {"layer_scale": 0.1, "lm": {"width": 32, "gate": 0.5}}),
    Case(
        "sign2gpt",
        {"layer_scale": 0.1, "lm": {"train": "all", "lora_rank": 0, "width": 32, "gate": 0.5}},
        label="sign2gpt-all",
    ),
    Case(
        "spamo",
        {
            "visual": "feature_streams",
            "streams": {"sizes": [8, 4]},
            "join": "time",
            "window": 4,
            "window_stride": 2,
            "edge": "replicate",
            "lm": {
                "architecture": "llama",
                "layers": 1,
                "width": 32,
                "heads": 2,
                "ffn": 48,
                "prompt": "haus {signs} wind",
            },
        },
        {"translation": 1.0, "clip": 0.1},
        visual="feature_streams",
        label="spamo-two-sources-llama",
    ),
    Case("vlp"),
    Case("vlp", {"sign_emb": True}, {"clip": 1.0}, label="vlp-version1"),
    Case("vlp", {}, {"token_clip": 1.0}, label="vlp-token", loss={"token_clip": {"negatives": "curriculum"}}),
    Case("vlp", {}, {"token_clip": 1.0, "translation": 1.0}, label="vlp-c2rl"),
    Case("slt", label="nslt"),
    Case("slt", {"activation": "gelu"}, {"translation": 1.0, "recognition": 0.2}, label="joint-slt"),
    Case("slt", {"signcl_tap": "layer1"}, label="nslt-layer1"),
    Case("recogniser"),
    *(Case(name, I3D, visual="i3d", label=f"{name}-i3d") for name in ("gfslt", "slt")),
    Case("classifier", corpus={"isolated": True}),
    Case("classifier", I3D, visual="i3d", label="classifier-i3d", corpus={"isolated": True}),
    Case("gaslt", {"keys": 5}),
    Case("gaslt", {"signcl_tap": "layer1", "edge": "wrap", "word_dim": 20}, label="gaslt-wrap-layer1"),
    Case("smkd"),
    Case(
        "smkd",
        {"share_classifier": False, "weight_norm": False, "width": 24},
        visual="small_cnn",
        label="vac-pixels",
    ),
    Case("cnn_ctc"),
    Case("uni_sign", {"lm": {"layers": 1, "width": 32, "heads": 2, "ffn": 64}}),
]
CASES += [Case(name) for name in system_names() if name not in {case.name for case in CASES}]
ALL = pytest.mark.parametrize("case", CASES, ids=str)
ATTACHED = {
    (case.name, case.visual, case.model.get("signcl_tap")): case
    for case in reversed(CASES)
    if "signcl" in system_class(case.name).terms
}
CONTRASTED = pytest.mark.parametrize("case", [*reversed(ATTACHED.values())], ids=str)
"""One case per system, frame encoder and tap, without systems for single signs, which have no SignCL term."""


def write_corpus(root: Path, *, pixels: bool) -> Path:
    """The tiny corpus of the conformance suite."""
    return write_tiny_corpus(root, pixels=pixels)


def write_png(path: Path, picture: np.ndarray) -> None:
    assert cv2.imwrite(str(path), picture)


def recipe_of(case: Case, corpora: dict[bool, Path], out: Path, **train) -> Recipe:
    system = system_class(case.name)
    weights = dict(case.weights or dict.fromkeys(system.default_terms(system.Config()), 1.0))
    if "signcl" in system.terms:
        weights["signcl"] = 1.0
    return recipe_from_dict({
        "stage": system.stage,
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpora[case.visual not in OF_FEATURES]), **case.corpus},
        "input": {"size": 24, "max_frames": 60},
        "model": {"name": case.name, "visual": case.visual, "visual_dim": 16, **having(case.name, SMALL), **case.model},
        "loss": {"weights": weights, "signcl": {"distance_margin": 4.0, "frame_margin_floor": 2,
                 "words_per_gloss": 1.0}, **case.loss},
        "train": {"epochs": 8, "batch_size": 4, "device": "cpu", "lr": 3e-3, "schedule": "constant",
                  "evaluate_every": 8, **train},
        "decode": {"beams": 2, "max_new_tokens": 8, "gloss_beams": 3},
    })  # fmt: skip


def having(name: str, values: dict) -> dict:
    """Only the values for which the system has a key."""
    return {key: value for key, value in values.items() if key in system_class(name).Config.__dataclass_fields__}


@dataclass(frozen=True)
class Words:
    """A tokenizer of a given size."""

    vocab_size: int = 11
    pad_id: int = 0
    start_id: int = 1
    end_id: int = 2


MBART = {"width": 1024, "conv_width": 1024, "encoder_layers": 3, "decoder_layers": 3, "heads": 8, "ffn": 4096}
SLT = {"width": 512, "encoder_layers": 3, "decoder_layers": 3, "heads": 8, "ffn": 2048, "dropout": 0.3,
       "attention_dropout": 0.3, "activation": "gelu"}  # fmt: skip
SIGNS2 = {"width": 512, "heads": 8, "ffn": 2048, "dropout": 0.1, "activation": "gelu"}
PUBLISHED = {
    "gfslt": MBART,
    "vlp": MBART | {"text_layers": 12, "text_heads": 16, "text_ffn": 4096, "text_dropout": 0.3,
                    "text_attention_dropout": 0.1, "text_activation": "gelu"},
    "recogniser": {key: value for key, value in SLT.items() if key != "decoder_layers"},
    "slt": SLT,
    "gaslt": SLT | {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.5, "attention_dropout": 0.5,
                    "activation": "relu", "embedding_dropout": 0.1},
    "smkd": {"width": 1024, "conv_width": 1024, "encoder_layers": 2, "dropout": 0.3},
    "cnn_ctc": {"conv_width": 1024, "window": 5, "dropout": 0.3},
    "pgp": SIGNS2,
    "sign2gpt": SIGNS2,
    "classifier": {"dropout": 0.5},
}  # fmt: skip
"""The published size of every system."""


def make(kind: type[System], visual: torch.nn.Module, *, num_glosses: int | None = None, **values) -> System:
    """A system with a frame encoder, at its published size except for the given values."""
    words = Words(**{key: values.pop(key) for key in list(values) if key in Words.__dataclass_fields__})
    given = {key: values.pop(key) for key in ("terms", "described", "targets") if key in values}
    glosses = None if num_glosses is None else GlossVocabulary([f"G{i}" for i in range(num_glosses - 2)])
    config = kind.Config(**(PUBLISHED[kind.Config().name] | values))
    return kind(config, Sizes(tokenizer=words, glosses=glosses, visual=visual, **given))


def terms_on(outputs, batch: Batch, recipe: Recipe, gather=None) -> dict[str, torch.Tensor]:
    """The unweighted terms of a recipe for the outputs of a model."""
    return compute_terms(outputs, batch, recipe.terms, TermContext(recipe.loss, 0, gather))


def losses(model: System, batch: Batch, recipe: Recipe) -> dict[str, torch.Tensor]:
    """The unweighted terms of a recipe for a batch."""
    return compute_terms(model(batch), batch, recipe.terms, TermContext(recipe.loss, model.tokenizer.pad_id))


def built(recipe: Recipe) -> tuple[torch.nn.Module, Material]:
    material = prepare(recipe)
    torch.manual_seed(0)
    model = build_model(recipe, material.tokenizer, material.feature_dim, material.glosses, material.targets)
    return model, material


def batch_of(material: Material, recipe: Recipe, indices: list[int]) -> Batch:
    """A batch of training clips, read without random augmentation."""
    made = {"glosses": material.glosses, "targets": material.targets, "dim": material.feature_dim}
    data = ClipDataset(material.train.samples, material.tokenizer, recipe.reading, training=False, **made)
    loaded = data[indices]
    assert not loaded.broken
    assert loaded.batch is not None
    return loaded.batch
