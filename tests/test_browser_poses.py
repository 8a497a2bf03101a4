"""Key points that are sent to `signcl serve`: .pose files, and those that the page finds in the browser."""

import base64
import contextlib
import io
import json
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from pose_run import EXTRACTOR, make_pose_run, some_points
from web_site import open_browser

from signcl.cli import main
from signcl.data.batch import Sample
from signcl.data.loading import load_raw
from signcl.data.pose_estimation import (
    BROWSER_EXTRACTOR,
    browser_differs,
    find_browser_holistic,
    finish,
    install_browser_holistic,
    pose_bytes,
)
from signcl.data.pose_estimation.browser_holistic import FILES, READY
from signcl.data.pose_estimation.pose_environment import find_python
from signcl.data.pose_files import read_points
from signcl.data.pose_layouts import LAYOUTS
from signcl.data.poses import read_pose
from signcl.inference.translation import load_model, translate
from signcl.pages.app import Site, make_app
from signcl.pages.browser_poses import key_points_here
from signcl.pages.job_queue import JobQueue
from signcl.pages.uploads import Limits, Refused, kind_of, read_upload
from signcl.training.runs import load_run

CLIP = Path(__file__).parents[1] / "signcl/training/shipped/poses/samples/clip-1.npy"
GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
HTTP = httpx.Client(trust_env=False, timeout=120)  # one for all: each makes a context of TLS anew
OURS = json.dumps(BROWSER_EXTRACTOR.described())


def write_named(path: Path, layout: str, points: np.ndarray, seen: np.ndarray) -> Path:
    """A .pose file of one of our layouts. points [T, K, 2 or 3], seen [T, K]"""
    from pose_format import Pose
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    axes = "XYZ"[: points.shape[2]] + "C"
    parts = [
        PoseHeaderComponent(part.component, list(part.points or map(str, range(part.count))), [], [(0, 0, 0)], axes)
        for part in LAYOUTS[layout].parts
    ]
    body = NumPyPoseBody(25.0, np.ma.masked_array(points[:, None]), seen[:, None].astype(np.float32))
    with path.open("wb") as file:
        Pose(PoseHeader(0.2, PoseHeaderDimensions(64, 64, 0), parts), body).write(file)
    return path


def refused(path: Path, run, limits: Limits | None = None, **more) -> tuple[int, str]:
    with pytest.raises(Refused) as found:
        read_upload(path, run, limits or Limits(), print, **more)
    line = str(found.value)
    assert "\n" not in line
    assert str(path.parent) not in line
    return found.value.status, line


# -- .pose files -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    """`demo:poses`, which reads COCO-WholeBody."""
    return load_model("demo:poses", device="cpu")


@pytest.fixture
def coco(tmp_path) -> Path:
    """The shipped sample clip as a .pose file, under a name without ending, as the server has it."""
    _, points, seen = read_points(CLIP)["clip-1"].placed()
    return write_named(tmp_path / "clip", "coco_wholebody", points[:, 0], seen[:, 0])


def test_a_pose_file_that_is_sent_gives_the_rows_and_sentence_of_the_command(shipped, coco):
    notes = []
    rows = read_upload(coco, shipped.run, Limits(), notes.append)
    recipe = shipped.run.recipe.input
    np.testing.assert_allclose(rows, load_raw(Sample("clip-1", "", features=CLIP), recipe), atol=1e-6)
    assert translate(shipped, rows).text == translate(shipped, CLIP).text
    assert coco.is_file()
    assert notes == []


