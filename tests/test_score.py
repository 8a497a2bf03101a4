"""`signcl score`: anybody's files against references; the tokenizer by script; why two numbers differ."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch

from signcl.cli import main
from signcl.evaluation.comparison import compare
from signcl.evaluation.learned_scores import bertscore
from signcl.evaluation.sentence_files import align, read_sentences
from signcl.evaluation.text_scores import P_VALUE, findings, score_files, score_sentences, training_overlap
from signcl.metrics import bleu, exact_match, normalize, paired_bootstrap, rouge_l, score_all, tokenization_for
from signcl.metrics.presets import PRESETS
from signcl.metrics.written_forms import STEPS, tokenization_warning, unite_width, with_stop, without_stop

ROOT = Path(__file__).parents[1]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# -- which tokenizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("heute ist das wetter gut .", "none"),
        ("heute ist das wetter gut", "none"),
        ("Heute ist das Wetter gut.", "13a"),
        ("I like 北京 very much .", "none"),
        ("他买了钢琴。", "zh"),
        ("他 买 了 钢 琴 。", "zh"),
        ("他用iPhone打电话", "zh"),
        ("今日は寒いです。", "char"),
        ("ｷｮｳﾊｻﾑｲ", "char"),
        ("วันนี้อากาศดี", "char"),
        ("ຂ້ອຍ ຮັກ ເຈົ້າ", "char"),
        ("오늘 날씨가 좋습니다", "none"),
        ("오늘 날씨가 좋습니다.", "13a"),
        ("सभी मनुष्य समान हैं।", "13a"),
        ("مرحبا بالعالم .", "none"),
        ("NORD neg-HABEN loc-SUED", "none"),
        ("", "none"),
    ],
)
def test_the_tokenizer_is_that_of_the_writing(text, fits):
    assert tokenization_for([text] * 20) == fits


def test_few_foreign_or_slipped_sentences_do_not_change_the_tokenizer():
    tokenized = ["am tag regen ."] * 30
    assert tokenization_for([*tokenized, "z.b. heute."]) == "none"
    assert tokenization_for([*tokenized, "北京北京"]) == "none"
    assert tokenization_for([*["他买了钢琴"] * 30, "他的家の門口"]) == "zh"


def test_chinese_under_the_defaults_is_no_zero_any_more():
    said = ["他买了钢琴和电脑"] * 3
    scores = score_all(said, said, samples=0)
    assert scores["bleu4"] == pytest.approx(100)
    assert scores["exact_match"] == 100
    assert scores["tokenize"] == "zh"
    assert "tok:zh" in scores["signatures"]["bleu"]
    assert scores["warning"] is None
    wrong = score_all(said, said, tokenize="none", samples=0)
    assert wrong["bleu4"] == 0
    assert "treats a sentence as one word" in wrong["warning"]
    assert paired_bootstrap("bleu4", said, ["她"] * 3, said, 10).a == pytest.approx(100)


def test_exact_match_and_rouge_do_not_see_spaces_between_characters():
    plain, spaced = ["他买了。", "走"], ["他 买 了 。", "来"]
    assert exact_match(spaced, plain) == 50
    assert exact_match(spaced, plain, unit="word") == 0
    assert rouge_l(spaced[:1], plain[:1]) == pytest.approx(100)
    assert exact_match(["a b"], ["ab"]) == 0, "German words are not characters"


def test_simple_german_and_english_stay_to_the_digit():
    hypotheses, references = ["am tag regen .", "morgen sonne ."], ["am tag viel regen .", "morgen wieder sonne ."]
    assert bleu(hypotheses, references) == bleu(hypotheses, references, "none")
    auto, none = (score_all(hypotheses, references, tokenize=name, samples=50) for name in ("auto", "none"))
    assert auto == none


def test_a_tokenizer_that_does_not_fit_is_warned_about():
    german = ["Morgen wird das Wetter gut.", "Im Norden regnet es, im Süden nicht."]
    assert "use 13a, the convention of WMT-SLT" in tokenization_warning("none", german)
    assert tokenization_warning("13a", german) is None
    assert tokenization_warning("auto", german) is None
    assert tokenization_warning("none", ["他 买 了 钢 琴"]) is None, "spaced characters are the tokens of none"
    assert "have spaces between words" in tokenization_warning("zh", german)
    found = score_sentences({"a": german}, german, tokenize="none", samples=0)
    assert any("use 13a" in finding for finding in found["systems"][0]["findings"])


# -- normalization -----------------------------------------------------------------------------------------------------


def test_each_step_does_what_it_says():
    assert normalize(["scho\u0308n"]) == ["schön"]
    assert unite_width("他说：“好，Ａ１！”。ｶﾞ\u3000x") == '他说:"好,A1!"。ガ x'
    assert [without_stop(line) for line in ("a .", "好。", "好？", "अच्छा।", "a ...", ".")] == [
        "a",
        "好",
        "好？",
        "अच्छा",
        "a ...",
        "",
    ]
    assert [with_stop(line) for line in ("a", "a.", "好", "好！", "a ?", "")] == [
        "a .",
        "a .",
        "好。",
        "好！",
        "a ?",
        ".",
    ]
    assert normalize(["Ａ b 。"], ["no_spaces", "lower", "width", "no_stop"]) == ["ab"]
    with pytest.raises(ValueError, match="normalization steps must be from nfc, width"):
        normalize(["a"], ["nfkc"])


def test_letters_and_accents_apart_are_the_same_letters():
    composed, apart = ["schöne grüße aus köln ."], ["scho\u0308ne gru\u0308ße aus ko\u0308ln ."]
    assert score_all(apart, composed, samples=0)["bleu4"] == pytest.approx(100)
    found = score_sentences({"a": apart}, composed, samples=0)["systems"][0]
    assert found["scores"]["exact_match"] == 100
    assert any(finding.startswith("accents: 1 hypotheses and 0 references") for finding in found["findings"])


# -- files -------------------------------------------------------------------------------------------------------------

TABLE = "name\ttext\na\tdas ist gut .\nb\tregen\n"
FORMS = {
    "plain.txt": "das ist gut .\nregen\n",
    "windows.txt": "das ist gut .\r\nregen\r\n",
    "mac.txt": "das ist gut .\rregen\r",
    "mark.txt": b"\xef\xbb\xbf" + b"das ist gut .\nregen",
    "bars.hyp": "a|das ist gut .\nb|regen\n",
    "tabs.txt": "a\tdas ist gut .\nb\tregen\n",
    "table.tsv": TABLE,
    "table.txt": TABLE,
    "packed.tsv.gz": gzip.compress(TABLE.encode()),
    "comma.csv": 'ID,Translation\na,"das ist gut ."\nb,regen\n',
    "semicolon.csv": "id;text;signer\na;das ist gut .;1\nb;regen;2\n",
    "official.csv": "name|video|start|end|speaker|orth|translation\na|x|-1|-1|S|G|das ist gut .\nb|x|-1|-1|S|G|regen\n",
    "lines.jsonl": '{"id": "a", "hypothesis": "das ist gut ."}\n\n{"id": "b", "hypothesis": "regen"}\n',
    "object.json": '{"a": "das ist gut .", "b": "regen"}',
    "list.json": '["das ist gut .", "regen"]',
    "items.json": '[{"video": "a", "prediction": "das ist gut ."}, {"video": "b", "prediction": "regen"}]',
    "predictions.test.tsv": "name\treference\thypothesis\na\tx\tdas ist gut .\nb\ty\tregen\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read(name, tmp_path):
    found = read_sentences(write(tmp_path / name, FORMS[name]))
    assert found.texts == ["das ist gut .", "regen"]
    bare = name in ("plain.txt", "windows.txt", "mac.txt", "mark.txt", "list.json")
    assert found.names == (None if bare else ["a", "b"])


def test_predictions_give_references_to_the_other_side(tmp_path):
    path = write(tmp_path / "predictions.test.tsv", FORMS["predictions.test.tsv"])
    assert read_sentences(path, "reference").texts == ["x", "y"]
    assert read_sentences(path).own_references == ["x", "y"]


def test_separators_of_unicode_and_empty_lines_are_no_new_sentences(tmp_path):
    path = write(tmp_path / "a.txt", "eins\u2028zwei\x0bdrei\u0085\n\nvier\n")
    assert read_sentences(path).texts == ["eins\u2028zwei\x0bdrei", "", "vier"]


BROKEN = [
    ("a.txt", "", "holds no sentence"),
    ("a.txt", "\n\n", "holds no sentence"),
    ("a.txt", "gut\nsch\xf6n\n".encode("latin-1"), r"a\.txt:2: must be UTF-8"),
    ("a.txt", "gut\n".encode("utf-16"), "is UTF-16"),
    ("a.txt", b"gut\nb\0c\n", r"a\.txt:2: holds a NUL"),
    ("a.txt.gz", b"\x1f\x8bgut", "cannot be unpacked"),
    ("a.txt", "x|eins\ny|zwei\nx|drei\n", r"a\.txt:3: the id x is already in line 1"),
    ("a.txt", "x|eins\ny|zwei\nohne\n", r"a\.txt:3: has no id before"),
    ("a.txt", "x|eins\ny|zwei|mehr\nz|drei\n", r"a\.txt:2: has no id before"),
    ("a.txt", "eins\nzwei\tdrei\tvier\n", r"a\.txt:2: holds a tab"),
    ("a.tsv", "name\ttext\ttext\na\tb\tc\n", r"a\.tsv:1: has the column text twice"),
    ("a.tsv", "name\ttext\na\n", r"a\.tsv:2: has 1 cells where the header has 2"),
    ("a.tsv", "name\ttext\na\tb\tc\n", r"a\.tsv:2: has 3 cells"),
    ("a.tsv", "name\ttext\n\tb\n", r"a\.tsv:2: has an empty id"),
    ("a.tsv", "name\tgloss\tsigner\na\tb\tc\n", "needs a column of sentences"),
    ("a.tsv", "name\ttext\n", "no row under it"),
    ("a.csv", "id,text,translation\na,b,c\n", "text and translation may both hold the sentences"),
    ("a.csv", 'id,text\na,"offen\n', "broken quotes"),
    ("a.csv", "eins\nzwei\n", "a CSV needs a header line"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2\n', r"a\.jsonl:2: is not a JSON object"),
    ("a.jsonl", '{"id": 1, "text": "a", "text": "b"}\n', "the key 'text' occurs twice"),
    ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2}\n', r"a\.jsonl:2: has no `text`"),
    ("a.jsonl", '{"id": 1, "text": ["a", "b"]}\n', r"a\.jsonl:1: `text` must be a text, got list"),
    ("a.jsonl", '{"id": 1, "text": null}\n', "got NoneType"),
    ("a.jsonl", '["a"]\n', r"a\.jsonl:1: needs an object"),
    ("a.json", '{"a": ["b"]}', "needs a list of objects"),
    ("a.json", '{"a": "b"', "is not JSON"),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN)
def test_what_cannot_be_read_is_refused_in_a_line(name, content, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_sentences(write(tmp_path / name, content))


def test_a_folder_or_a_missing_column_is_named(tmp_path):
    write(tmp_path / "predictions.dev.tsv", TABLE)
    with pytest.raises(ValueError, match=r"this is a folder; give .*predictions\.dev\.tsv"):
        read_sentences(tmp_path)
    path = write(tmp_path / "a.tsv", "name\tchar\na\tb\n")
    assert read_sentences(path, text_column="char").texts == ["b"]
    with pytest.raises(ValueError, match="the column word"):
        read_sentences(path, text_column="word")


# -- alignment ---------------------------------------------------------------------------------------------------------


def test_ids_are_aligned_in_the_order_of_the_references(tmp_path):
    true = read_sentences(write(tmp_path / "r.txt", "a|eins\nb|zwei\nc|drei\n"), "reference")
    turned = read_sentences(write(tmp_path / "h.txt", "c|3\nx|9\na|1\nb|2\n"))
    names, said, references, notes = align([turned], true)
    assert (names, said, references) == (["a", "b", "c"], [["1", "2", "3"]], ["eins", "zwei", "drei"])
    assert notes == ["h.txt: 1 ids match no reference and are ignored, first x"]


def test_missing_ids_are_refused_or_counted(tmp_path):
    true = read_sentences(write(tmp_path / "r.txt", "a|eins\nb|zwei\nc|drei\n"), "reference")
    short = read_sentences(write(tmp_path / "h.txt", "c|3\na|1\n"))
    whole = read_sentences(write(tmp_path / "w.txt", "a|1\nb|2\nc|3\n"))
    with pytest.raises(ValueError, match=r"lacks 1 of the 3 ids of .*, first b; add them, or give --missing empty"):
        align([whole, short], true)
    assert align([whole, short], true, missing="empty")[1] == [["1", "2", "3"], ["1", "", "3"]]
    _, said, references, notes = align([whole, short], true, missing="drop")
    assert said == [["1", "3"], ["1", "3"]]
    assert references == ["eins", "drei"]
    assert notes == ["h.txt: 1 of 3 ids are missing, first b; left out for every system"]
    strange = read_sentences(write(tmp_path / "s.txt", "test/a|1\ntest/b|2\ntest/c|3\n"))
    with pytest.raises(ValueError, match="no id in common: the first are test/a and a"):
        align([strange], true)


def test_without_ids_the_numbers_of_lines_must_agree(tmp_path):
    true = read_sentences(write(tmp_path / "r.txt", "a|eins\nb|zwei\n"), "reference")
    plain = read_sentences(write(tmp_path / "p.txt", "1\n2\n"))
    _, said, _, notes = align([plain], true)
    assert said == [["1", "2"]]
    assert notes == ["p.txt has no ids (r.txt has): aligned by line, in the order of the files"]
    longer = read_sentences(write(tmp_path / "l.txt", "1\n2\n3\n"))
    with pytest.raises(ValueError, match=r"has 3 sentences and .* 2; only one of them has ids"):
        align([longer], true)


# -- scores ------------------------------------------------------------------------------------------------------------


def test_what_differs_is_said():
    references = [f"am tag {i} regnet es ." for i in range(30)]
    without = [line[:-2].upper() for line in references]
    rows = score_sentences({"a": without}, references, samples=0)["systems"][0]
    said = "\n".join(rows["findings"])
    assert "final stop: 0.0 % of the hypotheses and 100.0 % of the references" in said
    assert "case: 100.0 % of the hypotheses and 0.0 %" in said
    by_name = {row["convention"]: row for row in rows["conventions"]}
    assert by_name["no stop, lower, one width, spacing"]["bleu4"] == pytest.approx(100)
    assert by_name["no final stop"]["changed"] == [0, 30]
    each = [f"a{i} b{i} c{i}" for i in range(30)]
    odd = findings([*each[1:], each[0]], each, rows["conventions"], tokenize="none", by_line=True)
    assert any("seem to be shifted" in one for one in odd)
    same = findings(references, references, rows["conventions"], tokenize="none")
    assert any("one file given twice" in one for one in same)
    marked = findings(["▁am ▁tag </s>", ""] * 15, references, rows["conventions"], tokenize="none")
    assert any("tokens of a model" in one for one in marked)
    assert any("15 hypotheses are empty" in one for one in marked)


def test_copies_of_training_are_counted_whatever_the_spaces():
    found = training_overlap(["他 买 了", "她走了"], ["他买了", "她来了"], ["他买了", "她 走 了"], unit="character")
    assert found == {
        "training_sentences": 2,
        "references_seen": 50.0,
        "hypotheses_copied": 100.0,
        "copied_and_wrong": 50.0,
    }


def test_each_pair_of_systems_is_compared(tmp_path):
    references = [f"am tag {i} regnet es im norden ." for i in range(40)]
    good = [line if i % 2 else "sonne" for i, line in enumerate(references)]
    found = score_sentences({"bad": ["sonne"] * 40, "good": good, "best": references}, references, samples=100)
    pairs = {(pair["of_a"], pair["of_b"]): pair for pair in found["pairs"] if pair["metric"] == "bleu4"}
    assert set(pairs) == {("bad", "good"), ("bad", "best"), ("good", "best")}
    pair = pairs["good", "best"]
    assert pair["b"] == pytest.approx(100)
    assert pair["difference"] == pytest.approx(pair["b"] - pair["a"])
    assert pair["p_value"] == pytest.approx(2 / 101), "never less than 2 / (samples + 1)"
    assert found["p_value"] == P_VALUE
    assert "two-sided" in P_VALUE
    worse = next(p for p in found["pairs"] if p["metric"] == "wer" and p["of_b"] == "best" and p["of_a"] == "good")
    assert worse["difference"] < 0


def test_a_preset_is_a_stated_convention():
    lines = ["他说，好。"] * 2
    found = score_sentences({"a": ["他说,好。"] * 2}, lines, preset="csl-daily", samples=0)
    assert found["convention"]["tokenize"] == "zh"
    assert found["convention"]["normalization"] == ["nfc"]
    assert found["systems"][0]["scores"]["exact_match"] == 0, "the corpus's own widths count"
    united = score_sentences({"a": ["他说,好。"] * 2}, lines, preset="csl-daily", steps=["width"], samples=0)
    assert united["systems"][0]["scores"]["exact_match"] == 100
    assert {name: preset.tokenize for name, preset in PRESETS.items()} == {
        "phoenix14t": "none",
        "csl-daily": "zh",
        "how2sign": "13a",
        "wmt-slt": "13a",
    }
    from signcl.cli import score as verb

    assert tuple(PRESETS) == verb.PRESETS
    assert tuple(STEPS) == verb.STEPS


def test_bertscore_is_that_of_its_formula(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "regen", "sonne", "am", "tag"]
    write(tmp_path / "vocab.txt", "\n".join(words) + "\n")
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    )
    model.eval().save_pretrained(tmp_path)
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    assert bertscore(["am tag regen", "sonne"], ["am tag regen", "sonne"], tmp_path)["bertscore"] == pytest.approx(
        100, abs=1e-3
    )
    found = bertscore(["regen", ""], ["am tag", "am"], tmp_path, layer=1)
    with torch.no_grad():
        ours = model(torch.tensor([[2, 5, 3]]), output_hidden_states=True).hidden_states[1][0, 1:-1]
        theirs = model(torch.tensor([[2, 7, 8, 3]]), output_hidden_states=True).hidden_states[1][0, 1:-1]
    cosine = torch.nn.functional.cosine_similarity(theirs[:, None], ours[None], dim=-1)
    recall, precision = cosine.max(1).values.mean(), cosine.max(0).values.mean()
    assert found["bertscore"] == pytest.approx(50 * float(2 * precision * recall / (precision + recall)), abs=1e-3)
    assert "layer:1" in found["bertscore_signature"]
    with pytest.raises(ValueError, match="must be 1 to 2"):
        bertscore(["a"], ["a"], tmp_path, layer=3)


# -- the command -------------------------------------------------------------------------------------------------------


def call(capsys, *words: object) -> tuple[int, str, str]:
    try:
        code = main([str(word) for word in words])
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_prints_scores_json_and_a_page(tmp_path, capsys):
    a = write(tmp_path / "a.txt", "1|am tag regen .\n2|sonne im <b>norden</b> .\n")
    b = write(tmp_path / "b.jsonl", '{"id": 2, "text": "sonne im norden ."}\n{"id": 1, "text": "regen ."}\n')
    ref = write(tmp_path / "ref.csv", "id,text\n1,am tag regen .\n2,sonne im norden .\n")
    page = tmp_path / "page.html"
    code, out, _ = call(capsys, "score", a, b, ref, "--bootstrap=20", "--html", page, "--train", ref)
    assert code == 0
    for words in ("BLEU-4", "chrF++", "tok:none", "two-sided", "JSONL, sentences from `text`", "b.jsonl minus a.txt"):
        assert words in out
    assert "100.00 % of the references occur there" in out
    html = page.read_text(encoding="utf-8")
    assert "Paired bootstrap" in html
    assert "<b>norden" not in html
    code, out, _ = call(capsys, "score", a, b, ref, "--bootstrap=0", "--json", "--preset=phoenix14t")
    found = json.loads(out)
    assert [one["scores"]["exact_match"] for one in found["systems"]] == [50, 50]
    assert found["pairs"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ref.txt"], "needs hypotheses and references"),
        (["none.txt", "ref.txt"], "No such file"),
        (["a.txt", "a.txt", "ref.txt"], "given twice as a system"),
        (["a.txt", "long.txt"], "the numbers must agree"),
        (["a.txt", "ref.txt", "--preset=wmt"], "--preset must be one of"),
        (["a.txt", "ref.txt", "--bertscore=nowhere"], "needs a local folder with the model"),
        (["a.txt", "ref.txt", "--bleurt=model"], "bleurt"),
        (["a.txt", "ref.txt", "--bertscore-layer=2"], "give the folder too"),
        (["a.txt", "ref.txt", "--html=model"], "needs a file name"),
    ],
)
def test_wrong_input_gives_one_line_and_exit_code_2(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.txt", "regen\nsonne\n")
    write(tmp_path / "ref.txt", "regen\nwolken\n")
    write(tmp_path / "long.txt", "regen\nwolken\nsonne\n")
    (tmp_path / "model").mkdir()
    write(tmp_path / "model" / "config.json", "{}")
    code, _, err = call(capsys, "score", *words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(ROOT / "recipes" / "phoenix14t" / "gfslt.yaml", folder / "recipe.yaml")
    write(folder / "card.json", "{}")
    rows = [f"{i}\tam tag {i} regen .\tam tag {i} {'regen' if i % 2 else 'sonne'} ." for i in range(20)]
    write(folder / "predictions.test.tsv", "\n".join(["name\treference\thypothesis", *rows]) + "\n")
    return folder


def test_files_are_compared_with_runs_and_with_each_other(run, tmp_path, capsys):
    best = write(tmp_path / "best.txt", "".join(f"{i}|am tag {i} regen .\n" for i in reversed(range(20))))
    row = next(row for row in compare(run, best, samples=50) if row["metric"] == "bleu4")
    assert row["b"] == pytest.approx(100)
    assert row["a"] < 100
    turned = next(row for row in compare(best, run, samples=50) if row["metric"] == "bleu4")
    assert turned["difference"] == pytest.approx(-row["difference"])
    code, out, _ = call(capsys, "compare", run, best, "--samples=20", "--examples=2")
    assert code == 0
    assert "B better on 10" in out
    plain = write(tmp_path / "plain.txt", "".join(f"am tag {i} sonne .\n" for i in range(20)))
    code, _, err = call(capsys, "compare", best, plain)
    assert code == 2
    assert "give them with --ref REF" in err
    ref = run / "predictions.test.tsv"
    code, out, err = call(capsys, "compare", best, plain, "--ref", ref, "--samples=20", "--json")
    assert code == 0
    assert json.loads(out)[0]["a"] == pytest.approx(100)
    assert "aligned by line" in err


def test_the_report_shows_files_beside_a_run(run, tmp_path, capsys):
    best = write(tmp_path / "best.txt", "".join(f"{i}|am tag {i} regen .\n" for i in range(20)))
    code, _, err = call(capsys, "report", run, best, "-o", tmp_path / "page.html")
    assert code == 0, err
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Other sentences" in html
    assert "best.txt" in html
    assert "100.00" in html
    code, _, err = call(capsys, "report", best)
    assert code == 2
    assert "signcl score" in err


# -- real outputs ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_released_csl_daily_outputs_and_why_their_numbers_differ(real_data, capsys):
    theirs, truth = real_data / "signcl-csl-outputs", real_data / "annotations"
    words = [theirs / "tmp_pres_test.txt", truth / "csl-daily.test.tsv.gz", "--train", truth / "csl-daily.train.tsv.gz"]
    words += ["--other-ref", theirs / "tmp_refs_test.txt", "--bootstrap=0", "--json"]
    code, out, _ = call(capsys, "score", *words)
    assert code == 0
    found = json.loads(out)
    one = found["systems"][0]
    assert one["scores"]["bleu4"] == pytest.approx(12.86, abs=0.005)
    assert one["scores"]["exact_match"] == pytest.approx(0.085, abs=0.0005)
    assert one["overlap"]["hypotheses_copied"] == pytest.approx(1.11, abs=0.005)
    by_name = {row["convention"]: row for row in one["conventions"]}
    assert by_name["one width of punctuation"]["bleu4"] == pytest.approx(13.97, abs=0.005)
    assert by_name["no spaces between characters"]["exact_match"] == one["scores"]["exact_match"]
    assert found["other_references"]["scores"]["tmp_pres_test.txt"]["bleu4"] == pytest.approx(15.99, abs=0.005)
    said = "\n".join(one["findings"])
    assert "hypotheses write 676 ',', references write 701 '，'" in said
    assert "13.97 (+1.10)" in said
    assert "7.75 % shorter" in "\n".join(found["other_references"]["findings"])
    own = score_files([theirs / "tmp_pres_test.txt"], theirs / "tmp_refs_test.txt", samples=0)["systems"][0]
    assert own["scores"]["bleu4"] == pytest.approx(15.99, abs=0.005)


def test_logged_phoenix_scores_come_out_of_the_command(real_data, capsys):
    theirs, truth = real_data / "signjoey-phoenix14t-outputs", real_data / "phoenix14t-alignments"
    files = [theirs / "best.IT_00093000.BW_02.A_4.test.txt", truth / "test.tsv.gz"]
    _, out, _ = call(capsys, "score", *files, "--preset=phoenix14t", "--bootstrap=0", "--json")
    scores = json.loads(out)["systems"][0]["scores"]
    logged = [47.64, 34.81, 27.12, 22.17, 45.03, 47.75]
    assert [round(scores[name], 2) for name in ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "rouge_l")] == logged
    files = [theirs / "best.IT_00093000.BW_004.test.gls", truth / "test.tsv.gz"]
    _, out, _ = call(capsys, "score", *files, "--glosses", "--preset=phoenix14t", "--bootstrap=0", "--json")
    scores = json.loads(out)["systems"][0]["scores"]
    assert round(scores["wer"], 2) == 36.11
    assert [round(scores["wer_split"][kind], 2) for kind in ("deletions", "insertions", "substitutions")] == [
        21.23,
        3.97,
        10.92,
    ]
