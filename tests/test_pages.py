"""The pages in a real browser: clicks, keys, its fake camera, a server killed between two choices, narrow, dark, axe,
nothing from afar."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from web_site import Server, open_browser

from signcl.cli import main
from signcl.data.annotation.choices import read_choices, read_decisions
from signcl.data.annotation.subtitles import read_subtitles
from signcl.data.corpora import load_samples
from signcl.data.files import write_text
from signcl.data.video import probe
from signcl.evaluation.comparison import compare
from signcl.pages.compare_page import write_compare_page
from signcl.pages.explorer import explore

WAIT = 60_000  # milliseconds; CI machines are busy


@pytest.fixture(scope="module")
def place(made_site, tmp_path_factory) -> Path:
    return Path(shutil.copytree(made_site, tmp_path_factory.mktemp("pages"), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def browser():
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with open_browser(*camera) as browser:
        yield browser


@pytest.fixture(scope="module")
def shared(browser):
    """The page that most tests use one after another: a window of its own costs a second of processor time."""
    return listening(browser.new_context(locale="en-US").new_page())


def listening(page):
    """A page that notes what its scripts complain about, and every address that it asks for."""
    page.set_default_timeout(WAIT)
    page.errors, page.warnings, page.elsewhere = [], [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda m: page.warnings.append(m.text) if m.type in ("error", "warning") else None)
    page.on("request", lambda r: page.elsewhere.append(r.url))
    return page


FORGET = "() => { try { localStorage.clear(); sessionStorage.clear(); } catch { /* a page without storage */ } }"


@pytest.fixture
def new_page(browser, shared):
    """An empty page that remembers nobody; what its scripts complain about fails the test."""
    contexts, complaints, listened = [], [], []

    def make(*, dark=False, width=1280, height=900, quiet=True, locale="en-US"):
        leave()
        if locale == "en-US":
            page = shared
        else:
            contexts.append(browser.new_context(locale=locale))
            page = listening(contexts[-1].new_page())
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.set_viewport_size({"width": width, "height": height})
        for heard in (page.errors, page.warnings, page.elsewhere):
            heard.clear()
        listened.append((page, quiet))
        return page

    def leave():
        """Nothing is fetched or said any more; the complaints until then are kept."""
        while listened:
            page, quiet = listened.pop()
            page.evaluate(FORGET)  # its answer comes after everything that the page has said
            complaints.extend(page.errors + page.warnings if quiet else page.errors)
            page.goto("about:blank")

    make.leave = leave
    yield make
    leave()
    for context in contexts:
        context.close()
    assert complaints == []


@contextmanager
def serving(new_page, *words):
    """A server whose pages are left before it ends: a page that fetches ahead would complain about a server gone."""
    with Server(*words) as server:
        yield server
        new_page.leave()


@pytest.fixture(scope="module")
def explorer(place) -> Path:
    page = place / "run" / "explorer.html"
    return explore([place / "run"], out=page, split="train", thumbnails=5, device="cpu", progress=False)


@pytest.fixture(scope="module")
def served(place, explorer):
    """Everything at once: the run, its explorer, its spans to annotate, a film with subtitles, a folder for clips."""
    clip = sorted((place / "corpus" / "clips" / "test").rglob("*.mp4"))[0]
    (place / "film.mp4").write_bytes(clip.read_bytes())
    write_text(
        place / "film.srt", "1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n00:00:01,500 --> 00:00:02,500\ntwo three\n"
    )
    more = [f"--subtitles={place / 'film.srt'}", f"--keep-in={place / 'kept'}", f"--choices={place / 'all.jsonl'}"]
    with Server(place / "run", "--annotate", "--split=train", *more) as server:
        yield server


def check_axe(page) -> None:
    """Nothing serious, by axe-core; contrast and names of all controls are among its rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra dev)").Axe()
    found = axe.run(page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    bad = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert bad == []


def words(place: Path, choices: Path) -> list[str]:
    return ["--annotate", "--corpus=synthetic", f"--root={place / 'corpus'}", f"--choices={choices}", "--split=train"]


def said(page, text: str) -> None:
    page.wait_for_function("(t) => document.getElementById('said').textContent.includes(t)", arg=text)


def shows(page, sign: int) -> None:
    """Wait until the page shows this sign of the list, counted from 1."""
    page.wait_for_function(f"() => document.getElementById('where').textContent.includes('sign {sign} of ')")
    page.wait_for_selector(".cell.at")


def test_choosing_by_keyboard_and_going_on_later(place, tmp_path, new_page):
    choices = tmp_path / "choices.jsonl"
    with serving(new_page, *words(place, choices)) as server:
        page = new_page()
        page.goto(f"{server.address}/annotate")
        page.fill("#name", "ada")
        page.keyboard.press("Enter")
        shows(page, 1)
        first = int(page.get_attribute(".cell.at", "data-frame"))
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        shows(page, 2)
        said(page, f"frame {first + 2} saved")
        page.keyboard.press("s")
        shows(page, 3)
        page.keyboard.press("u")
        shows(page, 2)
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")  # not beyond the sign
        page.keyboard.press("Enter")
        shows(page, 3)
        page.click(".cell:not(.around) >> nth=1")
        page.click("#act-choose")
        shows(page, 4)
        page.keyboard.press("p")
        shows(page, 3)
        assert page.locator(".cell .ok").count() == 1, "one's own choice is marked"
        page.keyboard.press("n")
        shows(page, 4)
    decisions = read_decisions(choices)
    assert [d.action for d in decisions] == ["choose", "skip", "undo", "choose", "choose"]
    spans = [d.span for d in decisions]
    assert read_choices(choices) == {spans[0]: first + 2, spans[3]: spans[3].stop - 1, spans[4]: spans[4].start + 1}
    with serving(new_page, *words(place, choices)) as server:
        page = new_page()
        page.goto(f"{server.address}/annotate?annotator=ada")
        shows(page, 4)
        assert page.inner_text("#count").startswith("3 of ")


def test_a_server_killed_between_two_choices_loses_nothing(place, tmp_path, new_page):
    choices = tmp_path / "choices.jsonl"
    server = Server(*words(place, choices))
    page = new_page(quiet=False)
    page.goto(f"{server.address}/annotate?annotator=ada")
    shows(page, 1)
    page.keyboard.press("Enter")
    shows(page, 2)
    page.wait_for_timeout(500)  # the next sign is fetched ahead
    server.kill()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    said(page, "Not saved yet")
    assert len(read_decisions(choices)) == 1
    with Server(*words(place, choices), port=server.port):
        shows(page, 3)  # sent again by itself
        found = read_decisions(choices)
        assert [d.frame - d.start for d in found] == [0, 1]
        page.reload()
        shows(page, 3)
        assert page.inner_text("#count").startswith("2 of ")


def test_two_people_and_a_judge(place, tmp_path, new_page):
    choices = tmp_path / "choices.jsonl"
    with serving(new_page, *words(place, choices)) as server:
        for name, steps in (("ada", 0), ("bob", 3)):
            page = new_page()
            page.goto(f"{server.address}/annotate?annotator={name}")
            for sign in (1, 2):
                shows(page, sign)
                assert page.locator(".by").count() == 0, "nobody sees what others chose"
                for _ in range(steps if sign == 1 else 0):
                    page.keyboard.press("ArrowRight")
                page.keyboard.press("Enter")
            shows(page, 3)
        page = new_page(dark=True)
        page.goto(f"{server.address}/annotate?annotator=judy")
        shows(page, 1)
        page.click("#tab-agree")
        page.wait_for_selector("#settle")
        figures = page.inner_text("#figures")
        assert "1.50" in figures
        assert "50 %" in figures
        page.click("#settle")
        page.wait_for_selector(".by")
        assert page.locator(".by").all_inner_texts() == ["ada", "bob"]
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector("#done:not([hidden])")
    last = read_decisions(choices)[-1]
    assert (last.annotator, last.role, last.frame) == ("judy", "judge", last.start + 1)
    assert read_choices(choices, unsettled="leave_out")[last.span] == last.start + 1


def test_a_clip_is_uploaded_and_a_broken_one_is_answered(place, tmp_path, served, new_page):
    clip = sorted((place / "corpus" / "clips" / "test").rglob("*.mp4"))[0]
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:700])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "huge.mp4").write_bytes(bytes(65_000_000))
    page = new_page(quiet=False)
    page.goto(f"{served.address}/translate")
    page.wait_for_function("() => document.getElementById('limits').textContent.includes('64 MB')")
    page.set_input_files("#file", str(clip))
    page.wait_for_selector(".says")
    assert page.inner_text(".result header b") == clip.name
    page.wait_for_function("() => document.querySelector('.pair video').videoWidth > 0")  # played beside the sentence
    page.set_input_files("#file", str(tmp_path / "cut.mp4"))
    page.wait_for_selector(".result .problem")
    assert page.inner_text(".result .problem").startswith("cut.mp4: ")
    page.set_input_files("#file", str(tmp_path / "huge.mp4"))
    page.wait_for_selector("#problem:not([hidden])")
    assert "the limit is 64 MB" in page.inner_text("#problem")
    page.set_input_files("#file", str(tmp_path / "empty.mp4"))
    page.wait_for_function("() => document.getElementById('problem').textContent.includes('is empty')")


