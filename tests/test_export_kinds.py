"""Every system and frame encoder, exported in both formats: docs/export.md has the table of what these tests show."""

import numpy as np
import pytest
from export_runs import CHANGES, save_run, write_pose_corpus
from lm_checkpoints import FAMILIES, WITH_LANGUAGES, save_checkpoint

from signcl import load_model, translate
from signcl.inference.exported_run import answers, load
from signcl.inference.exporting import TOLERANCE, export

POSES = {"corpus": {"root": "POSES"}}
PIXELS = {"input": {"size": 24, "max_frames": 10}}
LM = {"layers": 1, "width": 32, "heads": 2, "ffn": 64}
KINDS = {
    "gfslt small_cnn": {"model": {"visual": "small_cnn"}, **PIXELS},
    "slt feature_mlp": {},
    "gaslt feature_mlp": {},
    "sign2gpt feature_mlp inside": CHANGES["sign2gpt"],
    "sign2gpt feature_mlp hook": {"model": {"lm": {"adapters": "hook", "architecture": "gpt2", "adapter_width": 8,
                                                   "adapter_heads": 2, "gate": 0.5}, "layer_scale": 0.1}},
    "recogniser resnet50": {"model": {"visual": "resnet50"}, **PIXELS},
    "recogniser pose_stream": {"model": {"visual": "pose_stream", "visual_dim": 8}, **POSES},
    "cnn_ctc identity": {"model": {"visual": "identity"}},
    "cnn_ctc dinov2": {"model": {"visual": "dinov2"}, **PIXELS},
    "classifier i3d": {"model": {"visual": "i3d", "i3d": {"width_factor": 0.05}}, **PIXELS},
    "classifier feature_streams": {"model": {"visual": "feature_streams", "streams": {"sizes": [8, 4],
                                                                                      "fusion": "gated"}}},
    "segmenter feature_mlp": {},
    "smkd feature_mlp": {},
    "nslt2018 feature_mlp": {},
    "spamo feature_streams t5": {"model": {"visual": "feature_streams", "join": "time", "window": 8,
                                           "window_stride": 4, "streams": {"sizes": [8, 4]},
                                           "lm": {"prompt": "{signs} regen"}}},
    "spamo feature_mlp gpt2": {"model": {"lm": {"architecture": "gpt2"}}},
    "spamo feature_mlp mbart": {"model": {"lm": {"architecture": "mbart"}}},
    "spamo feature_mlp xglm": {"model": {"lm": {"architecture": "xglm"}}},
    "spamo feature_mlp llama": {"model": {"lm": {"architecture": "llama"}}},
    "uni_sign part_graphs t5": {"model": {"visual": "part_graphs", "visual_dim": 16, "language": "German"}, **POSES},
}  # fmt: skip
"""System, frame encoder, and kind of language model or adapters: recipe keys."""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("form", ["torch", "onnx"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_export_computes_what_its_run_computes(kind, form, dtype, tmp_path_factory):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    place = tmp_path_factory.getbasetemp() / "kinds"
    place.mkdir(exist_ok=True)
    changes = dict(KINDS[kind])
    if changes.get("corpus") == POSES["corpus"]:
        changes["corpus"] = {"root": str(write_pose_corpus(place / "poses"))}
    run = place / kind.replace(" ", "-")
    if not run.exists():
        save_run(run, kind.split()[0], changes)
    out = place / f"{run.name}-{form}-{dtype}"
    found = export(run, out, form, dtype=dtype)  # an error if a program differs by more
    pixels = "input" in changes
    assert ("visual" in found.programs) == pixels
    assert max(one.difference for one in found.programs.values()) < TOLERANCE[dtype]
    for name in found.programs:
        load(out, name)  # as the example does


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch", "onnx"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_of_a_published_language_model_writes_the_runs_sentences(family, form, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    seed = 11 if family == "nllb" else None  # most random NLLB models write only names of languages
    folder = f"pretrained:{save_checkpoint(family, tmp_path / 'lm', seed)}"
    changes = {
        "model": {"lm": {"name": folder, "prompt": "{signs} im der"}},
        "text": {"tokenizer": folder, "language": WITH_LANGUAGES.get(family, "")},
        "decode": {"beams": 1, "max_new_tokens": 6},
    }
    clips = [np.random.default_rng(n).normal(size=(n, 12)).astype(np.float32) for n in (30, 11, 23)]
    for seed in range(30):  # of the layers around the model; many of these random models write nothing
        run = save_run(tmp_path / f"run-{seed}", "spamo", changes, seed)
        model = load_model(run, device="cpu")
        wanted = [translate(model, clip).text for clip in clips]
        if len(set(wanted)) > 1:
            break
    assert len(set(wanted)) > 1
    export(run, tmp_path / "out", form)
    assert answers(tmp_path / "out", clips) == wanted
