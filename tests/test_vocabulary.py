"""A trimmed mBART scores and tokenizes like the full one; sentences that a tokenizer changes are counted and shown."""

import gzip
import io
import json
from pathlib import Path

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import having
from transformers import MBartConfig, MBartForConditionalGeneration, MBartTokenizer

from signcl.cli import main
from signcl.data.batch import Sample
from signcl.data.corpora import load_samples
from signcl.data.text import SentencePieceTokenizer, VocabularyTokenizer, build_tokenizer
from signcl.data.text.checking import check_vocabulary
from signcl.data.text.pieces import needed_pieces, trim_pieces
from signcl.training.recipe import recipe_from_dict
from signcl.training.runs import build_model, initialise
from signcl.training.trimming import trim_language_model

OTHERS = [
    "der hund läuft schnell über die straße",
    "das haus am see ist blau",
    "wir fahren im zug nach süden",
    "xyz qöw",
]
TRAIN = ["am montag regen", "am dienstag sonne", "regen und sonne am montag"]
DEV = ["am mittwoch schnee", "das haus"]


def samples(texts):
    return [Sample(f"clip{i}", text) for i, text in enumerate(texts)]


def save_mbart(folder: Path, tokenizer: SentencePieceTokenizer, languages: int = 25, **changes):
    """A tiny random mBART as transformers saves it, with a SentencePiece model beside it."""
    torch.manual_seed(0)
    rows = tokenizer.num_pieces + languages + 2
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "scale_embedding": True,
             "max_position_embeddings": 128, "activation_function": "gelu"}  # fmt: skip
    config = MBartConfig(vocab_size=rows, decoder_start_token_id=tokenizer.start_id, **(sizes | changes))
    model = MBartForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.final_logits_bias.normal_()
    model.save_pretrained(folder)
    (folder / "sentencepiece.bpe.model").write_bytes(tokenizer.model)
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tokenizer = SentencePieceTokenizer.train([*TRAIN * 2, *DEV, *OTHERS * 3], vocab_size=120)
    return folder, save_mbart(folder, tokenizer), tokenizer


def equal_scores(full, tokenizer, folder, texts):
    """Logits of the trimmed model on the sentences are those of the whole one, at the kept rows."""
    small = MBartForConditionalGeneration.from_pretrained(folder).eval()
    cut = build_tokenizer(f"pretrained:{folder}", [], language=tokenizer.language)
    words = tokenizer.pieces()
    rows = torch.tensor([words.index(piece) for piece in cut.pieces()])
    for text in texts:
        old, new = (torch.tensor([t.encode(text)]) for t in (tokenizer, cut))
        assert torch.equal(rows[new], old)
        with torch.no_grad():
            theirs = full(input_ids=old, decoder_input_ids=old).logits[..., rows]
            torch.testing.assert_close(small(input_ids=new, decoder_input_ids=new).logits, theirs)
    return small, cut


def test_a_trimmed_model_scores_as_the_whole_one_and_transformers_loads_it(whole, tmp_path):
    source, full, tokenizer = whole
    trimmed = trim_language_model(
        f"pretrained:{source}", {"train": samples(TRAIN), "dev": samples(DEV)}, tmp_path / "out", language="de_DE"
    )
    small, cut = equal_scores(full, tokenizer, tmp_path / "out", TRAIN)
    assert trimmed.pieces[1] < trimmed.pieces[0]
    assert trimmed.rows == (tokenizer.vocab_size, cut.vocab_size)
    assert trimmed.rows[1] == trimmed.pieces[1] + 27
    assert small.config.decoder_start_token_id == cut.start_id
    assert trimmed.segmented_otherwise["train"] == 0
    assert trimmed.checks[0].exact == 3
    parameters = sum(p.numel() for p in small.parameters())
    assert trimmed.parameters == (
        sum(p.numel() for p in full.parameters()) + trimmed.rows[0],
        parameters + trimmed.rows[1],
    )
    theirs = MBartTokenizer.from_pretrained(tmp_path / "out")
    for text in TRAIN:
        assert theirs(text)["input_ids"] == cut.encode(text)
        assert theirs.decode(theirs(text)["input_ids"], skip_special_tokens=True) == text
    story = json.loads((tmp_path / "out/trimmed.json").read_text())
    assert story["needed"] == ["train"]
    with pytest.raises(ValueError, match="holds a model already"):
        trim_language_model(f"pretrained:{source}", {"train": samples(TRAIN)}, tmp_path / "out")


