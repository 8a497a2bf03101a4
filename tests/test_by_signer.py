"""Density by signer, intervals over signers, and what is said where measures disagree."""

import json

import numpy as np
import pytest
import torch

from signcl.cli import main
from signcl.density import label_free_density, ratio_interval, sign_density_ratio, to_rows
from signcl.density.by_signer import balanced_weights, signer_ratios
from signcl.density.instances import Instances
from signcl.density.verdicts import compared_line, measured_alike, notes_on
from signcl.evaluation.comparison import density_line
from signcl.pages.explorer import FeatureSet, write_explorer


def signed(signers=6, glosses=8, takes=4, offset=2.0, seed=0, dims=12):
    """Rows of signers who each make every gloss a few times, with an offset of their own."""
    draw = np.random.default_rng(seed)
    centres, own = draw.normal(size=(glosses, dims)), offset * draw.normal(size=(signers, dims))
    who, what = np.meshgrid(np.arange(signers), np.arange(glosses), indexing="ij")
    who, what = np.repeat(who.ravel(), takes), np.repeat(what.ravel(), takes)
    return centres[what] + own[who] + 0.3 * draw.normal(size=(len(who), dims)), what, who


# -- within and across -----------------------------------------------------------------------------------------------


def naive(rows, glosses, signers, across):
    """The ratio by a plain double loop over pairs of one signer, or of two."""
    names = sorted(set(glosses))
    mean = {}
    for a in names:
        for b in names:
            pairs = [
                np.linalg.norm(rows[i] - rows[j])
                for i in range(len(rows)) for j in range(len(rows))
                if i != j and glosses[i] == a and glosses[j] == b and (signers[i] != signers[j]) == across
            ]  # fmt: skip
            mean[a, b] = np.mean(pairs) if pairs else np.nan
    values = [mean[a, a] / np.nanmean([mean[a, b] for b in names if b != a]) for a in names]
    return np.nanmean(values)


def test_a_double_loop_agrees():
    rows, glosses, signers = signed(signers=3, glosses=4, takes=2)
    keep = np.random.default_rng(1).permutation(len(rows))[:18]  # not everybody makes everything
    rows, glosses, signers = rows[keep], glosses[keep], signers[keep]
    found = signer_ratios(rows, glosses, signers)
    assert found.across == pytest.approx(naive(rows, glosses, signers, True))
    for s, sdr in enumerate(found.sdr):
        own = signers == s
        counts = np.unique(glosses[own], return_counts=True)[1]
        if len(counts) > 1 and counts.max() > 1:
            assert sdr == pytest.approx(sign_density_ratio(rows[own], glosses[own]).mean)
    assert found.rows.sum() == 18


def test_an_offset_of_each_signer_shows_across_and_not_within():
    rows, glosses, signers = signed(offset=4.0)
    found = signer_ratios(rows, glosses, signers)
    assert found.within < 0.4
    assert found.across > 0.8
    assert signer_ratios(*signed(offset=0.0)).across < 0.4


def test_one_signer_is_refused():
    rows, glosses, _ = signed()
    with pytest.raises(ValueError, match="at least 2 signers, got 1: x"):
        signer_ratios(rows, glosses, ["x"] * len(rows))


def test_balanced_weights_count_each_signer_of_a_gloss_alike():
    weights = balanced_weights(["A", "A", "A", "B"], ["x", "x", "y", "x"])
    assert weights.tolist() == [0.5, 0.5, 1.0, 1.0]


# -- intervals over signers ------------------------------------------------------------------------------------------


def test_the_interval_over_signers_is_as_wide_as_other_signers_scatter():
    """Over instances it is several times too narrow where signers differ."""
    found = [sign_density_ratio(*signed(takes=9, seed=seed)[:2]).mean for seed in range(40)]
    rows, glosses, signers = signed(takes=9, seed=100)
    by_signer = ratio_interval(rows, glosses, over="signers", signers=signers, samples=300)
    by_instance = ratio_interval(rows, glosses, over="instances", samples=300)
    scatter = np.quantile(found, 0.975) - np.quantile(found, 0.025)
    assert 0.3 < (by_signer.high - by_signer.low) / scatter < 2
    assert by_instance.high - by_instance.low < 0.4 * (by_signer.high - by_signer.low)
    with pytest.raises(ValueError, match="needs the signer of each row"):
        ratio_interval(rows, glosses, over="signers")
    with pytest.raises(ValueError, match=r"at least 2 signers, got 432 rows of 1 signers\."):
        ratio_interval(rows, glosses, over="signers", signers=["x"] * len(rows))


