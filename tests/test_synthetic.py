"""The synthetic corpus: the same for the same seed, true to its tables, its knobs do what they say."""

import json
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fresh_process import start_script

from signcl.data.corpora.synthetic import SyntheticSettings, difference, make_corpus, making, plan_corpus, samples
from signcl.data.corpora.synthetic.grammar import Face, Grammar, Sentence, Token
from signcl.data.corpora.synthetic.lexicon import PARAMETERS, build_lexicon, zipf_weights
from signcl.data.corpora.synthetic.plan import ClipPlan, table
from signcl.data.corpora.synthetic.scene import draw_clip
from signcl.data.corpora.synthetic.settings import Dice
from signcl.data.video import read_frames

TINY = SyntheticSettings(clips=40, size=48, signs=24, signers=2, seed=7, sign_frames=6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    made = make_corpus(folder, TINY, progress=False)
    assert made.drawn == 40
    return folder


@pytest.fixture(scope="module")
def plan():
    """A corpus of the default kind, not drawn."""
    return plan_corpus(SyntheticSettings(clips=1500))


# --- the dice and the plan: the same everywhere --------------------------------------------------------------------


def test_the_dice_are_splitmix64():
    # Published test vector of SplitMix64 for the seed 1234567.
    dice = Dice()
    dice.state = 1234567
    assert [dice.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_tables_of_the_default_corpus_are_known_byte_for_byte():
    # Written down once; another machine, Python or numpy must give the same. A change means: raise VERSION.
    import hashlib

    default = plan_corpus(SyntheticSettings())
    digests = {split: hashlib.sha256(table(default, split)).hexdigest()[:16] for split in default.clips}
    assert digests == {"train": "e8228bc6615483ca", "dev": "2900bf29440b84a8", "test": "40d99969ef352ee8"}


def test_the_same_seed_gives_the_same_tables_and_frames_and_another_does_not():
    first, second, other = plan_corpus(TINY), plan_corpus(TINY), plan_corpus(replace(TINY, seed=8))
    assert table(first, "train") == table(second, "train") != table(other, "train")
    clip = first.clips["train"][3]
    frames = draw_clip(first, clip)
    assert frames.dtype == np.uint8
    assert frames.shape == (clip.num_frames, 48, 48, 3)
    draw_clip(second, second.clips["train"][0])  # what was drawn before does not matter
    assert np.array_equal(frames, draw_clip(second, clip))
    assert not np.array_equal(frames[0], draw_clip(other, other.clips["train"][3])[0])


# --- spans and durations -------------------------------------------------------------------------------------------


def test_spans_lie_in_the_clip_in_order_with_frames_between_them(plan):
    for clips in plan.clips.values():
        for clip in clips:
            assert len(clip.spans) == len(clip.sentence.tokens)
            assert clip.spans[0][0] > 0
            assert clip.spans[-1][1] < clip.num_frames
            assert all(start < stop for start, stop in clip.spans)
            assert all(before[1] < after[0] for before, after in zip(clip.spans, clip.spans[1:], strict=False))


@pytest.mark.parametrize("seed", range(4))
def test_signs_last_about_as_long_as_real_ones(seed):
    clips = plan_corpus(SyntheticSettings(seed=seed)).clips
    spans = [span for split in clips.values() for clip in split for span in clip.spans]
    lengths = [stop - start for start, stop in spans]
    assert 9 < np.mean(lengths) < 13
    assert min(lengths) >= 4
    assert 50 < np.mean([clip.num_frames for split in clips.values() for clip in split]) < 70


def test_the_written_clips_have_the_frames_that_the_table_says(tiny):
    for split in ("train", "dev", "test"):
        for sample in samples(tiny, split)[:3]:
            assert sample.clip is not None
            assert read_frames(sample.clip).shape == (sample.num_frames, 48, 48, 3)
            assert [span.token for span in sample.spans] == list(sample.gloss)
            assert sample.spans[-1].stop < sample.num_frames


# --- the lexicon ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signs", "density"), [(48, 0.0), (48, 0.5), (48, 1.0), (17, 1.0), (240, 0.7)])
def test_minimal_pairs_differ_in_one_parameter_and_all_others_in_two(signs, density):
    lexicon = build_lexicon(SyntheticSettings(signs=signs, density=density))
    assert len({sign.gloss for sign in lexicon}) == signs
    assert sum(sign.twin != "" for sign in lexicon) == 2 * round(density * signs / 2)
    for number, first in enumerate(lexicon):
        for second in lexicon[:number]:
            if first.twin == second.gloss:
                assert second.twin == first.gloss
                assert difference(first, second) == [first.contrast] == [second.contrast]
                assert first.repeats == second.repeats
            else:
                assert len(difference(first, second)) >= 2


def test_every_parameter_carries_about_as_many_minimal_pairs():
    counts = Counter(sign.contrast for sign in build_lexicon(SyntheticSettings(density=1.0)))
    assert set(counts) == set(PARAMETERS)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_twins_mostly_share_their_word_class():
    lexicon = build_lexicon(SyntheticSettings(density=1.0))
    by_gloss = {sign.gloss: sign for sign in lexicon}
    same = sum(sign.entry.word_class == by_gloss[sign.twin].entry.word_class for sign in lexicon)
    assert same >= 0.8 * len(lexicon)


def test_repetition_is_the_share_of_repeated_signs():
    for share in (0.0, 1.0):
        assert {sign.repeats for sign in build_lexicon(SyntheticSettings(repetition=share))} == {1 + int(share)}


def test_frequencies_are_zipfian():
    # By hand: 1/1, 1/2, 1/3, 1/4 of a million, in whole numbers.
    assert zipf_weights(4, 1.0) == [1_000_000, 500_000, 333_333, 250_000]
    assert zipf_weights(3, 0.0) == [1_000_000] * 3
    settings = SyntheticSettings()
    lexicon = build_lexicon(settings)
    grammar, dice = Grammar(lexicon, settings), Dice("zipf")
    drawn = Counter(token.sign for _ in range(4000) for token in grammar.draw(dice).tokens)
    things = [number for number, sign in enumerate(lexicon) if sign.entry.word_class == "thing"]
    counts = np.array([drawn[number] for number in things])
    slope = np.polyfit(np.log(np.arange(1, len(counts) + 1)), np.log(counts), 1)[0]
    assert -1.15 < slope < -0.85
    overall = np.sort([drawn[number] for number in range(len(lexicon))])[::-1]
    assert overall[0] > 4 * np.median(overall)
    flat = Grammar(lexicon, replace(settings, zipf=0.0))
    counts = Counter(token.sign for _ in range(4000) for token in flat.draw(dice).tokens)
    assert max(counts[number] for number in things) < 1.5 * min(counts[number] for number in things)


# --- the sentences -------------------------------------------------------------------------------------------------


def sentences(count: int, **knobs) -> list[tuple[str, Sentence]]:
    settings = SyntheticSettings(**knobs)
    lexicon = build_lexicon(settings)
    grammar, dice = Grammar(lexicon, settings), Dice("sentences")
    drawn = [grammar.draw(dice) for _ in range(count)]
    return [(" ".join(lexicon[token.sign].gloss for token in sentence.tokens), sentence) for sentence in drawn]


def test_translation_needs_more_than_naming_the_signs():
    pairs = {sentence.canonical: (gloss, sentence) for gloss, sentence in sentences(20_000)}
    gloss, negated = pairs["i do not buy a book ."]
    assert gloss == "BOOK I BUY NOT"  # object first, negation last, no article, no helping verb
    (face,) = negated.clauses
    assert (face.shake, face.last) == (2, 3)
    assert pairs["yesterday i saw a book ."][0] == "YESTERDAY BOOK I SEE"  # the tense stands in the time alone
    gloss, question = pairs["do you see a book ?"]
    assert gloss == "BOOK YOU SEE"  # nothing but the brows makes it a question
    assert question.clauses[0].brows == "raised"
    assert pairs["you see a book ."][0] == gloss
    assert pairs["you see a book ."][1].clauses[0].brows == "neutral"
    gloss, plural = pairs["i see books ."]
    assert gloss == "BOOK I SEE"
    assert plural.tokens[0].plural  # signed by repeating
    assert pairs["where does the woman sleep ?"][0] == "WOMAN SLEEP WHERE"
    assert pairs["the women are old ."][0] == "WOMAN OLD"
    assert pairs["tomorrow the woman will sleep ."][0] == "TOMORROW WOMAN SLEEP"


def test_variation_only_changes_the_words():
    plain = sentences(800, variation=0.0)
    assert all(sentence.text == sentence.canonical for _, sentence in plain)
    varied = sentences(800, variation=0.5)
    different = [sentence for _, sentence in varied if sentence.text != sentence.canonical]
    assert 0.2 < len(different) / len(varied) < 0.9
    assert all(text.split()[-1] in ".?" for text in (sentence.text for sentence in different))


def test_about_two_words_stand_for_a_sign():
    drawn = [sentence for _, sentence in sentences(2000)]
    signs = sum(len(sentence.tokens) for sentence in drawn)
    words = sum(len(sentence.text.split()) - 1 for sentence in drawn)
    assert 3 < signs / len(drawn) < 4.5
    assert 1.4 < words / signs < 2.3


# --- the splits ----------------------------------------------------------------------------------------------------


def test_splits_share_no_sentence_and_only_test_has_the_unseen_signer(plan):
    meanings = {split: {clip.sentence.canonical for clip in clips} for split, clips in plan.clips.items()}
    texts = {split: {clip.sentence.text for clip in clips} for split, clips in plan.clips.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not meanings[one] & meanings[other]
        assert not texts[one] & texts[other]
    trained = {token.sign for clip in plan.clips["train"] for token in clip.sentence.tokens}
    for split in ("dev", "test"):
        assert {token.sign for clip in plan.clips[split] for token in clip.sentence.tokens} <= trained
    assert {clip.signer for clip in plan.clips["train"]} == {clip.signer for clip in plan.clips["dev"]} == {0, 1, 2, 3}
    unseen = sum(clip.signer == 4 for clip in plan.clips["test"])
    assert unseen == len(plan.clips["test"]) // 2
    assert Counter({split: len(clips) for split, clips in plan.clips.items()}) == {
        "train": 1200,
        "dev": 150,
        "test": 150,
    }


def test_a_signer_may_be_left_out_of_the_unseen(plan):
    seen_only = plan_corpus(SyntheticSettings(clips=100, unseen_signers=0))
    assert {clip.signer for clip in seen_only.clips["test"]} <= {0, 1, 2, 3}
    assert len(seen_only.signers) == 4
    assert len({(signer.skin, signer.cloth, signer.wall) for signer in plan.signers}) == 5
    assert any(signer.left_handed for signer in plan.signers[:4])


def test_several_clauses_are_joined_by_conjunctions_and_pauses():
    drawn = sentences(4000, clauses=2.3, signs=96)
    counts = Counter(len(sentence.clauses) for _, sentence in drawn)
    assert set(counts) == {2, 3}
    assert counts[3] / 4000 == pytest.approx(0.3, abs=0.03)
    for gloss, sentence in drawn:
        first, *later = sentence.clauses
        assert first.first == 0
        assert later[-1].last == len(sentence.tokens) - 1
        assert sentence.text.count(".") + sentence.text.count("?") == 1 + len(sentence.pauses), (
            "a pause ends a sentence"
        )
        joints = {clause.first for clause in later}
        assert sentence.pauses <= joints
        for start in joints - sentence.pauses:
            assert gloss.split()[start - 1] in ("AND", "BUT", "THEN", "BECAUSE", "OR")
    paused = sum(len(sentence.pauses) for _, sentence in drawn) / sum(len(s.clauses) - 1 for _, s in drawn)
    assert 0.3 < paused < 0.7, "questions end with a pause, statements in three of ten"


def test_long_sentences_keep_their_faces_and_pauses_in_the_video_plan():
    long = plan_corpus(SyntheticSettings(clips=60, signs=96, clauses=2, sign_frames=12, transition_frames=2))
    clip = next(c for c in long.clips["train"] if c.sentence.pauses)
    (start,) = clip.sentence.pauses
    assert clip.spans[start][0] - clip.spans[start - 1][1] >= 5, "half a sign's length more"
    frames = draw_clip(long, clip)
    assert len(frames) == clip.num_frames


# --- what is drawn -------------------------------------------------------------------------------------------------


def lone(sign: int, signer: int = 0, **sentence) -> ClipPlan:
    """A clip of one sign."""
    sentence = {"brows": "neutral", "shake": None, "plural": False} | sentence
    token = Token(sign, sentence["plural"])
    face = Face(0, 0, sentence["brows"], None if sentence["shake"] is None else sentence["shake"][0])
    return ClipPlan("lone", "train", "lone.mp4", signer, Sentence((token,), "", "", (face,)), ((8, 20),), 28)


def test_each_half_of_a_minimal_pair_looks_different_and_mostly_where_they_differ():
    still = plan_corpus(SyntheticSettings(looseness=0, noise=0, jitter=0, density=1.0, size=64))
    seen = set()
    for number, sign in enumerate(still.lexicon):
        if sign.contrast in seen:
            continue
        seen.add(sign.contrast)
        twin = next(place for place, other in enumerate(still.lexicon) if other.gloss == sign.twin)
        first, second = (draw_clip(still, lone(place)).astype(int) for place in (number, twin))
        changed = (np.abs(first - second).max(axis=-1) > 25)[8:20]
        assert changed.any(axis=0).sum() > (4 if sign.contrast == "mouth" else 15), sign.contrast
        if sign.contrast == "mouth":
            assert not changed[:, 36:].any()  # below the face nothing differs
    assert seen == set(PARAMETERS)


def test_brows_and_a_shaken_head_and_a_plural_can_be_seen():
    still = plan_corpus(SyntheticSettings(looseness=0, noise=0, jitter=0))
    plain = draw_clip(still, lone(0)).astype(int)
    for change in ({"brows": "raised"}, {"brows": "lowered"}, {"shake": (0, 0)}, {"plural": True}):
        other = draw_clip(still, lone(0, **change)).astype(int)
        assert (np.abs(plain - other).max(axis=-1) > 25)[8:20].any(axis=0).sum() >= 5, change


def test_a_left_handed_signer_uses_the_other_side():
    still = plan_corpus(SyntheticSettings(looseness=0, noise=0, jitter=0))
    number = next(place for place, sign in enumerate(still.lexicon) if sign.hands == "one" and sign.location == "side")
    centres = {}
    for left in (False, True):
        signers = [replace(signer, left_handed=left, place=(0.0, 0.0)) for signer in still.signers]
        one = replace(still, signers=signers)
        moving = draw_clip(one, lone(number)).astype(int)
        change = np.abs(moving[14] - moving[0]).sum(axis=-1)
        change[:, 24:40] = 0
        centres[left] = (change.sum(axis=0) * np.arange(64)).sum() / change.sum()
    assert centres[False] < 28
    assert centres[True] > 36


@pytest.mark.parametrize("size", [48, 130, 224])
def test_every_size_is_drawn(size):
    one = plan_corpus(SyntheticSettings(clips=40, size=size))
    frames = draw_clip(one, lone(0))
    assert frames.shape == (28, size, size, 3)
    assert frames.std() > 15


def test_knobs_of_the_camera_do_what_they_say():
    def drawn(**knobs):
        return draw_clip(plan_corpus(SyntheticSettings(clips=40, **knobs)), lone(0)).astype(float)

    corner = np.s_[:, :10, 50:]
    assert drawn(noise=0, jitter=0)[corner].std(axis=0).max() == 0
    assert 4 < drawn(noise=6, jitter=0)[corner].std(axis=0).mean() < 8


# --- making --------------------------------------------------------------------------------------------------------


def test_what_is_made_says_what_it_is(tiny):
    about = json.loads((tiny / "corpus.json").read_text())
    assert about["settings"] == TINY.as_dict()
    assert about["clips"] == {"train": 32, "dev": 4, "test": 4}
    lexicon = json.loads((tiny / "lexicon.json").read_text())
    assert len(lexicon) == 24
    assert sum(row["twin"] != "" for row in lexicon) == 12
    test = samples(tiny, "test")
    assert {sample.signer for sample in test} & set(about["unseen_signers"])
    assert not {sample.signer for sample in samples(tiny, "train")} & set(about["unseen_signers"])


@pytest.mark.slow
def test_two_workers_make_the_same_corpus(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "FEW", 0)  # so few clips are usually drawn in this process
    make_corpus(tmp_path / "corpus", TINY, progress=False, workers=2)
    assert contents(tmp_path / "corpus") == contents(tiny)


def test_a_killed_run_is_finished_by_the_next_and_gives_the_same(tiny, tmp_path):
    folder = tmp_path / "corpus"
    code = (
        "from signcl.data.corpora.synthetic import SyntheticSettings, make_corpus\n"
        f"make_corpus({str(folder)!r}, {TINY!r}, progress=False)"
    )
    process = start_script(code)
    while len(list(folder.glob("clips/train/*/*.mp4"))) < 3 and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    there = len(list(folder.rglob("*.mp4")))
    assert 3 <= there < 40
    assert not (folder / "train.tsv").exists()
    with pytest.raises(ValueError, match="not finished"):
        samples(folder, "train")
    (folder / "clips/train/000/.train-000039.mp4.abcdefgh.part").write_bytes(b"half a clip")
    made = make_corpus(folder, TINY, progress=False)
    assert made.drawn == 40 - there
    assert contents(folder) == contents(tiny)
    assert make_corpus(folder, TINY, progress=False).drawn == 0


def test_an_interrupt_leaves_no_half_file(tmp_path, monkeypatch):
    from signcl.data.corpora.synthetic import making

    drawn, original = [], making.draw_clip

    def interrupted(plan, clip):
        drawn.append(clip)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return original(plan, clip)

    monkeypatch.setattr(making, "draw_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path / "corpus", TINY, progress=False)
    names = {path.name for path in (tmp_path / "corpus").rglob("*") if path.is_file()}
    assert names == {"corpus.json", "lexicon.json", "train-000000.mp4", "train-000001.mp4"}


def test_a_corpus_from_before_a_knob_is_finished_as_if_it_stood_at_its_default(tiny, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(tiny, folder)
    card = json.loads((folder / "corpus.json").read_text())
    del card["settings"]["clauses"]
    (folder / "corpus.json").write_text(json.dumps(card))
    assert make_corpus(folder, TINY, progress=False).drawn == 0
    with pytest.raises(ValueError, match=r"other settings: clauses=1.0 \(now 2.0\)"):
        make_corpus(folder, replace(TINY, clauses=2.0), progress=False)


def test_a_folder_with_something_else_in_it_is_refused(tiny, tmp_path):
    before = contents(tiny)
    with pytest.raises(ValueError, match=r"other settings: size=48 \(now 64\), seed=7 \(now 0\)"):
        make_corpus(tiny, replace(TINY, size=64, seed=0), progress=False)
    assert contents(tiny) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and not a synthetic corpus"):
        make_corpus(tmp_path, TINY, progress=False)
    (tmp_path / "corpus.json").write_text("{}")
    with pytest.raises(ValueError, match="not empty and not a synthetic corpus"):
        make_corpus(tmp_path, TINY, progress=False)
    with pytest.raises(ValueError, match="this is a file"):
        make_corpus(tmp_path / "notes.txt", TINY, progress=False)
    with pytest.raises(ValueError, match="workers must be 0"):
        make_corpus(tmp_path / "new", TINY, progress=False, workers=-1)
    assert sorted(os.listdir(tmp_path)) == ["corpus.json", "notes.txt"]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"clips": 10}, "clips: needs a number from 40 to 100000, got 10"),
        ({"size": 50.0}, "size: needs a whole number"),
        ({"size": 65}, "size must be even"),
        ({"density": 1.5}, r"density: needs a number from 0 to 1, got 1.5"),
        ({"signs": 300}, r"signs: needs a number from 16 to 240"),
        ({"dev_share": 0.0}, "every split needs a clip, .* 540 for train, 0 for dev"),
        ({"dev_share": 0.5, "test_share": 0.5}, "0 for train"),
        ({"seed": True}, "seed: needs a whole number"),
    ],
)
def test_impossible_settings_are_refused(knobs, words):
    with pytest.raises(ValueError, match=words):
        SyntheticSettings(**knobs)


def test_a_lexicon_too_small_for_the_clips_is_refused(monkeypatch):
    from signcl.data.corpora.synthetic import plan

    monkeypatch.setattr(plan, "PATIENCE", 5)  # the full patience finds sentences for seconds
    with pytest.raises(
        ValueError, match=r"found no unseen sentence for dev clip .* raise signs or lower clips or zipf"
    ):
        plan_corpus(SyntheticSettings(clips=1000, signs=16, zipf=3.0))


def test_the_command_line_can_name_every_knob():
    # Each knob has its docstring under it, which the help shows.
    source = Path(sys.modules[SyntheticSettings.__module__].__file__).read_text()
    for name in SyntheticSettings().as_dict():
        if name != "seed":
            after = source.split(f"    {name}: ")[1].split("\n")[1]
            assert after.strip().startswith('"""'), name


def test_key_points_lie_where_the_signer_is_painted(tiny, tmp_path):
    from signcl.data.features import with_features
    from signcl.data.loading import load_raw
    from signcl.data.pose_files import read_points
    from signcl.data.pose_quality import pose_quality
    from signcl.data.poses import PoseReading, signer_points
    from signcl.data.sections import InputRecipe

    shutil.copytree(tiny, tmp_path / "c")
    made = make_corpus(tmp_path / "c", TINY, progress=False, poses=True)
    plan = plan_corpus(TINY)
    for split, (clip, *_) in plan.clips.items():
        (raw,) = (read_points(made.folder / "poses" / split / f"{clip.name}.npy") or {}).values()
        layout, points, seen = raw.placed()
        assert layout.name == "coco_wholebody"
        assert points.shape[:3] == (clip.num_frames, 1, 118)
        assert seen.all()
        quality = pose_quality(signer_points(raw, PoseReading()), clip.name)
        assert quality.astray == ""  # left hand at the left wrist
        # the middle of a hand has the colour of skin, and not that of the wall
        signer = plan.signers[clip.signer]
        frames = draw_clip(plan, clip).astype(float)
        first = layout.ranges()["right_hand"][0]
        for t in range(0, clip.num_frames, 7):
            x, y = points[t, 0, [first + 5, first + 9, first + 13], :2].mean(axis=0).round().astype(int)
            if 1 <= x < 47 and 1 <= y < 47:
                near = frames[t, y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3)
                to_skin = np.abs(near - signer.skin).sum(axis=1).min()
                assert to_skin < np.abs(near - signer.wall).sum(axis=1).min()
        sample = samples(made.folder, split)[0]
        (posed,) = with_features([sample], made.folder / "poses" / split)
        assert load_raw(posed, InputRecipe(pose_confidence=True)).shape == (clip.num_frames, 354)
    assert made.drawn == 0
    assert len(list((made.folder / "poses").rglob("*.npy"))) == 40