def test_what_dev_cannot_write_is_listed_and_other_splits_and_words_can_be_kept(whole, tmp_path):
    source, _, tokenizer = whole
    splits = {"train": samples(TRAIN), "dev": samples(DEV)}
    train, dev = trim_language_model(f"pretrained:{source}", splits, tmp_path / "a").checks
    assert (train.exact, train.lost_characters) == (3, 0)
    # by hand: train has the letters a d e g i m n o r s t u; dev's "mittwoch schnee" and "das haus" have w c h beside:
    # mittwoch: w c h, schnee: c h, haus: h; but c is the piece of the lowest score, which stays for the score's sake
    scores = {tokenizer.pieces()[i + 1]: tokenizer._pieces.get_score(i) for i in range(3, tokenizer.num_pieces)}
    assert min(scores, key=scores.get) == "c"
    assert dev.lost == {"h": 3, "w": 1}
    assert (dev.lossy, dev.lost_characters, dev.characters) == (2, 4, 23)
    assert [text for _, text, _ in dev.examples] == DEV
    whole_corpus = trim_language_model(f"pretrained:{source}", splits, tmp_path / "b", needed=["train", "dev"])
    assert [check.exact for check in whole_corpus.checks] == [3, 2]
    assert set(whole_corpus.segmented_otherwise.values()) == {0}
    kept = trim_language_model(f"pretrained:{source}", splits, tmp_path / "c", keep=["mittwoch", "haus"])
    assert [check.exact for check in kept.checks] == [3, 2]


def test_an_untied_word_head_and_mbart_50_keep_their_rows(whole, tmp_path):
    _, _, tokenizer = whole
    for name, languages, changes in (("untied", 25, {"tie_word_embeddings": False}), ("mbart50", 52, {})):
        full = save_mbart(tmp_path / name, tokenizer, languages, **changes)
        trim_language_model(f"pretrained:{tmp_path / name}", {"train": samples(TRAIN)}, tmp_path / f"{name}-cut")
        small = MBartForConditionalGeneration.from_pretrained(tmp_path / f"{name}-cut").eval()
        cut = build_tokenizer(f"pretrained:{tmp_path / name}-cut", [])
        table, head = full.get_input_embeddings().weight, full.lm_head.weight
        assert torch.equal(small.lm_head.weight[cut.mask_id], head[-1])
        assert torch.equal(small.get_input_embeddings().weight[cut.mask_id], table[-1])
        assert torch.equal(small.get_input_embeddings().weight[cut.start_id], table[tokenizer.start_id])
        assert torch.equal(small.lm_head.weight, head) is False
        assert torch.equal(small.model.encoder.embed_tokens.weight, small.model.shared.weight)


def test_a_trimmed_model_starts_gfslt_and_vlp(whole, tmp_path):
    source, full, _ = whole
    trim_language_model(f"pretrained:{source}", {"train": samples(TRAIN)}, tmp_path / "out")
    sizes = {"visual": "feature_mlp", "visual_dim": 8, "conv_width": 16, "width": 16, "encoder_layers": 1, "heads": 2,
             "decoder_layers": 1, "ffn": 16, "activation": "gelu", "max_positions": 128, "text_layers": 1,
             "text_heads": 2, "text_ffn": 16, "text_activation": "gelu", "decoder_from": "language_model"}  # fmt: skip
    place = f"pretrained:{tmp_path / 'out'}"
    for stage, name in (("finetune", "gfslt"), ("pretrain", "vlp")):
        recipe = recipe_from_dict(
            {"stage": stage, "model": {"name": name, **having(name, sizes), "language_model": place}}
        )
        tokenizer = build_tokenizer(place, [])
        model = build_model(recipe, tokenizer, 8)
        said = initialise(model, recipe, tokenizer)
        key = "mbart.model.decoder.layers.0.fc1.weight" if name == "gfslt" else "decoder.layers.0.fc1.weight"
        assert torch.equal(model.state_dict()[key], full.model.decoder.layers[0].fc1.weight)
        assert "start fresh: nothing" in said[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="abcdeé ñ!Ａ１z鱻", min_size=1, max_size=25), min_size=1, max_size=6))