def test_a_pose_file_that_cannot_be_meant_is_one_line(shipped, coco):
    run, whole = shipped.run, coco.read_bytes()
    assert refused(coco, run, Limits(frames=10)) == (
        413,
        f"the clip has {len(np.load(CLIP))} frames, the limit is 10",
    )
    status, line = refused(coco, run, part=(0.0, 1.0))
    assert (status, line.partition(";")[0]) == (422, "start and stop are for videos")
    status, line = refused(coco, run, extractor='{"estimator": "x"}')
    assert (status, line.partition(",")[0]) == (422, "extractor: needs the text of a pose.json of `signcl pose`")
    for content in (whole[:-1000], whole[:20], whole[:300] + whole[900:]):
        coco.write_bytes(content)
        status, line = refused(coco, run)
        assert (status, "pose" in line) == (422, True), line
    write_named(coco, "mediapipe", some_points()[:, :178, :3], np.ones((12, 178)))
    status, line = refused(coco, run)
    assert status == 422
    assert line.startswith("the model was trained on coco_wholebody key points")
    coco.write_bytes(b"nothing")
    assert refused(coco, run)[0] == 415
    assert kind_of(bytes(16)) is None, "zeros are no .pose file of version 0"


def test_a_run_of_pixels_takes_no_key_points(coco):
    status, line = refused(coco, load_run("demo:synthetic"))
    assert status == 415
    assert "trained on video" in line
    assert "holds key points" in line


# -- key points of the browser -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pose_run(tmp_path_factory) -> Path:
    return make_pose_run(tmp_path_factory.mktemp("pose"))


@pytest.fixture
def other_card(pose_run, tmp_path):
    """Copies of the run whose card says something else of its key points."""

    def make(**said) -> Path:
        place = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        shutil.copytree(pose_run, place)
        card = json.loads((place / "card.json").read_text())
        card["poses"] = {**card["poses"], **said}
        (place / "card.json").write_text(json.dumps(card))
        return place

    return make


def gappy() -> np.ndarray:
    """Points whose right hand is lost for three frames, and whose left hand never was there."""
    points = some_points(seed=5)
    points[4:7, 522:543] = 0
    points[:, 501:522] = 0
    return points


def test_what_the_page_sends_is_filled_and_read_as_a_video_would_be(pose_run, tmp_path):
    run, points, sent, notes = load_run(pose_run), gappy(), tmp_path / "clip", []
    sent.write_bytes(pose_bytes(points, 48, 64, 25.0))
    rows = read_upload(sent, run, Limits(), notes.append, extractor=OURS)
    filled = finish(points, "", "", EXTRACTOR.fill, 48, 64).points
    (tmp_path / "filled.pose").write_bytes(pose_bytes(filled, 48, 64, 25.0))
    np.testing.assert_allclose(rows, read_pose(tmp_path / "filled.pose", confidence=True), atol=1e-5)
    assert np.abs(rows - read_pose(sent.rename(tmp_path / "raw.pose"), confidence=True)).max() > 0.1
    assert notes == []


def test_key_points_of_another_extractor_are_refused_as_the_command_does(pose_run, other_card, tmp_path):
    run, sent = load_run(pose_run), tmp_path / "clip"
    sent.write_bytes(pose_bytes(some_points(), 48, 64, 25.0))
    own = json.dumps({"extractor": EXTRACTOR.described(), "fps": None})
    assert read_upload(sent, run, Limits(), print, extractor=own).shape == (12, 178 * 3)
    newer = json.dumps(replace(EXTRACTOR, version="0.10.9").described())
    status, line = refused(sent, run, extractor=newer)
    assert status == 422
    assert "another extractor than in training (mediapipe-holistic 0.10.9 against mediapipe-holistic 0.10.21)" in line
    page = json.dumps(replace(BROWSER_EXTRACTOR, version="0.4").described())
    assert "load the page again" in refused(sent, run, extractor=page)[1]
    for said, expected in (
        ({"extractor": replace(EXTRACTOR, version="0.10.9").described()},
         "mediapipe-holistic 0.10.9, but the browser matches only mediapipe-holistic 0.10.21"),
        ({"extractor": replace(EXTRACTOR, settings={**EXTRACTOR.settings, "model_complexity": 2}).described()},
         "model_complexity 1 against 2"),
        ({"extractor": None}, "the run does not record"),
    ):  # fmt: skip
        assert expected in refused(sent, load_run(other_card(**said)), extractor=OURS)[1]
    assert "was not trained on key points" in refused(sent, load_run("demo:poses"), extractor=OURS)[1]


