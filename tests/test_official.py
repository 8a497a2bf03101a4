"""Official checkpoints: our modules with their weights give the numbers of the official code (tests/references)."""

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from signcl.cli import main
from signcl.data.batch import Batch
from signcl.data.text import SentencePieceTokenizer, VocabularyTokenizer
from signcl.data.text.pieces import trim_pieces
from signcl.evaluation.scoring import evaluate
from signcl.losses import clip_loss, ctc_loss, label_smoothed_cross_entropy
from signcl.metrics import bleu, score_glosses
from signcl.systems import Sizes, system_class
from signcl.systems.parts.official import Checkpoint
from signcl.systems.parts.search import ctc_prefix_beam
from signcl.systems.vlp import VLP
from signcl.training.importing import checkpoint_kinds, import_checkpoint
from signcl.training.recipe import load_recipe
from signcl.training.runs import initialise, load_run
from tests.references import Reference

PIECES = 13
"""With the special tokens and the languages of mBART that makes the 40 ids of the reference files."""


@pytest.fixture(scope="module")
def mbart_folder(tmp_path_factory) -> Path:
    """A tokenizer folder of the size of the reference files."""
    folder = tmp_path_factory.mktemp("MBart_trimmed")
    texts = ["ab cde fgh ij kl mno pq", "pq ab ij mno cde"] * 3
    model = SentencePieceTokenizer.train(texts, vocab_size=60).model
    (folder / "sentencepiece.bpe.model").write_bytes(trim_pieces(model, range(PIECES)))
    return folder


def packed(reference: Reference, inputs: str = "images") -> Batch:
    """The clips of a reference file as a batch."""
    lengths = reference["lengths"]
    longest = int(lengths.max())
    where = torch.cat([torch.arange(n) + i * longest for i, n in enumerate(lengths.tolist())])
    names = [f"c{i}" for i in range(len(lengths))]
    tokens, frames = reference.tensors.get("tokens"), reference[inputs]
    return Batch(
        names=names,
        texts=[""] * len(names),
        inputs=frames if frames.dim() != 3 else frames.flatten(0, 1)[where],
        positions=where,
        lengths=lengths,
        max_length=longest,
        num_words=torch.ones(len(names)),
        tokens=tokens,
        token_lengths=None if tokens is None else (tokens != 1).sum(dim=1),
        sentence_ids=torch.arange(len(names)),
    )


def write_checkpoint(path: Path, **content) -> Path:
    torch.save(content, path)
    return path


