"""Sign Language Transformer and recogniser: lengths are respected, four clips are overfit, `evaluate` gives the WER."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import having, losses, make, terms_on

from signcl import evaluate, fit, load_recipe
from signcl.data.batch import Sample
from signcl.data.features import with_features
from signcl.data.loading import ClipDataset, collate
from signcl.data.text import GlossVocabulary, VocabularyTokenizer
from signcl.data.video.writing import write_video
from signcl.inference.answers import predict
from signcl.inference.translation import load_model, translate
from signcl.systems.encoders import build_visual
from signcl.systems.parts.search import ctc_prefix_beam
from signcl.systems.slt import SLT
from signcl.systems.terms import weighted_sum
from signcl.training import run_folder, runs
from signcl.training.prepare import prepare
from signcl.training.recipe import recipe_from_dict, recipe_samples
from signcl.training.runs import build_model

SIGNS = ["REGEN", "SONNE", "WIND", "MORGEN", "NORD", "UND"]
WORDS = ["regen", "sonne", "wind", "morgen", "norden", "und"]
SMALL = {"visual": "feature_mlp", "visual_dim": 16, "width": 32, "encoder_layers": 2, "decoder_layers": 1, "heads": 2,
         "ffn": 32, "activation": "gelu", "dropout": 0.0}  # fmt: skip
DIM = 8


def write_corpus(root: Path, counts, *, glosses=True) -> Path:
    """Each sign is a direction in feature space, held for 5 to 8 frames."""
    root.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    directions = random.normal(size=(len(SIGNS), DIM)) * 3
    for split, count in counts.items():
        lines = ["name\tpath\ttext" + ("\tgloss" if glosses else "")]
        for i in range(count):
            chosen = random.integers(len(SIGNS), size=random.integers(2, 5))
            rows = np.concatenate([np.repeat(directions[[c]], random.integers(5, 9), axis=0) for c in chosen])
            np.save(root / f"{split}{i}.npy", (rows + random.normal(size=rows.shape) * 0.1).astype(np.float32))
            line = [f"{split}{i}", f"{split}{i}.npy", " ".join(WORDS[c] for c in chosen)]
            lines.append("\t".join([*line, " ".join(SIGNS[c] for c in chosen)][: 4 if glosses else 3]))
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("slt") / "corpus", {"train": 24, "dev": 6, "test": 6})


def recipe(corpus, out, name="slt", *, weights=None, model=None, loss=None, **train):
    stage = "recognise" if name == "recogniser" else "finetune"
    default = {"recognition": 1.0} if name == "recogniser" else {"translation": 1.0, "recognition": 0.2}
    return recipe_from_dict({
        "stage": stage,
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": name, **having(name, SMALL), **(model or {})},
        "loss": {
            "weights": weights or default,
            "label_smoothing": 0.0,
            "signcl": {"distance_margin": 5.0, "frame_margin_floor": 3},
            **(loss or {}),
        },
        "train": {"epochs": 2, "batch_size": 4, "device": "cpu", "lr": 5e-3, "optimizer": "adam", "weight_decay": 0,
                  "schedule": "constant", **train},
        "decode": {"beams": 4, "max_new_tokens": 12, "gloss_beams": 10},
    })  # fmt: skip


def some_batch(lengths, seed=0):
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(length, DIM)).astype(np.float32) for length in lengths]
    arrays[0][min(2, lengths[0] - 1), 0] = 0.0  # an exact zero, which neccam/slt takes for padding
    samples = [Sample(f"c{i}", " ".join(WORDS[: i + 2]), gloss=tuple(SIGNS[: i + 2])) for i in range(len(lengths))]
    batch = collate(samples, arrays)
    tokenizer = VocabularyTokenizer(sorted(WORDS))
    ids = [tokenizer.encode(s.text) for s in samples]
    batch.token_lengths = torch.tensor([len(row) for row in ids])
    batch.tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in ids], batch_first=True)
    return batch, samples, arrays, tokenizer


def model_of(tap="embedding", glosses=8, seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"width": 32, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "ffn": 48, **options}
    visual = build_visual("identity", feature_dim=DIM)
    model = make(
        SLT, visual, vocab_size=11, pad_id=0, start_id=1, end_id=2, num_glosses=glosses, signcl_tap=tap, **sizes
    )
    return model.eval()


@pytest.mark.parametrize("tap", ["embedding", "layer1", "layer2"])
def test_a_clip_alone_gives_what_it_gives_in_a_padded_batch(tap):
    batch, samples, arrays, _ = some_batch([7, 23, 12])
    model = model_of(tap)
    for norm in (model.encoder.embedding.norm, model.decoder.embedding.norm):  # as after some training
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    together = model(batch)
    for i, (sample, array) in enumerate(zip(samples, arrays)):
        alone = collate([sample], [array])
        length = int(batch.token_lengths[i])
        alone.tokens, alone.token_lengths = batch.tokens[i : i + 1, :length], batch.token_lengths[i : i + 1]
        out = model(alone)
        frames = len(array)
        torch.testing.assert_close(out.logits[0], together.logits[i, :length], atol=1e-4, rtol=0)
        torch.testing.assert_close(out.log_probs[0], together.log_probs[i, :frames], atol=1e-4, rtol=0)
        torch.testing.assert_close(out.features[0], together.features[i, :frames], atol=1e-4, rtol=0)
        assert not together.features[i, frames:].any()
        assert not together.steps[i, frames:].any()
        for beams in (1, 3):
            found = model.generate(alone, num_beams=beams, max_new_tokens=9)[0].tolist()
            row = model.generate(batch, num_beams=beams, max_new_tokens=9)[i].tolist()
            assert found == [t for t in row if t != 0]
    assert together.step_lengths.tolist() == [7, 23, 12]
    assert torch.equal(model.features(batch), together.features)


def test_training_statistics_come_from_real_frames_and_words_alone():
    batch, samples, arrays, _ = some_batch([7, 23, 12])
    a, b = model_of(dropout=0.0, attention_dropout=0.0).train(), model_of(dropout=0.0, attention_dropout=0.0).train()
    wide = collate(samples, arrays)
    wide.max_length = 40
    wide.positions = torch.cat([torch.arange(n) + row * 40 for row, n in enumerate(wide.lengths.tolist())])
    wide.tokens = torch.nn.functional.pad(batch.tokens, (0, 5))
    wide.token_lengths = batch.token_lengths
    narrow, padded = a(batch), b(wide)
    torch.testing.assert_close(padded.logits[:, : batch.tokens.shape[1]][batch.tokens != 0],
                               narrow.logits[batch.tokens != 0], atol=1e-5, rtol=0)  # fmt: skip
    torch.testing.assert_close(a.encoder.embedding.norm.running_var, b.encoder.embedding.norm.running_var)
    torch.testing.assert_close(a.decoder.embedding.norm.running_var, b.decoder.embedding.norm.running_var)


def test_a_frame_whose_first_number_is_zero_is_no_padding():
    batch, *_ = some_batch([7, 23])
    model = model_of()
    before = model(batch).logits
    batch.inputs[2, 1:] += 1.0  # the frame with the exact zero in front
    assert (model(batch).logits[0] - before[0]).abs().max() > 1e-4


def test_a_later_word_does_not_reach_an_earlier_one():
    batch, *_ = some_batch([7, 23])
    model = model_of()
    before = model(batch).logits
    batch.tokens[1, 1] = 9
    after = model(batch).logits
    assert torch.equal(before[1, :2], after[1, :2])  # position 2 is the first to read token 1
    assert not torch.equal(before[1, 2], after[1, 2])


def test_step_by_step_generation_is_teacher_forcing():
    batch, *_ = some_batch([7, 23, 12])
    model = model_of(seed=3)
    found = model.generate(batch, num_beams=1, max_new_tokens=8)
    batch.tokens, batch.token_lengths = found, (found != 0).sum(dim=1)
    logits = model(batch).logits
    logits[:, :, 0] = -torch.inf  # padding is never generated
    assert torch.equal(logits.argmax(dim=2)[found != 0], found[found != 0])


def test_the_parameter_counts_of_the_docstrings():
    d, w, f, c, v, layers = 1024, 512, 2048, 1087, 2892, 3
    encoder = d * w + w + 2 * w + layers * (4 * w * w + 9 * w + 2 * w * f + f) + 2 * w
    decoder = v * w + 2 * w + layers * (8 * w * w + 15 * w + 2 * w * f + f) + 2 * w + v * w
    options = {"vocab_size": v, "pad_id": 0, "start_id": 1, "end_id": 2}
    with torch.device("meta"):
        joint = make(SLT, build_visual("identity", feature_dim=d), num_glosses=c, **options)
        nslt = make(SLT, build_visual("identity", feature_dim=d), num_glosses=None, **options)

    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(joint) == encoder + w * c + c + decoder == 26_117_183
    assert count(nslt) == encoder + decoder == 25_559_552


@pytest.mark.parametrize("tap", ["embedding", "layer1"])
def test_signcl_reaches_the_frame_encoder_at_every_tap(tap, corpus, tmp_path):
    weights = {"translation": 1.0, "recognition": 0.2, "signcl": 0.1}
    r = recipe(corpus, tmp_path / "run", weights=weights, model={"signcl_tap": tap})
    material = prepare(r)
    batch = material.train[[0, 1, 2, 3]].batch
    torch.manual_seed(0)
    model = build_model(r, material.tokenizer, DIM, material.glosses)
    terms = losses(model, batch, r)
    assert terms.keys() == weights.keys()
    assert all(torch.isfinite(value) for value in terms.values())
    for name, term in terms.items():
        model.zero_grad()
        term.backward(retain_graph=True)
        assert sum(float(p.grad.abs().sum()) for p in model.visual.parameters()) > 0, f"{name} stops before the frames"
    model.zero_grad()
    terms["signcl"].backward()
    later = sum(float(p.grad.abs().sum()) for p in model.encoder.layers[0].parameters() if p.grad is not None)
    assert (later > 0) == (tap == "layer1")


@pytest.mark.slow
def test_four_clips_are_learned_by_heart_and_a_loaded_run_says_the_same(tmp_path):
    four = write_corpus(tmp_path / "four", {"train": 4, "dev": 1})
    header, *rows = (four / "train.tsv").read_text().splitlines()
    copies = [f"copy{n}-{row}" for n in range(15) for row in rows]  # epochs are few: each writes a resumable state
    (four / "dev.tsv").write_text("\n".join([header, *rows]) + "\n")
    (four / "train.tsv").write_text("\n".join([header, *copies]) + "\n")
    folder = fit(recipe(four, tmp_path / "run", epochs=8, evaluate_every=8, bucket=False), progress=False)
    run = runs.load_run(folder)
    data = ClipDataset(
        recipe_samples(run.recipe, "dev"), run.tokenizer, run.recipe.reading, training=False, glosses=run.glosses
    )
    batch = data[[0, 1, 2, 3]].batch
    with torch.no_grad():
        terms = losses(run.model, batch, run.recipe)
    assert float(weighted_sum(terms, run.recipe.loss.weights)) < 0.1
    assert runs.load_run(folder).model.generate(batch).equal(run.model.generate(batch))
    scores = evaluate(folder, "dev", bootstrap=20, progress=False)
    assert scores["bleu4"] == pytest.approx(100)
    assert scores["recognition"]["wer"] == 0
    assert json.loads((folder / "scores.json").read_text())["dev"]["recognition"]["wer"] == 0
    glosses = [line.split("\t") for line in (folder / "glosses.dev.tsv").read_text().splitlines()[1:]]
    assert all(reference == hypothesis for _, reference, hypothesis in glosses)
    said = translate(load_model(folder, device="cpu"), four / "train0.npy").text
    assert said == data.samples[0].text


def test_a_recogniser_trains_and_is_scored_by_word_error_rate(tmp_path):
    # Three times the clips of `corpus`: from 24 the rounding of one product decides between 18 and 41 %, from 72 it
    # stays below 20 %.
    corpus = write_corpus(tmp_path / "corpus", {"train": 72, "dev": 6, "test": 12})
    weights = {"recognition": 1.0, "signcl": 0.01}
    folder = fit(recipe(corpus, tmp_path / "run", "recogniser", weights=weights, epochs=12, evaluate_every=12),
                 progress=False)  # fmt: skip
    card = run_folder.read_card(folder)
    assert card["gloss_classes"] == len(SIGNS) + 2
    dev = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines() if '"dev"' in line][-1]
    assert card["best"] == -dev["wer"]
    scores = evaluate(folder, "test", bootstrap=20, progress=False)
    assert scores["wer"] < 30
    assert scores["wer"] == pytest.approx(sum(scores["wer_split"].values()))
    assert scores["intervals"]["wer"][0] <= scores["wer"] <= scores["intervals"]["wer"][1]
    assert scores["made"]["beams"] == 10
    assert (folder / "predictions.test.tsv").read_text().startswith("name\treference\thypothesis\n")
    with pytest.raises(ValueError, match="only a finetune run translates"):
        predict(runs.load_run(folder), [])


def test_half_precision_trains_finite_weights(corpus, tmp_path):
    weights = {"translation": 1.0, "recognition": 0.2, "signcl": 0.1}
    r = recipe(corpus, tmp_path / "run", weights=weights, max_steps=3, precision="bf16-mixed")
    for value in run_folder.read_weights(fit(r, progress=False)).values():
        assert torch.isfinite(value).all()
        assert value.dtype in (torch.float32, torch.int64)


def test_the_search_of_a_model_is_the_search_of_its_probabilities():
    batch, *_ = some_batch([7, 23])
    model = model_of()
    log_probs, steps = model.recognise(batch)
    torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(2, 23))
    assert len(ctc_prefix_beam(log_probs, steps, beams=3)) == 2
    with pytest.raises(ValueError, match="no gloss head"):
        model_of(glosses=None).recognise(batch)


def test_clips_too_short_for_their_glosses_are_named_and_skipped_or_stop(corpus, tmp_path, capsys):
    root = tmp_path / "short"
    root.mkdir()
    for path in corpus.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    np.save(root / "train3.npy", np.ones((2, DIM), np.float32))  # 2 frames; repeated glosses need 5
    table = [line.split("\t") for line in (root / "train.tsv").read_text().splitlines()]
    table[4][3] = "REGEN REGEN REGEN"
    (root / "train.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    folder = fit(recipe(root, tmp_path / "skip", epochs=1), progress=False)
    assert "1 clips have too few frames for their glosses and were left out of CTC: train3" in capsys.readouterr().err
    assert run_folder.read_card(folder)["too_short_for_ctc"] == ["train3"]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert all(math.isfinite(v) for v in json.loads(line).values() if isinstance(v, float))
    with pytest.raises(ValueError, match="clip train3 has fewer steps than its glosses need"):
        fit(recipe(root, tmp_path / "stop", epochs=1, loss={"ctc_too_long": "stop"}), progress=False)


def test_a_batch_of_clips_too_short_gives_zero_and_not_nan():
    batch, *_ = some_batch([1, 1])
    batch.glosses, batch.gloss_lengths = torch.tensor([[2, 2], [3, 4]]), torch.tensor([2, 2])
    model = model_of()
    recipe = recipe_from_dict({"stage": "recognise", "model": {"name": "recogniser"}})
    term = terms_on(model(batch), batch, recipe)["recognition"]
    term.backward()
    assert term.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_gloss_outside_the_vocabulary_is_class_one_and_counted(corpus, tmp_path, capsys):
    root = tmp_path / "strange"
    root.mkdir()
    for path in corpus.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    for split in ("dev", "test"):
        text = (root / f"{split}.tsv").read_text().splitlines()
        text[1] = text[1].rsplit("\t", 1)[0] + "\tSCHNEE REGEN"
        (root / f"{split}.tsv").write_text("\n".join(text) + "\n")
    folder = fit(recipe(root, tmp_path / "run", "recogniser", epochs=1), progress=False)
    assert "1 of" in (said := capsys.readouterr().err)
    assert "glosses of the dev split are not in training: class 1, <unk>, an error each" in said
    assert evaluate(folder, "test", bootstrap=0, progress=False)["unknown_glosses"]["count"] == 1
    assert GlossVocabulary(SIGNS).encode(["SCHNEE", "REGEN"]) == [1, 2]


def test_a_corpus_without_gloss_is_refused_unless_the_run_only_translates(tmp_path):
    root = write_corpus(tmp_path / "bare", {"train": 4, "dev": 2}, glosses=False)
    with pytest.raises(ValueError, match=r"needs the glosses of every clip, but 4 of the 4 training clips .* NSLT"):
        fit(recipe(root, tmp_path / "joint"), progress=False)
    folder = fit(recipe(root, tmp_path / "nslt", weights={"translation": 1.0}, max_steps=1), progress=False)
    assert not (folder / "glosses.json").exists()
    assert runs.load_run(folder).glosses is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "finetune", "model": {"name": "recogniser"}}, "stage finetune trains model.name=gaslt or gfslt or"),
        (
            {"model": {"name": "gfslt"}, "loss": {"weights": {"translation": 1, "recognition": 1}}},
            "gfslt computes translation, signcl, invariance, .*, word_signcl; slt has recognition",
        ),
        ({"model": {"name": "slt"}, "loss": {"weights": {"recognition": 1}}}, "needs a weight for translation"),
        ({"model": {"name": "slt", "signcl_tap": "layer9"}}, "needs one of embedding, layer1, layer2, got 'layer9'"),
        (
            {"model": {"name": "gfslt", "signcl_tap": "layer1"}},
            "model.signcl_tap belongs to .*recogniser, slt, not to gfslt",
        ),
        ({"model": {"name": "slt", "activation": "tanh"}}, "slt knows relu and gelu, got 'tanh'"),
        ({"model": {"name": "slt", "form": "as_released"}}, "belongs to .*gfslt.*, not to slt"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_what_to_do(change, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict(change)


def test_features_extracted_before_replace_the_clips_of_any_corpus(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run", max_steps=1)
    other = tmp_path / "other"
    (other / "dev").mkdir(parents=True)
    for i in range(6):
        np.save(other / "dev" / f"dev{i}.npy", np.full((4, 3), i, np.float32))
    r.corpus.features = f"{other}/{{split}}"
    samples = recipe_samples(r, "dev")
    data = ClipDataset(samples, None, r.reading, training=False)
    assert data[[0, 1]].batch.inputs.shape == (8, 3)
    np.savez(tmp_path / "some.npz", **{s.name: np.ones((4, 3), np.float32) for s in samples[1:]})
    with pytest.raises(ValueError, match=r"lacks 1 of 6 clips, first dev0; it has 5"):
        with_features(samples, tmp_path / "some.npz")


def test_end_to_end_from_frames(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "frames"
    for split in ("train", "dev"):
        lines = ["name\tpath\ttext\tgloss"]
        for i in range(2):
            root.mkdir(exist_ok=True)
            write_video(root / f"{split}{i}.mp4", random.integers(0, 255, size=(9, 48, 48, 3), dtype=np.uint8), fps=25)
            lines.append(f"{split}{i}\t{split}{i}.mp4\tregen und wind\tREGEN WIND")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    weights = {"translation": 1.0, "recognition": 0.2, "signcl": 0.01}
    r = recipe(root, tmp_path / "run", weights=weights, model={"visual": "small_cnn"}, max_steps=2)
    folder = fit(r, progress=False)
    assert run_folder.read_card(folder)["feature_dim"] is None


RECIPES = Path(__file__).parents[1] / "recipes"
TINY = ["model.width=32", "model.heads=2", "model.ffn=32", "train.max_steps=1", "train.device=cpu",
        "train.batch_size=4", "decode.gloss_beams=3"]  # fmt: skip


@pytest.mark.parametrize(
    ("corpus_name", "name"),
    [
        *(
            (c, n)
            for c in ("phoenix14t", "csl_daily")
            for n in ("nslt", "nslt-signcl", "joint-slt", "recogniser", "gaslt")
        ),
        ("phoenix14t", "gaslt-signcl"),
    ],
)
def test_the_recipes_of_table_4_train_and_score_on_the_official_layout(corpus_name, name, tmp_path):
    random = np.random.default_rng(0)
    texts = {"phoenix14t": ["am Montag Regen", "Regen und Wind"], "csl_daily": ["你好。", "我 们 好"]}[corpus_name]
    header, row, place = {
        "phoenix14t": ("name|video|start|end|speaker|orth|translation", "{n}|{n}/1/*.png|-1|-1|S|REGEN WIND|{t}",
                       "annotations/manual/PHOENIX-2014-T.{split}.corpus.csv"),
        "csl_daily": ("name\tsigner\tnum_frames\tgloss\ttext", "{n}\tS\t9\tREGEN WIND\t{t}", "csl-daily.{split}.tsv"),
    }[corpus_name]  # fmt: skip
    for split in ("train", "dev", "test"):
        path = tmp_path / "corpus" / place.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row.format(n=f"{split}{i}", t=text) for i, text in enumerate(texts)]
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        (tmp_path / "features" / split).mkdir(parents=True)
        for i in range(len(texts)):
            np.save(tmp_path / "features" / split / f"{split}{i}.npy", random.normal(size=(9, 6)).astype(np.float32))
    places = [f"corpus.root={tmp_path}/corpus", f"corpus.features={tmp_path}/features/{{split}}", f"out={tmp_path}/run"]
    folder = fit(load_recipe(RECIPES / corpus_name / f"{name}.yaml", [*places, *TINY]), progress=False)
    scores = evaluate(folder, "test", bootstrap=0, progress=False)
    assert scores["made"]["clips"] == 2
    if name in ("joint-slt", "recogniser"):
        signature = (scores["recognition"] if name == "joint-slt" else scores)["signatures"]["wer"]
        assert ("cleaned:phoenix-2014-T" in signature) == (corpus_name == "phoenix14t")