def test_nothing_can_be_clicked_before_the_page_knows_what_the_server_takes(served, new_page):
    page = new_page()
    held = []
    page.route("**/api/site", lambda route: held.append(route))
    page.goto(f"{served.address}/translate")
    page.wait_for_function("() => typeof recording === 'function'")
    assert not page.is_visible("#camera")
    assert not page.is_visible("#drop")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    page.unroute("**/api/site")
    page.click("#camera")
    page.wait_for_selector("#recorder:not([hidden])")
    page.click("#leave")
    page.wait_for_selector("#ways:not([hidden])")


def test_a_recording_is_cut_translated_and_kept_on_a_telephone_in_german(place, served, new_page):
    page = new_page(width=360, height=740, locale="de-AT")
    page.goto(f"{served.address}/translate")
    page.click("#camera")
    page.wait_for_function("() => document.getElementById('live').videoWidth > 0")
    page.click("#record")
    page.click("#record")  # not the whole countdown
    page.wait_for_function("() => document.getElementById('clock').textContent === '2 s'")
    page.click("#record")
    page.wait_for_selector("#review:not([hidden])")
    length = float(page.get_attribute("#to", "max"))
    assert length > 1
    page.focus("#from")
    for _ in range(25):
        page.keyboard.press("ArrowRight")  # 0.02 s each
    assert page.inner_text("#from-said") == "0,50 s"
    check_axe(page)
    page.click("#send")
    page.wait_for_selector(".says")
    assert "Bilder" in page.inner_text(".result header")
    assert page.inner_text(".pair button.quiet >> nth=0") == "Zuschneiden und neu übersetzen"
    page.wait_for_function("() => document.querySelector('.pair video').videoWidth > 0")
    assert page.locator(".others li").count() >= 1, "what else the beam search has found"
    page.click(".keep summary")
    page.click(".keep button.main")
    assert "Zustimmung" in page.inner_text(".keep .said")
    assert not (place / "kept" / "train.tsv").exists()
    check_axe(page)
    page.check(".keep input[type=checkbox]")
    page.fill(".keep input[type=text] >> nth=0", 'die <b>Frau</b> kauft\t"einen" Schlüssel .')
    page.fill(".keep input[type=text] >> nth=1", "Ünal & Söhne")
    page.click(".keep button.main")
    page.wait_for_function("() => document.querySelector('.keep .said').textContent.startsWith('Gespeichert als')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    (sample,) = load_samples("folder", place / "kept", "train")
    assert sample.text == 'die <b>Frau</b> kauft "einen" Schlüssel .'
    assert sample.signer == "Ünal & Söhne"
    info = probe(sample.clip)
    assert info.num_frames / info.fps == pytest.approx(length - 0.5, abs=0.2)
    assert all(url.startswith((served.address, "data:", "blob:")) for url in page.elsewhere), page.elsewhere


def test_subtitles_are_moved_typed_and_saved_by_keyboard(place, served, new_page):
    file = place / "film.srt"
    page = new_page(quiet=False)  # a conflict is answered by a status that the browser prints
    page.goto(f"{served.address}/subtitles")
    page.wait_for_function("() => document.getElementById('film').duration > 1")
    page.focus(".block")
    page.keyboard.press("ArrowDown")  # the second
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Alt+ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.type(" and more")
    page.keyboard.press("Control+s")
    page.wait_for_function("() => document.getElementById('said').textContent.startsWith('Saved')")

    def cues():
        return [(span.token, span.start, span.stop) for span in read_subtitles(file, fps=1000)["film"]]

    assert cues()[1] == ("two three and more", 1600, 2700)
    page.click("#cues li:nth-child(2) button:has-text('Split')")
    assert page.locator(".block").count() == 3
    page.click("#undo")
    assert page.locator(".block").count() == 2
    box = page.locator(".block >> nth=0").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 10, box["y"] + 5)  # 12 pixels at 60 a second
    page.mouse.up()
    assert page.input_value("#cues li:nth-child(1) input >> nth=1") == "00:01.200"
    write_text(file, file.read_text().replace("one", "by another program"))
    page.click("#save")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('changed by another program')")
    assert cues()[0] == ("by another program", 0, 1000)
    page.on("dialog", lambda dialog: dialog.accept())
    check_axe(page)


