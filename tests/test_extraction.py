"""Extraction: every system at every tap into a store, exact, resumable, with a clock; and the store as a corpus."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import CASES, built, recipe_of, write_corpus

from signcl import evaluate, extract, fit
from signcl.cli import main
from signcl.data.features import FeatureStore, write_store
from signcl.data.loading import count_frames, load_raw
from signcl.inference.extraction import tapped_clips
from signcl.inference.run_density import run_density
from signcl.systems.encoders import I3D
from signcl.testing import shaken
from signcl.training import run_folder, runs
from signcl.training.recipe import recipe_from_dict, recipe_samples

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[bool, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {pixels: write_corpus(root / str(pixels), pixels=pixels) for pixels in (False, True)}


def made_run(label: str, corpora, folder: Path) -> Path:
    """A run folder of a system with random weights and batch statistics, as `fit` would write it."""
    case = next(c for c in CASES if str(c) == label)
    recipe = recipe_of(case, corpora, folder)
    model, material = built(recipe)
    run_folder.save_run_start(folder, recipe, material.tokenizer, material.glosses, material.targets)
    run_folder.save_weights(folder, shaken(model))
    run_folder.save_card(folder, {"feature_dim": material.feature_dim})
    return folder


@pytest.fixture(scope="module")
def made_runs(corpora, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    made = {label: made_run(label, corpora, root / label) for label in ("gfslt", "vlp", "joint-slt")}
    case = next(c for c in CASES if str(c) == "slt-i3d")
    return made | {"slt-i3d": fit(recipe_of(case, corpora, root / "slt-i3d", max_steps=8), progress=False)}


@pytest.mark.parametrize("label", ["gfslt", "vlp", "joint-slt", "slt-i3d"])
def test_every_tap_is_what_the_model_says_of_the_clip_alone(label, made_runs, tmp_path):
    run = runs.load_run(made_runs[label])
    for tap in run.model.TAPS:
        found = extract(
            made_runs[label], tmp_path / tap, "train", tap=tap, dtype="float32", device="cpu", progress=False
        )
        store = FeatureStore(tmp_path / tap)
        samples = recipe_samples(run.recipe, "train")
        assert sorted(store.names) == sorted(s.name for s in samples)
        assert not found.broken
        for sample, seen in tapped_clips(run.model, run.recipe, samples, (tap,), dim=run.card["feature_dim"],
                                           device="cpu", batch_size=1, progress=False):  # fmt: skip
            tapped = seen[tap]
            np.testing.assert_allclose(store[sample.name], tapped.rows.numpy(), atol=1e-5)
            assert store.clock(sample.name) == (tapped.stride, tapped.first_centre)
        assert store.meta["tap"] == tap
        assert store.meta["run"] == str(made_runs[label])
        assert store.meta["split"] == "train"


@pytest.mark.parametrize("label", ["joint-slt", "slt-i3d"])
def test_batches_of_one_and_of_eight_agree(label, made_runs, tmp_path):
    for size in (1, 8):
        extract(
            made_runs[label],
            tmp_path / str(size),
            "train",
            dtype="float32",
            batch_size=size,
            device="cpu",
            progress=False,
        )
    one, eight = FeatureStore(tmp_path / "1"), FeatureStore(tmp_path / "8")
    assert set(one.names) == set(eight.names)
    for name in one.names:
        np.testing.assert_allclose(one[name], eight[name], atol=1e-5)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_in_the_middle_and_resumed_gives_the_same_files(made_runs, tmp_path):
    words = ["-m", "signcl", "extract", str(made_runs["slt-i3d"]), "--batch-size", "2", "--shard-samples", "1",
             "--device", "cpu"]  # fmt: skip
    extract(made_runs["slt-i3d"], tmp_path / "whole", batch_size=2, shard_samples=1, device="cpu", progress=False)
    cut = tmp_path / "cut"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, *words, "-o", str(cut)], env=environment, stderr=subprocess.DEVNULL)
    while running.poll() is None and len(list(cut.glob("shard-*"))) < 3:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    if not (cut / "index.json").exists():  # on a fast machine it may have been done already
        with pytest.raises(ValueError, match="is unfinished: run the command that writes it again"):
            FeatureStore(cut)
        extract(made_runs["slt-i3d"], cut, batch_size=2, shard_samples=1, device="cpu", progress=False)
    for path in cut.glob(".*"):
        path.unlink()  # what the kill left of a file that was being written
    assert files(cut) == files(tmp_path / "whole")


def test_stopped_at_every_shard_and_resumed_gives_the_same_files(made_runs, tmp_path, monkeypatch):
    from signcl.data.features import store as module

    settings = {"batch_size": 3, "shard_samples": 2, "device": "cpu", "progress": False}
    extract(made_runs["joint-slt"], tmp_path / "whole", **settings)
    write = module._write_shard
    for stops in range(1, 5):  # 8 clips, 4 shards; 4: stopped between the last shard and the index
        written = 0

        def stopping(*arguments, stops=stops):
            nonlocal written
            write(*arguments)
            written += 1
            if written == stops:
                raise KeyboardInterrupt

        monkeypatch.setattr(module, "_write_shard", stopping)
        with pytest.raises(KeyboardInterrupt):
            extract(made_runs["joint-slt"], tmp_path / str(stops), **settings)
        monkeypatch.setattr(module, "_write_shard", write)
        extract(made_runs["joint-slt"], tmp_path / str(stops), **settings)
        assert files(tmp_path / str(stops)) == files(tmp_path / "whole")


def test_a_translation_trains_on_the_store_of_another_run(made_runs, corpora, tmp_path):
    for split in ("train", "dev", "test"):
        assert main(["extract", str(made_runs["slt-i3d"]), "-o", f"{tmp_path}/i3d/{split}", "--split", split, "--tap",
                     "visual"]) == 0  # fmt: skip
    recipe = recipe_from_dict({
        "stage": "finetune",
        "out": str(tmp_path / "nslt"),
        "corpus": {"name": "folder", "root": str(corpora[True]), "features": f"{tmp_path}/i3d/{{split}}"},
        "model": {"name": "slt", "visual": "identity", "width": 16, "encoder_layers": 1, "decoder_layers": 1,
                  "heads": 2, "ffn": 16},
        "loss": {"weights": {"translation": 1.0, "signcl": 0.01}},
        "train": {"max_steps": 2, "batch_size": 4, "device": "cpu"},
    })  # fmt: skip
    folder = fit(recipe, progress=False)
    assert run_folder.read_card(folder)["feature_dim"] == 64
    assert evaluate(folder, "test", bootstrap=0, progress=False)["made"]["clips"] == 4
    # spans of the corpus are in frames, rows are windows of 4 every 2: row r looks at frame 2 + 2 r
    store = FeatureStore(tmp_path / "i3d/train")
    recipe.corpus.features = ""
    frames = {s.name: s.spans for s in recipe_samples(recipe, "train")}
    recipe.corpus.features = f"{tmp_path}/i3d/{{split}}"
    for sample in recipe_samples(recipe, "train"):
        for span, source in zip(sample.spans, frames[sample.name], strict=True):
            inside = [r for r in range(store.lengths[sample.name]) if source.start <= 2 + 2 * r < source.stop]
            assert list(range(span.start, span.stop)) == inside
    assert run_density(folder, "train", picture=False, progress=False)["instances"] == sum(map(len, frames.values()))


def test_the_clock_of_a_thinned_and_strided_clip_points_at_the_frames(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    for name, count in (("long", 61), ("short", 20)):  # every row is its own time
        np.save(root / f"{name}.npy", np.arange(count, dtype=np.float32)[:, None].repeat(2, 1) + 0.5)
    for split in ("train", "dev", "test"):
        (root / f"{split}.tsv").write_text("name\tpath\ttext\nlong\tlong.npy\ta b\nshort\tshort.npy\tc d\n")
    recipe = recipe_from_dict({
        "out": str(tmp_path / "run"),
        "corpus": {"name": "folder", "root": str(root)},
        "input": {"stride": 2, "max_frames": 16},
        "model": {"name": "slt", "visual": "identity", "width": 8, "heads": 1, "ffn": 8},
        "train": {"max_steps": 1, "device": "cpu"},
    })  # fmt: skip
    fit(recipe, progress=False)
    extract(tmp_path / "run", tmp_path / "store", tap="visual", dtype="float32", device="cpu", progress=False)
    store = FeatureStore(tmp_path / "store")
    assert store.meta["stride"] == 2
    assert store.meta["first_centre"] == 0.5
    assert store.meta["thinned"] == {"long": [31, 16]}
    assert store.clock("short") == (2.0, 0.5)
    stride, first = store.clock("long")
    assert stride == 4.0  # 31 kept frames of stride 2, thinned to 16: every second one
    for name in ("long", "short"):
        stride, first = store.clock(name)
        times = first + stride * np.arange(store.lengths[name])
        np.testing.assert_allclose(store[name][:, 0], times, atol=1.0)


def published(tmp_path: Path) -> tuple[Path, I3D]:
    """A made-up published checkpoint, and the network that holds it."""
    torch.manual_seed(3)
    model = shaken(I3D(window=8, stride=2)).eval()
    head = {"logits.conv3d.weight": torch.zeros(400, 1024, 1, 1, 1), "logits.conv3d.bias": torch.zeros(400)}
    torch.save(model.state_dict() | head, tmp_path / "rgb_imagenet.pt")
    return tmp_path / "rgb_imagenet.pt", model


def test_a_published_checkpoint_extracts_without_training(corpora, tmp_path, capsys):
    weights, model = published(tmp_path)
    recipe = ROOT / "recipes/phoenix14t/i3d-features.yaml"
    words = ["extract", str(recipe), "-o", str(tmp_path / "store"), "--split", "dev", "--workers", "0",
             "--corpus.name=folder",
             f"--corpus.root={corpora[True]}", "--input.size=32", "--model.i3d.channels=rgb", "--dtype", "float32",
             f"--model.visual_weights=pretrained:{weights}", "--json"]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "342 I3D tensors loaded" in said.err
    assert "classifier of 400 classes dropped" in said.err
    found = json.loads(said.out)
    assert (found["clips"], found["dim"]) == (4, 1024)
    assert (found["meta"]["stride"], found["meta"]["first_centre"], found["meta"]["tap"]) == (2, 4, "features")
    store = FeatureStore(tmp_path / "store")
    frames = corpora[True] / store.names[0]
    from signcl.data.video import read_frames

    clip = torch.from_numpy(read_frames(frames, size=(32, 32)))
    with torch.no_grad():
        alone = model(torch.stack([clip[i : i + 8] for i in range(0, len(clip) - 7, 2)]))
    np.testing.assert_allclose(store[store.names[0]], alone.numpy(), atol=1e-4)
    assert main([*words[:-2], "--split", "test"]) == 2
    assert "needs --model.visual_weights=" not in capsys.readouterr().err


def line(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_bad_input_is_answered_in_a_line(made_runs, corpora, tmp_path, capsys):
    run, store = str(made_runs["joint-slt"]), str(tmp_path / "store")
    assert main(["extract", run, "-o", store, "--tap", "convv"]) == 2
    assert line(capsys) == "signcl: tap=convv: this system has features, visual, embedding, layer1, layer2, steps"
    assert not (tmp_path / "store").exists()
    assert main(["extract", run, "-o", store, "--input.size=32"]) == 2
    assert "recipe keys need a recipe" in line(capsys)
    assert main(["extract", str(ROOT / "recipes/synthetic/no-such.yaml"), "-o", store]) == 2
    assert "no recipe at" in line(capsys)
    assert main(["extract", str(ROOT / "recipes/synthetic/recogniser.yaml"), "-o", store]) == 2
    assert "fit its recipe first" in line(capsys)
    recipe = str(ROOT / "recipes/synthetic/recogniser.yaml")
    assert main(["extract", recipe, "-o", store, "--model.visual_weights="]) == 2
    assert "it needs --model.visual_weights=pretrained:FILE" in line(capsys)
    assert main(["extract", run, "-o", store]) == 0
    capsys.readouterr()
    assert main(["extract", run, "-o", store]) == 0  # a job that is started again has nothing to do
    assert "is finished; nothing was done" in line(capsys)
    assert main(["extract", run, "-o", store, "--tap", "steps"]) == 2
    assert "contains a finished store with tap 'features', got 'steps'; use the same settings, give an" in line(capsys)
    assert main(["extract", str(tmp_path / "nowhere"), "-o", f"{store}2"]) == 2
    assert "no run folder at" in line(capsys)


def test_an_unfinished_store_of_another_tap_is_not_gone_on_with(made_runs, tmp_path, monkeypatch):
    from signcl.data.features import store as module

    def stopping(*arguments, write=module._write_shard):
        write(*arguments)
        raise KeyboardInterrupt

    settings = {"shard_samples": 2, "device": "cpu", "progress": False}
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_shard", stopping)
        with pytest.raises(KeyboardInterrupt):
            extract(made_runs["joint-slt"], tmp_path / "store", **settings)
    with pytest.raises(ValueError, match="unfinished store with tap 'features', got 'layer1'; use the same"):
        extract(made_runs["joint-slt"], tmp_path / "store", tap="layer1", **settings)


def test_broken_clips_are_named_counted_and_the_others_written(made_runs, corpora, tmp_path, capsys):
    import shutil

    root = tmp_path / "corpus"
    shutil.copytree(corpora[False], root)
    (root / "train2.npy").write_bytes(b"no array")
    (root / "train5.npy").unlink()
    run, store = str(made_runs["joint-slt"]), str(tmp_path / "store")
    assert main(["extract", run, "-o", store, "--root", str(root)]) == 2
    assert "signcl: 2 clips could not be read and are not in the store: " in line(capsys)
    assert set(FeatureStore(store).names) == {f"train{i}" for i in range(8)} - {"train2", "train5"}
    assert main(["extract", run, "-o", f"{store}2", "--root", str(root), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert set(found["broken"]) == {"train2", "train5"}
    r = runs.load_run(run).recipe
    r.corpus.features = store
    with pytest.raises(ValueError, match=r"lacks 2 of 8 clips, first train2, train5; it has 6"):
        recipe_samples(r, "train")
    for path in root.glob("train*.npy"):
        path.unlink()
    with pytest.raises(ValueError, match="no features of the split can be read"):
        extract(run, tmp_path / "none", root=str(root), device="cpu", progress=False)


def test_a_store_of_another_size_than_the_model_was_trained_with_is_refused(made_runs, corpora, tmp_path):
    r = runs.load_run(made_runs["joint-slt"]).recipe
    samples = recipe_samples(r, "test")
    write_store(tmp_path / "store", ((s.name, np.ones((9, 5))) for s in samples))
    run = runs.load_run(made_runs["joint-slt"])
    r.corpus.features = str(tmp_path / "store")
    run_folder.save_run_start(made_runs["joint-slt"].with_name("other"), r, run.tokenizer, run.glosses)
    run_folder.save_weights(made_runs["joint-slt"].with_name("other"), run.model)
    run_folder.save_card(made_runs["joint-slt"].with_name("other"), run.card)
    message = "the model needs features of size 12, but these clips have 5; extract them the same way"
    with pytest.raises(ValueError, match=message):
        evaluate(made_runs["joint-slt"].with_name("other"), "test", progress=False)
    with pytest.raises(ValueError, match=message):
        extract(made_runs["joint-slt"].with_name("other"), tmp_path / "out", "test", device="cpu", progress=False)
    assert count_frames(samples, r.input)  # the clips themselves are fine


def test_density_of_a_store_is_that_of_the_run_at_the_tap(made_runs, corpora, tmp_path, capsys):
    for label, tap in (("slt-i3d", "visual"), ("gfslt", "conv")):  # rows every 2 and every 4 frames
        extract(made_runs[label], tmp_path / label, tap=tap, dtype="float32", device="cpu", progress=False)
        run = runs.load_run(made_runs[label])
        lines = ["name\tgloss\tstart\tstop"]
        for sample in recipe_samples(run.recipe, "train"):
            lines += [f"{sample.name}\t{span.token}\t{span.start}\t{span.stop}" for span in sample.spans]
        (tmp_path / "spans.tsv").write_text("\n".join(lines) + "\n")
        assert main(["density", str(tmp_path / label), "--spans", str(tmp_path / "spans.tsv"), "--json"]) == 0
        of_store = json.loads(capsys.readouterr().out)
        of_run = run_density(made_runs[label], "train", tap=tap, picture=False, progress=False)
        assert of_store["instances"] == of_run["instances"] == len(lines) - 1
        assert of_store["sdr"] == pytest.approx(of_run["sdr"], rel=1e-4)


def test_signs_are_cut_out_of_a_store_by_its_clock(made_runs, corpora, tmp_path):
    extract(made_runs["slt-i3d"], tmp_path / "store", tap="visual", dtype="float32", device="cpu", progress=False)
    store = FeatureStore(tmp_path / "store")
    recipe = recipe_from_dict({"corpus": {"name": "folder", "root": str(corpora[True]), "isolated": True}})
    frames = recipe_samples(recipe, "train")
    recipe.corpus.features = str(tmp_path / "store")
    rows = recipe_samples(recipe, "train")
    assert [s.name for s in rows] == [s.name for s in frames]
    for of_frames, of_rows in zip(frames, rows, strict=True):
        assert of_frames.cut is not None
        start, stop = of_frames.cut
        inside = [r for r in range(store.lengths[of_rows.whole]) if start <= 2 + 2 * r < stop]
        assert np.array_equal(load_raw(of_rows, recipe.input), store[of_rows.whole][inside])


def test_every_command_reads_features_side_by_side(corpora, tmp_path, capsys):
    random = np.random.default_rng(0)
    plain = recipe_from_dict({"corpus": {"name": "folder", "root": str(corpora[False])}})
    for split in ("train", "dev", "test"):
        rows = [(s.name, load_raw(s, plain.input)) for s in recipe_samples(plain, split)]
        write_store(tmp_path / "a" / split, rows, dtype="float32")
        write_store(tmp_path / "b" / split, [(name, random.normal(size=(len(r), 3))) for name, r in rows])
    dim = rows[0][1].shape[1]
    (tmp_path / "r.yaml").write_text(f"""
