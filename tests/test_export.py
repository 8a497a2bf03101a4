"""Exports: the same numbers as the run at any size, answers without signcl, and one-line refusals."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export_runs import CHANGES, save_run
from torch import nn

from signcl import load_model, translate
from signcl.cli import main
from signcl.data.batch import Sample
from signcl.data.loading import collate, select
from signcl.inference import export_recurrent, exported_run
from signcl.inference.export_programs import programs_of
from signcl.inference.export_recurrent import keep_loops
from signcl.inference.exporting import SIZES, choose_language, export, largest_difference
from signcl.training.runs import load_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    joint = {"loss": {"weights": {"translation": 1.0, "recognition": 1.0}}, "model": {"encoder_layers": 1}}
    pixels = {"model": {"visual": "small_cnn"}, "input": {"size": 32, "crop": 24, "max_frames": 10}}
    return {
        "slt": save_run(place / "slt", "slt", joint),
        "classifier": save_run(place / "classifier", "classifier", pixels),
        "vlp": save_run(place / "vlp", "vlp"),
    }


def without_signcl(folder, *clips):
    """What the example beside an export prints, in a process that cannot import signcl."""
    code = f"import runpy, sys; sys.modules['signcl'] = None; sys.argv = {['run', str(folder), *map(str, clips)]!r}"
    code += f"; runpy.run_path({str(folder / 'exported_run.py')!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_an_onnx_export_answers_as_its_run_does_without_signcl(runs, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["export", str(runs["slt"]), "--onnx", "-o", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["programs"]
    assert set(told) == {"encoder", "decoder"}
    assert max(one["difference"] for one in told.values()) < 1e-4
    random = np.random.default_rng(0)
    clips = [random.normal(size=(frames, 12)).astype(np.float32) for frames in (31, 5, 70)]  # one above max_frames
    for i, clip in enumerate(clips):
        np.save(tmp_path / f"{i}.npy", clip)
    model = load_model(runs["slt"], device="cpu")
    wanted = [translate(model, clip, beams=1).text for clip in clips]
    assert without_signcl(tmp_path / "out", *(tmp_path / f"{i}.npy" for i in range(3))).splitlines() == wanted
    short = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8").split("```python\n")[1]
    code = short.partition("```")[0].replace('"DIR"', repr(str(tmp_path / "out")))
    for clip, said in ((1, wanted[1]), (0, wanted[0])):  # the example of the page
        code_of = code.replace("clip.npy", str(tmp_path / f"{clip}.npy"))
        printed = subprocess.run([sys.executable, "-c", code_of], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == said
    spec = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert spec["programs"]["encoder"]["outputs"] == ["steps", "step_lengths", "log_probs"]
    assert spec["classes"][:2] == ["<blank>", "<unk>"]


@pytest.mark.slow
def test_a_torch_export_of_pixels_answers_as_its_run_does(runs, tmp_path):
    found = export(runs["classifier"], tmp_path, "torch")
    assert set(found.programs) == {"visual", "encoder"}
    clip = np.random.default_rng(0).integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    wanted = translate_class(runs["classifier"], clip)
    assert without_signcl(tmp_path, tmp_path / "clip.npy").strip() == wanted


def translate_class(folder, clip):
    run = load_run(folder)
    batch = collate([Sample("clip", "")], [select(clip, run.recipe.input)])
    return run.model.answer(batch, run.recipe.decode)[0]


@pytest.mark.parametrize(
    "name",
    ["gfslt", "gaslt", "recogniser", "cnn_ctc", "sign2gpt", "smkd", "nslt2018", "segmenter", "spamo"],
)
def test_what_a_program_computes_is_what_the_system_does(name, tmp_path):
    # the modules that are exported, without following them: padding changes nothing, and words as in training
    run = load_run(save_run(tmp_path / name, name, CHANGES.get(name, {})))
    encoder, *decoder = programs_of(run.model, run.feature_dim, None, torch.float32)
    features, lengths = torch.randn(2, 30, 12), torch.tensor([30, 11])
    with torch.no_grad():
        both = encoder.module.states(features, lengths)
        alone = encoder.module.states(features[1:, :11], lengths[1:])
        length = int(alone["step_lengths"]) if "step_lengths" in alone else None
        for key in both:
            if key != "step_lengths":
                torch.testing.assert_close(both[key][1:, :length], alone[key][:, :length], atol=1e-5, rtol=1e-4)
        if not decoder:
            return
        clips = [features[0].numpy(), features[1, :11].numpy()]
        batch = collate([Sample("a", ""), Sample("b", "")], clips)
        ids = run.model.generate(batch, num_beams=1, length_penalty=1.0, max_new_tokens=6)
        start = torch.full((2, 1), run.tokenizer.start_id)
        for step in range(ids.shape[1]):
            (scores,) = decoder[0].module(torch.cat([start, ids[:, :step]], 1), *both.values())
            going = (ids[:, :step] != run.tokenizer.end_id).all(1)
            assert scores.argmax(1)[going].equal(ids[:, step][going])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_whose_loop_is_kept_computes_what_torchs_layer_does(kind, batch_first, monkeypatch):
    # torch.export keeps the loop; here the same code runs with the loop of Python
    torch.manual_seed(0)
    layer = kind(5, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    plain = kind(5, 4, bias=False, batch_first=batch_first)
    rows, first = torch.randn(3, 7, 5), torch.randn(4, 3 if batch_first else 7, 4)
    first = (first, torch.randn_like(first)) if kind is nn.LSTM else first
    wanted = [layer(rows), layer(rows, first), plain(rows)]
    names = set(layer.state_dict())
    for one in (layer, plain):
        keep_loops(one)
    assert set(layer.state_dict()) == names
    torch.testing.assert_close(layer(rows), wanted[0], atol=0, rtol=0)  # outside of torch.export: torch's layer
    monkeypatch.setattr(export_recurrent, "is_exporting", lambda: True)
    found = [layer(rows), layer(rows, first), plain(rows)]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="reads padded rows of three dimensions, got PackedSequence"):
        layer(nn.utils.rnn.pack_sequence([torch.randn(2, 5)]))
    with pytest.raises(ValueError, match="proj_size=2; needs 0"):
        keep_loops(nn.Sequential(nn.LSTM(5, 4, proj_size=2)))


def test_the_example_writes_a_tag_per_frame_of_a_segmenter(tmp_path, monkeypatch):
    # `exported_run.py` with the module of `signcl export` in place of the file that torch.export makes of it
    run = load_run(save_run(tmp_path / "run", "segmenter"))
    (encoder,) = programs_of(run.model, run.feature_dim, None, torch.float32)
    given = {"kind": "features", "first": 0, "stride": 1, "max_frames": None, "thinning": "even"}
    spec = {"answers": "nothing", "programs": {"encoder": {"outputs": encoder.outputs}}, "input": given}
    (tmp_path / "export.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setattr(
        exported_run, "load", lambda *_: lambda *inputs: [x.numpy() for x in encoder.module(*map(torch.tensor, inputs))]
    )
    clips = [np.random.default_rng(n).normal(size=(n, 12)).astype(np.float32) for n in (30, 11)]
    with torch.no_grad():
        said = exported_run.answers(tmp_path, clips)
        outputs = run.model(collate([Sample("a", ""), Sample("b", "")], clips))
    for row, (line, length) in enumerate(zip(said, (30, 11))):
        tags = ["".join("OBI"[tag] for tag in of[row, :length].argmax(1)) for of in (outputs.signs, outputs.sentences)]
        assert line == f"signs {tags[0]}\tsentences {tags[1]}"


def test_a_program_that_differs_from_the_run_is_seen():
    class Reference:
        module = staticmethod(lambda x: (x,))

        @staticmethod
        def drawn(sizes, generator):
            return (torch.ones(sizes["batch"], 3),)

    assert largest_difference(lambda x: [x + 0.25], Reference) == 0.25
    assert largest_difference(lambda x: [x[:, :2]], Reference) == torch.inf
    assert np.isnan(largest_difference(lambda x: [x * torch.nan], Reference))
    assert {1} < {sizes["time"] for sizes in SIZES}


def test_what_cannot_be_exported_is_refused_in_one_line(runs, tmp_path, capsys):
    out = tmp_path / "out"
    wrong = [
        ([runs["vlp"], "--torch"], "is a pretraining system without answers"),
        ([runs["slt"], "--torch", "--language", "German"], "is for runs whose prompt names a language"),
        ([runs["slt"], "--torch", "--size", "4", "4"], "--size is for runs that read frames"),
        ([runs["classifier"], "--torch", "--size", "9", "9"], "this run reads 24 x 24 pixels"),
        ([tmp_path / "nothing"], "no run folder at"),
    ]
    for words, said in wrong:
        assert main(["export", *map(str, words), "-o", str(out)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not out.exists()


def test_a_run_of_several_languages_is_exported_for_one(tmp_path, capsys):
    languages = {"visual": "feature_mlp", "languages": {"de": "German", "fr": "French"}}
    run = save_run(tmp_path / "run", "uni_sign", {"model": languages})
    for more, said in (([], "--language, one of de, fr"), (["--language", "es"], "has the languages de, fr")):
        assert main(["export", str(run), "--torch", "-o", str(tmp_path / "out"), *more]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    model = load_run(run).model
    choose_language(model, "fr")
    assert "to French:" in model.exported_prompt()


def test_the_extra_that_is_missing_is_named(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(runs["slt"]), "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'signcl[export]'" in capsys.readouterr().err