def test_any_sentences_are_cut_as_before_unknown_characters_included(texts):
    # é ñ Ａ １ are rewritten by the normalisation or unknown, 鱻 is unknown, z is known only inside "zz"
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc abd cab dab", "aab ed abcde", "zzab zzcd", "decade bead cede"] * 4),
        model_writer=model, vocab_size=40, hard_vocab_limit=False, unk_id=0, bos_id=1, eos_id=2, minloglevel=2,
    )  # fmt: skip
    before = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kept = needed_pieces(model.getvalue(), texts)
    after = sentencepiece.SentencePieceProcessor(model_proto=trim_pieces(model.getvalue(), kept))
    for text in texts:
        assert after.encode(text, out_type=str) == before.encode(text, out_type=str)
        assert [kept[i] for i in after.encode(text)] == before.encode(text)
        assert after.decode(after.encode(text)) == before.decode(before.encode(text))


def test_the_report_tells_loss_from_other_forms_and_spaces():
    tokenizer = SentencePieceTokenizer.train(["abc abd", "cab dab!"] * 3, vocab_size=30)
    texts = ["abc", "ab！ c", "abx x", "a  b"]
    (check,) = check_vocabulary(tokenizer, {"test": samples(texts)})
    assert (check.sentences, check.exact, check.lossy, check.rewritten) == (4, 2, 1, 1)
    assert check.lost == {"x": 2}
    assert check.replaced == {"！ -> !": 1}
    assert check.characters == 3 + 4 + 4 + 2
    assert check.lost_percent == pytest.approx(100 * 2 / 13)
    assert [name for name, _, _ in check.examples] == ["clip1", "clip2"]
    words = VocabularyTokenizer.train(["Abc abc"], lowercase=True)
    (check,) = check_vocabulary(words, {"test": samples(["Abc", "abc neu", "abc"])})
    assert (check.exact, check.lossy, check.rewritten) == (1, 1, 1)
    assert sum(check.lost.values()) == 3
    assert check.replaced == {"A -> a": 1}


CHINESE = ["你好！", "你去吗？我去。", "我，你。", "好吗？"]


def test_the_corpus_keeps_its_own_unicode_forms_and_the_rows_behind_them(tmp_path):
    tokenizer = SentencePieceTokenizer.train([*CHINESE * 3, *OTHERS], vocab_size=100, language="zh_CN")
    full = save_mbart(tmp_path / "whole", tokenizer)
    splits = {"train": samples(CHINESE)}
    for forms, exact in ((False, 0), (True, 4)):
        place = tmp_path / str(forms)
        trimmed = trim_language_model(f"pretrained:{tmp_path / 'whole'}", splits, place, forms=forms, language="zh_CN")
        assert trimmed.checks[0].exact == exact
        assert trimmed.checks[0].lost_characters == 0
        assert trimmed.segmented_otherwise == {"train": 0}
        small = MBartForConditionalGeneration.from_pretrained(place).eval()
        cut = build_tokenizer(f"pretrained:{place}", [], language="zh_CN")
        for text in CHINESE:
            old, new = (torch.tensor([t.encode(text)]) for t in (tokenizer, cut))
            theirs = full.get_input_embeddings()(old)
            assert torch.equal(small.get_input_embeddings()(new), theirs), "the same words under other names"
    assert json.loads((tmp_path / "True/trimmed.json").read_text())["own_forms"] == {"!": "！", ",": "，", "?": "？"}
    assert MBartTokenizer.from_pretrained(tmp_path / "True")(CHINESE[0])["input_ids"][0] == cut.encode(CHINESE[0])[0]
    for i, text in enumerate(("你好! 你好！", "…", "ﬁ fi")):
        with pytest.raises(ValueError, match="--own-forms: the tokenizer writes"):
            trim_language_model(
                f"pretrained:{tmp_path / 'whole'}", {"train": samples([text])}, tmp_path / f"x{i}", forms=True
            )