def test_nobody_another_form_and_another_rate_are_said(pose_run, tmp_path):
    run, sent = load_run(pose_run), tmp_path / "clip"
    sent.write_bytes(pose_bytes(np.zeros((4, 543, 4), np.float32), 48, 64, 25.0))
    assert refused(sent, run, extractor=OURS) == (422, "no person was found in any of its 4 frames")
    write_named(sent, "mediapipe", some_points()[:, :178, :3], np.ones((12, 178)))
    assert "needs the 543 points of one person" in refused(sent, run, extractor=OURS)[1]
    notes = []
    sent.write_bytes(pose_bytes(some_points(), 48, 64, 50.0))
    read_upload(sent, run, Limits(), notes.append)
    assert [note.partition(":")[0] for note in notes] == ["50 frames a second, the run was trained at 25"]
    named = sent.rename(tmp_path / "clip.pose")
    found = translate(load_model(pose_run, device="cpu"), named)
    assert [note.partition(" frames")[0] for note in found.notes] == ["clip.pose: 50"]


def test_what_is_compared_with_the_extractor_of_the_training():
    assert browser_differs(EXTRACTOR) == ""
    assert browser_differs(replace(EXTRACTOR, fill=0)) == "", "the server fills gaps, whoever estimates"
    assert "replay 1" in browser_differs(replace(EXTRACTOR, estimator="replay", version="1"))
    settings = {**EXTRACTOR.settings, "smooth_landmarks": False}
    assert browser_differs(replace(EXTRACTOR, settings=settings)) == "smooth_landmarks True against False"


# -- installing --------------------------------------------------------------------------------------------------------


def test_another_package_a_missing_npm_and_a_failing_one_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/holistic.js"), io.BytesIO())
    assert main(["pose", "--install-browser", str(tmp_path / "other.tgz")]) == 2
    assert "other.tgz: is not @mediapipe/holistic@0.5.1675471629: its SHA-512 is" in capsys.readouterr().err
    assert find_browser_holistic() is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["pose", "--install-browser"]) == 2
    err = capsys.readouterr().err
    assert "needs npm" in err
    assert "--install-browser FILE.tgz" in err
    assert err.count("\n") == 1
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/npm")
    with pytest.raises(ValueError, match=r"npm cannot fetch .* \(no network\)"):
        install_browser_holistic(run=lambda command: "no network")


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Path:
    """A folder with the names of the files that are installed for browsers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "signcl" / f"mediapipe-holistic-web-{BROWSER_EXTRACTOR.version}"
    folder.mkdir(parents=True)
    for name in (*FILES, READY):
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def site(pose_run) -> Iterator[Site]:
    queue = JobQueue(pose_run, device="cpu")
    yield Site(run=pose_run, queue=queue)
    queue.close()


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """The site at an address of this process."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(make_app(site), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    number = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{number}"
    server.should_exit = True
    thread.join(10)


def send(address: str, content: bytes, **fields: str) -> httpx.Response:
    files = {"clip": ("clip.pose", content)}
    return HTTP.post(f"{address}/api/translate", files=files, data=fields)


def test_the_api_takes_pose_files_and_names_what_made_them(address, stand_in):
    content = pose_bytes(some_points(), 48, 64, 25.0)
    answer = send(address, content)
    assert answer.status_code == 200
    assert answer.json()["frames"] == 12
    here = HTTP.get(f"{address}/api/site").json()["key_points"]
    assert send(address, content, extractor=here["extractor"]).json()["text"] == answer.json()["text"]
    newer = json.dumps(replace(EXTRACTOR, version="0.10.9").described())
    answer = send(address, content, extractor=newer)
    assert answer.status_code == 422
    assert "another extractor" in answer.json()["error"]
    assert send(address, content[:-7]).status_code == 422
    form = HTTP.get(f"{address}/api/openapi.json").json()["paths"]["/api/translate"]["post"]["requestBody"]
    fields = form["content"]["multipart/form-data"]["schema"]["properties"]
    assert ".pose" in fields["clip"]["description"]
    assert "pose.json" in fields["extractor"]["description"]