corpus: {{name: folder, root: "{corpora[False]}"}}
out: "{tmp_path}/run"
model: {{name: slt, visual: identity, width: 8, encoder_layers: 1, decoder_layers: 1, heads: 1, ffn: 8}}
train: {{max_steps: 1, device: cpu}}
decode: {{max_new_tokens: 4}}
""")
    both = f'--corpus.features=["{tmp_path}/a/{{split}}", "{tmp_path}/b/{{split}}"]'
    assert main(["fit", str(tmp_path / "r.yaml"), both]) == 0
    run = str(tmp_path / "run")
    assert run_folder.read_card(tmp_path / "run")["feature_dim"] == dim + 3
    assert runs.load_run(tmp_path / "run").recipe.corpus.features == [f"{tmp_path}/{x}/{{split}}" for x in "ab"]
    assert evaluate(run, "dev", bootstrap=0, device="cpu", progress=False)["made"]["clips"] == 4
    taken = ["--split", "test", "--tap", "visual", "--dtype", "float32", "--device", "cpu"]
    assert main(["extract", run, "-o", f"{tmp_path}/found", *taken]) == 0
    store = FeatureStore(tmp_path / "found")
    np.testing.assert_allclose(store[store.names[0]][:, :dim], FeatureStore(tmp_path / "a/test")[store.names[0]])
    assert run_density(run, "train", picture=False, device="cpu", progress=False)["instances"] > 8
    for x in "ab":
        np.save(tmp_path / f"{x}.npy", FeatureStore(tmp_path / x / "dev")[FeatureStore(tmp_path / "a/dev").names[0]])
    capsys.readouterr()
    assert main(["translate", run, f"{tmp_path}/a.npy,{tmp_path}/b.npy", "--device", "cpu"]) == 0
    assert main(["translate", run, f"{tmp_path}/a.npy", "--device", "cpu"]) == 2
    assert f"features of size {dim + 3}, this is features of size {dim}" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "r.yaml"), both.replace('"', "")]) == 2
    assert 'in a list each path needs quotes, ["a/{split}", "b"], got [' in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "r.yaml"), "--corpus.features=[]"]) == 2
    assert "corpus.features: needs a path or a list of paths, got []" in capsys.readouterr().err
