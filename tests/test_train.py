"""The loop: every term trains, a killed run resumes bit for bit, bad numbers stop before they do harm."""

import json
import signal
from pathlib import Path

import fresh_process
import numpy as np
import pytest
import torch
from fresh_process import run_script
from systems import having, losses

from signcl.data.batch import Sample
from signcl.data.files import atomic_write
from signcl.data.loading import collate
from signcl.data.text import load_tokenizer
from signcl.systems.terms import weighted_sum
from signcl.systems.terms.shared import signcl_of
from signcl.training import fit, learning_rate, read_record, run_folder, runs
from signcl.training.optimizer import Adaptation
from signcl.training.prepare import prepare
from signcl.training.recipe import TrainRecipe, recipe_from_dict, recipe_samples
from signcl.training.runs import build_model

WORDS = ["null", "eins", "zwei", "drei", "vier", "fuenf"]
TINY = {"visual": "feature_mlp", "visual_dim": 16, "conv_width": 32, "width": 32, "encoder_layers": 1,
        "decoder_layers": 1, "heads": 2, "ffn": 32, "text_layers": 1, "text_heads": 2, "text_ffn": 32}  # fmt: skip
SYSTEM = {"pretrain": "vlp", "finetune": "gfslt", "recognise": "recogniser"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A feature corpus: each word is a direction in feature space, held for 6 to 9 frames."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    signs = random.normal(size=(len(WORDS), 8)) * 3
    for split, count in (("train", 24), ("dev", 6)):
        lines = ["name\tpath\ttext\tgloss"]
        for i in range(count):
            chosen = random.integers(len(WORDS), size=random.integers(2, 4))
            frames = np.concatenate([np.repeat(signs[[c]], random.integers(6, 10), axis=0) for c in chosen])
            np.save(root / f"{split}{i}.npy", (frames + random.normal(size=frames.shape) * 0.1).astype(np.float32))
            sentence = " ".join(WORDS[c] for c in chosen)
            lines.append(f"{split}{i}\t{split}{i}.npy\t{sentence}\t{sentence.upper()}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


def recipe(corpus, out, stage="finetune", *, model=None, smoothing=0.1, **train):
    weights = {
        "pretrain": {"clip": 1.0, "masked_text": 1.0, "signcl": 0.1},
        "finetune": {"translation": 1.0, "signcl": 0.1},
        "recognise": {"recognition": 1.0, "signcl": 0.1},
    }
    return recipe_from_dict({
        "stage": stage,
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": SYSTEM[stage], **having(SYSTEM[stage], TINY), **(model or {})},
        "loss": {
            "weights": weights[stage],
            "label_smoothing": smoothing,
            "signcl": {"distance_margin": 5.0, "frame_margin_floor": 3},
        },
        "train": {"epochs": 2, "batch_size": 4, "device": "cpu", "save_every": 2, **train},
    })  # fmt: skip


def weights(folder):
    return torch.load(folder / "state" / "last.pt", weights_only=True)["model"]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_every_weighted_term_moves_the_frame_encoder(stage, corpus, tmp_path):
    # The released pretraining back-propagates the contrast alone, so that SignCL's weight changes nothing.
    r = recipe(corpus, tmp_path / "run", stage, max_steps=1, epochs=1)
    folder = fit(r, progress=False)
    tokenizer = load_tokenizer(folder)
    batch = prepare(r).train[[0, 1, 2, 3]].batch

    def gradient(term_weights):
        torch.manual_seed(0)
        model = build_model(r, tokenizer, 8).eval()
        terms = losses(model, batch, r)
        assert all(torch.isfinite(value) for value in terms.values())
        weighted_sum(terms, term_weights).backward()
        return torch.cat([p.grad.flatten() for p in model.visual.parameters() if p.grad is not None])

    every = r.loss.weights
    whole = gradient(every)
    # masked_text sees text alone, in the published design: no clip enters it
    for term in set(every) - {"masked_text"}:
        changed = gradient({**every, term: every[term] * 2})
        assert (changed - whole).norm() > 1e-4 * whole.norm(), f"{term} does not reach the frame encoder"


def test_a_run_learns_and_leaves_a_complete_folder(corpus, tmp_path):
    folder = fit(
        recipe(corpus, tmp_path / "run", epochs=20, lr=5e-3, evaluate_every=10, save_every=10, smoothing=0.0),
        progress=False,
    )
    for name in ("recipe.yaml", "model.safetensors", "tokenizer.json", "state/last.pt", "metrics.jsonl", "card.json"):
        assert (folder / name).is_file(), name
    assert list(folder.glob("events.out.tfevents.*"))
    lines = read_record(folder)
    losses = [line["translation"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 3, "label smoothing is off here, so the loss can go to zero"
    dev = [line for line in lines if line["kind"] == "dev"]
    assert len(dev) == 2
    assert {"bleu4", "rouge_l", "exact_match", "loss", "signcl"} <= dev[-1].keys()
    run = runs.load_run(folder)
    assert run.card["steps"] == 20 * 6
    assert run.card["best"] == pytest.approx(max(line["bleu4"] for line in dev))


def test_pretrained_weights_reach_the_finetuning(corpus, tmp_path):
    first = fit(recipe(corpus, tmp_path / "pre", "pretrain", epochs=1), progress=False)
    second = fit(recipe(corpus, tmp_path / "fine", model={"init_from": str(first)}, max_steps=1), progress=False)
    said = json.loads((second / "card.json").read_text())["initialised"]
    assert len(said) == 1
    assert "transferred" in said[0]
    with pytest.raises(ValueError, match="cannot start vlp"):
        fit(recipe(corpus, tmp_path / "x", "pretrain", model={"init_from": str(second)}), progress=False)
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        fit(recipe(corpus, tmp_path / "x", model={"init_from": str(tmp_path / "nothing")}), progress=False)
    with pytest.raises(ValueError, match="same model sizes"):
        fit(recipe(corpus, tmp_path / "x", model={"init_from": str(first), "width": 64}), progress=False)


@pytest.mark.parametrize("stage", [pytest.param("pretrain", marks=pytest.mark.slow), "finetune", "recognise"])
def test_killed_and_resumed_equals_unbroken(stage, corpus, tmp_path):
    """Train two epochs of 6 steps; or kill -9 in the second, and the same command again: the same, bit for bit."""
    whole = fit(recipe(corpus, tmp_path / "whole", stage, epochs=2), progress=False)

    broken = recipe(corpus, tmp_path / "broken", stage, epochs=2)
    from signcl.training.recipe import save_recipe

    save_recipe(broken, tmp_path / "recipe.yaml")
    assert run_script(KILLED, tmp_path / "recipe.yaml", 9) == -signal.SIGKILL
    state = run_folder.load_state(Path(broken.out))
    assert 6 < state["step"] < 9
    assert not state["finished"]
    fit(broken, progress=False)

    a, b = weights(whole), weights(Path(broken.out))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    for left, right in zip(read_record(whole), read_record(Path(broken.out)), strict=True):
        assert left == right


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from signcl.training.recipe import load_recipe
from signcl.training import loop
torch.set_num_threads(1)
step = loop.Loop._train_step
def dying(self, batches):
    if self.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, batches)
loop.Loop._train_step = dying
recipe = load_recipe(sys.argv[1])
loop.Loop(recipe, Path(recipe.out), None, progress=False).run()
"""


@pytest.mark.parametrize(("apart", "steps"), [(0, [6, 12, 18]), (10**9, [6, 18])])
def test_short_epochs_share_a_resumable_state(corpus, tmp_path, monkeypatch, apart, steps):
    # The first epoch's end is always saved; the last state is written once, as that of a finished run.
    from signcl.training import loop

    saved = []
    save = run_folder.save_state
    monkeypatch.setattr(loop, "SAVE_APART", apart)
    monkeypatch.setattr(run_folder, "save_state", lambda to, state: (saved.append(state), save(to, state)))
    fit(recipe(corpus, tmp_path / "run", epochs=3, evaluate_every=3, save_every=100), progress=False)
    assert [state["step"] for state in saved] == steps
    assert [state["finished"] for state in saved] == [False] * (len(steps) - 1) + [True]


@pytest.fixture
def ctrl_c():
    """SIGINT is obeyed, as in a terminal; a shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_resumable_run(corpus, tmp_path, monkeypatch):
    from signcl.training import loop

    step = loop.Loop._train_step

    def interrupted(self, batches):
        if self.step == 3:
            raise KeyboardInterrupt
        step(self, batches)

    r = recipe(corpus, tmp_path / "run", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(r, progress=False)
    assert run_folder.load_state(tmp_path / "run")["step"] == 3
    fit(r, progress=False)
    whole = fit(recipe(corpus, tmp_path / "whole", epochs=1), progress=False)
    a, b = weights(whole), weights(tmp_path / "run")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_ctrl_c_while_dev_is_scored_scores_it_on_resumption(corpus, tmp_path, monkeypatch):
    # It used to end as a finished run without weights.
    from signcl.training import loop

    def interrupted(self):
        raise KeyboardInterrupt

    r = recipe(corpus, tmp_path / "run", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(r, progress=False)
    fit(r, progress=False)
    assert [line["kind"] for line in read_record(tmp_path / "run")].count("dev") == 1
    assert runs.load_run(tmp_path / "run").card["best"] is not None


def test_ctrl_c_within_a_step_waits_for_its_end(corpus, tmp_path, monkeypatch, ctrl_c):
    # A state saved between the optimizer's step and its count would take that step twice.
    from signcl.training import loop

    step = loop.Loop._train_step

    def interrupted(self, batches):
        step(self, batches)
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)

    r = recipe(corpus, tmp_path / "run", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(r, progress=False)
    assert run_folder.load_state(tmp_path / "run")["step"] == 4
    fit(r, progress=False)
    whole = fit(recipe(corpus, tmp_path / "whole", epochs=1), progress=False)
    a, b = weights(whole), weights(tmp_path / "run")
    assert all(torch.equal(a[k], b[k]) for k in a)


def copied(corpus: Path, root: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the corpus, with words of its training table replaced."""
    root.mkdir()
    for path in corpus.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    table = (root / "train.tsv").read_text()
    for old, new in changes:
        table = table.replace(old, new)
    (root / "train.tsv").write_text(table)
    return root


def test_a_corpus_that_has_changed_is_not_resumed(corpus, tmp_path):
    root = copied(corpus, tmp_path / "corpus")
    r = recipe(root, tmp_path / "run", max_steps=2)
    folder = fit(r, progress=False)
    state = run_folder.load_state(folder)
    run_folder.save_state(folder, {**state, "finished": False})
    (root / "train.tsv").write_text((root / "train.tsv").read_text().replace("eins", "einzig"))
    with pytest.raises(ValueError, match=r"corpus has changed since .*run was begun \(train\); .*--fresh"):
        fit(r, progress=False)


def test_pretraining_on_other_words_cannot_start_a_finetuning(corpus, tmp_path):
    # As many words, so every tensor fits, but the embedding rows would belong to other words.
    first = fit(recipe(corpus, tmp_path / "pre", "pretrain", max_steps=1), progress=False)
    other = copied(corpus, tmp_path / "corpus", ("eins", "hund"), ("vier", "katze"))
    with pytest.raises(ValueError, match="both stages need the same text section"):
        fit(recipe(other, tmp_path / "fine", model={"init_from": str(first)}, max_steps=1), progress=False)


def test_a_fresh_run_keeps_no_score_of_the_old_one(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run", max_steps=2)
    folder = fit(r, progress=False)
    old = [folder / name for name in ("scores.json", "predictions.test.tsv", "density.test.json", "report.html")]
    for path in old:
        path.write_text("old")
    (folder / "notes.txt").write_text("mine")
    fit(r, fresh=True, progress=False)
    assert not any(path.exists() for path in old)
    assert (folder / "notes.txt").exists()
    assert (folder / "model.safetensors").exists()


def test_a_finished_run_is_left_alone_and_another_recipe_refused(corpus, tmp_path, capsys):
    r = recipe(corpus, tmp_path / "run", max_steps=2)
    fit(r, progress=False)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    fit(r, progress=False)
    assert "is finished" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"another recipe \(train\.lr: 0\.001 there, 0\.1 here\)"):
        fit(recipe(corpus, tmp_path / "run", max_steps=2, lr=0.1), progress=False)
    fit(recipe(corpus, tmp_path / "run", max_steps=2, lr=0.1), fresh=True, progress=False)


def test_a_recipe_key_that_came_since_does_not_end_a_run(corpus, tmp_path, capsys):
    r = recipe(corpus, tmp_path / "run", max_steps=2)
    folder = fit(r, progress=False)
    path = folder / "state" / "last.pt"
    state = torch.load(path, weights_only=True)
    del state["recipe"]["train"]["patience"], state["recipe"]["model"]["freeze"]
    torch.save(state, path)
    fit(r, progress=False)
    assert "is finished" in capsys.readouterr().err


def test_accumulated_batches_take_one_step(corpus, tmp_path):
    folder = fit(recipe(corpus, tmp_path / "run", epochs=1, accumulate=4), progress=False)
    assert json.loads((folder / "card.json").read_text())["steps"] == 2  # 6 batches: one group of 4, one of 2


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_mixed_precision_trains_finite_float32_weights(corpus, tmp_path, optimizer):
    folder = fit(
        recipe(corpus, tmp_path / "run", epochs=1, precision="bf16-mixed", optimizer=optimizer), progress=False
    )
    assert all(
        v.dtype == torch.float32 and torch.isfinite(v).all() for v in weights(folder).values() if v.is_floating_point()
    )


def test_a_broken_clip_is_skipped_counted_and_named_or_stops(corpus, tmp_path, capsys):
    root = tmp_path / "corpus"
    root.mkdir()
    for path in corpus.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    (root / "train3.npy").write_bytes(b"not an array")
    folder = fit(recipe(root, tmp_path / "run", epochs=1), progress=False)
    assert "1 clips could not be used and were skipped: train3" in capsys.readouterr().err
    assert list(json.loads((folder / "card.json").read_text())["broken"]) == ["train3"]
    r = recipe(root, tmp_path / "stop", epochs=1)
    r.corpus.on_broken = "stop"
    with pytest.raises(ValueError, match="clip train3 cannot be used"):
        fit(r, progress=False)


def test_early_stopping_and_selection(corpus, tmp_path):
    still = {"dropout": 0.0}
    r = recipe(corpus, tmp_path / "run", epochs=9, patience=2, lr=1e-9, min_lr=0.0, select="-loss", model=still)
    folder = fit(r, progress=False)
    assert json.loads((folder / "card.json").read_text())["epochs"] <= 9
    with pytest.raises(ValueError, match=r"train\.select=meteor: this stage scores bleu1"):
        fit(recipe(corpus, tmp_path / "other", select="meteor", max_steps=1), progress=False)


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    run_folder.save_state(tmp_path, {"step": 1})

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3: file write failed")

    with pytest.raises(OSError, match=r"no space left .* the previous file is intact"):
        run_folder.save_state(tmp_path, {"step": 2}, save=full)
    assert run_folder.load_state(tmp_path) == {"step": 1}
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["last.pt"]


def test_a_real_full_disk(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is a Linux device")
    raised = pytest.raises(OSError, match="no space left")
    with raised, atomic_write(tmp_path / "x"), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x" * 100_000)
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_runs_are_named(corpus, tmp_path):
    folder = fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)
    with pytest.raises(FileNotFoundError, match="no run folder at"):
        runs.load_run(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"has no recipe\.yaml"):
        runs.load_run(corpus)
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("conv_width: 32", "conv_width: 64"))
    with pytest.raises(ValueError, match="weights of another model"):
        runs.load_run(folder)
    (folder / "recipe.yaml").write_text(text)
    (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="is not what this run wrote"):
        runs.load_run(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="is damaged"):
        runs.load_run(folder)
    (folder / "state" / "last.pt").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"delete .*state to train from the start"):
        fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)


def test_noam_is_the_published_formula_from_the_end_of_its_warm_up():
    hidden, warmup, factor = 512, 40, 2.0
    train = TrainRecipe(schedule="noam", warmup_steps=warmup, lr=factor / (hidden * warmup) ** 0.5)
    for step in (40, 41, 100, 5000):
        published = factor * hidden**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert learning_rate(step, 6000, train) == pytest.approx(published, rel=1e-12)
    rates = [learning_rate(step, 6000, train) for step in range(80)]
    assert max(rates) == rates[40] == pytest.approx(train.lr)
    with pytest.raises(ValueError, match=r"train\.warmup_steps: noam needs at least 1, .* got 0"):
        recipe_from_dict({"train": {"schedule": "noam"}})


@pytest.mark.parametrize("growth", [1, 2, 3])
def test_restarts_are_torchs_own(growth):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 7, growth, eta_min=0.01)
    train = TrainRecipe(schedule="restarts", lr=0.1, min_lr=0.01, restart_steps=7, restart_growth=growth)
    for step in range(60):
        assert learning_rate(step, 60, train) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()
    warm = TrainRecipe(schedule="restarts", lr=0.1, min_lr=0.01, restart_steps=7, warmup_steps=5)
    assert learning_rate(5 + 7, 60, warm) == pytest.approx(0.1)  # the second cosine begins 7 steps after the warm-up


def test_exponential_is_torchs_own_at_the_end_of_every_epoch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    train = TrainRecipe(schedule="exponential", lr=0.1, min_lr=0.03, decay_factor=0.9, decay_steps=25)
    for epoch in range(20):
        assert learning_rate(25 * epoch, 500, train) == pytest.approx(max(0.03, theirs.get_last_lr()[0]), rel=1e-9)
        optimizer.step()
        theirs.step()
    with pytest.raises(ValueError, match=r"train\.min_lr=1\.0: exponential falls to it from train\.lr=0\.5"):
        recipe_from_dict({"train": {"schedule": "exponential", "lr": 0.5, "min_lr": 1.0}})


def test_learning_rates_by_hand():
    train = TrainRecipe(lr=1.0, min_lr=0.0, schedule="cosine", warmup_steps=2)
    assert [round(learning_rate(s, 12, train), 4) for s in (0, 1, 2, 7, 12)] == [0.3333, 0.6667, 1.0, 0.5, 0.0]
    assert learning_rate(50, 100, TrainRecipe(lr=0.5, schedule="constant")) == 0.5
    cycle = [learning_rate(s, 100, TrainRecipe(lr=1.0, min_lr=0.0, schedule="onecycle")) for s in range(101)]
    assert max(range(101), key=cycle.__getitem__) == 30
    assert cycle[0] == pytest.approx(1 / 25)
    assert cycle[100] == pytest.approx(0)


def test_plateau_and_the_released_decay():
    r = recipe_from_dict({
        "train": {"schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.5},
        "loss": {"signcl": {"decay": 0.5, "decay_patience": 2, "decay_delta": 2.0}},
    })  # fmt: skip
    adaptation = Adaptation()
    rates, decays = [], []
    for value in (10.0, 11.0, 11.0, 11.0, 11.5, 14.0):
        adaptation.update(value, r)
        rates.append(adaptation.rate)
        decays.append(adaptation.signcl)
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5]
    assert decays == [1, 1, 1, 0.5, 0.5, 0.5]  # three scorings without a gain above 2.0


def test_smaller_fractions_lie_within_larger_ones(corpus, tmp_path):
    parts = []
    for share in (0.1, 0.5, 1.0):
        r = recipe(corpus, tmp_path / "run")
        r.corpus.fraction = share
        parts.append({s.name for s in recipe_samples(r, "train")})
        assert len(recipe_samples(r, "dev")) == 6
    assert [len(p) for p in parts] == [2, 12, 24]
    assert parts[0] < parts[1] < parts[2]


def test_the_frame_margin_rules():
    samples = [
        Sample(n, t, features=np.ones((f, 2), np.float32)) for n, t, f in (("a", "x " * 5, 100), ("b", "x " * 20, 60))
    ]
    batch = collate(samples, [s.features for s in samples])
    batch.tokens = torch.zeros(2, 21, dtype=torch.long)

    def frame_margin(batch, recipe):
        frames = -(-batch.max_length // 4) * 4 + 16  # as the term counts them
        margin = signcl_of(recipe).frame_margin(batch.lengths, batch.num_words, frames, batch.tokens.shape[1])
        return torch.as_tensor(margin, dtype=torch.float32).expand(len(batch))

    signcl = recipe_from_dict({}).loss.signcl
    assert frame_margin(batch, signcl).tolist() == pytest.approx([100 / 5 * 2.3, 10.0])
    signcl.frame_margin_rule = "released"
    # T = 100 + 16 = 116, U = 21: 2 * max(10, int((5 + 1) * 2.3)) = 26, below (116 - 30) / 2 = 43; Eq. 4 doubles 13
    assert frame_margin(batch, signcl).tolist() == [13.0, 13.0]
    signcl.variant = "released"
    assert frame_margin(batch, signcl).tolist() == [26.0, 26.0]


@pytest.mark.slow
def test_two_processes_gather_the_contrast_and_score_each_clip_once(corpus, tmp_path):
    from signcl.training.recipe import save_recipe

    r = recipe(corpus, tmp_path / "ddp", "pretrain", epochs=1, devices=2, strategy="ddp")
    save_recipe(r, tmp_path / "recipe.yaml")
    done = fresh_process.run(["fit", tmp_path / "recipe.yaml"], Path.cwd())  # it starts the second process itself
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "ddp" / "card.json").read_text())
    assert card["ranks"] == 2
    assert card["steps"] == 3


def test_16_mixed_on_a_cpu_is_refused_and_not_silently_something_else(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"train.precision=16-mixed needs a GPU"):
        fit(recipe(corpus, tmp_path / "run", precision="16-mixed"), progress=False)


def test_a_dev_split_of_another_feature_size_is_named(corpus, tmp_path):
    import shutil

    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    for path in root.glob("dev*.npy"):
        np.save(path, np.ones((20, 3), np.float32))
    with pytest.raises(ValueError, match=r"no clip of the dev split can be used; .*features of size 3, the other"):
        fit(recipe(root, tmp_path / "run"), progress=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ffn", -1), ("encoder_layers", -1), ("decoder_layers", -2), ("text_layers", -1), ("decoder_heads", 0)],
)
def test_negative_sizes_are_refused_by_key(corpus, tmp_path, key, value):
    with pytest.raises(ValueError, match=f"model.{key}: needs a number"):
        recipe(corpus, tmp_path / "run", "pretrain", model={key: value})