def test_other_models_are_refused_by_name(whole, tmp_path):
    _, _, tokenizer = whole
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAIN * 4), model_writer=model, vocab_size=40, model_type="bpe", minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="of type unigram"):
        needed_pieces(model.getvalue(), TRAIN)
    save_mbart(tmp_path / "odd", tokenizer, languages=7)
    with pytest.raises(
        ValueError, match=r"rows for \d+ pieces; an mBART has 2 more than pieces and languages, .* 25 or 52"
    ):
        trim_language_model(f"pretrained:{tmp_path / 'odd'}", {"train": samples(TRAIN)}, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def phoenix(real_data: Path, root: Path) -> Path:
    """The official table of PHOENIX-2014T from the copy that holds its sentences."""
    table = real_data / "phoenix14t-alignments"
    (root / "annotations/manual").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        with gzip.open(table / f"{split}.tsv.gz", "rt", encoding="utf-8") as file:
            header, *rows = [line.rstrip("\n").split("\t") for line in file]
        records = [dict(zip(header, row)) for row in rows]
        lines = ["name|video|start|end|speaker|orth|translation"]
        lines += [f"{r['name'].split('/')[-1]}|v|-1|-1|{r['signer']}|{r['gloss']}|{r['text']}" for r in records]
        (root / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.slow
def test_phoenix_is_trimmed_by_the_command(real_data, tmp_path, capsys):
    root = phoenix(real_data, tmp_path / "phoenix")
    texts = [s.text for split in ("train", "dev", "test") for s in load_samples("phoenix14t", root, split)]
    with gzip.open(real_data / "annotations/how2sign.test.tsv.gz", "rt", encoding="utf-8") as file:
        english = [line.split("\t")[1].strip() for line in file][1:]
    tokenizer = SentencePieceTokenizer.train([*texts[:3000], *english], vocab_size=6000)
    full = save_mbart(tmp_path / "whole", tokenizer)
    command = ["vocab", "trim", "--language-model", f"pretrained:{tmp_path / 'whole'}", "--corpus", "phoenix14t",
               "--root", str(root), "-o", str(tmp_path / "cut"), "--language", "de_DE", "--json"]  # fmt: skip
    code = main(command)
    found = json.loads(capsys.readouterr().out)
    train, dev, test = found["checks"]
    assert (train["sentences"], dev["sentences"], test["sentences"]) == (7096, 519, 642)
    assert code == int(any(check["exact"] < check["sentences"] for check in found["checks"]))
    assert found["segmented_otherwise"]["train"] == 0
    assert found["pieces"][1] < 0.8 * found["pieces"][0]
    assert found["bytes"][1] < found["bytes"][0]
    equal_scores(full, tokenizer, tmp_path / "cut", texts[:20])
    with_all = [*command[:8], "-o", str(tmp_path / "cut2"), "--splits", "train", "dev", "test", "--json"]
    assert main(with_all) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert set(found["segmented_otherwise"].values()) == {0}


@pytest.mark.slow
def test_csl_daily_loses_the_characters_that_a_foreign_vocabulary_lacks(real_data, tmp_path, capsys):
    # The released CSL-Daily vocabulary loses 7.75 % of the test characters; here one of 300 sentences.
    root = real_data / "annotations"
    dev = [s.text for s in load_samples("csl_daily", root, "dev")][:300]
    folder = tmp_path / "small"
    folder.mkdir()
    tokenizer = SentencePieceTokenizer.train(dev, vocab_size=1500, language="zh_CN")
    (folder / "sentencepiece.bpe.model").write_bytes(tokenizer.model)
    command = ["vocab", "check", "--tokenizer", f"pretrained:{folder}", "--corpus", "csl_daily", "--root", str(root)]
    assert main([*command, "--json"]) == 1
    train, dev_check, test = json.loads(capsys.readouterr().out)
    assert test["characters"] == 19288  # as in the released reference file before its round trip
    assert 0 < dev_check["lost_characters"] < test["lost_characters"]
    known = set(tokenizer.normalized("".join(dev)))
    text = [s.text for s in load_samples("csl_daily", root, "test")]
    unknown = sum(c not in known for sentence in text for c in tokenizer.normalized(sentence).replace(" ", ""))
    assert test["lost_characters"] == unknown > 0
    assert test["exact"] + test["lossy"] + test["rewritten"] + test["respaced"] == test["sentences"] == 1176
    assert train["sentences"] == 18401
    assert "！ -> !" in test["replaced"] or "？ -> ?" in test["replaced"]
    assert main([*command, "--splits", "test"]) == 1
    assert "of 19288 characters" in capsys.readouterr().out


def test_the_command_says_what_it_needs(tmp_path, capsys):
    for words, message in (
        (
            ["check", "--tokenizer", "mbart", "--root", str(tmp_path)],
            "needs pretrained:FOLDER, pretrained:HUB_ID or a run",
        ),
        (["check", "--tokenizer", f"pretrained:{tmp_path}", "--root", str(tmp_path)], "has no tokenizer"),
        (
            ["trim", "--language-model", f"pretrained:{tmp_path}", "--root", str(tmp_path / "no"), "-o", "x"],
            "does not exist",
        ),
    ):
        assert main(["vocab", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
