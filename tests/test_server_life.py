"""The server under load: queue, disconnects, clips that take too long, slow bodies, other sites, shutdown."""

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fresh_process
import httpx
import numpy as np
import psutil
import pytest
import uvicorn
from web_site import Server

from signcl.data.video import write_video
from signcl.pages.access import Access, is_loopback, machine, same_place
from signcl.pages.app import Site, make_app
from signcl.pages.job_queue import JobQueue
from signcl.pages.server import _listen, _token
from signcl.pages.uploads import Limits

EDGE = b"limits"


def form(content: bytes, name: str = "clip.mp4") -> bytes:
    head = b'--%b\r\nContent-Disposition: form-data; name="clip"; filename="%b"\r\n\r\n' % (EDGE, name.encode())
    return head + content + b"\r\n--%b--\r\n" % EDGE


def until(true, seconds: float = 240) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended; a zombie has, though nobody may collect it, and a number may be given again."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Client:
    """A client on a bare socket: it can send a part of a request, and leave."""

    def __init__(self, port: int, path: str = "/api/translate?progress=1", **headers: str) -> None:
        self.door = socket.create_connection(("127.0.0.1", port), timeout=240)
        lines = [f"POST {path} HTTP/1.1", f"Host: localhost:{port}", *(f"{n}: {v}" for n, v in headers.items())]
        self.door.sendall("\r\n".join(lines).encode() + b"\r\n")

    def sends(self, body: bytes, part: float = 1.0) -> "Client":
        head = b"Content-Type: multipart/form-data; boundary=%b\r\nContent-Length: %d\r\n\r\n" % (EDGE, len(body))
        self.door.sendall(head + body[: int(len(body) * part)])
        return self

    def hears(self, what: str) -> str:
        """Everything until these words come."""
        heard = b""
        while what.encode() not in heard:
            piece = self.door.recv(1 << 16)
            assert piece, heard[-500:]
            heard += piece
        return heard.decode("utf-8", "replace")

    def leaves(self) -> None:
        self.door.close()


class Place:
    """A server within this process, with its worker."""

    def __init__(self, run: Path) -> None:
        self.queue = JobQueue(run, device="cpu")
        self.limits = self.queue.limits
        self.door = _listen("127.0.0.1", 0)
        self.port = self.door.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(make_app(Site(run=run, queue=self.queue)), log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, args=([self.door],), daemon=True)
        self.thread.start()
        self.http = httpx.Client(base_url=f"http://localhost:{self.port}", timeout=240)

    @contextlib.contextmanager
    def limited(self, **limits: float) -> Iterator[None]:
        self.queue.limits = Limits(**limits)
        try:
            yield
        finally:
            self.queue.limits = self.limits

    def translate(self, content: bytes, **query: object) -> httpx.Response:
        return self.http.post("/api/translate", files={"clip": ("clip.mp4", content)}, params=query)

    def is_empty(self) -> bool:
        return not list(self.queue.place.iterdir()) and not len(self.queue) and self.queue._current is None

    def close(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(20)
        self.queue.close()


@pytest.fixture(scope="module")
def files(made_site, tmp_path_factory) -> Path:
    place = Path(shutil.copytree(made_site, tmp_path_factory.mktemp("life"), dirs_exist_ok=True))
    write_video(place / "large.mp4", np.zeros((24, 2048, 2048, 3), np.uint8))  # small, and slow to read
    return place


@pytest.fixture(scope="module")
def place(files) -> Iterator[Place]:
    place = Place(files / "run")
    yield place
    assert until(place.is_empty)
    place.close()
    assert not place.queue.place.exists()


@pytest.fixture(scope="module")
def clip(files) -> bytes:
    return sorted((files / "corpus" / "clips" / "test").rglob("*.mp4"))[0].read_bytes()


@pytest.fixture(scope="module")
def large(files) -> bytes:
    return (files / "large.mp4").read_bytes()


def test_clients_that_leave_take_everything_with_them(place, clip, large):
    in_work = Client(place.port).sends(form(large))
    in_work.hears('"reading"')
    waiting = []
    for number in (1, 2):  # the second comes when the first is in the queue: two at once come in any order
        waiting.append(Client(place.port).sends(form(clip)))
        assert f'"place": {number}' in waiting[-1].hears("place")
    arriving = Client(place.port).sends(form(clip), part=0.5)
    assert until(lambda: len(list(place.queue.place.iterdir())) == 4)
    assert place.http.get("/").status_code == 200, "pages do not wait"
    waiting[0].leaves()
    assert '"place": 1' in waiting[1].hears("place"), "whoever leaves makes room"
    arriving.leaves()
    in_work.leaves()
    assert '"done"' in waiting[1].hears('"seconds"'), "the next clip is translated"
    waiting[1].leaves()
    assert until(place.is_empty)
    assert place.translate(clip).status_code == 200


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"seconds": 0.2}, "more than 0.2 s"), ({"memory_megabytes": 40.0}, "more than 40 MB of memory")],
)
def test_a_clip_that_takes_too_much_is_ended_and_the_next_is_translated(place, clip, large, limits, said, capsys):
    before = place.queue.processes()
    worker = psutil.Process(before[0])
    with place.limited(**limits):
        answer = place.translate(large)
    assert answer.status_code == 413
    assert said in answer.json()["error"]
    answer = place.translate(clip, progress=True)
    assert [json.loads(line)["stage"] for line in answer.text.splitlines()][-1] == "done"
    assert place.queue.processes() != before, "another process"
    assert until(lambda: ended(worker))
    assert "the worker is replaced" in capsys.readouterr().err