def test_two_systems_sentences_stand_side_by_side_with_the_clip(place, new_page):
    names = [s.name for s in load_samples("synthetic", place / "corpus", "test")][:3]
    truth = ["i buy a key .", "you see <b>", "we sleep ."]
    said = {"one": ["i buy a book .", "no .", "we sleep ."], "two": ["i buy a key .", "you see", "we sleep ."]}
    for run, answers in said.items():
        (place / run).mkdir()
        (place / run / "recipe.yaml").write_bytes((place / "run" / "recipe.yaml").read_bytes())
        rows = ["\t".join(row) for row in zip(names, truth, answers)]
        write_text(place / run / "predictions.test.tsv", "\n".join(["name\treference\thypothesis", *rows]) + "\n")
    file = place / "compare.html"
    runs = (place / "one", place / "two")
    write_compare_page(*runs, file, compare(*runs, samples=10), clips=1, language="de", progress=False)
    page = new_page(dark=True, width=360, height=740)
    page.goto(file.as_uri())
    assert page.locator(".sample").count() == 2, "equal answers are counted, not shown"
    assert page.inner_text(".sample h3 >> nth=0") == f"1. {names[1]}", "the largest difference first"
    assert page.locator(".clip").count() == 1
    page.focus(".clip button")
    assert page.inner_text(".clip button") == "Abspielen"
    page.keyboard.press("Enter")
    assert page.get_attribute(".clip button", "aria-label") == f"{names[1]} anhalten"
    page.wait_for_function("() => Number(document.querySelector('.clip').dataset.frame) > 2")
    page.keyboard.press("Enter")
    page.select_option("#sort", "a")
    assert page.locator(".sample").count() == 0
    page.select_option("#sort", "b")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    check_axe(page)
    assert all(url.startswith(("file:", "data:")) for url in page.elsewhere), page.elsewhere


