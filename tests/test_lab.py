"""`signcl density` for anybody's features: every source, every comparison, and what can be wrong with them."""

import json
import pickle

import fresh_process
import numpy as np
import pytest
import torch
from fresh_process import free_port, place_of_rank

from signcl.cli import main
from signcl.data.annotation.span_table import write_spans
from signcl.data.batch import Span
from signcl.data.features import FeatureStore, write_store
from signcl.density import pool_spans, sign_density_ratio
from signcl.density.instance_files import Annotation, load_instances
from signcl.density.results import Table, latex, markdown

GLOSSES = ("RAIN", "SUN", "WIND", "SNOW", "FOG")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eight clips of four signs with known spans, in every format; and the vectors of the signs."""
    folder = tmp_path_factory.mktemp("lab")
    random = np.random.default_rng(0)
    centres = {gloss: 3 * random.normal(size=6) for gloss in GLOSSES}
    clips, spans = {}, {}
    for i in range(8):
        rows, found = [], []
        for gloss in random.permutation(GLOSSES)[:4]:
            start = sum(map(len, rows)) + 1
            rows += [random.normal(size=(1, 6)), centres[gloss] + random.normal(size=(7, 6))]
            found.append(Span(str(gloss), start, start + 7))
        clips[f"clip{i}"] = np.concatenate(rows).astype(np.float32)
        spans[f"clip{i}"] = tuple(found)
    np.savez(folder / "clips.npz", **clips)
    (folder / "clips.pkl").write_bytes(
        pickle.dumps([{"name": n, "sign": torch.from_numpy(x)} for n, x in clips.items()])
    )
    write_store(folder / "store", clips.items(), dtype="float32")
    write_spans(folder / "spans.tsv", spans)
    picked = {
        frame: torch.cat([pool_spans(torch.from_numpy(clips[n]), spans[n], frame) for n in clips])
        for frame in ("centre", "mean", "medoid")
    }
    labels = [span.token for n in clips for span in spans[n]]
    np.save(folder / "rows.npy", picked["centre"].numpy())
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    return folder, clips, spans, picked, labels


def answer(capsys, *words):
    capsys.readouterr()
    assert main(["density", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def mistake(capsys, *words):
    capsys.readouterr()
    assert main(["density", *map(str, words)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("signcl: ")
    assert not any("Traceback" in line for line in said)
    return said[-1]


def truth(made, frame="centre", **options):
    _, _, _, picked, labels = made
    return 100 * sign_density_ratio(picked[frame], np.unique(labels, return_inverse=True)[1], **options).mean


@pytest.mark.parametrize("source", ["clips.npz", "clips.pkl", "store"])
def test_sequences_with_spans_from_every_format(made, source, capsys):
    folder = made[0]
    found = answer(capsys, folder / source, "--spans", folder / "spans.tsv", "--frame", "centre", "mean", "medoid")
    assert found["sdr"] == pytest.approx(truth(made))
    assert [part["frame"] for part in found["frames"]] == ["centre", "mean", "medoid"]
    for part in found["frames"]:
        assert part["sdr"] == pytest.approx(truth(made, part["frame"]))
        assert part["interval"][0] < part["sdr"] < part["interval"][1]
    assert found["instances"] == 32
    assert found["glosses"] == 5


def test_one_row_per_sign_from_every_format(made, tmp_path, capsys):
    folder, _, _, picked, labels = made
    expected = truth(made)
    rows = folder / "rows.npy"
    assert answer(capsys, rows, "--glosses", folder / "labels.txt")["sdr"] == pytest.approx(expected)
    np.save(tmp_path / "labels.npy", np.array(labels))
    assert answer(capsys, rows, "--glosses", tmp_path / "labels.npy")["sdr"] == pytest.approx(expected)
    np.savez(tmp_path / "both.npz", x=picked["centre"].numpy(), y=np.unique(labels, return_inverse=True)[1])
    assert answer(capsys, tmp_path / "both.npz", "--glosses", "y")["sdr"] == pytest.approx(expected)
    (tmp_path / "labels.csv").write_text("id,gloss\n" + "".join(f"{i},{gloss}\n" for i, gloss in enumerate(labels)))
    assert answer(capsys, rows, "--glosses", tmp_path / "labels.csv")["sdr"] == pytest.approx(expected)
    write_store(tmp_path / "store", [("rows", picked["centre"])], dtype="float32")
    assert answer(capsys, tmp_path / "store", "--glosses", folder / "labels.txt")["sdr"] == pytest.approx(expected)


def test_clips_of_one_sign_each(made, tmp_path, capsys):
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 5)
    clips = (random.normal(size=(4, 1, 6))[labels] + 0.3 * random.normal(size=(20, 9, 6))).astype(np.float32)
    np.savez(tmp_path / "clips.npz", x=clips, y=labels)
    for frame, expected in (("mean", clips.mean(axis=1)), ("centre", clips[:, 4])):
        found = answer(capsys, tmp_path / "clips.npz", "--key=x", "--glosses=y", "--frame", frame)
        assert found["sdr"] == pytest.approx(100 * sign_density_ratio(expected, labels).mean, rel=1e-5)
    np.savez(tmp_path / "named.npz", **{f"c{i}": clip for i, clip in enumerate(clips)})
    (tmp_path / "named.tsv").write_text("name\tgloss\n" + "".join(f"c{i}\tG{g}\n" for i, g in enumerate(labels)))
    named = answer(capsys, tmp_path / "named.npz", "--glosses", tmp_path / "named.tsv", "--frame", "centre")
    assert named["sdr"] == pytest.approx(found["sdr"])


def test_a_half_precision_store_is_read_by_memory_map(tmp_path):
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(300, 16)) + 5, np.repeat(np.arange(30), 10)
    store = write_store(tmp_path / "store", [("first", rows[:7]), ("rows", rows)], dtype="float16")
    mapped = store.mapped("rows")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.float16
    np.testing.assert_array_equal(mapped, rows.astype(np.float16))
    single = sign_density_ratio(mapped, labels).sdr
    double = sign_density_ratio(np.array(mapped, dtype=np.float64), labels).sdr
    assert float((single / double - 1).abs().max()) < 1e-6
    shard = next((tmp_path / "store").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match="shorter than in the index"):
        FeatureStore(tmp_path / "store").mapped("rows")


def test_the_peak_is_where_the_recogniser_is_surest(made, tmp_path, capsys):
    folder, clips, spans, _, _ = made
    classes = ["<blank>", *GLOSSES]
    random = np.random.default_rng(3)
    said, expected = {}, []
    for name, rows in clips.items():
        scores = torch.full((len(rows), 6), -3.0)
        for span in spans[name]:
            peak = int(random.integers(span.start, span.stop))
            scores[peak, classes.index(span.token)] = 5.0
            expected.append(torch.from_numpy(rows[peak]))
        said[name] = scores.log_softmax(dim=1).numpy()
    np.savez(tmp_path / "said.npz", **said)
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    words = [folder / "clips.npz", "--spans", folder / "spans.tsv", "--frame", "peak", "centre"]
    words += ["--log-probs", tmp_path / "said.npz", "--classes", tmp_path / "classes.txt"]
    found = answer(capsys, *words)
    numbers = np.unique(made[4], return_inverse=True)[1]
    assert found["sdr"] == pytest.approx(100 * sign_density_ratio(torch.stack(expected), numbers).mean)
    assert found["frames"][1]["sdr"] == pytest.approx(truth(made))
    assert "--log-probs FILE" in mistake(capsys, *words[:5])
    (tmp_path / "classes.txt").write_text("\n".join(classes[:-1]))
    assert "1 have none, such as FOG" in mistake(capsys, *words)


def test_the_peaks_of_a_table_of_spans_are_taken(made, tmp_path, capsys):
    folder, clips, spans, _, _ = made
    random = np.random.default_rng(5)
    peaks = {name: [int(random.integers(s.start, s.stop)) for s in found] for name, found in spans.items()}
    table = tmp_path / "spans.tsv"
    write_spans(table, spans, peaks=peaks)
    expected = [torch.from_numpy(clips[name][peak]) for name in clips for peak in peaks[name]]
    found = answer(capsys, folder / "clips.npz", "--spans", table, "--frame", "peak", "centre")
    numbers = np.unique(made[4], return_inverse=True)[1]
    assert found["sdr"] == pytest.approx(100 * sign_density_ratio(torch.stack(expected), numbers).mean)
    assert found["frames"][1]["sdr"] == pytest.approx(truth(made))
    head, first, *rest = table.read_text().splitlines()
    missing = first.rsplit("\t", 1)[0] + "\t"
    table.write_text("\n".join([head, missing, *rest]) + "\n")
    assert "in the column `peak`" in mistake(capsys, folder / "clips.npz", "--spans", table, "--frame", "peak")
    table.write_text("\n".join([head, missing + "999", *rest]) + "\n")
    assert "as peak, got '999'" in mistake(capsys, folder / "clips.npz", "--spans", table)


def test_options_reach_the_measure(made, tmp_path, capsys):
    folder, _, spans, _, _ = made
    words = [folder / "clips.npz", "--spans", folder / "spans.tsv"]
    found = answer(capsys, *words, "--cap=3", "--seed=2", "--distance=cosine", "--inter=instance", "--no-baseline")
    assert found["sdr"] == pytest.approx(truth(made, cap=3, seed=2, distance="cosine", inter="instance"))
    assert found["shuffled"] is None
    assert found["measured"] == 15
    uneven = {n: tuple(Span(s.token, s.start, s.stop - i % 3) for i, s in enumerate(own)) for n, own in spans.items()}
    write_spans(tmp_path / "uneven.tsv", uneven)
    found = answer(capsys, folder / "clips.npz", "--spans", tmp_path / "uneven.tsv", "--weight=frames")
    instances = load_instances(folder / "clips.npz", Annotation(spans=str(tmp_path / "uneven.tsv")))[0]
    assert set(instances.frames) == {5, 6, 7}
    expected = sign_density_ratio(instances.features, instances.numbers()[1], weights=instances.frames).mean
    assert found["sdr"] == pytest.approx(100 * expected)
    both = answer(capsys, *words, "--interval=both", "--samples=200")
    assert both["interval"][0] < both["sdr"] < both["interval"][1]


def test_steps_of_several_frames(made, tmp_path, capsys):
    folder, clips, spans, _, _ = made
    np.savez(
        tmp_path / "steps.npz", **{n: x[: len(x) // 4 * 4].reshape(-1, 4, 6).mean(axis=1) for n, x in clips.items()}
    )
    found = answer(capsys, tmp_path / "steps.npz", "--spans", folder / "spans.tsv", "--stride=4")
    rows = torch.cat(
        [pool_spans(torch.from_numpy(np.load(tmp_path / "steps.npz")[n]), spans[n], stride=4) for n in clips]
    )
    numbers = np.unique(made[4], return_inverse=True)[1]
    assert found["sdr"] == pytest.approx(100 * sign_density_ratio(rows, numbers).mean)
    said = mistake(capsys, tmp_path / "steps.npz", "--spans", folder / "spans.tsv")
    assert "spans beyond the clip" in said, "without --stride the clips seem a quarter as long"


def test_against_a_recognisers_predictions_and_against_a_table(made, tmp_path, capsys):
    folder = made[0]
    words = [folder / "clips.npz", "--spans", folder / "spans.tsv", "--measures", "--samples=100"]
    lines = ["name\treference\thypothesis", "a\tRAIN SUN WIND\tRAIN WIND", "b\tSNOW FOG RAIN\tSNOW SNOW", "c\tFOG\tFOG"]
    (tmp_path / "predictions.test.tsv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "found"
    found = answer(capsys, *words, "--against", tmp_path / "predictions.test.tsv", "--bins=2", "--out", out)
    rows = {line.split(",")[0]: line.split(",") for line in (tmp_path / "found.csv").read_text().splitlines()}
    accuracy = rows["gloss"].index("accuracy")
    assert {g: float(rows[g][accuracy]) for g in GLOSSES} == {"RAIN": 50, "SUN": 0, "WIND": 100, "SNOW": 100, "FOG": 50}
    assert [b["glosses"] for b in found["against"]["bins"]] == [3, 2]
    by_name = {c["quantity"]: c for c in found["against"]["correlations"]}
    assert {"inter", "intra", "sdr", "fisher", "silhouette", "neighbour_purity", "log frequency"} == by_name.keys()
    sdr = rows["gloss"].index("sdr")
    expected = np.corrcoef([[float(rows[g][c]) for g in GLOSSES] for c in (sdr, accuracy)])[0, 1]
    assert by_name["sdr"]["plain"]["pearson"]["value"] == pytest.approx(expected, abs=1e-4)
    assert by_name["sdr"]["partial"]["controls"] == 1
    for suffix in ("json", "csv", "md", "tex"):
        assert (tmp_path / f"found.{suffix}").stat().st_size > 300
    assert json.loads((tmp_path / "found.json").read_text()) == found
    capsys.readouterr()
    assert main(["density", *map(str, words), "--against", str(tmp_path / "predictions.test.tsv")]) == 0
    assert "log frequency fixed" in capsys.readouterr().out

    (tmp_path / "scores.csv").write_text(
        "gloss,score,frequency\n" + "".join(f"{g},{i},{9 - i}\n" for i, g in enumerate(GLOSSES))
    )
    found = answer(capsys, *words, "--against", tmp_path / "scores.csv")
    assert found["against"]["frequency"] == "from the table"
    assert "score" in found["against"]["source"]
    (tmp_path / "scores.csv").write_text("gloss,score\nHAIL,1\nICE,2\n")
    assert "got 0; ratios of" in mistake(capsys, *words, "--against", tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("gloss,score\nRAIN,much\n")
    assert "needs numbers, got score 'much'" in mistake(capsys, *words, "--against", tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("word,points\nRAIN,1\n")
    assert "found word, points" in mistake(capsys, *words, "--against", tmp_path / "scores.csv")
    assert "no file at" in mistake(capsys, *words, "--against", tmp_path / "none.tsv")


def test_two_feature_sets_side_by_side(made, tmp_path, capsys):
    folder, clips, _, _, _ = made
    random = np.random.default_rng(9)
    noisy = {n: x + 3 * random.normal(size=x.shape).astype(np.float32) for n, x in clips.items()}
    np.savez(tmp_path / "noisy.npz", **noisy)
    words = [folder / "clips.npz", "--spans", folder / "spans.tsv", "--versus", tmp_path / "noisy.npz"]
    found = answer(capsys, *words)["versus"]
    assert found["a"] == pytest.approx(truth(made))
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert found["over"] == "both"
    other = made[3]["centre"].numpy() + random.normal(size=(32, 6))
    np.save(tmp_path / "another.npy", other.astype(np.float32))
    rows = answer(capsys, folder / "rows.npy", "--glosses", folder / "labels.txt", "--versus", tmp_path / "another.npy")
    assert rows["versus"]["difference"] > 0, "rows of two files are the same signs, whatever the files are called"
    noisy.pop("clip3")
    np.savez(tmp_path / "noisy.npz", **noisy)
    assert "clip3" in mistake(capsys, *words)
    said = mistake(capsys, *words, "--partial")
    assert "4 are in only one of them" in said
    assert "clip3" in said


def test_label_free_needs_sequences_only(made, capsys):
    folder = made[0]
    found = answer(capsys, folder / "clips.npz", "--label-free", "--frames-per-sign=8")
    assert found["segments"] == 32
    assert 0 < found["segment_ratio"] < 1
    assert "peak needs glosses" in mistake(capsys, folder / "clips.npz", "--label-free", "--frame=peak")
    assert "at least 2 clips" in mistake(capsys, folder / "rows.npy", "--label-free")


def test_annotation_that_does_not_fit_is_one_clear_line(made, tmp_path, capsys):
    folder, clips, _, picked, labels = made
    clip, rows = folder / "clips.npz", folder / "rows.npy"
    assert "got none of them" in mistake(capsys, clip)
    assert "got --spans and --glosses" in mistake(capsys, clip, "--spans=a", "--glosses=b")
    assert "no features at" in mistake(capsys, tmp_path / "none.npy", "--glosses", folder / "labels.txt")
    assert "no such file" in mistake(capsys, clip, "--spans", tmp_path / "none.tsv")
    table = tmp_path / "spans.tsv"
    table.write_text("")
    assert "is empty; a table of spans needs" in mistake(capsys, clip, "--spans", table)
    table.write_text("name\tgloss\tstart\tstop\n")
    assert "no rows" in mistake(capsys, clip, "--spans", table)
    table.write_text("name\tgloss\tstart\tstop\nclip0\tRAIN\t3\t99\n")
    assert "clip0 RAIN:3-99 of 32 frames" in mistake(capsys, clip, "--spans", table)
    strangers = "".join(f"other{i}\tRAIN\t3\t9\n" for i in range(7))
    table.write_text("name\tgloss\tstart\tstop\n" + strangers)
    said = mistake(capsys, clip, "--spans", table)
    assert "other0; other1; other2; other3; other4 and 2 more" in said
    assert "no clip in common" in mistake(capsys, clip, "--spans", table, "--partial")
    table.write_text("name\tgloss\tstart\tstop\n" + "".join(f"{n}\tG{n}\t3\t9\n" for n in clips))
    assert "at most 1 each; lower min_count" in mistake(capsys, clip, "--spans", table), "every gloss once"

    short = tmp_path / "short.txt"
    short.write_text("\n".join(labels[:-1]))
    assert "has 31, the features of" in mistake(capsys, rows, "--glosses", short)
    short.write_text("")
    assert "is empty; needs one gloss per row" in mistake(capsys, rows, "--glosses", short)
    short.write_text("\n".join([*labels[:3], "", *labels[4:]]))
    assert "1 rows have no gloss, first row 3" in mistake(capsys, rows, "--glosses", short)
    named = tmp_path / "named.tsv"
    named.write_text("name\tgloss\n" + "".join(f"x{i}\tRAIN\n" for i in range(6)))
    assert "6 names have no features" in mistake(capsys, clip, "--glosses", named)
    assert "x0, x1, x2, x3, x4" in mistake(capsys, clip, "--glosses", named)
    named.write_text("name\tgloss\nclip0\tRAIN\nclip0\tSUN\n")
    assert "occurs twice" in mistake(capsys, clip, "--glosses", named)
    np.savez(tmp_path / "two.npz", a=picked["centre"], b=picked["centre"])
    assert "name the features with --key" in mistake(capsys, tmp_path / "two.npz", "--glosses", folder / "labels.txt")


def test_features_that_cannot_be_measured_are_named(made, tmp_path, capsys):
    folder, clips, _, picked, _ = made
    broken = picked["centre"].numpy().copy()
    broken[[4, 9], 1] = np.inf
    np.save(tmp_path / "rows.npy", broken)
    said = mistake(capsys, tmp_path / "rows.npy", "--glosses", folder / "labels.txt")
    assert "2 of 32 rows (row 4, 9, counted from 0)" in said
    np.save(tmp_path / "rows.npy", np.ones((32, 5)))
    assert "rows that differ, got 32 equal rows" in mistake(
        capsys, tmp_path / "rows.npy", "--glosses", folder / "labels.txt"
    )
    clips = {**clips, "clip2": np.where(np.arange(32)[:, None] == 5, np.nan, clips["clip2"])}
    np.savez(tmp_path / "clips.npz", **clips)
    said = mistake(capsys, tmp_path / "clips.npz", "--spans", folder / "spans.tsv")
    assert "'clip2' contain NaN or infinity, first in frame 5" in said
    (tmp_path / "text.npy").write_text("no numbers")
    assert "not a readable .npy" in mistake(capsys, tmp_path / "text.npy", "--glosses", folder / "labels.txt")


def test_real_signs_of_the_sensor_glove(real_data, capsys):
    found = answer(capsys, real_data / "imu-number-signs", "--corpus=imu_numbers", "--frame", "centre", "mean")
    assert found["instances"] == 362
    assert [round(part["sdr"], 1) for part in found["frames"]] == [55.3, 30.8]
    isolated = real_data / "imu-number-signs" / "isolated.npz"
    found = answer(capsys, isolated, "--key=x", "--glosses=y", "--frame=mean", "--cap=20")
    assert found["glosses"] == 46
    assert 20 < found["sdr"] < 35


def test_real_skeletons_with_the_states_of_phoenix(real_data, tmp_path, capsys):
    clips = {}
    for split in ("train", "dev", "test"):
        names = (real_data / f"phoenix14t-skels15/{split}.files").read_text().split()
        for name, line in zip(names, (real_data / f"phoenix14t-skels15/{split}.skels").read_text().splitlines()):
            clips[name.split("/")[-1]] = np.array(line.split(), dtype=np.float32).reshape(-1, 151)[:, :150]
    np.savez(tmp_path / "skels.npz", **clips)
    states = real_data / "phoenix14t-alignments"
    found = answer(capsys, tmp_path / "skels.npz", "--phoenix-alignments", states, "--split=train,dev,test")
    assert len(clips) == 15
    assert found["glosses"] == 19, "that many occur twice or more, a movement repeated at once counted as one"
    assert 40 < found["sdr"] < 100


def test_two_processes_share_the_work_and_one_answers(made, tmp_path):
    # What torchrun sets for its processes.
    folder, port = made[0], free_port()
    words = ["density", folder / "rows.npy", "--glosses", folder / "labels.txt", "--json"]
    places = [tmp_path / str(rank) for rank in range(2)]
    processes = [
        fresh_process.start(words, tmp_path, place, place_of_rank(rank, 2, port)) for rank, place in enumerate(places)
    ]
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    first, second = ((place / "stdout").read_text() for place in places)
    assert json.loads(first)["sdr"] == pytest.approx(truth(made))
    assert second == ""


def test_tables_for_papers():
    shown = Table("50 % of_it", ["a_b", "c"], [["x|y & z", "1 %"]])
    assert markdown(shown).splitlines()[2:] == ["| a_b | c |", "| --- | ---: |", "| x\\|y & z | 1 % |"]
    assert r"a\_b & c \\" in latex(shown)
    assert r"x|y \& z & 1 \% \\" in latex(shown)