def test_a_worker_that_dies_over_a_clip_is_an_answer(place, clip, large):
    client = Client(place.port).sends(form(large))
    client.hears('"reading"')
    os.kill(place.queue.processes()[0], signal.SIGSEGV)
    said = client.hears("422")
    assert "ended over it (by signal 11)" in said
    client.leaves()
    assert place.translate(clip).status_code == 200


def test_a_full_queue_says_when_to_come_again(place, clip, large):
    with place.limited(waiting=1, receiving=2):
        first = Client(place.port).sends(form(large))
        first.hears('"reading"')
        second = Client(place.port).sends(form(clip))
        second.hears("place")
        answer = place.translate(clip)
        assert answer.status_code == 429
        assert "1 clips are waiting already" in answer.json()["error"]
        assert int(answer.headers["retry-after"]) >= 1
        second.leaves()
        assert until(lambda: not len(place.queue))
        arriving = [Client(place.port).sends(form(clip), part=0.5) for _ in range(2)]
        assert until(lambda: len(list(place.queue.place.iterdir())) == 3)
        assert place.translate(clip).status_code == 429, "enough are on their way"
        for client in (first, *arriving):
            client.leaves()
    assert until(place.is_empty)


def test_a_body_that_does_not_come_is_answered(place, clip, files):
    limits = Limits(silence_seconds=0.5, upload_seconds=1.0)
    queue, place.queue.limits = place.queue, limits  # the guard of a new application has these limits
    door = _listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(Site(run=files / "run", queue=queue)), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([door],), daemon=True)
    thread.start()
    try:
        port = door.getsockname()[1]
        silent = Client(port).sends(form(clip), part=0.5)
        assert " 408 " in silent.hears("within 1 s")
        slow = Client(port).sends(form(clip), part=0.1)
        with contextlib.suppress(OSError):
            for _ in range(30):  # never silent, and never done
                slow.door.sendall(b"x")
                time.sleep(0.1)
        assert until(place.is_empty)
        assert httpx.get(f"http://localhost:{port}/").status_code == 200
    finally:
        queue.limits = place.limits
        server.should_exit = server.force_exit = True
        thread.join(20)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--limits",
        b"--limits--\r\n",
        b"no form at all",
        form(b"x")[:-12],
        b"--limits\r\n" + b"A: b\r\n" * 100 + b"\r\nx\r\n--limits--\r\n",
        b'--limits\r\nContent-Disposition: form-data; name="clip"\r\n\r\nx\r\n--limits--\r\n',
        form(b"x").replace(b'"clip"', b'"other"'),
    ],
)
def test_forms_that_are_none(place, body):
    headers = {"content-type": "multipart/form-data; boundary=limits"}
    answer = place.http.post("/api/translate", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert "\n" not in answer.json()["error"]
    assert until(place.is_empty)


def test_only_the_first_clip_of_a_form_is_taken(place, clip):
    part = form(clip).removesuffix(b"--limits--\r\n")
    body = part.replace(b"clip.mp4", b"one.mp4") + form(b"nonsense", "two.mp4")
    headers = {"content-type": "multipart/form-data; boundary=limits"}
    answer = place.http.post("/api/translate", content=body, headers=headers)
    assert answer.json()["clip"] == "one.mp4"


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it_at_once_with_clients_in_every_stage(files, clip, large, way, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = fresh_process.descendants()
    # one of them starts as a user's does, with a fork server of its own, which has to end too
    with Server(files / "run", own_workers=way == signal.SIGKILL) as server:
        worked = fresh_process.descendants() - before - {psutil.Process(server.process.pid)}
        busy = [Client(server.port).sends(form(large)), Client(server.port).sends(form(clip))]
        busy.append(Client(server.port).sends(form(clip), part=0.5))
        busy[0].hears('"reading"')
        os.kill(server.process.pid, way)
        server.process.join(60)
        code = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[way]
        assert server.process.exitcode == code, server.said
        assert "Traceback" not in "".join(server.said)
    assert worked
    assert until(lambda: not list(tmp_path.glob("signcl-serve-*"))), "the worker of a killed server cleans up"
    assert until(lambda: all(map(ended, worked)))
    for client in busy:
        client.leaves()


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("LOCALHOST:8765", ("localhost", 8765)),
        ("localhost.", ("localhost", None)),
        ("[::1]:80", ("::1", 80)),
        ("127.0.0.1", ("127.0.0.1", None)),
        ("localhost:x", None),
        ("evil@localhost", None),
        ("localhost/x", None),
        ("", None),
    ],
)
def test_a_host_has_one_spelling(host, found):
    assert machine(host) == found