def write_frames(root: Path, reference: Reference, texts: list[str], split: str = "test") -> Path:
    """The clips of a reference file as a folder corpus of pictures."""
    root.mkdir()
    rows = ["name\tpath\ttext"]
    for i, clip in enumerate(reference["images"].split(reference["lengths"].tolist())):
        (root / f"c{i}").mkdir()
        for t, image in enumerate(clip.numpy()):
            assert cv2.imwrite(str(root / f"c{i}" / f"{t:03d}.png"), image[:, :, ::-1])
        rows.append(f"c{i}\tc{i}\t{texts[i]}")
    (root / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


def answers(found: Tensor, pad: int) -> list[list[int]]:
    return [[i for i in row if i != pad] for row in found.tolist()]


@pytest.fixture(scope="module")
def gfslt(tmp_path_factory, mbart_folder) -> Path:
    """The run of a GFSLT checkpoint as the official script saves it."""
    place, reference = tmp_path_factory.mktemp("gfslt"), Reference("gfslt")
    arguments = argparse.Namespace(resize=32, input_size=32, output_dir=Path("out/x"), epochs=200, drop=0.0)
    file = write_checkpoint(
        place / "best_checkpoint.pth", model=reference.weights(), epoch=143, args=arguments, optimizer={"state": {}}
    )
    told = [f"text.tokenizer=pretrained:{mbart_folder}", "decode.max_new_tokens=12"]
    made = import_checkpoint("gfslt", file, place / "run", overrides=told)
    assert made.fresh == {}
    assert set(made.left) == {
        "mbart.model.shared.weight", "mbart.model.encoder.embed_tokens.weight", "mbart.final_logits_bias"
    }  # fmt: skip
    assert made.assumed == {"heads": 8, "decoder_heads": 8, "activation": "relu", "dropout": 0.1}
    return made.folder


def test_gfslt_gives_the_official_states_scores_and_sentences(gfslt):
    reference, run = Reference("gfslt"), load_run(gfslt)
    batch, real = packed(reference), reference["step_mask"].bool()
    with torch.no_grad():
        out = run.model(batch)
        steps = run.model.tapped(batch, "conv").rows
        found = run.model.generate(batch, num_beams=4, length_penalty=1.0, max_new_tokens=12)
    close(steps[real], reference["steps"][real])
    close(out.steps[real], reference["states"][real])
    words = batch.tokens != 1
    close(out.logits[words], reference["logits"][words])
    close(label_smoothed_cross_entropy(out.logits, batch.tokens, 1, 0.2), reference["loss"])
    assert answers(found, 1) == answers(reference["found"][:, 1:], 1)


def test_an_imported_run_is_evaluated_and_told(gfslt, tmp_path, capsys):
    reference, tokenizer = Reference("gfslt"), load_run(gfslt).tokenizer
    theirs = [tokenizer.decode(row) for row in reference["found"][:, 1:].tolist()]
    references = [f"{sentence} ab" for sentence in theirs]  # so that scores are neither 0 nor 100
    corpus = write_frames(tmp_path / "corpus", reference, references)
    assert main(["evaluate", str(gfslt), "--root", str(corpus), "--json", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    scores = json.loads(told.out)
    rows = [row.split("\t") for row in (gfslt / "predictions.test.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    assert [row[-1] for row in sorted(rows)] == theirs
    assert scores["bleu4"] == pytest.approx(bleu(theirs, references).bleu4)
    assert "sentences seen in training are not counted" in told.err
    for words in (
        ["extract", str(gfslt), "--split", "test", "--root", str(corpus), "-o", str(tmp_path / "features")],
        ["translate", str(gfslt), str(corpus / "c0")],
        ["report", str(gfslt)],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert "official checkpoint" in (gfslt / "report.html").read_text(encoding="utf-8")


def test_vlp_gives_the_official_embeddings_and_losses(tmp_path, mbart_folder):
    reference = Reference("vlp")
    file = write_checkpoint(
        tmp_path / "checkpoint.pth",
        model=reference.weights("model:"),
        text_decoder=reference.weights("text_decoder:"),
        epoch=79,
    )
    made = import_checkpoint("vlp", file, tmp_path / "run", overrides=[f"text.tokenizer=pretrained:{mbart_folder}"])
    assert made.fresh == {}
    model, batch = load_run(made.folder).model, packed(reference)
    batch.masked_tokens, batch.masked_token_lengths = reference["masked"], batch.token_lengths
    with torch.no_grad():
        out = model(batch)
        loss = clip_loss(out.video_embedding, out.text_embedding, out.logit_scale, target="released", max_scale=1e9)
    close(out.video_embedding, reference["video"])
    close(out.text_embedding, reference["text"])
    close(loss, reference["clip_loss"])
    words = batch.tokens != 1
    close(out.masked_logits[words], reference["masked_logits"][words])
    close(label_smoothed_cross_entropy(out.masked_logits, batch.tokens, 1, 0.2), reference["masked_loss"])
    first = VLP.published(Checkpoint(file, reference.weights("model:")))  # version 1 has no text decoder
    assert first.recipe["loss.weights"] == {"clip": 1.0}
    assert not first.model["masked_text"]


SEARCHES = {"greedy": (1, -1.0), "beam3_alpha-1": (3, -1.0), "beam3_alpha1": (3, 1.0), "beam5_alpha2": (5, 2.0)}
"""Searches of the reference files: beams and length penalty."""


def slt_folder(place: Path, name: str, **changes) -> Path:
    """A run folder as neccam/slt and GASLT leave it; the checkpoint in it."""
    reference = Reference(name)
    place.mkdir(exist_ok=True)
    config = yaml.safe_load(reference.about["config"])
    for key, value in changes.items():
        config["data"][key] = value
    (place / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (place / "txt.vocab").write_text(reference.about["words"] + "\n", encoding="utf-8")
    (place / "gls.vocab").write_text(reference.about["gloss_words"] + "\n", encoding="utf-8")
    return write_checkpoint(
        place / "best.ckpt",
        steps=4500,
        best_ckpt_score=np.float64(22.1),
        model_state=reference.weights(),
        optimizer_state={"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
        scheduler_state=None,
    )


def check_slt(folder: Path, name: str) -> None:
    """States, scores, losses and every search of a run against the official numbers."""
    reference, model = Reference(name), load_run(folder).model
    batch = packed(reference, "features")
    real = torch.arange(batch.max_length) < batch.lengths[:, None]
    with torch.no_grad():
        out = model(batch)
        found = {
            search: model.generate(batch, num_beams=beams, length_penalty=alpha, max_new_tokens=10)
            for search, (beams, alpha) in SEARCHES.items()
        }
    close(out.steps[real], reference["states"][real])
    words = batch.tokens != 1
    close(out.logits[words], reference["logits"][words])
    close(label_smoothed_cross_entropy(out.logits, batch.tokens, 1) * words.sum(), reference["xent"])
    for search, ids in found.items():
        ours, theirs = (until_end(rows.tolist()) for rows in (ids, reference[search]))
        assert ours == theirs, search
    if "log_probs" in reference.tensors:
        close(out.log_probs[real], reference["log_probs"][real])


def until_end(rows: list[list[int]], end: int = 3) -> list[list[int]]:
    return [row[: row.index(end)] if end in row else row for row in rows]


def test_joint_slt_gives_the_official_states_scores_and_searches(tmp_path, capsys):
    file = slt_folder(tmp_path / "theirs", "slt")
    made = import_checkpoint("slt", file, tmp_path / "run")
    assert made.fresh == {}
    assert made.system == "slt"
    check_slt(made.folder, "slt")
    run = load_run(made.folder)
    assert run.tokenizer.decode([4, 5, 0, 3]) == "regen sonne <unk>"
    assert run.glosses.decode([3, 4]) == ["REGEN", "SONNE"]
    assert run.tokenizer.encode("Regen unbekannt") == [4, 0, 3]
    assert json.loads((made.folder / "card.json").read_text())["imported"]["told"]["steps"] == 4500


def test_an_imported_joint_slt_is_scored_on_sentences_and_glosses(tmp_path, capsys):
    reference = Reference("slt")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows = ["name\tpath\ttext\tgloss"]
    for i, (row, n) in enumerate(zip(reference["features"], reference["lengths"].tolist())):
        np.save(corpus / f"c{i}.npy", row[:n].numpy())
        rows.append(f"c{i}\tc{i}.npy\tregen im norden\tREGEN NORD")
    (corpus / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    file, run = slt_folder(tmp_path / "theirs", "slt"), tmp_path / "run"
    words = ["import", "slt", str(file), "-o", str(run), f"--corpus.root={corpus}", "--decode.length_penalty=1"]
    assert main([*words, "--decode.beams=3", "--bleu_tokenize=none"]) == 0
    told = capsys.readouterr().out
    assert "encoder.layers.1.feed_forward.pwff_layer.3.bias" in told
    assert "->  encoder.layers.1.forward_part.4.bias" in told
    assert "left behind: positions are computed" in told
    assert main(["evaluate", str(run), "--device", "cpu", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    sentences = until_end(reference["beam3_alpha1"].tolist())
    theirs = [load_run(run).tokenizer.decode(row) for row in sentences]
    assert scores["bleu1"] == pytest.approx(bleu(theirs, ["regen im norden"] * 3).bleu1)
    assert scores["recognition"]["wer"] > 0
    for verb in (
        ["align", str(run), "-o", str(tmp_path / "spans.tsv")],
        [
            "density",
            str(run),
            "--spans",
            str(tmp_path / "spans.tsv"),
            "-o",
            str(tmp_path / "density"),
            "--min-count",
            "2",
        ],
    ):
        assert main(verb) == 0, capsys.readouterr().err


def test_gaslt_gives_the_official_states_scores_and_searches(tmp_path, mbart_folder):
    file = slt_folder(tmp_path / "theirs", "gaslt")
    pieces = tmp_path / "theirs" / "de.wiki.bpe.vs25000.model"
    pieces.write_bytes((mbart_folder / "sentencepiece.bpe.model").read_bytes())
    made = import_checkpoint("gaslt", file, tmp_path / "run")
    check_slt(made.folder, "gaslt")
    assert load_run(made.folder).tokenizer.decode([4, 5, 6, 3]) == "regen sonne"


def test_without_its_decoder_a_sign_language_transformer_is_a_recogniser(tmp_path):
    reference, place = Reference("slt"), tmp_path / "theirs"
    slt_folder(place, "slt")
    half = {k: v for k, v in reference.weights().items() if not k.startswith(("txt_embed", "decoder"))}
    file = write_checkpoint(place / "best.ckpt", model_state=half)
    made = import_checkpoint("slt", file, tmp_path / "run")
    assert made.system == "recogniser"
    with torch.no_grad():
        log_probs, steps = load_run(made.folder).model.recognise(packed(reference, "features"))
    real = torch.arange(log_probs.shape[1]) < steps[:, None]
    close(log_probs[real], reference["log_probs"][real])


@pytest.mark.parametrize("form", ["smkd", "vac"])
def test_vac_and_smkd_keep_their_classifiers_and_give_the_official_scores(tmp_path, form):
    reference = Reference(f"vac_{form}")
    file = write_checkpoint(
        tmp_path / "dev_19.80_epoch35_model.pt",
        epoch=35,
        model_state_dict=reference.weights(),
        optimizer_state_dict={"state": {}},
        rng_state={"numpy": np.random.RandomState(0).get_state(), "torch": torch.get_rng_state()},
    )
    np.save(tmp_path / "gloss_dict.npy", json.loads(reference.about["glosses"]))
    made = import_checkpoint("vac", file, tmp_path / "run")
    assert made.fresh == {}
    assert set(made.left) == ({"conv1d.fc.weight"} if form == "smkd" else set())
    run, batch = load_run(made.folder), packed(reference)
    with torch.no_grad():
        out = run.model(batch)
    frames = torch.arange(batch.max_length) < batch.lengths[:, None]
    close(out.features[frames], reference["frames"][frames])
    steps = torch.arange(out.steps.shape[1]) < reference["feat_len"][:, None]
    assert out.step_lengths.tolist() == reference["feat_len"].tolist()
    classes = [0, 2, 3, 4, 5]  # all but the unknown gloss, which VAC_CSLR does not have
    for ours, theirs in ((out.log_probs, "logits"), (out.conv_log_probs, "conv_logits")):
        close(ours[steps][:, classes], reference[theirs].log_softmax(2)[steps])
        assert float(ours[steps][:, 1].max()) < -1000
    labels, lengths = reference["labels"], reference["label_lengths"]
    ours = ctc_loss(out.log_probs, labels + 1, out.step_lengths, lengths, too_long="skip")
    alone = ctc_loss(out.log_probs[1:], labels[1:] + 1, out.step_lengths[1:], lengths[1:], too_long="skip")
    assert torch.isfinite(ours)
    assert torch.isfinite(alone)
    close(ours, reference["loss_SeqCTC"])
    assert run.glosses.decode([2, 5]) == ["ABEND", "WIND"]
    if form == "smkd":
        check_word_errors(made.folder, reference, tmp_path)


def check_word_errors(folder: Path, reference: Reference, place: Path) -> None:
    """The WER that `signcl evaluate` says is that of the glosses in the official scores."""
    names = {number: gloss for gloss, (number, _) in json.loads(reference.about["glosses"]).items()}
    paths = ctc_prefix_beam(reference["logits"].log_softmax(2), reference["feat_len"], beams=10)
    theirs = [" ".join(names[i] for i in found[0].classes) for found in paths]
    true = [
        " ".join(names[i] for i in row[:n])
        for row, n in zip(reference["labels"].tolist(), reference["label_lengths"].tolist())
    ]
    corpus = write_frames(place / "corpus", reference, [""] * 3)
    lines = [f"c{i}\tc{i}\tx\t{gloss}" for i, gloss in enumerate(true)]
    (corpus / "test.tsv").write_text("\n".join(["name\tpath\ttext\tgloss", *lines]) + "\n", encoding="utf-8")
    with (folder / "recipe.yaml").open() as file:
        recipe = yaml.safe_load(file)
    recipe["input"] |= {"size": 32, "crop": 32}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    found = evaluate(folder, "test", root=str(corpus), device="cpu", bootstrap=0)
    assert found["wer"] == pytest.approx(score_glosses(theirs, true)["wer"])


def test_i3d_keeps_its_classifier_and_gives_the_official_scores(tmp_path):
    reference = Reference("i3d")
    images = reference["small"].repeat_interleave(8, 1).repeat_interleave(8, 2)
    file = tmp_path / "asl_6.pt"
    torch.save({f"module.{name}": value for name, value in reference.weights().items()}, file)
    glosses = ["book", "drink", "go", "chair", "all right", "who", "later"]
    (tmp_path / "wlasl_class_list.txt").write_text("".join(f"{i}\t{gloss}\n" for i, gloss in enumerate(glosses)))
    made = import_checkpoint("i3d", file, tmp_path / "run", overrides=["model.i3d.window=16", "model.i3d.stride=16"])
    run = load_run(made.folder)
    assert run.glosses.decode(range(2, 8)) == glosses[:6]
    batch = Batch(["a"], [""], images, torch.arange(16), torch.tensor([16]), 16, torch.ones(1))
    with torch.no_grad():
        out = run.model(batch)
    close(out.logits, reference["logits"])
    best = int(reference["logits"].argmax())
    assert run.model.ranked(out, most=1) == [[run.glosses.decode([best + 2])[0]]]


# -- wrong input -------------------------------------------------------------------------------------------------------


def refused(capsys, *words: str) -> str:
    """The one line that a wrong import is answered with."""
    assert main(["import", *map(str, words)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


class Code:
    """What a hostile checkpoint asks to be run."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/signcl-was-here",)


def test_what_is_no_such_checkpoint_is_answered_in_one_line(tmp_path, capsys, mbart_folder):
    slt, run = slt_folder(tmp_path / "theirs", "slt"), tmp_path / "run"
    told = refused(capsys, "gfslt", slt, "-o", run)
    assert "is a checkpoint of kind slt, not gfslt: signcl import slt" in told
    gaslt = slt_folder(tmp_path / "gaslt", "gaslt")
    assert "is a checkpoint of kind gaslt, not slt" in refused(capsys, "slt", gaslt, "-o", run)
    other = write_checkpoint(tmp_path / "other.pth", model={"layer.weight": torch.zeros(2, 2)})
    assert "nor of any other known kind" in refused(capsys, "vac", other, "-o", run)
    assert "not a kind of checkpoint" in (told := refused(capsys, "gfsl", slt))
    assert "gfslt" in told
    whole = slt.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "damaged or truncated" in refused(capsys, "slt", tmp_path / "cut.ckpt")
    evil = write_checkpoint(tmp_path / "evil.pth", model={"a": torch.zeros(1)}, args=Code())
    told = refused(capsys, "gfslt", evil)
    assert "mkdir" in told
    assert "read as data only" in told
    assert not Path("/tmp/signcl-was-here").exists()
    assert "no such file" in refused(capsys, "slt", tmp_path / "absent.ckpt")
    assert not run.exists()


def test_missing_tensors_and_foreign_vocabularies_are_refused(tmp_path, capsys, mbart_folder):
    reference, place, run = Reference("slt"), tmp_path / "theirs", tmp_path / "run"
    slt_folder(place, "slt")
    weights = reference.weights()
    half = dict(list(weights.items())[::2]) | {"sgn_embed.ln.weight": weights["sgn_embed.ln.weight"]}
    file = write_checkpoint(place / "half.ckpt", model_state=half)
    assert "lacks" in refused(capsys, "slt", file, "-o", run)
    few = {k: v for k, v in weights.items() if "layers.1.src_trg_att" not in k}
    file = write_checkpoint(place / "few.ckpt", model_state=few)
    assert "lacks 8 of the" in refused(capsys, "slt", file, "-o", run)
    file = write_checkpoint(place / "best.ckpt", model_state=weights)
    (place / "txt.vocab").write_text(reference.about["words"] + "\nmehr\n", encoding="utf-8")
    assert "13 entries with the special tokens, and the weights have 12 rows" in refused(capsys, "slt", file, "-o", run)
    (place / "txt.vocab").unlink()
    assert "name the file with --words" in refused(capsys, "slt", file, "-o", run)
    config = yaml.safe_load((place / "config.yaml").read_text())
    config["model"]["encoder"]["type"] = "recurrent"
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    assert "encoder.type is recurrent" in refused(capsys, "slt", file, "-o", run)
    assert not run.exists()


def test_gfslt_needs_the_tokenizer_that_it_was_trained_with(tmp_path, capsys, mbart_folder):
    file = write_checkpoint(tmp_path / "best_checkpoint.pth", model=Reference("gfslt").weights())
    assert "--text.tokenizer=pretrained:FOLDER" in refused(capsys, "gfslt", file)
    model = (mbart_folder / "sentencepiece.bpe.model").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sentencepiece.bpe.model").write_bytes(trim_pieces(model, range(PIECES - 2)))
    told = refused(capsys, "gfslt", file, f"--text.tokenizer=pretrained:{tmp_path / 'other'}", "-o", tmp_path / "run")
    assert "[40, 1024]" in told
    assert "name the tokenizer that the checkpoint was trained with" in told


def test_a_checkpoint_file_starts_nothing_before_it_is_imported(tmp_path, capsys):
    file = write_checkpoint(tmp_path / "best.pth", model={"a": torch.zeros(1)})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"stage: finetune\nout: {tmp_path / 'run'}\ncorpus: {{name: synthetic, root: {tmp_path / 'c'}}}\n"
        f"model: {{name: slt, visual: feature_mlp, init_from: {file}}}\n",
        encoding="utf-8",
    )
    loaded = load_recipe(recipe)
    model = system_class("slt")(loaded.model, Sizes(tokenizer=VocabularyTokenizer(["a"]), feature_dim=4))
    with pytest.raises(ValueError, match="signcl import KIND"):
        initialise(model, loaded)


def test_every_kind_is_in_the_help_of_the_verb(capsys):
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    told = capsys.readouterr().out
    assert all(kind in told for kind in checkpoint_kinds())