def test_the_explorer_shows_a_sign_its_neighbours_and_sorts(explorer, new_page):
    page = new_page()
    page.goto(explorer.as_uri())
    page.wait_for_function("() => window.explorer?.planes.length === 1")
    page.wait_for_timeout(300)
    x, y = page.evaluate("explorer.planes[0].place(7)")
    page.mouse.move(0, 0)
    page.locator("canvas.over").click(position={"x": x, "y": y})  # scrolled to: the map is higher than the window
    page.wait_for_selector("#sign .near li")
    assert page.locator("#sign .near li").count() == 8
    page.click("#sign .near li:nth-child(2) button")
    header = page.locator("#table thead button")
    header.nth(2).click()
    first = [float(v) for v in page.locator("#table tbody tr td:nth-child(3)").all_inner_texts() if v != "–"]
    assert first == sorted(first)
    header.nth(2).click()
    again = [float(v) for v in page.locator("#table tbody tr td:nth-child(3)").all_inner_texts() if v != "–"]
    assert again == sorted(first, reverse=True)
    page.fill("#find", page.inner_text("#table tbody tr:first-child th").strip())
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length < 6")
    page.select_option("#colour", "sdr")
    page.wait_for_selector(".scale")
    page.select_option("#colour", "found")
    assert "mAP" in page.inner_text(".scale")
    page.focus("#find")
    page.keyboard.press("Escape")
    page.focus("canvas.over")  # by keyboard: from dot to dot, Enter shows one
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#tip")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#tip") != first
    page.keyboard.press("Enter")
    gloss = page.inner_text("#tip b")
    assert page.inner_text("#sign h3") == gloss
    page.keyboard.press("Escape")
    assert page.locator("#pair-list li").count() == 8
    assert "open with signcl serve RUN" in page.inner_text("#sign"), "5 filmstrips are in the page, the others are not"
    assert all(url.startswith(("file:", "data:")) for url in page.elsewhere), page.elsewhere