def test_which_names_are_this_machine():
    for name in ("localhost", "LocalHost.", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"):
        assert is_loopback(name), name
    for name in ("localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "192.168.0.1", "", "127.1", "::"):
        assert not is_loopback(name), name


def test_an_origin_is_compared_as_a_place():
    for origin, host in (
        ("http://localhost:8765", "127.0.0.1:8765"),
        ("http://127.0.0.1:8765", "LOCALHOST:8765"),
        ("http://[::1]:8765", "localhost.:8765"),
        ("http://localhost", "localhost:80"),
        ("https://lab.example", "lab.example"),
    ):
        assert same_place(origin, host), origin
    for origin, host in (
        ("http://localhost:1", "localhost:8765"),
        ("http://evil.example:8765", "localhost:8765"),
        ("null", "localhost:8765"),
        ("", "localhost:8765"),
        ("http://localhost:8765.evil.example", "localhost:8765"),
        ("file://localhost:8765", "localhost:8765"),
        ("https://localhost", "localhost:80"),
    ):
        assert not same_place(origin, host), origin


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),
        ({"sec-fetch-site": "same-origin"}, 422),
        ({"sec-fetch-site": "none"}, 422),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 403),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "localhost.evil.example"}, 421),
    ],
)
def test_what_acts_must_come_from_our_pages(place, headers, status):
    assert place.http.post("/api/translate", headers=headers).status_code == status


def test_a_link_from_elsewhere_opens_a_page_and_nothing_else_is_read(place):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert place.http.get("/", headers=link).status_code == 200
    assert place.http.get("/report", headers=link).status_code == 403, "it would be made"
    picture = link | {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    for path in ("/", "/report", "/api/site", "/api/strip?clip=a&start=1&stop=2", "/run/card.json"):
        assert place.http.get(path, headers=picture).status_code == 403, path


def test_beyond_the_loopback_a_token_is_needed(files, tmp_path):
    secret = _token(tmp_path / "token")
    assert _token(tmp_path / "token") == secret, "it stays"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    site = Site(run=files / "run", access=Access(loopback=False, token=secret, port=8765))
    from fastapi.testclient import TestClient

    client = TestClient(make_app(site), base_url="http://lab.example:8765")
    for path in ("/", "/api/site", "/static/base.css", "/run/card.json", "/?token=", "/?token=wrong"):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert "a token is needed" in answer.json()["error"]
    for wrong in ("Bearer wrong", f"Basic {secret}", "Bearer", "Bearer \xff", f"Bearer {secret}x"):
        assert client.get("/", headers={"authorization": wrong.encode("latin-1")}).status_code == 401, wrong
    assert client.get("/", headers={"authorization": f"bearer {secret}"}).status_code == 200
    assert client.post(f"/api/translate?token={secret}").status_code == 401, "a form of another site cannot use it"
    welcome = client.get(f"/?token={secret}")
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/").status_code == 200, "the cookie"
    assert client.post("/api/translate", headers={"origin": "http://evil.example"}).status_code == 403
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(ValueError, match="16 to 500 letters"):
        _token(tmp_path / "short")


def test_it_says_its_token_once(files):
    shutil.rmtree(files / "run" / "none", ignore_errors=True)
    with Server("--annotate", "--corpus=synthetic", f"--root={files / 'corpus'}", "--host=0.0.0.0",
                f"--choices={files / 'c.jsonl'}") as server:  # fmt: skip
        address, _, secret = server.address.partition("/?token=")
        assert len(secret) > 40
        assert server.says("Authorization: Bearer TOKEN")
        port = address.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 401
        answer = httpx.get(f"http://127.0.0.1:{port}/api/site", headers={"authorization": f"Bearer {secret}"})
        assert answer.json()["annotates"] is True
