"""The file of chosen frames: many processes, cut lines, undoing, agreement by hand, the chosen frame per span."""

import itertools
import json
import multiprocessing
import random

import pytest

from signcl.data.annotation.choices import (
    Decision,
    SpanKey,
    agreement,
    append_decision,
    disagreements,
    last_standing,
    progress,
    read_choices,
    read_decisions,
    standing,
)

KEY = SpanKey("clip-1", "KEY", 7, 16)
BUY = SpanKey("clip-1", "BUY", 20, 30)


def made(who: str, span: SpanKey, frame: int | None, action: str = "choose", **more) -> Decision:
    return Decision(who, *span, action=action, frame=frame, **more)


def test_what_is_appended_is_read_again_with_its_time(tmp_path):
    path = tmp_path / "new" / "choices.jsonl"
    written = append_decision(path, made("ada", KEY, 11))
    assert read_decisions(path) == [written]
    assert written.time.endswith("Z")
    assert json.loads(path.read_text())["frame"] == 11
    assert read_decisions(tmp_path / "none.jsonl") == []


def test_names_of_any_script_and_quotes_survive(tmp_path):
    span = SpanKey('a "quoted"\tclip', "谢谢\n你", 0, 3)
    append_decision(tmp_path / "c", made("Zoë", span, 2))
    assert standing(read_decisions(tmp_path / "c"))[span]["Zoë"].frame == 2
    assert len((tmp_path / "c").read_bytes().splitlines()) == 1


def _write(path: str, who: str, count: int) -> None:
    for number in range(count):
        append_decision(path, made(who, SpanKey("clip", "G" * (number % 300 + 1), 0, 50), number % 50))


def test_four_processes_write_one_file_and_no_line_is_lost_or_mixed(tmp_path):
    path, count = tmp_path / "choices.jsonl", 150
    workers = [
        multiprocessing.get_context("fork").Process(target=_write, args=(str(path), f"p{i}", count)) for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = read_decisions(path)
    assert len(found) == 4 * count
    for i in range(4):
        own = [d for d in found if d.annotator == f"p{i}"]
        assert [d.frame for d in own] == [n % 50 for n in range(count)], "in order, none lost"


def test_a_line_cut_by_a_power_cut_costs_nothing_but_itself(tmp_path, capsys):
    path = tmp_path / "choices.jsonl"
    append_decision(path, made("ada", KEY, 11))
    append_decision(path, made("ada", BUY, 21))
    path.write_bytes(path.read_bytes()[:-20])
    append_decision(path, made("bob", BUY, 22))
    found = read_decisions(path)
    assert [(d.annotator, d.frame) for d in found] == [("ada", 11), ("bob", 22)]
    assert "1 incomplete line was left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("hello", "line 1: not a line of choices"),
        ("[1]", "line 1"),
        ('{"annotator": "ada"}', "line 1"),
        ('{"annotator":"a","clip":"c","gloss":"g","start":5,"stop":5,"action":"skip"}', "0 <= start < stop"),
        ('{"annotator":"a","clip":"c","gloss":"g","start":5,"stop":9,"action":"choose","frame":9}', r"one of 5\.\.8"),
        ('{"annotator":"a","clip":"c","gloss":"g","start":5,"stop":9,"action":"choose","frame":5.5}', r"one of 5\.\.8"),
        ('{"annotator":"a","clip":"c","gloss":"g","start":5,"stop":9,"action":"chose"}', "choose, skip or undo"),
        ('{"annotator":" ","clip":"c","gloss":"g","start":5,"stop":9,"action":"skip"}', "needs a annotator"),
        ('{"annotator":"a","clip":"c","gloss":"g","start":5,"stop":9,"action":"skip","frame":6}', "has no frame"),
    ],
)
def test_a_whole_line_that_is_no_decision_is_named(tmp_path, line, match):
    (tmp_path / "c").write_text(line + "\n")
    with pytest.raises(ValueError, match=match):
        read_decisions(tmp_path / "c")


def test_the_latest_holds_and_undo_brings_back_the_one_before():
    said = [made("ada", KEY, 8), made("ada", KEY, 9), made("ada", BUY, None, "skip"), made("bob", KEY, 15)]
    assert standing(said)[KEY]["ada"].frame == 9
    assert last_standing(said, "ada").span == BUY
    said.append(made("ada", BUY, None, "undo"))
    assert BUY not in standing(said)
    assert last_standing(said, "ada").frame == 9
    said.append(made("ada", KEY, None, "undo"))
    assert standing(said)[KEY]["ada"].frame == 8
    said += [made("ada", KEY, None, "undo")] * 2  # one more than there is to take back
    assert standing(said) == {KEY: {"bob": said[3]}}
    assert last_standing(said, "ada") is None
    assert progress(said) == {"bob": {"choose": 1}}