def test_the_served_explorer_fetches_the_frames(served, new_page):
    page = new_page()
    page.goto(f"{served.address}/explorer")
    page.wait_for_function("() => window.explorer?.planes.length === 1")
    page.evaluate("explorer.select(30)")
    page.wait_for_function("() => document.querySelectorAll('#sign .near img').length === 8")
    assert page.locator("nav.bar a[aria-current]").inner_text() == "Explorer"
    assert all(url.startswith((served.address, "data:", "blob:")) for url in page.elsewhere), page.elsewhere


@pytest.mark.parametrize("path", ["/", "/translate", "/annotate?annotator=x", "/explorer", "/report", "/subtitles"])
@pytest.mark.parametrize(("dark", "locale"), [(False, "en-US"), (True, "de-DE")])
def test_every_page_fits_a_telephone_and_can_be_read(served, new_page, path, dark, locale):
    page = new_page(dark=dark, width=360, height=740, locale=locale)
    page.goto(served.address + path)
    page.wait_for_timeout(700)
    assert page.get_attribute("html", "lang") == locale[:2]
    assert page.locator("nav.bar a").count() >= 5
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing sticks out"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        ".map(c => c.match(/[0-9.]+/g).slice(0, 3).map(Number))"
    )
    light, dim = sorted((_luminance(ink), _luminance(paper)), reverse=True)
    assert (light + 0.05) / (dim + 0.05) > 10
    assert (_luminance(paper) < 0.1) == dark
    check_axe(page)


def _luminance(colour) -> float:
    parts = [v / 255 for v in colour]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_curves_and_glosses_of_a_report_are_read_by_keyboard(served, new_page):
    page = new_page(locale="de-DE")
    page.goto(f"{served.address}/report")
    page.focus("[data-panel] svg")
    places = []
    for key in ("Home", "End", "ArrowLeft"):
        page.keyboard.press(key)
        assert "Schritt" in page.inner_text("#tip")
        places.append(float(page.get_attribute("[data-panel] .cross", "x1")))
    assert places[0] < places[1] > places[2]
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_sensor_readings_are_annotated_as_curves(real_data, tmp_path, new_page):
    root = real_data / "imu-number-signs"
    choices = tmp_path / "c.jsonl"
    with serving(new_page, "--annotate", "--corpus=imu_numbers", f"--root={root}", f"--choices={choices}") as server:
        page = new_page()
        page.goto(f"{server.address}/annotate?annotator=ada")
        page.wait_for_selector("svg.plot")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('count').textContent.startsWith('1 of ')")
    assert len(read_choices(choices)) == 1


def test_the_example_of_the_documentation_runs(served, place, capsys):
    import re
    import runpy

    text = (Path(__file__).parents[1] / "docs" / "pages.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "httpx.post" in block)
    clip = sorted((place / "corpus" / "clips" / "test").rglob("*.mp4"))[0]
    code = code.replace("http://127.0.0.1:8765", served.address).replace("clip.mp4", str(clip))
    (place / "example.py").write_text(code)
    capsys.readouterr()
    runpy.run_path(str(place / "example.py"))
    assert capsys.readouterr().out.strip()
    assert main(["translate", str(place / "run"), str(clip), "--json", "--device=cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] > 0