def test_the_page_is_told_what_it_needs_or_why_it_cannot(pose_run, other_card, tmp_path, monkeypatch, stand_in):
    assert key_points_here(load_run("demo:poses").folder) is None
    found = key_points_here(pose_run)
    assert found["fps"] == 25.0
    points = pose_bytes(some_points(3), 48, 64, 25.0)
    assert points[12:].startswith(base64.b64decode(found["head"])[12:]), "the head of a .pose file, but for its size"
    older = other_card(extractor=replace(EXTRACTOR, version="0.10.9").described())
    assert "another extractor: mediapipe-holistic 0.10.9, but" in key_points_here(older)["why_not"]
    assert "does not know" in key_points_here(other_card(extractor=None))["why_not"]
    assert "the rate" in key_points_here(other_card(fps=None))["why_not"]
    (stand_in / FILES[0]).unlink()
    assert key_points_here(pose_run) == {"install": "signcl pose --install-browser"}
    assert find_browser_holistic() is None


def test_the_worker_alone_may_compile_and_only_files_of_the_package_are_served(address, stand_in):
    worker = HTTP.get(f"{address}/key-points/worker.js")
    assert worker.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
    )
    for page in ("/", "/translate", "/annotate", "/static/holistic-worker.js"):
        policy = HTTP.get(f"{address}{page}").headers["content-security-policy"]
        assert "wasm" not in policy
        assert "worker-src" not in policy
    files = f"{address}/key-points/{BROWSER_EXTRACTOR.version}"
    for name in FILES:
        found = HTTP.get(f"{files}/{name}")
        assert (found.text, found.headers["cache-control"].partition(",")[0]) == (name, "private")
        assert found.headers.get_list("content-security-policy") != []
    assert HTTP.get(f"{files}/holistic.js").headers["content-type"].startswith("text/javascript")
    for name in (READY, "..%2fready.txt", "none.js"):
        assert HTTP.get(f"{files}/{name}").status_code == 404
    (stand_in / READY).unlink()
    assert HTTP.get(f"{files}/holistic.js").status_code == 404


# -- the page ----------------------------------------------------------------------------------------------------------


KEEP_FORMS = """(() => {
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (form) { globalThis.sentForm = form; return send.call(this, form); };
})()"""
SENT = """async () => {
  const clip = sentForm.get("clip");
  const bytes = new Uint8Array(await clip.arrayBuffer());
  return [[...sentForm.keys()], clip.name, btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""))];
}"""