def test_a_decision_sent_twice_counts_once(tmp_path):
    for _ in range(2):
        append_decision(tmp_path / "c", made("ada", KEY, 8, id="x1"))
    assert len(read_decisions(tmp_path / "c")) == 1


def test_agreement_by_hand():
    # KEY: ada 8, bob 9, cem 12 -> distances 1, 4, 3. BUY: ada 20, bob 20 -> 0; cem skipped. Four pairs: mean 2,
    # within one frame 2 of 4.
    said = [made("ada", KEY, 8), made("bob", KEY, 9), made("cem", KEY, 12), made("ada", BUY, 20), made("bob", BUY, 20)]
    said += [made("cem", BUY, None, "skip"), made("judy", KEY, 9, role="judge")]
    found = agreement(said)
    assert (found.spans, found.distance, found.near) == (2, 2.0, 0.5)
    ada_bob = found.pairs[0]
    assert (ada_bob.a, ada_bob.b, ada_bob.spans, ada_bob.distance, ada_bob.near, ada_bob.same) == (
        "ada",
        "bob",
        2,
        0.5,
        1.0,
        0.5,
    )
    assert agreement(said[:1]).distance is None


@pytest.mark.parametrize(("length", "tolerance"), itertools.product((1, 2, 3, 9), (0, 1, 2, 20)))
def test_agreement_by_chance_is_that_of_all_blind_picks(length, tolerance):
    span = SpanKey("c", "G", 5, 5 + length)
    picks = list(itertools.product(range(length), repeat=2))
    blind = sum(abs(a - b) <= tolerance for a, b in picks) / len(picks)
    found = agreement([made("a", span, 5), made("b", span, 5)], tolerance)
    assert found.by_chance == pytest.approx(blind)


def test_the_frame_of_a_span_is_the_judges_else_the_median(tmp_path, capsys):
    path = tmp_path / "c"
    other, skipped = SpanKey("clip-2", "KEY", 0, 9), SpanKey("clip-2", "BUY", 10, 19)
    for d in (
        *(made(who, KEY, frame) for who, frame in (("ada", 8), ("bob", 14), ("cem", 13))),
        *(made(who, BUY, frame) for who, frame in (("ada", 21), ("bob", 22))),
        made("ada", other, 3),
        made("ada", skipped, None, "skip"),
        made("bob", skipped, None, "skip"),
        made("cem", skipped, 12),
    ):
        append_decision(path, d)
    assert read_choices(path) == {KEY: 13, BUY: 21, other: 3}
    assert disagreements(read_decisions(path)) == [KEY, skipped]
    assert read_choices(path, unsettled="leave_out") == {BUY: 21, other: 3}
    append_decision(path, made("judy", KEY, 9, role="judge"))
    append_decision(path, made("judy", other, None, "skip", role="judge"))
    assert read_choices(path, unsettled="leave_out") == {KEY: 9, BUY: 21}
    assert disagreements(read_decisions(path)) == [skipped]
    assert read_choices(path, spans=[BUY]) == {BUY: 21}
    assert "1 choices for other spans" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no chosen frame for these spans"):
        read_choices(path, spans=[SpanKey("x", "Y", 0, 1)])


def test_no_file_and_an_empty_file_are_said(tmp_path):
    with pytest.raises(ValueError, match="signcl serve --annotate"):
        read_choices(tmp_path / "none")
    (tmp_path / "c").write_text("")
    with pytest.raises(ValueError, match="contains no chosen frame"):
        read_choices(tmp_path / "c")


def test_standing_agrees_with_a_plain_replay():
    rng = random.Random(0)
    spans = [SpanKey("c", g, 0, 10) for g in "AB"]
    for _ in range(200):
        said, replay = [], {}
        for _ in range(rng.randint(0, 12)):
            span, who, action = rng.choice(spans), rng.choice("xy"), rng.choice(["choose", "choose", "skip", "undo"])
            d = made(who, span, rng.randrange(10) if action == "choose" else None, action)
            said.append(d)
            stack = replay.setdefault((who, span), [])
            stack[:] = stack[:-1] if action == "undo" else [*stack, d]
        plain = {(who, span): stack[-1] for (who, span), stack in replay.items() if stack}
        assert {(who, span): d for span, by in standing(said).items() for who, d in by.items()} == plain
