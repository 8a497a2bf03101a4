"""The corpus readers: the folder format by itself, the others on the real label files."""

import csv
import gzip
import pickle
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from signcl.data.batch import Sample, Span
from signcl.data.corpora import CORPORA, load_samples, register_corpus
from signcl.data.corpora.imu_numbers import isolated, normalization
from signcl.data.features import read_features, write_store

HEADER = "name\tpath\ttext\tsigner\tgloss\tnum_frames\tspans\n"


def table(folder: Path, *rows: str, split: str = "train", header: str = HEADER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.tsv").write_text(header + "".join(row + "\n" for row in rows), encoding="utf-8")
    return folder


# --- finding a corpus ------------------------------------------------------------------------------------------------


def test_an_unknown_corpus_names_the_known_ones():
    with pytest.raises(ValueError, match=r"one of .*folder, how2sign, .*got 'foldr'; did you mean folder\?"):
        load_samples("foldr", ".", "train")


def test_unknown_options_and_missing_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"takes the options .*fraction.*got 'fractoin'; did you mean fraction\?"):
        load_samples("imu_numbers", tmp_path, "train", fractoin=0.5)
    with pytest.raises(ValueError, match="corpus folder takes the options language, got 'fraction'"):
        load_samples("folder", tmp_path, "train", fraction=0.5)
    with pytest.raises(ValueError, match="does not exist"):
        load_samples("folder", tmp_path / "none", "train")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not a folder"):
        load_samples("folder", tmp_path / "file", "train")


def test_one_can_add_a_corpus_of_ones_own(tmp_path):
    def mine(root: Path, split: str, *, loud: bool = False) -> list[Sample]:
        return [Sample(split, "HELLO" if loud else "hello", clip=root / "a.mp4")]

    register_corpus("of_a_test")(mine)
    assert load_samples("of_a_test", tmp_path, "dev", loud=True)[0].text == "HELLO"


@pytest.mark.parametrize("name", CORPORA.names())
def test_every_corpus_answers_an_empty_folder_in_one_line(tmp_path, name):
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        load_samples(name, tmp_path, "train")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="'val'"):
        load_samples(name, tmp_path, "val")


