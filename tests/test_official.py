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
from signcl.data.text import SentencePieceTokenizer
from signcl.data.text.pieces import trim_pieces
from signcl.losses import clip_loss, label_smoothed_cross_entropy
from signcl.metrics import bleu
from signcl.training.importing import checkpoint_kinds, import_checkpoint
from signcl.training.runs import load_run
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
    tokens = reference.tensors.get("tokens")
    return Batch(
        names=names,
        texts=[""] * len(names),
        inputs=reference[inputs],
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


def test_version_1_has_no_text_decoder(tmp_path, mbart_folder):
    file = write_checkpoint(tmp_path / "checkpoint.pth", model=Reference("vlp").weights("model:"))
    made = import_checkpoint("vlp", file, tmp_path / "run", overrides=[f"text.tokenizer=pretrained:{mbart_folder}"])
    assert load_run(made.folder).recipe.loss.weights == {"clip": 1.0}
