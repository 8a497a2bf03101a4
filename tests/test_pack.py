"""Packs: a corpus as tar shards comes back as it was, whatever stopped the packing, and never when it is damaged."""

import json
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from signcl.cli import main
from signcl.data import packing
from signcl.data.corpora import load_samples
from signcl.data.corpus_check import check_corpus
from signcl.data.loading import read_selected
from signcl.data.packing import PackSettings, pack_corpus
from signcl.data.sections import InputRecipe
from signcl.data.video import probe, read_frames
from signcl.training.manifest import changed_data, data_fingerprints

SMALL = PackSettings(form="uint8", size=16, shard_clips=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Five training and two dev clips of 20 x 24 pixels as images, with glosses, signers and spans."""
    root = tmp_path_factory.mktemp("corpus")
    y, x = np.mgrid[0:20, 0:24]
    for split, lengths in (("train", (5, 3, 7, 4, 6)), ("dev", (4, 5))):
        lines = ["name\tpath\ttext\tsigner\tgloss\tspans"]
        for i, length in enumerate(lengths):
            folder = root / f"{split}.{i}"
            folder.mkdir()
            for t in range(length):
                waves = [120 + 80 * np.sin(x / 5 + t / 2 + c + i) * np.cos(y / 6) for c in range(3)]
                cv2.imwrite(str(folder / f"{t}.png"), np.stack(waves, axis=-1).astype(np.uint8))
            lines.append(f"{split}.{i}\t{split}.{i}\tEin Satz, ä {split} {i}.\tS{i}\tA B\tA:0-1 B:1-3")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def pack(corpus, out, settings=SMALL, **options):
    return pack_corpus(corpus, out, "folder", settings, splits=("train", "dev"), progress=False, **options)


@pytest.mark.parametrize(("form", "error"), [("uint8", 0), ("jpeg", 4), ("mp4", 6)])
def test_a_pack_reads_back_as_the_corpus_through_the_same_door(corpus, tmp_path, form, error):
    out = pack(corpus, tmp_path / "pack", replace(SMALL, form=form, crf=5))
    for split in ("train", "dev"):
        for one, other in zip(load_samples("folder", corpus, split), load_samples("folder", out, split), strict=True):
            assert (one.name, one.text, one.gloss, one.signer, one.spans) == (
                other.name, other.text, other.gloss, other.signer, other.spans
            )  # fmt: skip
            expected = read_frames(one.clip, size=16)
            found = read_frames(other.clip)
            assert found.shape == expected.shape == (other.num_frames, 16, 16, 3)
            assert np.abs(found.astype(int) - expected).mean() <= error
            assert probe(other.clip).num_frames == len(expected)
            recipe = InputRecipe(size=16, crop=12, max_frames=4)
            part = read_selected(other, recipe, lambda: np.random.default_rng(1))
            assert part.shape == (min(4, len(expected)), 12, 12, 3)
    assert [p.level for p in check_corpus(out, splits=("train", "dev"))] == []
    with tarfile.open(out / "train-00000.tar") as tar:  # any reader of tars finds the clips and their sentences
        about = json.loads(tar.extractfile("00000001.json").read())
        assert about["name"] == "train.1"
        keys = {name.split(".")[0] for name in tar.getnames()}
    assert keys == {"00000000", "00000001"}


def test_a_stopped_pack_goes_on_and_gives_the_same_bytes(corpus, tmp_path, monkeypatch):
    whole = pack(corpus, tmp_path / "whole", workers=3)
    out = tmp_path / "stopped"
    write = packing._write_shard
    written = []

    def stopped(shard, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.name)
        write(shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_write_shard", stopped)
        with pytest.raises(KeyboardInterrupt):
            pack(corpus, out)
    with pytest.raises(ValueError, match=r"an unfinished pack; run the same `signcl corpus pack` again"):
        load_samples("folder", out, "train")
    (out / "train-00001.index.json").unlink()  # killed between a shard and its index
    pack(corpus, out)
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_is_there_is_not_overwritten(corpus, tmp_path, capsys):
    out = pack(corpus, tmp_path / "pack")
    age = (out / "train-00000.tar").stat().st_mtime_ns
    assert pack(corpus, out) == out
    assert "is a finished pack" in capsys.readouterr().err
    assert (out / "train-00000.tar").stat().st_mtime_ns == age
    with pytest.raises(ValueError, match=r"contains another pack \(settings: .*choose another -o"):
        pack(corpus, out, replace(SMALL, size=8))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty and contains no pack"):
        pack(corpus, tmp_path / "other")
    with pytest.raises(ValueError, match=r"a file of that name"):
        pack(corpus, tmp_path / "other" / "notes.txt")


def test_a_shard_that_does_not_fit_its_index_is_refused(corpus, tmp_path):
    out = pack(corpus, tmp_path / "pack")
    first = load_samples("folder", out, "train")[0].clip
    shard, index = out / "train-00000.tar", out / "train-00000.index.json"
    data, told = shard.read_bytes(), index.read_text()

    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ValueError, match=r"does not fit its tar: the index is of a file of [\d,]+ bytes, .* has [\d,]+"
    ):
        read_frames(first)
    shard.write_bytes(data)
    moved = json.loads(told)
    moved["clips"][first.name][0] += 512
    index.write_text(json.dumps(moved))
    with pytest.raises(ValueError, match=r"another file lies at byte"):
        read_frames(first.parent / first.name)
    index.write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json is damaged \(the file has no 'tar_bytes'\)"):
        read_frames(first)
    index.unlink()
    with pytest.raises(FileNotFoundError, match=r"the shard has no index"):
        read_frames(first)
    index.write_text(told)
    with pytest.raises(FileNotFoundError, match="no such clip"):
        read_frames(first.with_name("99.rgb"))
    changed = bytearray(data)
    changed[512 + 100] ^= 255
    shard.write_bytes(bytes(changed))
    found = [p.what for p in check_corpus(out, splits=("train", "dev")) if p.level == "error"]
    assert len(found) == 1
    assert "bytes have changed since it was packed" in found[0]


def test_a_changed_picture_of_a_pack_is_not_shown(corpus, tmp_path):
    out = pack(corpus, tmp_path / "pack", PackSettings(form="jpeg", size=16))
    first = load_samples("folder", out, "train")[0].clip
    shard, start = first.parent, json.loads((out / "train-00000.index.json").read_text())["clips"][first.name][0]
    changed = bytearray(shard.read_bytes())
    changed[start + 400] ^= 1
    shard.write_bytes(bytes(changed))
    with pytest.raises(ValueError, match="bytes have changed since it was packed"):
        read_frames(first)


def test_a_run_knows_which_clips_of_a_pack_it_is_of(corpus, tmp_path):
    # Clips in a shard have no size of their own: their checksums stand for them.
    out = pack(corpus, tmp_path / "pack")
    train = load_samples("folder", out, "train")
    before = data_fingerprints(train, [], None)
    index = out / "train-00000.index.json"
    told = json.loads(index.read_text())
    told["clips"][train[0].clip.name][-1] ^= 1
    index.write_text(json.dumps(told))
    assert changed_data(before, data_fingerprints(train, [], None)) == ["train files"]


def test_a_pack_of_another_corpus_or_split_is_refused(corpus, tmp_path):
    out = pack(corpus, tmp_path / "pack")
    with pytest.raises(ValueError, match=r"is a pack of corpus folder, got corpus\.name=how2sign"):
        load_samples("how2sign", out, "train")
    with pytest.raises(ValueError, match=r"the pack has the splits train, dev, got 'test'"):
        load_samples("folder", out, "test")
    (out / "pack.json").write_text("{")
    with pytest.raises(ValueError, match=r"pack\.json is damaged"):
        load_samples("folder", out, "train")


def test_the_verb_takes_a_recipe_or_folders(corpus, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(f"corpus: {{name: folder, root: {corpus}}}\ninput: {{size: 12, crop: 8}}\n")
    words = ["corpus", "pack", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "a"), "--splits", "dev", "--form", "jpeg"]
    assert not main(words)
    assert capsys.readouterr().out.strip() == str(tmp_path / "a")
    assert read_frames(load_samples("folder", tmp_path / "a", "dev")[0].clip).shape == (4, 12, 12, 3)
    with pytest.raises(SystemExit, match="2"):
        main([*words[:-1], "png"])
    assert main(["corpus", "pack", str(tmp_path / "gone"), "-o", str(tmp_path / "b")]) != 0