def test_the_interval_over_signers_lies_around_the_measured_ratio():
    # Two instances of one signer have the square of that signer's weight, so the replicates lean towards the ratio
    # within a signer: the measured ratio was at the upper end of its interval, and about half of all intervals of three
    # signers missed the ratio that signers have on average.
    found = []
    for seed in range(16):
        rows, glosses, signers = signed(signers=3, takes=3, offset=1.0, seed=seed)
        rows += np.random.default_rng(99).normal(size=(8, 12))[glosses] - np.random.default_rng(seed).normal(
            size=(8, 12))[glosses]  # the same signs for every seed  # fmt: skip
        found.append(ratio_interval(rows, glosses, over="signers", signers=signers, samples=60))
    usual = np.mean([one.mean for one in found])
    assert all(one.low < one.mean < one.high for one in found)
    assert sum(one.low < usual < one.high for one in found) >= 14


def test_ratios_by_signer_have_intervals_over_signers():
    rows, glosses, signers = signed(signers=4, glosses=3, takes=2)
    found = signer_ratios(rows, glosses, signers)
    values = [naive(rows[signers != s], glosses[signers != s], signers[signers != s], True) for s in range(4)]
    error = np.sqrt(3 / 4 * ((values - np.mean(values)) ** 2).sum())  # jackknife
    reach = 3.182446 * error  # Student's t, 3 degrees of freedom
    assert found.across_interval == pytest.approx((found.across - reach, found.across + reach))
    reach = 3.182446 * found.sdr.std(ddof=1) / 2
    assert found.within_interval == pytest.approx((found.within - reach, found.within + reach))
    two = signers < 2
    assert signer_ratios(rows[two], glosses[two], signers[two]).across_interval is None


@pytest.mark.parametrize("distance", ["squared", "cosine"])
def test_ratios_by_signer_take_the_distance_of_the_ratio(distance):
    rows, glosses, _ = signed(signers=4, glosses=3, takes=2)
    everyone = np.arange(len(rows))  # a signer per row: all pairs are across signers
    whole = sign_density_ratio(rows, glosses, distance=distance).mean
    assert signer_ratios(rows, glosses, everyone, distance=distance).across == pytest.approx(whole)


# -- glosses as text -------------------------------------------------------------------------------------------------


def test_glosses_may_be_text_and_a_density_is_one_line():
    rows, glosses, _ = signed(glosses=3)
    names = np.array(["RAIN", "SUN", "CLOUD"])[glosses]
    by_name, by_number = sign_density_ratio(rows, names.tolist()), sign_density_ratio(rows, glosses)
    assert by_name.mean == by_number.mean
    assert by_name.names == ("CLOUD", "RAIN", "SUN")
    assert {row["gloss"] for row in to_rows(by_name)} == {"RAIN", "SUN", "CLOUD"}
    assert str(by_name).startswith(f"SDR {100 * by_name.mean:.2f} % (euclidean; 72 signs of 3 glosses; within ")
    assert "\n" not in str(by_name)


# -- verdicts --------------------------------------------------------------------------------------------------------


def result(sdr, found):
    measured = {"interval": [sdr - 1, sdr + 1], "intra": 1.0, "inter": 2.0, "feature_norm": 3.0}
    counts = {"instances": 40, "glosses": 9, "glosses_left_out": 0}
    return {"sdr": sdr, **measured, **counts, "retrieval": {"clips": {"map": found}}}


def test_two_results_that_disagree_get_a_sentence():
    said = compared_line(result(56.0, 66.0), result(20.0, 55.0))
    assert said == "SDR is lower, but signs are harder to find (SDR 56.0 to 20.0 %, mAP 66.0 to 55.0 %)"
    assert compared_line(result(20.0, 55.0), result(56.0, 66.0)).startswith("SDR is higher, but signs are easier")
    assert compared_line(result(56.0, 66.0), result(20.0, 84.0)) is None
    assert compared_line({"sdr": 5.0}, result(20.0, 84.0)) is None
    assert compared_line(result(56.0, 66.0), result(20.0, 55.0) | {"instances": 12}) is None, "of other signs"
    made = {"frame": "centre", "tap": "features", "distance": "euclidean", "inter": "gloss"}
    assert measured_alike({"made": made}, {"made": made | {"cap": None}}), "an older result"
    assert not measured_alike({"made": made | {"cap": 5}}, {"made": made | {"cap": None}})
    assert not measured_alike({"made": made}, {"made": made | {"spans": "people.tsv"}})