@contextlib.contextmanager
def opened(address: str, locale: str = "en-US", **size: int):
    """The translate page; complaints of its scripts fail the test."""
    complaints: list[str] = []
    with open_browser(*GL) as browser:
        page = browser.new_context(locale=locale, viewport={"width": 1100, "height": 900} | size).new_page()
        page.set_default_timeout(600_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.add_init_script(KEEP_FORMS)
        page.sent = []
        page.on("request", lambda r: page.sent.append(r) if r.method == "POST" else None)
        page.goto(f"{address}/translate")
        page.wait_for_function("() => document.getElementById('limits').textContent !== ''")
        yield page
    assert complaints == []


def check_axe(page) -> None:
    """Nothing serious, by axe-core."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra dev)").Axe()
    found = axe.run(page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


def test_the_page_writes_the_file_that_the_server_reads_or_says_how_to_install(pose_run, address, stand_in, tmp_path):
    points = gappy()
    with opened(address, width=360) as page:
        assert page.is_visible("#on-device")
        assert page.is_checked("#on-device")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        made = page.evaluate(
            """async (points) => {
              const about = (await (await fetch("/api/site")).json()).key_points;
              const found = { points: Float32Array.from(points), count: 12, width: 64, height: 48 };
              const finder = keyPointFinder(about);
              finder.draw(document.createElement("canvas"), finder.frameOf(found, 3), 64, 48);
              const bytes = new Uint8Array(await finder.file(found, "clip.pose").arrayBuffer());
              return [finder.somebody(found), btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""))];
            }""",
            points.ravel().tolist(),
        )
        assert made == [True, base64.b64encode(pose_bytes(points, 48, 64, 25.0)).decode()]
        check_axe(page)
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        page.set_input_files("#file", str(tmp_path / "broken.mp4"))
        page.wait_for_selector(".result .problem")
        assert "This browser cannot play broken.mp4" in page.inner_text(".result .problem")
        assert page.sent == [], "a clip that cannot be played is not sent in secret"
        page.set_input_files("#file", {"name": "a.pose", "mimeType": "", "buffer": pose_bytes(points, 48, 64, 25.0)})
        page.wait_for_selector(".says")
        (stand_in / READY).unlink()
        page.reload()
        page.wait_for_selector("#local:not([hidden])")
        assert not page.is_visible("#on-device")
        assert page.inner_text("#local-note code") == "signcl pose --install-browser"


@pytest.fixture
def installed() -> Path:
    """Holistic for browsers, as it is installed on this machine."""
    folder = find_browser_holistic()
    if folder is None:
        pytest.skip("MediaPipe Holistic for browsers is not there; `signcl pose --install-browser` fetches it (53 MB)")
    return folder


def test_a_real_clip_stays_in_the_browser_and_its_key_points_are_those_of_mediapipe(
    installed, site, address, real_data, tmp_path
):
    from signcl.data.video import read_frames, write_video

    frames = read_frames(real_data / "sample-videos" / "dailymoth_0043626-2023.1.4.gif")[20:24]
    write_video(tmp_path / "clip.mp4", frames, 25.0)
    with opened(address) as page:
        page.set_input_files("#file", str(tmp_path / "clip.mp4"))
        page.wait_for_selector(".result .quiet")
        page.click(".result .quiet")  # cancel
        page.wait_for_function("() => document.getElementById('results').textContent.includes('Nothing was sent.')")
        assert page.sent == []
        page.set_input_files("#file", str(tmp_path / "clip.mp4"))
        page.wait_for_selector(".says")
        assert "The video stayed on this device. The key points of 4 frames" in page.inner_text("#results")
        assert page.locator(".keep").count() == 0
        assert len(page.sent) == 1
        names, kind, content = page.evaluate(SENT)
    assert (names, kind) == (["clip", "extractor"], "clip.pose")
    (tmp_path / "sent.pose").write_bytes(base64.b64decode(content))
    ((layout, points, seen),) = (raw.placed() for raw in read_points(tmp_path / "sent.pose").values())
    assert layout.name == "mediapipe"
    assert points.shape == (4, 1, 178, 3)
    assert (seen > 0).mean() > 0.9
    try:
        python = find_python()
    except FileNotFoundError:
        pytest.skip("MediaPipe's environment is not there to compare with; `signcl pose --install` makes it")
    said = ["pose", str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "poses"), "--fill=0", f"--pose-python={python}"]
    assert main(said) == 0
    _, theirs, found = read_points(tmp_path / "poses" / "clip.pose")["clip"].placed()
    for part, near in (("body", 12.0), ("face", 1.0), ("right_hand", 4.0)):  # median pixels of 224
        first, last = layout.ranges()[part]
        both = (seen[:, 0, first:last] > 0) & (found[:, 0, first:last] > 0)
        apart = np.linalg.norm(points[:, 0, first:last, :2] - theirs[:, 0, first:last, :2], axis=2)[both]
        assert np.median(apart) < near, part