def test_the_examples_of_the_docs_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "path/to/it").mkdir(parents=True)
    (tmp_path / "path/to/it/train.txt").write_text("a|Hello World\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signcl.data.registry._LOADED", {})
    text = (Path(__file__).parents[1] / "docs/adding-a-corpus.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    features, reader, use = blocks
    exec(features, {})
    (tmp_path / "my_corpus.py").write_text(reader + "print('imported')\n")  # a plugin's output is no result
    exec(use, {})
    printed = capsys.readouterr()
    assert "(41, 16)\nhello world" in printed.out
    assert printed.err.endswith("imported\n")


# --- folder ----------------------------------------------------------------------------------------------------------


def test_a_row_becomes_a_sample(tmp_path):
    folder = table(
        tmp_path,
        "a\tclips/a.mp4\tHello, world!\tAnna\tHELLO X:Y\t30\tHELLO:0-10 X:Y:12-30",
        "b\tframes/b\tgrüße 你好\t\t\t\t",
        "c\tfeatures/c.npy\tshort line",
    )
    a, b, c = load_samples("folder", folder, "train")
    assert a.name == "a"
    assert a.text == "Hello, world!"
    assert (a.clip, a.features) == (tmp_path / "clips/a.mp4", None)
    assert (a.signer, a.gloss, a.num_frames) == ("Anna", ("HELLO", "X:Y"), 30)
    assert a.spans == (Span("HELLO", 0, 10), Span("X:Y", 12, 30))
    assert (b.clip, b.text, b.signer, b.gloss, b.num_frames, b.spans) == (
        (tmp_path / "frames/b", "grüße 你好", "", (), None, ())
    )
    assert (c.clip, c.features) == (None, tmp_path / "features/c.npy")


def test_a_feature_store_is_named_by_its_folder_and_read_by_the_rows_name(tmp_path):
    write_store(tmp_path / "stores/i3d", [("a", np.zeros((3, 2))), ("b", np.ones((4, 2)))])
    samples = load_samples("folder", table(tmp_path, "a\tstores/i3d\tone", "b\tstores/i3d\ttwo"), "train")
    assert [sample.features for sample in samples] == [tmp_path / "stores/i3d"] * 2
    assert [len(read_features(sample.features, sample.name)) for sample in samples] == [3, 4]


def test_windows_line_ends_byte_order_mark_and_empty_lines_are_passed_over(tmp_path):
    (tmp_path / "dev.tsv").write_bytes("\ufeffname\tpath\ttext\r\na\ta.mp4\tone\r\n\r\n".encode())
    assert [sample.text for sample in load_samples("folder", tmp_path, "dev")] == ["one"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\tx.mp4\tfine", r"train\.tsv:3: name 'a' is already in line 2"),
        ("\tx.mp4\tfine", r"train\.tsv:3: the column name is empty"),
        ("b\t\tfine", r"train\.tsv:3: b has no path"),
        ("b\tx.mp4", r"train\.tsv:3: b has a text without words: ''"),
        ("b\tx.mp4\t", r"train\.tsv:3: b has a text without words: ''"),
        ("b\tx.mp4\t.", r"train\.tsv:3: b has a text without words: '\.'"),
        ("b\t/etc/x.mp4\tfine", r"train\.tsv:3: b has the path '/etc/x.mp4', which leaves the corpus folder"),
        ("b\tx/../../y.mp4\tfine", r"train\.tsv:3: b has the path .* leaves the corpus folder"),
        ("b\tC:\\x.mp4\tfine", r"train\.tsv:3: b has the path .* leaves the corpus folder"),
        ("b\tx.mp4\tfine\t\t\tmany", r"train\.tsv:3: b has num_frames 'many'"),
        ("b\tx.mp4\tfine\t\t\t0", r"train\.tsv:3: b has num_frames '0'"),
        ("b\tx.mp4\tfine\t\t\t\tHELLO", r"train\.tsv:3: b: span 'HELLO' must be GLOSS:start-stop"),
        ("b\tx.mp4\tfine\t\t\t\tHELLO:5-5", r"train\.tsv:3: b: span 'HELLO:5-5' must be .* start < stop"),
        ("b\tx.mp4\tfine\t\t\t\t\ttoo\tmany", r"train\.tsv:3: has 9 cells where the header has 7"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path, row, message):
    folder = table(tmp_path, "a\ta.mp4\tfine", row)
    with pytest.raises(ValueError, match=message) as caught:
        load_samples("folder", folder, "train")
    assert "\n" not in str(caught.value)
    collected: list[ValueError] = []
    assert [s.name for s in load_samples("folder", folder, "train", on_error=collected.append)] == ["a"]
    assert len(collected) == 1


def test_a_name_with_dots_and_folders_that_start_with_dots_are_fine(tmp_path):
    sample = load_samples("folder", table(tmp_path, "25.Oct..2010\t..clips/25.Oct..2010\tfine"), "train")[0]
    assert sample.clip == tmp_path / "..clips/25.Oct..2010"


def test_missing_tables_columns_and_rows_are_named(tmp_path):
    table(tmp_path, "a\ta.mp4\tfine")
    with pytest.raises(ValueError, match=r"split 'dev' needs the file dev\.tsv; found tables for train"):
        load_samples("folder", tmp_path, "dev")
    table(tmp_path, "a\tfine", split="dev", header="name\ttext\n")
    with pytest.raises(ValueError, match=r"dev\.tsv:1: needs the columns name, path .*path missing; found name, text"):
        load_samples("folder", tmp_path, "dev")
    table(tmp_path, split="test")
    with pytest.raises(ValueError, match=r"test\.tsv: has a header but no rows"):
        load_samples("folder", tmp_path, "test")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(ValueError, match=r"empty\.tsv:1: needs the columns .* found nothing"):
        load_samples("folder", tmp_path, "empty")
    (tmp_path / "latin.tsv").write_bytes("name\tpath\ttext\na\ta.mp4\tgrüße\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"latin\.tsv:2: must be UTF-8"):
        load_samples("folder", tmp_path, "latin")


def test_loading_opens_no_clip(tmp_path):
    # None of these files exists; the 2,000 rows can still be read.
    rows = [f"n{i}\tclips/{i}.mp4\tsentence {i}" for i in range(2000)]
    assert len(load_samples("folder", table(tmp_path, *rows), "train")) == 2000


# --- imu_numbers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imu(real_data: Path) -> Path:
    return real_data / "imu-number-signs"


def test_imu_numbers_counts_are_those_of_the_docstring(imu):
    parts = {split: load_samples("imu_numbers", imu, split) for split in ("train", "dev", "test")}
    assert {split: (len(p), len({s.text for s in p})) for split, p in parts.items()} == {
        "train": (560, 327),
        "dev": (65, 36),
        "test": (154, 91),
    }
    every = [sample for part in parts.values() for sample in part]
    assert len({sample.name for sample in every}) == 779
    assert len({sign for sample in every for sign in sample.gloss}) == 32
    assert round(np.mean([sample.num_frames for sample in every]), 1) == 85.4
    assert Counter(len(sample.gloss) for sample in parts["test"]) == {2: 100, 3: 54}


@pytest.mark.parametrize("split_seed", [0, 1, 2])
def test_imu_numbers_of_dev_and_test_are_unseen_combinations_of_seen_signs(imu, split_seed):
    parts = [load_samples("imu_numbers", imu, s, split_seed=split_seed) for s in ("train", "dev", "test")]
    numbers = [{sample.gloss for sample in part} for part in parts]
    signs = [{sign for gloss in part for sign in gloss} for part in numbers]
    words = [{word for sample in part for word in sample.text.split()} for part in parts]
    for held_out in (1, 2):
        assert not numbers[0] & numbers[held_out]
        assert signs[held_out] <= signs[0]
        assert words[held_out] <= words[0]
    assert not numbers[1] & numbers[2]
    assert [len(part) for part in parts] == [560, 65, 154]


def test_imu_numbers_text_gloss_and_spans_agree(imu):
    for split in ("train", "dev", "test"):
        digits = {s.name: s.text for s in load_samples("imu_numbers", imu, split, text="digits")}
        for sample in load_samples("imu_numbers", imu, split):
            assert digits[sample.name] == " ".join(str(sum(map(int, sample.gloss))))
            assert "-" not in sample.text
            assert "," not in sample.text
            assert sample.features.shape == (sample.num_frames, 36)
            assert sample.features.dtype == np.float32
            assert tuple(span.token for span in sample.spans) == sample.gloss
            edges = [frame for span in sample.spans for frame in (span.start, span.stop)]
            assert edges == sorted(set(edges))
            assert edges[0] >= 0
            assert edges[-1] <= sample.num_frames
    first = next(s for s in load_samples("imu_numbers", imu, "test") if s.gloss == ("1000", "100", "10"))
    assert (first.name, first.text) == ("three-000", "one thousand one hundred and ten")
    # The annotation of this sequence is [0, 24, 41, 59, 82, 99].
    assert first.spans == (Span("1000", 0, 24), Span("100", 41, 59), Span("10", 82, 99))


def test_imu_numbers_spans_hold_the_signs_they_name(imu):
    # The nearest mean of the annotated frames, leaving a fifth out, names 5 in 6 signs; with shuffled names 1 in 30.
    every = [s for split in ("train", "dev", "test") for s in load_samples("imu_numbers", imu, split)]
    spans = [
        (s.features[np.linspace(p.start, p.stop - 1, 12).round().astype(int)].ravel(), p.token)
        for s in every
        for p in s.spans
    ]
    rows, tokens = np.stack([row for row, _ in spans]), np.array([token for _, token in spans])
    fold = np.arange(len(rows)) % 5 == 0
    kinds = sorted(set(tokens[~fold]))
    means = np.stack([rows[~fold & (tokens == kind)].mean(axis=0) for kind in kinds])
    nearest = ((rows[fold][:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert np.mean(np.array(kinds)[nearest] == tokens[fold]) > 0.75


def test_imu_numbers_parts_for_learning_curves_are_nested(imu):
    parts = [load_samples("imu_numbers", imu, "train", fraction=f, seed=3) for f in (0.05, 0.1, 0.25, 0.5, 1.0)]
    assert [len(part) for part in parts] == [28, 56, 140, 280, 560]
    for small, large in pairwise(parts):
        assert {s.name for s in small} < {s.name for s in large}
    other = load_samples("imu_numbers", imu, "train", fraction=0.05, seed=4)
    assert {s.name for s in other} != {s.name for s in parts[0]}
    assert len(load_samples("imu_numbers", imu, "test", fraction=0.05)) == 154
    for fraction in (0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\]"):
            load_samples("imu_numbers", imu, "train", fraction=fraction)


def test_imu_numbers_are_standardized_by_the_training_part_only(imu):
    train = load_samples("imu_numbers", imu, "train", fraction=0.1)
    frames = np.concatenate([sample.features for sample in train])
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)
    mean, deviation = normalization(imu, fraction=0.1)
    raw = load_samples("imu_numbers", imu, "test", normalize=False)[0].features
    test = load_samples("imu_numbers", imu, "test", fraction=0.1)[0].features
    np.testing.assert_allclose(test, (raw - mean) / deviation, rtol=1e-5)
    assert np.abs(raw).max() > 1000


def test_imu_isolated_signs(imu):
    features, labels, takes = isolated(imu)
    assert len(features) == len(labels) == len(takes) == 3680
    assert features[0].shape == (80, 42)
    assert set(Counter(labels.tolist()).values()) == {80}
    assert (takes.min(), takes.max()) == (1, 80)


def test_imu_numbers_missing_or_mixed_up_files_are_named(tmp_path, imu):
    for file in imu.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "three_sign.npz").unlink()
    with pytest.raises(ValueError, match=r"needs the file three_sign\.npz"):
        load_samples("imu_numbers", tmp_path, "train")
    (tmp_path / "three_sign.npz").symlink_to(imu / "two_sign.npz")
    with pytest.raises(ValueError, match="must have the same number of sequences, got 504, 275, 275"):
        load_samples("imu_numbers", tmp_path, "train")
    with pytest.raises(ValueError, match="text must be words or digits, got 'roman'"):
        load_samples("imu_numbers", imu, "train", text="roman")


# --- PHOENIX-2014T ---------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


PHOENIX = {"train": 7096, "dev": 519, "test": 642}


@pytest.mark.parametrize("split", PHOENIX)
def test_phoenix_release_layout(tmp_path, real_data, split):
    rows = rows_of(real_data / f"phoenix14t-alignments/{split}.tsv.gz")
    manual = tmp_path / "PHOENIX-2014-T/annotations/manual"
    manual.mkdir(parents=True)
    lines = ["name|video|start|end|speaker|orth|translation"]
    for row in rows:
        name = row["name"].removeprefix(f"{split}/")
        text = row["text"].removesuffix(" .")
        lines.append(f"{name}|{name}/1/*.png|-1|-1|{row['signer']}|{row['gloss']}|{text}")
    (manual / f"PHOENIX-2014-T.{split}.corpus.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    samples = load_samples("phoenix14t", tmp_path, split)
    assert len(samples) == PHOENIX[split]
    assert len({sample.signer for sample in samples}) == {"train": 9, "dev": 9, "test": 9}[split]
    frames = tmp_path / "PHOENIX-2014-T/features/fullFrame-210x260px" / split
    for sample, row in zip(samples, rows, strict=True):
        assert sample.clip == frames / row["name"].removeprefix(f"{split}/")
        assert sample.gloss == tuple(row["gloss"].split())
        assert not sample.text.endswith(".")


def test_phoenix_frames_are_found_with_and_without_the_folder_1(tmp_path, real_data):
    from signcl.data.video import read_frames

    manual = tmp_path / "annotations/manual"
    manual.mkdir(parents=True)
    (manual / "PHOENIX-2014-T.dev.corpus.csv").write_text(
        "name|video|start|end|speaker|orth|translation\nclip-1|clip-1/1/*.png|-1|-1|Signer01|REGEN|regen\n"
    )
    for inner in ("", "1"):
        folder = tmp_path / "features/fullFrame-210x260px/dev/clip-1" / inner
        folder.mkdir(parents=True, exist_ok=True)
        for number in (1, 2):
            name = f"images000{number}.png"
            (folder / name).write_bytes((real_data / "phoenix14t-pose1" / name).read_bytes())
        (sample,) = load_samples("phoenix14t", tmp_path, "dev")
        assert sample.clip == folder
        assert read_frames(sample.clip).shape == (2, 260, 210, 3)


def test_phoenix_feature_pickles_of_neccam_slt(tmp_path):
    record = {"signer": "Signer08", "gloss": "DRUCK TIEF", "text": "tiefer luftdruck .", "sign": torch.ones(5, 4)}
    with gzip.open(tmp_path / "phoenix14t.pami0.dev", "wb") as file:
        pickle.dump([{**record, "name": "dev/a"}, {**record, "name": "dev/b"}], file)
    a, b = load_samples("phoenix14t", tmp_path, "dev")
    assert (a.name, b.name) == ("a", "b")
    assert (a.text, a.gloss, a.signer, a.num_frames) == ("tiefer luftdruck .", ("DRUCK", "TIEF"), "Signer08", 5)
    assert a.clip is None
    np.testing.assert_array_equal(read_features(a.features, a.name), np.ones((5, 4)))


def test_phoenix_annotations_without_features_point_at_frames(tmp_path):
    record = {"name": "dev/a", "gloss": "X", "text": "x .", "num_frames": 7, "sign": torch.zeros(0), "signer": "s"}
    with gzip.open(tmp_path / "phoenix14t.dev", "wb") as file:
        pickle.dump([record], file)
    (sample,) = load_samples("phoenix14t", tmp_path, "dev", labels="slt")
    assert sample.clip == tmp_path / "features/fullFrame-210x260px/dev/a"
    assert (sample.features, sample.num_frames) == (None, 7)


def test_phoenix_gfslt_labels_lose_their_untrue_gloss(tmp_path):
    record = {
        "name": "test/a",
        "gloss": "not the annotation",
        "text": "regen im norden",
        "length": 3,
        "imgs_path": ["x"],
    }
    with gzip.open(tmp_path / "labels.test", "wb") as file:
        pickle.dump({"test/a": record}, file)
    (sample,) = load_samples("phoenix14t", tmp_path, "test")
    assert (sample.name, sample.text, sample.gloss, sample.num_frames) == ("a", "regen im norden", (), 3)


def test_phoenix_labels_can_be_chosen_and_missing_ones_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"needs the labels annotations/manual/.*dev.* or phoenix14t\.pami0\.dev or .*labels\.dev"
    ):
        load_samples("phoenix14t", tmp_path, "dev")
    with pytest.raises(ValueError, match=r"needs the labels labels\.dev;"):
        load_samples("phoenix14t", tmp_path, "dev", labels="gfslt")
    with pytest.raises(ValueError, match="labels must be auto, release, slt, gfslt, got 'csv'"):
        load_samples("phoenix14t", tmp_path, "dev", labels="csv")
    (tmp_path / "labels.dev").write_bytes(pickle.dumps([{"name": "a", "sign": 1}]))
    with pytest.raises(ValueError, match=r"labels\.dev: record 0 needs 'name' and 'text'"):
        load_samples("phoenix14t", tmp_path, "dev")


# --- CSL-Daily -------------------------------------------------------------------------------------------------------

CSL = {"train": 18401, "dev": 1077, "test": 1176}


@pytest.mark.parametrize("split", CSL)
def test_csl_daily_tables(tmp_path, real_data, split):
    source = real_data / f"annotations/csl-daily.{split}.tsv.gz"
    (tmp_path / source.name).symlink_to(source)
    (tmp_path / "sentence/frames_512x512").mkdir(parents=True)
    samples = load_samples("csl_daily", tmp_path, split)
    assert len(samples) == CSL[split]
    assert len({sample.signer for sample in samples}) == 10 if split == "train" else True
    assert not any(" " in sample.text for sample in samples)
    assert all(sample.num_frames and sample.gloss for sample in samples)
    assert samples[0].clip == tmp_path / "sentence/frames_512x512" / samples[0].name
    if split == "dev":
        assert samples[0] == Sample(
            name="S000020_P0000_T00",
            text="他今年四岁。",
            clip=tmp_path / "sentence/frames_512x512/S000020_P0000_T00",
            gloss=("他", "今天", "年龄", "4"),
            signer="0",
            num_frames=54,
        )


def test_csl_daily_release_layout_equals_the_tables(tmp_path, real_data, capsys):
    (tmp_path / "sentence_label").mkdir()
    info, lines = [], ["name|split"]
    for split in ("dev", "test"):
        source = real_data / f"annotations/csl-daily.{split}.tsv.gz"
        (tmp_path / source.name).symlink_to(source)
        for row in rows_of(source):
            lines.append(f"{row['name']}|{split}")
            info.append(
                {
                    "name": row["name"],
                    "length": int(row["num_frames"]),
                    "label_gloss": row["gloss"].split(),
                    "label_char": list(row["text"]),
                    "label_word": [row["text"]],
                    "label_postag": ["n"],
                    "signer": int(row["signer"]),
                    "time": 0,
                }
            )
    lines.append("S000005_P0004_T00|dev")
    (tmp_path / "sentence_label/split_1.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "sentence_label/csl2020ct_v2.pkl").write_bytes(pickle.dumps({"info": info, "gloss_map": ["他"]}))
    for split in ("dev", "test"):
        release = load_samples("csl_daily", tmp_path, split)
        assert release == load_samples("csl_daily", tmp_path, split, labels="tsv")
        assert len(release) == CSL[split]
    assert "left out 1 clips that in dev of sentence_label/split_1.txt have no label: S000005_P0004_T00" in (
        capsys.readouterr().err
    )


def test_csl_daily_missing_labels_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"needs the labels .*csl2020ct_v2\.pkl and .*split_1\.txt or csl-daily\.dev\.tsv"
    ):
        load_samples("csl_daily", tmp_path, "dev")
    (tmp_path / "sentence_label").mkdir()
    (tmp_path / "sentence_label/csl2020ct_v2.pkl").write_bytes(pickle.dumps([]))
    with pytest.raises(ValueError, match=r"needs sentence_label/split_1\.txt next to"):
        load_samples("csl_daily", tmp_path, "dev")


# --- How2Sign --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 31086), ("test", 2349)])
def test_how2sign_tables(tmp_path, real_data, split, count):
    source = real_data / f"annotations/how2sign.{split}.tsv.gz"
    (tmp_path / source.name).symlink_to(source)
    clips = tmp_path / split / "raw_videos"
    clips.mkdir(parents=True)
    names = [row["name"] for row in rows_of(source)]
    for name in names if split == "test" else names[:10]:
        (clips / name).touch()
    samples = load_samples("how2sign", tmp_path, split)
    assert len(samples) == (count if split == "test" else 10)
    assert len(names) == count
    assert samples[0].clip == clips / names[0]
    assert samples[0].name == names[0].removesuffix(".mp4")


@pytest.mark.parametrize("official", [True, False])
def test_how2sign_official_table_leaves_out_rows_without_a_clip(tmp_path, real_data, capsys, official):
    listed = {row["name"]: row["text"] for row in rows_of(real_data / "annotations/how2sign.test.tsv.gz")}
    text = tmp_path / "sentence_level/test/text/en/raw_text/re_aligned" if official else tmp_path
    clips = tmp_path / ("sentence_level/test/rgb_front/raw_videos" if official else "raw_videos")
    text.mkdir(parents=True, exist_ok=True)
    clips.mkdir(parents=True)
    with gzip.open(real_data / "annotations/how2sign_realigned_test.csv.gz") as file:
        (text / "how2sign_realigned_test.csv").write_bytes(file.read())
    for name in listed:
        (clips / name).touch()
    samples = load_samples("how2sign", tmp_path, "test")
    assert len(samples) == 2349  # of 2,357 rows
    assert "left out 8 of 2357 test sentences without a clip" in capsys.readouterr().err
    assert {f"{sample.name}.mp4": sample.text for sample in samples} == listed  # quotes of the table are undone


def test_how2sign_calls_dev_val(tmp_path):
    (tmp_path / "how2sign_val.csv").write_text("SENTENCE_NAME\tSTART\tEND\tSENTENCE\na-rgb_front\t0\t1\tHi!\n")
    (tmp_path / "val/raw_videos").mkdir(parents=True)
    (tmp_path / "val/raw_videos/a-rgb_front.mp4").touch()
    with pytest.raises(
        ValueError, match=r"needs the table how2sign_realigned_val\.csv or .*how2sign_val\.csv is read with"
    ):
        load_samples("how2sign", tmp_path, "dev")
    assert [s.text for s in load_samples("how2sign", tmp_path, "dev", realigned=False)] == ["Hi!"]
    (tmp_path / "val/raw_videos/a-rgb_front.mp4").unlink()
    with pytest.raises(ValueError, match="has none of the 1 clips"):
        load_samples("how2sign", tmp_path, "dev", realigned=False)
    (tmp_path / "val/raw_videos").rmdir()
    with pytest.raises(ValueError, match="needs the folder of clips raw_videos"):
        load_samples("how2sign", tmp_path, "dev", realigned=False)