def test_a_result_that_sdr_alone_would_hide_gets_notes():
    pairs = [{"gloss": "A", "nearest": "B", "auc": 0.51}, {"gloss": "C", "nearest": "D", "auc": 0.9}]
    found = {
        "sdr": 95.0, "shuffled": 99.0, "variance": {"signer": 70.0},
        "retrieval": {"clips": {"map": 90.0, "one_nn": 97.0}, "signers": {"one_nn": 30.0}},
        "nearest": {"pairs": pairs, "glosses": 4, "hard": 1},
    }  # fmt: skip
    notes = " / ".join(notes_on(found))
    for part in ("1 of 4 glosses can hardly be told from their nearest one (AUC below 0.6): A–B; SDR",
                 "97 % of signs are found first", "30 % of other signers", "70 % of the variance"):  # fmt: skip
        assert part in notes
    assert notes_on({"sdr": 30.0, "shuffled": 99.0}) == []


def test_a_wide_gloss_whose_signs_are_found_is_not_called_lost():
    pairs = [
        {"gloss": "A", "nearest": "B", "auc": 0.3, "lost": False},
        {"gloss": "C", "nearest": "D", "auc": 0.5, "lost": True},
    ]
    near = {"pairs": pairs, "glosses": 9, "hard": 2, "lost": 1, "shuffled_hard": 8}
    one, two = notes_on({"sdr": 30.0, "shuffled": 99.0, "nearest": near})
    assert one.startswith(
        "1 of 9 glosses can hardly be told from their nearest one (AUC below 0.6; 8 of shuffled glosses): C–D;"
    )
    assert two.startswith(
        "1 of 9 glosses are as wide as their nearest one is far (AUC below 0.6), and yet their signs are"
    )


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    rows, glosses, signers = signed()
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    (tmp_path / "glosses.txt").write_text("\n".join(f"G{g}" for g in glosses) + "\n")
    (tmp_path / "signers.txt").write_text("\n".join(f"S{s}" for s in signers) + "\n")
    # twenty pairs of glosses in one place each, spread twice as widely: SDR falls, and signs cannot be found
    draw = np.random.default_rng(5)
    centres = draw.normal(size=(8, 12))
    apart = centres[glosses] + 0.6 * draw.normal(size=rows.shape)
    near = 2.5 * centres[glosses // 2] + 0.6 * draw.normal(size=rows.shape)
    np.save(tmp_path / "apart.npy", apart.astype(np.float32))
    np.save(tmp_path / "coinciding.npy", near.astype(np.float32))
    return tmp_path


def test_by_signer_on_the_command_line(files, capsys):
    words = ["density", str(files / "rows.npy"), "--glosses", str(files / "glosses.txt"), "--samples", "50"]
    assert main([*words, "--by", "signer", "--signers", str(files / "signers.txt"), "--interval", "signers", "--json",
                 "--weight", "signers"]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert found["signers"]["within"] < 50 < found["signers"]["across"]
    assert [row["signer"] for row in found["signers"]["each"]] == [f"S{s}" for s in range(6)]
    assert found["retrieval"]["signers"]["one_nn"] < 0.5 * found["retrieval"]["clips"]["one_nn"]
    assert any("the features identify the signer" in note for note in found["notes"])
    assert found["made"]["interval"] == "signers"
    for flags in (["--by", "signer"], ["--interval", "signers"], ["--weight", "signers"]):
        assert main([*words, *flags]) == 2
        assert "needs at least 2 signers, but no signer is known" in capsys.readouterr().err


def test_the_command_says_where_sdr_and_retrieval_disagree(files, capsys):
    words = ["density", str(files / "apart.npy"), "--glosses", str(files / "glosses.txt"), "--samples", "50"]
    assert main([*words, "--versus", str(files / "coinciding.npy")]) == 0
    assert "Note: SDR is lower, but signs are harder to find" in capsys.readouterr().out
    words[1] = str(files / "coinciding.npy")
    assert main([*words, "--measures"]) == 0
    said = capsys.readouterr().out
    assert "8 of 8 glosses can hardly be told from their nearest one" in said
    for part in ("Retrieval: higher is better", "Each gloss against its nearest one", "RankMe", "linear probe"):
        assert part in said


def test_one_clip_a_gloss_and_constant_features_are_said(files, capsys):
    glosses = [f"G{i % 4}" for i in range(12)]
    (files / "few.txt").write_text("\n".join(glosses) + "\n")
    np.save(files / "constant.npy", np.ones((12, 3), np.float32))
    assert main(["density", str(files / "constant.npy"), "--glosses", str(files / "few.txt")]) == 2
    assert "equal" in capsys.readouterr().err
    clips = {f"c{i}": np.random.default_rng(i).normal(size=(6, 3)).astype(np.float32) for i in range(3)}
    np.savez(files / "clips.npz", **clips)
    lines = ["name\tgloss\tstart\tstop"]
    lines += [f"c{i}\tG{i}\t{3 * j}\t{3 * j + 3}" for i in range(3) for j in range(2)]
    (files / "spans.tsv").write_text("\n".join(lines) + "\n")
    assert main(["density", str(files / "clips.npz"), "--spans", str(files / "spans.tsv")]) == 0
    assert "not measured: retrieval needs a gloss in two clips, but none of 3 glosses" in capsys.readouterr().out


# -- without glosses -------------------------------------------------------------------------------------------------


def test_label_free_takes_out_signers_and_says_when_not_to_trust_it():
    draw = np.random.default_rng(0)
    clips, who = [], []
    for n in range(12):
        clips.append((draw.normal(size=(60, 8)) + 20 * (n % 3)).astype(np.float32))
        who.append(f"s{n % 3}")
    blind = label_free_density(clips)
    assert not blind.trusted
    assert blind.clip_share > 0.9
    aware = label_free_density(clips, signers=who)
    assert aware.trusted
    assert aware.signer_share > 0.9
    assert aware.neighbour_ratio > 3 * blind.neighbour_ratio, "noise is dense once the offset is gone"
    with pytest.raises(ValueError, match="needs one signer per clip, got 2 for 12"):
        label_free_density(clips, signers=["a", "b"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--measures"], "--measures: has no effect with --label-free"),
        (["--interval", "glosses"], "--interval: has no effect with --label-free"),
        (["--glosses", "x.txt"], "--glosses: has no effect with --label-free"),
        (["--frame", "centre", "mean"], "--frame centre mean: has no effect with --label-free"),
        (["--split", "dev"], "--split: has no effect with --label-free"),
        (["--device", "cpu"], "--device: has no effect with --label-free"),
        (["--corpus", "folder", "--signers", "x.tsv"], "--signers: has no effect with --label-free"),
    ],
)
def test_an_option_acts_or_is_refused(tmp_path, capsys, flags, said):
    np.savez(tmp_path / "clips.npz", **{f"c{i}": np.random.default_rng(i).normal(size=(60, 3)) for i in range(3)})
    assert main(["density", str(tmp_path / "clips.npz"), "--label-free", *flags]) == 2
    assert said in capsys.readouterr().err


def test_label_free_of_files_knows_signers(tmp_path, capsys):
    """Noise with a constant offset of each signer looks clear, until a table names the signers."""
    draw = np.random.default_rng(0)
    clips = {f"c{n}": (draw.normal(size=(60, 8)) + 20 * (n % 3)).astype(np.float32) for n in range(9)}
    np.savez(tmp_path / "clips.npz", **clips)
    table = tmp_path / "signers.tsv"
    table.write_text("name\tsigner\n" + "".join(f"c{n}\ts{n % 3}\n" for n in range(9)))
    words = ["density", str(tmp_path / "clips.npz"), "--label-free", "--json"]
    assert main(words) == 0
    blind = json.loads(capsys.readouterr().out)
    assert main([*words, "--signers", str(table)]) == 0
    aware = json.loads(capsys.readouterr().out)
    assert (blind["trusted"], blind["signer_share"], aware["trusted"]) == (False, None, True)
    assert aware["signer_share"] > 0.9
    assert aware["neighbour_ratio"] > 3 * blind["neighbour_ratio"]
    table.write_text("name\tsigner\nc0\ts0\n")
    assert main([*words, "--signers", str(table)]) == 2
    assert "has no row for the clip c1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tap", "steps"], "--tap: has no effect for features from a file"),
        (["--root", "x"], "--root: has no effect for features from a file"),
        (["--split", "dev"], "--split: has no effect for features from a file"),
        (["--key", "x"], "--key: has no effect without --glosses and an .npz"),
        (["--classes", "x"], "--classes: has no effect without --log-probs"),
        (["--log-probs", "x"], "--log-probs: has no effect without --frame peak"),
        (["--stride", "4"], "--stride: has no effect, because each row of"),
        (["--frame", "mean"], "--frame mean: has no effect, because each row of"),
        (["--weight", "frames"], "--weight frames: has no effect, because each row of"),
    ],
)
def test_an_option_of_another_source_is_refused(files, capsys, flags, said):
    assert main(["density", str(files / "rows.npy"), "--glosses", str(files / "glosses.txt"), *flags]) == 2
    assert said in capsys.readouterr().err


