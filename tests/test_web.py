"""The pages' server: checks of uploads, file access, decisions written by real processes, the explorer's numbers."""

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from web_site import Server

from signcl.cli import main
from signcl.data.annotation.choices import SpanKey, read_choices, read_decisions
from signcl.data.annotation.span_table import write_spans
from signcl.data.batch import Sample, Span
from signcl.data.corpora import load_samples
from signcl.data.video import read_frames
from signcl.inference.translation import load_model, translate
from signcl.pages.app import Site, make_app
from signcl.pages.explorer import FeatureSet, explore, write_explorer
from signcl.pages.job_queue import JobQueue
from signcl.pages.kept_clips import Keeper
from signcl.pages.nearness import confusable_pairs, medoids, nearest
from signcl.pages.signs import span_view
from signcl.pages.task import make_task
from signcl.pages.uploads import Limits, kind_of


@pytest.fixture(scope="module")
def place(made_site, tmp_path_factory) -> Path:
    return Path(shutil.copytree(made_site, tmp_path_factory.mktemp("web"), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def site(place) -> Iterator[Site]:
    samples = {sample.name: sample for sample in load_samples("synthetic", place / "corpus", "test")}
    queue = JobQueue(place / "run", device="cpu")
    yield Site(run=place / "run", queue=queue, samples=lambda: samples)
    queue.close()


@pytest.fixture(scope="module")
def corpus(place) -> Path:
    return place / "corpus"


@pytest.fixture
def client(site) -> TestClient:
    return TestClient(make_app(site), base_url="http://localhost:8765")


@pytest.fixture
def clip(corpus) -> bytes:
    return sorted((corpus / "clips" / "test").rglob("*.mp4"))[0].read_bytes()


def upload(client: TestClient, content: bytes, name: str = "clip.mp4", **query) -> Any:
    return client.post("/api/translate", files={"clip": (name, content)}, params=query)


# -- translating -------------------------------------------------------------------------------------------------------


def test_a_clip_is_translated_as_the_command_does(client, site, corpus, clip, capsys):
    path = sorted((corpus / "clips" / "test").rglob("*.mp4"))[0]
    found = upload(client, clip).json()
    capsys.readouterr()
    assert main(["translate", str(site.run), str(path), "--json", "--device=cpu"]) == 0
    assert found["text"] == json.loads(capsys.readouterr().out)["text"]
    assert found["frames"] > 5
    assert found["clip"] == "clip.mp4"


def test_the_stages_are_told_as_they_come(client, clip):
    answer = upload(client, clip, progress=True)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["stage"] for line in lines] == ["reading", "translating", "done"]
    assert lines[1]["strip"].startswith("data:image/jpeg;base64,")
    broken = [json.loads(line) for line in upload(client, clip[:900], progress=True).text.splitlines()]
    assert broken[-1]["stage"] == "failed"


def test_other_sentences_of_the_search_are_told_and_the_first_stays_the_same(site, client, clip, corpus):
    answer = upload(client, clip).json()
    assert 1 <= len(answer["alternatives"]) <= 3
    texts = [answer["text"], *(other["text"] for other in answer["alternatives"])]
    assert len(set(texts)) == len(texts)
    assert all(0 < other["probability"] < 1 for other in answer["alternatives"])
    model = load_model(site.run, device="cpu")
    path = sorted((corpus / "clips" / "test").rglob("*.mp4"))[0]
    alone, several = translate(model, path), translate(model, path, alternatives=3)
    assert (alone.text, alone.alternatives) == (answer["text"], ())
    assert several.text == alone.text
    assert several.verdict.probability == pytest.approx(alone.verdict.probability, rel=1e-4)
    assert translate(model, path, beams=1, alternatives=3).alternatives == ()


def test_only_a_part_of_a_clip_is_read(client, clip):
    def part(**texts):
        return client.post("/api/translate", files={"clip": ("clip.mp4", clip)}, data=texts)

    whole = part().json()["frames"]
    cut = part(start="0.4", stop="1.2").json()
    assert cut["frames"] == 20  # at 25 a second
    assert part(start="0.4").json()["frames"] == whole - 10
    assert part(stop="999").json()["frames"] == whole
    for texts, match in (
        ({"start": "99"}, "the clip ends at"),
        ({"start": "2", "stop": "1"}, "start must be before stop"),
        ({"stop": "soon"}, "seconds such as"),
        ({"start": "1" * 5000}, "at most 4000 bytes"),
    ):
        answer = part(**texts)
        assert answer.status_code == 422
        assert match in answer.json()["error"]


def test_a_clip_is_kept_only_with_consent_and_where_a_folder_is_given(site, client, clip, tmp_path):
    def keep(client, content=clip, **texts):
        return client.post("/api/keep", files={"clip": ("../../x.mp4", content)}, data={"text": "i buy .", **texts})

    assert keep(client, consent="yes").status_code == 409
    keeping = TestClient(make_app(replace(site, keeper=Keeper(tmp_path / "kept"))), base_url="http://localhost:8765")
    assert "consent" in keep(keeping).json()["error"]
    assert keep(keeping, consent="yes", content=clip[:700]).status_code == 422
    assert keep(keeping, consent="yes", content=b"\x93NUMPY" + bytes(20)).status_code == 415
    assert not list((tmp_path / "kept").rglob("*.mp4"))
    answer = keep(keeping, consent="yes", start="0.4", stop="1.2")
    assert answer.status_code == 200, answer.text
    (sample,) = load_samples("folder", tmp_path / "kept", "train")
    assert (sample.name, sample.text) == (answer.json()["name"], "i buy .")
    assert len(read_frames(sample.clip)) == 20
    assert [path.name for path in (tmp_path / "kept" / "clips").iterdir()] == [f"{sample.name}.mp4"]
    assert not any(site.queue.place.iterdir()), "nothing else stays"


@pytest.mark.parametrize(
    ("content", "status", "match"),
    [
        (b"", 422, "the file is empty"),
        (b"name\ttext\n", 415, "not a clip: needs a video"),
        (b"\x93NUMPY\x01\x00", 415, "trained on video"),
        (b"PK\x03\x04" + bytes(30), 415, "trained on video"),
        (b"GIF89a", 422, "not a readable video"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(500), 422, "clip.mp4: "),
        (b"\x1a\x45\xdf\xa3" + bytes(100), 422, "not a readable video"),
    ],
)
def test_what_is_no_clip_is_answered_in_one_line_without_our_paths(client, content, status, match):
    answer = upload(client, content)
    assert answer.status_code == status, answer.text
    said = answer.json()["error"]
    assert match in said
    assert "\n" not in said
    assert "/tmp" not in said


def test_a_cut_clip_is_answered(client, clip):
    answer = upload(client, clip[: len(clip) // 2])
    assert answer.status_code == 422
    assert "/" not in answer.json()["error"].replace("mp4/", "")


def test_the_kind_is_judged_by_content_and_not_by_name(client, clip):
    assert upload(client, clip, name="notes.txt").status_code == 200
    assert upload(client, b"hello", name="clip.mp4").status_code == 415
    assert upload(client, clip, name="../../etc/passwd").json()["clip"] == "passwd"
    assert kind_of(b"RIFF\0\0\0\0WAVEfmt ") is None, "sound is no clip"
    assert kind_of(b"RIFF\0\0\0\0AVI LIST") == "video"


@contextlib.contextmanager
def limited(site: Site, **limits: Any) -> Iterator[TestClient]:
    """The site with other limits."""
    before, site.queue.limits = site.queue.limits, Limits(**limits)
    try:
        yield TestClient(make_app(site), base_url="http://localhost:8765")
    finally:
        site.queue.limits = before


def test_a_file_that_is_too_large_is_refused_before_it_is_kept(site, clip):
    def endless():
        for _ in range(100):
            yield bytes(10_000)

    with limited(site, megabytes=0.05) as client:
        answer = upload(client, bytes(2_000_000))
        assert answer.status_code == 413
        assert "at most 0.05 MB" in answer.json()["error"]
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = client.post("/api/translate", content=endless(), headers=headers)  # no length is said beforehand
        assert answer.status_code == 413
        answer = client.post("/api/annotate/decision", content=bytes(30_000))
        assert answer.status_code == 413, "only a clip may be large"
    for limits, match in (({"frames": 5}, "more than 5 frames"), ({"side": 40}, "48 x 48 pixels"),
                          ({"unfolded_megabytes": 0.01}, "expands to")):  # fmt: skip
        with limited(site, **limits) as client:
            answer = upload(client, clip)
        assert answer.status_code == 413
        assert match in answer.json()["error"]


def test_no_file_and_no_model_are_said(client, site, clip):
    answer = client.post("/api/translate")
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("clip: ")
    bare = TestClient(make_app(Site(why_not="x is a pretrain run")), base_url="http://localhost")
    assert "x is a pretrain run" in upload(bare, clip).json()["error"]
    assert bare.get("/report").status_code == 404
    assert bare.get("/run/card.json").status_code == 404


# -- what is let out and in --------------------------------------------------------------------------------------------


def test_files_of_the_run_are_served_and_nothing_else(client, site, place):
    assert client.get("/run/card.json").json()["stage"] == "finetune"
    (place / "secret.json").write_text("{}")
    link = site.run / "link.json"
    link.symlink_to(place / "secret.json")
    (site.run / ".hidden.json").write_text("{}")
    try:
        outside = (
            "../secret.json",
            "%2e%2e/secret.json",
            "..%2fsecret.json",
            "/etc/passwd",
            "..\\secret.json",
            "link.json",
        )
        inside = (".hidden.json", "model.safetensors", "state/last.pt", "absent.json", "", "card.json%00.html")
        for path in (*outside, *inside):
            answer = client.get(f"http://localhost:8765/run/{path}")
            assert answer.status_code in (404, 400), path
        for path in ("../app.py", "%2e%2e%2fapp.py", "..%2f..%2freport%2fpage.py", "home.html"):
            assert client.get(f"/static/{path}").status_code == 404, path
    finally:
        link.unlink()
        (site.run / ".hidden.json").unlink()
    assert client.get("/static/base.css").status_code == 200


def test_raw_traversal_over_a_real_socket(site):
    with Server(site.run) as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as door:
        door.sendall(b"GET /run/../../../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := door.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 404"), answer[:80]
    assert b"root:" not in answer


def test_other_hosts_and_other_sites_are_refused(client):
    assert client.get("/", headers={"host": "rebound.example:8765"}).status_code == 421
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert client.post("/api/translate", headers={"origin": origin}).status_code == 403
    assert client.post("/api/translate", headers={"origin": "http://localhost:8765"}).status_code == 422
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_ask_for_nothing_from_elsewhere(client):
    static = Path(__file__).parents[1] / "signcl" / "pages" / "static"
    for path in static.iterdir():
        content = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in content, path
        assert "https://" not in content, path
    for path in ("/", "/translate", "/annotate", "/explorer", "/report", "/api/openapi.json", "/favicon.ico"):
        assert client.get(path).status_code == 200, path
    assert client.get("/docs").status_code == 404, "it would load its script from elsewhere"


# -- annotating --------------------------------------------------------------------------------------------------------


def test_decisions_are_on_the_disk_when_the_answer_comes(corpus, tmp_path):
    task = make_task(None, corpus="synthetic", root=corpus, split="test", choices=tmp_path / "c.jsonl")
    client = TestClient(make_app(Site(task=task)), base_url="http://localhost")
    first = task.spans[0]

    def decide(**more):
        body = {"place": 0, "annotator": "ada", "action": "choose", "frame": first.start + 2, **more}
        return client.post("/api/annotate/decision", json=body)

    assert decide(id="one").json() == {"decided": {"0": first.start + 2}, "last": 0}
    assert decide(id="one").status_code == 200
    assert len(read_decisions(task.path)) == 1, "the same decision sent again counts once"
    assert read_choices(task.path) == {first: first.start + 2}
    assert decide(frame=first.stop).status_code == 422
    assert decide(place=10**6).status_code == 422
    assert decide(place=-1).status_code == 422
    assert decide(annotator="   ").status_code == 422
    assert decide(action="delete").status_code == 422
    assert "frame" in decide(frame="x").json()["error"]
    assert decide(annotator="bob", frame=first.stop - 1).status_code == 200
    seen = client.get("/api/annotate/state", params={"annotator": "judy", "role": "judge"}).json()
    assert seen["unsettled"] == [0]
    assert seen["others"]["0"] == [["ada", first.start + 2], ["bob", first.stop - 1]]
    assert "others" not in client.get("/api/annotate/state", params={"annotator": "ada"}).json(), "annotators are blind"
    assert decide(annotator="judy", role="judge").json()["unsettled"] == []
    assert decide(action="undo", frame=None).json()["decided"] == {}
    assert client.get("/api/annotate/span/0").json()["kind"] == "pictures"
    assert client.get("/api/annotate/span/9999").status_code == 404


def post(address: str, place: int, who: str, frame: int) -> None:
    body = {"place": place, "annotator": who, "action": "choose", "frame": frame, "id": f"{who}-{place}"}
    assert httpx.post(f"{address}/api/annotate/decision", json=body, timeout=60).status_code == 200


def test_two_servers_on_one_file_and_one_of_them_killed(corpus, tmp_path):
    path = tmp_path / "choices.jsonl"
    words = ("--annotate", "--corpus=synthetic", f"--root={corpus}", "--split=train", f"--choices={path}")
    spans = make_task(None, corpus="synthetic", root=corpus, split="train").spans
    assert len(spans) >= 40
    with Server(*words) as one, Server(*words) as two:
        assert two.says("another server", one.address), two.said
        writers = [
            threading.Thread(target=lambda a, w: [post(a, i, w, spans[i].start) for i in range(20)], args=pair)
            for pair in ((one.address, "ada"), (two.address, "bob"), (two.address, "cem"))
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(read_decisions(path)) == 60
        seen = httpx.get(f"{one.address}/api/annotate/summary").json()
        assert [a["name"] for a in seen["annotators"]] == ["ada", "bob", "cem"], "one server sees what the other wrote"
        assert seen["agreement"]["distance"] == 0
        post(one.address, 30, "ada", spans[30].start + 1)
        one.kill()  # between two decisions
        assert len(read_decisions(path)) == 61
        with Server(*words) as again:
            decided = httpx.get(f"{again.address}/api/annotate/state?annotator=ada").json()["decided"]
            assert len(decided) == 21
            assert decided["30"] == spans[30].start + 1


def test_spans_that_do_not_fit_are_refused(corpus, tmp_path, capsys):
    name, frames = next((s.name, s.num_frames) for s in load_samples("synthetic", corpus, "test"))
    table = tmp_path / "spans.tsv"

    def refused(*more: str) -> str:
        capsys.readouterr()
        assert (
            main(["serve", "--annotate", str(table), "--corpus=synthetic", f"--root={corpus}", "--port=0", *more]) == 2
        )
        return capsys.readouterr().err

    write_spans(table, {name: [Span("KEY", 1, frames + 5)]})
    assert "spans beyond the clip" in refused()
    write_spans(table, {"nobody": [Span("KEY", 1, 3)]})
    assert "names of unknown clips" in refused()
    table.write_text("")
    assert "is empty" in refused()
    table.write_text("name\tgloss\tstart\tstop\n")
    assert "no rows" in refused()
    assert main(["serve", "--annotate", str(table), "--port=0"]) == 2
    assert "give --corpus folder --root DIR" in capsys.readouterr().err
    assert main(["serve"]) == 2
    assert "needs a RUN" in capsys.readouterr().err
    assert main(["serve", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_a_broken_clip_can_only_be_skipped_and_foreign_choices_stay(corpus, tmp_path, capsys):
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    samples = load_samples("synthetic", copy, "test")
    samples[0].clip.unlink()
    choices = tmp_path / "c.jsonl"
    foreign = {"annotator": "x", "clip": "other", "gloss": "G", "start": 0, "stop": 3, "action": "skip"}
    choices.write_text(json.dumps(foreign) + "\n")
    task = make_task(None, corpus="synthetic", root=copy, split="test", choices=choices)
    said = capsys.readouterr().err
    assert "1 of" in said
    assert "can only be skipped" in said
    assert "1 decisions are about spans that are not in this table" in said
    with pytest.raises(ValueError, match="skip it"):
        task.decide(0, annotator="a", role="annotator", action="choose", frame=task.spans[0].start, id="")
    task.decide(0, annotator="a", role="annotator", action="skip", frame=None, id="")
    assert len(read_decisions(choices)) == 2


def test_a_taken_port_and_a_missing_extra_are_one_line(corpus, capsys, monkeypatch):
    words = ["serve", "--annotate", "--corpus=synthetic", f"--root={corpus}"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main([*words, f"--port={taken.getsockname()[1]}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "is taken" in said[0]
    assert "--port" in said[0]
    assert main([*words, "--host=192.0.2.1", "--port=0"]) == 2
    assert "no such address" in capsys.readouterr().err
    from signcl.pages import server

    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    assert main([*words, "--port=0"]) == 2
    assert "pip install 'signcl[serve]'" in capsys.readouterr().err


def test_features_are_shown_as_curves():
    rows = np.random.default_rng(0).normal(size=(30, 60)).astype(np.float32)
    found = span_view(Sample("s", "", features=rows), 10, 20)
    assert (found["kind"], found["first"], found["count"], found["dims"]) == ("curves", 6, 18, 60)
    assert np.array(found["curves"]).shape == (48, 18)
    with pytest.raises(ValueError, match="beyond the clip s, which has 30 frames"):
        span_view(Sample("s", "", features=rows), 25, 31)


# -- the explorer ------------------------------------------------------------------------------------------------------


def content_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('id="explorer-data">')[1].split("</script>")[0])


def test_the_explorer_holds_every_sign_and_the_measured_ratio(site, tmp_path):
    from signcl.inference.run_density import run_density

    found = content_of(explore([site.run], out=tmp_path / "e.html", split="train", device="cpu", progress=False))
    measured = run_density(site.run, "train", device="cpu", picture=False, progress=False)
    one = found["sets"][0]
    assert one["summary"]["sdr"] == pytest.approx(measured["sdr"], rel=1e-4)
    assert (
        len(found["gloss"])
        == len(one["x"])
        == sum(len(s.spans) for s in load_samples("synthetic", site.run.parent / "corpus", "train"))
    )
    assert len(found["strips"]) == len(found["gloss"])
    assert all(value.startswith("data:image/jpeg") for value in found["strips"].values())
    assert "perplexity 30" in one["map"]
    assert "seed 0" in one["map"]
    assert "PCA" in one["map"] or one["size"][1] <= 50
    twice = content_of(explore([site.run, shutil.copytree(site.run, tmp_path / "again")], out=tmp_path / "two.html",
                               split="train", thumbnails=3, device="cpu", progress=False))  # fmt: skip
    assert len(twice["strips"]) == 3
    assert twice["sets"][0]["near"] == twice["sets"][1]["near"]


def test_the_explorer_of_two_sets_ties_their_common_signs(tmp_path):
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    where = [("c", i, i + 1) for i in range(12)]
    glosses = ["<b>A</script>", "谢谢"] * 6
    one = FeatureSet("one", rows, glosses, where)
    two = FeatureSet("two", rows[4:] * 3, glosses[4:], where[4:])
    page = write_explorer([one, two], tmp_path / "e.html", progress=False)
    found = content_of(page)
    assert found["sets"][1]["x"][:4] == [-1] * 4
    assert min(found["sets"][1]["x"][4:]) >= 0
    assert found["sets"][0]["pairs"][0][:2] in ([0, 1], [1, 0])
    assert page.read_text().count("</script>") == 4, "no name can end the data, the texts or the two scripts"
    assert found["strips"] == {}


def test_the_explorer_of_a_feature_file_and_of_chosen_frames(site, corpus, tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "labels.txt").write_text("\n".join("AB"[i % 2] for i in range(20)) + "\n")
    words = ["explore", str(tmp_path / "rows.npy"), "--glosses", str(tmp_path / "labels.txt")]
    assert main(words) == 2
    assert "give one with -o" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "e.html"), "--figure", str(tmp_path / "e.svg")]) == 0
    assert content_of(tmp_path / "e.html")["glosses"] == ["A", "B"]
    assert (tmp_path / "e.svg").read_bytes().startswith(b"<?xml")
    task = make_task(None, corpus="synthetic", root=corpus, split="train", choices=tmp_path / "c.jsonl")
    for place, span in enumerate(task.spans[:40]):
        task.decide(place, annotator="ada", role="annotator", action="choose", frame=span.stop - 1, id="")
    capsys.readouterr()
    given = ["--split=train", f"--spans={tmp_path / 'c.jsonl'}", "--device=cpu"]
    assert main(["explore", str(site.run), "-o", str(tmp_path / "p.html"), "--frame=peak", *given]) == 0
    found = content_of(tmp_path / "p.html")
    chosen = {(found["clips"][c], a, b) for c, a, b in zip(found["clip"], found["start"], found["stop"])}
    assert chosen == {(s.clip, s.stop - 1, s.stop) for s in task.spans[:40]}
    capsys.readouterr()
    assert main(["density", str(site.run), "--json", "--no-picture", *given]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["instances"] == 40
    assert measured["made"]["frame"] == "people"
    assert "frame people" in found["sets"][0]["made"]


def test_too_little_for_an_explorer(site, tmp_path):
    with pytest.raises(ValueError, match="got 3"):
        explore([site.run] * 3)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        explore([tmp_path / "none"], out=tmp_path / "e.html")
    with pytest.raises(ValueError, match="at least 3 rows"):
        write_explorer([FeatureSet("a", torch.ones(2, 2), ["A", "B"], [("c", 0, 1), ("c", 1, 2)])], tmp_path / "e.html")
    singles = FeatureSet("a", torch.eye(4), list("ABCD"), [("c", i, i + 1) for i in range(4)])
    found = content_of(write_explorer([singles], tmp_path / "e.html", progress=False))
    assert found["sets"][0]["summary"]["sdr"] is None
    assert found["sets"][0]["pairs"] == []


def test_neighbours_medoids_and_pairs_agree_with_plain_loops():
    generator = torch.Generator().manual_seed(1)
    rows, ids = torch.randn(60, 5, generator=generator), torch.arange(60) % 7
    apart = [[float((a - b).norm()) for b in rows] for a in rows]
    for i, found in enumerate(nearest(rows, 8)):
        plain = sorted((apart[i][j], j) for j in range(60) if j != i)[:8]
        assert sorted(found.tolist()) == sorted(j for _, j in plain)
    for gloss, found in enumerate(medoids(rows, ids)):
        own = [i for i in range(60) if ids[i] == gloss]
        assert found == min(own, key=lambda i: sum(apart[i][j] for j in own))
    pairs = confusable_pairs(rows, ids, 30)
    assert len(pairs) == 21
    assert [p.distance for p in pairs] == sorted(p.distance for p in pairs)
    for p in pairs:
        plain = np.mean([apart[i][j] for i in range(60) for j in range(60) if ids[i] == p.a and ids[j] == p.b])
        assert p.distance == pytest.approx(plain, rel=1e-5)
    assert nearest(rows[:1], 8).shape == (1, 0)


def test_strips_on_demand(client, site):
    name, span = next((s.name, s.spans[0]) for s in site.samples().values() if s.spans)
    query = {"clip": name, "start": span.start, "stop": span.stop}
    assert client.get("/api/strip", params=query).json()["strip"].startswith("data:image/jpeg")
    assert client.get("/api/frames", params=query).json()["count"] > span.stop - span.start
    for wrong in ({"clip": "../x"}, {"start": 90, "stop": 95_000}, {"start": -1}, {"start": 9, "stop": 9}):
        assert client.get("/api/strip", params={**query, **wrong}).status_code in (404, 422), wrong


def test_a_file_that_cannot_be_written_is_said(corpus, tmp_path, capsys):
    task = make_task(None, corpus="synthetic", root=corpus, split="test", choices=tmp_path / "c.jsonl")
    task.path.mkdir()
    client = TestClient(make_app(Site(task=task)), base_url="http://localhost")
    answer = client.post("/api/annotate/decision", json={"place": 0, "annotator": "a", "action": "skip"})
    assert answer.status_code == 507
    assert answer.json()["error"].startswith("not saved: ")
    words = ["serve", "--annotate", "--corpus=synthetic", f"--root={corpus}", "--port=0", f"--choices={task.path}"]
    assert main(words) == 2
    assert "c.jsonl" in capsys.readouterr().err


def test_people_s_choices_become_one_frame_per_span(corpus, tmp_path):
    task = make_task(None, corpus="synthetic", root=corpus, split="test", choices=tmp_path / "c.jsonl")
    for who, by in (("ada", 0), ("bob", 1), ("cem", 2)):
        for place, span in enumerate(task.spans[:5]):
            task.decide(place, annotator=who, role="annotator", action="choose", frame=span.start + by, id="")
    assert read_choices(task.path, spans=task.spans) == {s: s.start + 1 for s in task.spans[:5]}
    assert all(isinstance(span, SpanKey) for span in task.spans)