def test_label_free_writes_where_it_is_told(tmp_path, capsys):
    np.savez(tmp_path / "clips.npz", **{f"c{i}": np.random.default_rng(i).normal(size=(60, 3)) for i in range(3)})
    assert main(["density", str(tmp_path / "clips.npz"), "--label-free", "-o", str(tmp_path / "found")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["clips"] == 3
    assert "A diagnostic: none of these is the SDR" in capsys.readouterr().out
    assert main(["density", str(tmp_path / "clips.npz"), "--frames-per-sign", "9"]) == 2
    assert "--frames-per-sign: has no effect without --label-free" in capsys.readouterr().err


def test_compare_and_report_say_it_of_runs(tmp_path):
    made = {"frame": "centre", "tap": "features", "distance": "euclidean", "inter": "gloss"}
    for name, sdr, found in (("a", 56.0, 66.0), ("b", 20.0, 55.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "density.test.json").write_text(json.dumps(result(sdr, found) | {"made": made}))
    assert density_line(tmp_path / "a", tmp_path / "b").startswith("SDR is lower, but signs are harder to find")
    assert density_line(tmp_path / "a", tmp_path / "none") is None
    other = result(20.0, 55.0) | {"made": made | {"frame": "mean"}}
    (tmp_path / "b" / "density.test.json").write_text(json.dumps(other))
    assert density_line(tmp_path / "a", tmp_path / "b") is None, "measured in another way"


def test_the_explorer_says_it_of_two_sets_of_the_same_signs(files):
    glosses = (files / "glosses.txt").read_text().split()[::3]
    where = [(f"clip {i}", 0, 1) for i in range(len(glosses))]
    sets = [
        FeatureSet(name, torch.from_numpy(np.load(files / f"{name}.npy")[::3].copy()), glosses, where)
        for name in ("apart", "coinciding")
    ]
    page = write_explorer(sets, files / "page.html", perplexity=5.0, thumbnails=0, progress=False)
    assert "coinciding against apart: SDR is lower, but signs are harder to find" in page.read_text()


def test_signs_that_are_listed_twice_are_counted():
    where = [("c", 0, 6), ("c", 0, 6), ("c", 4, 9), ("d", 0, 6)]
    found = Instances(np.zeros((4, 1)), ["A", "A", "B", "A"], where, "centre")
    assert (found.overlapping(), found.repeated()) == (2, 1)


def test_features_of_any_size_are_measured_and_shown(files, capsys):
    np.save(files / "huge.npy", np.load(files / "rows.npy").astype(np.float64) * 1e170)
    words = ["--glosses", str(files / "glosses.txt"), "--samples", "20", "--no-retrieval"]
    assert main(["density", str(files / "rows.npy"), *words]) == 0
    usual = capsys.readouterr().out.splitlines()
    assert main(["density", str(files / "huge.npy"), *words, "--measures", "--min-count", "20"]) == 0
    huge = capsys.readouterr().out.splitlines()
    assert huge[0].split("(")[0] == usual[0].split("(")[0]
    assert len(huge[1]) < 110
    assert "e+170" in huge[1]


def test_measures_that_need_more_rows_do_not_lose_the_ratio(files, capsys):
    glosses = (files / "glosses.txt").read_text().split()
    (files / "rare.txt").write_text("\n".join("A" if i < 9 else f"G{i // 2}" for i in range(len(glosses))) + "\n")
    words = [
        "density",
        str(files / "rows.npy"),
        "--glosses",
        str(files / "rare.txt"),
        "--samples",
        "20",
        "--no-retrieval",
    ]
    assert main([*words, "--measures", "--min-count", "5"]) == 0
    assert "not measured" in (said := capsys.readouterr().out)
    assert "measures need at least 2 glosses with 5 rows, got 1" in said
