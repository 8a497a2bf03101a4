"""Names of clips, glosses, sentences, runs and files that would be code: pages show them as text, in a browser."""

import csv
import json
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
import test_report
import uvicorn
from web_site import open_browser

from signcl.data.annotation.span_table import write_spans
from signcl.data.batch import Span
from signcl.pages.markup import Html, data, document, html, joined, page_policy, table, text, visible

NAMES = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"><svg onload='alert(3)'>",
    "' onmouseover='alert(4)' x='",
    "javascript:alert(5)",
    "{title} {0} {x.__class__} %s ${alert(6)} `",
    "<!--data--> &lt;b&gt; &amp;",
    "back\u202ewards <b>",
    "\u0631\u0633\u0627\u0644\u0629 <i>",
    "x" * 1500,
]
CONTROL = "bell\x07 escape\x1b[31m null\x00 next\x85"  # tables refuse these; a feature file may have them


# -- the one way to make HTML ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, CONTROL, "\udc80 half"])
def test_whatever_is_put_into_html_is_text(name):
    import html as library

    made = [
        html("{}", name),
        joined([name, html("<hr>")]),
        text(name),
        Html() + name,
        table([name], [[name, name]], caption=name, name=name),
        html('<a title="{x}">', x=name),
    ]
    for piece in made:
        assert isinstance(piece, Html)
        assert library.escape(visible(name)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in piece
        piece.encode("utf-8")
    assert json.loads(data("x", {name: [name]}).split(">", 1)[1].rsplit("<", 1)[0]) == {visible(name): [visible(name)]}
    assert data("x", name).count("<") == 2
    page = document(name, "test", name)  # a body that was forgotten to be made HTML
    assert "<img" not in page
    assert "<svg" not in page
    assert page.count("<script") == 0
    assert "script-src &#39;none&#39;" in page


def test_a_text_is_shown_to_its_last_character_and_not_beyond():
    assert visible("a\x00b\x1b\x7f\x9c\tc\n") == "a␀b␛␡�\tc\n"
    assert visible("\u202eab\u2066c") == "\u202eab\u2066c\u2069\u202c"
    assert visible("\u202eab\u202c") == "\u202eab\u202c"
    assert visible("\udce9") == visible("\udce9").encode("utf-8").decode("utf-8")


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder, a corpus and tables full of such names."""
    place = tmp_path_factory.mktemp("hostile")
    corpus, folder = place / "corpus", place / "<img src=x onerror=alert(7)>"
    test_report.make_corpus(corpus, clips=len(NAMES), size=16)
    test_report.make_run(folder, corpus)
    table_of = corpus / "test.tsv"
    with table_of.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = ["name\tpath\ttext\tsigner"]
    lines += [f"{name}\t{row['path']}\tsays {name}\tsigner {name}" for name, row in zip(NAMES, rows)]
    table_of.write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = ["name\treference\thypothesis"] + [f"{name}\tsays {name}\t{name} said" for name in NAMES]
    (folder / "predictions.test.tsv").write_text("\n".join(said) + "\n", encoding="utf-8")
    with (folder / "density.test.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["gloss", "count", "intra", "inter", "sdr"], *([n, 3, 1, 4, 0.25] for n in NAMES)])
    points = [{"x": i, "y": i % 3, "gloss": n, "clip": n, "start": 3, "stop": 9} for i, n in enumerate(NAMES)]
    (folder / "density.test.points.json").write_text(json.dumps(points), encoding="utf-8")
    card = json.loads((folder / "card.json").read_text())
    card |= {"broken": {name: name for name in NAMES}, "initialised": NAMES, "command": NAMES[0], "commit": NAMES[2]}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    write_spans(place / "spans.tsv", {name: [Span(name, 2, 6), Span(name, 8, 12)] for name in NAMES})
    return folder


@pytest.fixture(scope="module")
def explorer(run) -> Path:
    import torch

    from signcl.data.corpora import load_samples
    from signcl.pages.explorer import FeatureSet, write_explorer

    names = [*NAMES, CONTROL]
    rows = torch.randn(2 * len(names), 4, generator=torch.Generator().manual_seed(0))
    where = [(name, 2 + 5 * i, 6 + 5 * i) for name in names for i in range(2)]
    samples = {sample.name: sample for sample in load_samples("folder", run.parent / "corpus", "test")}
    one = FeatureSet(NAMES[1], rows, [where_[0] for where_ in where], where, {"file": NAMES[0]})
    return write_explorer([one], run / "explorer.html", samples=samples, thumbnails=2, progress=False)


@pytest.fixture(scope="module")
def address(run, explorer):
    """The server, within this process: its pages are the subject, not its life."""
    from signcl.data.corpora import load_samples
    from signcl.pages.app import Site, make_app
    from signcl.pages.server import _listen
    from signcl.pages.task import make_task

    corpus = run.parent / "corpus"
    samples = {sample.name: sample for sample in load_samples("folder", corpus, "test")}
    task = make_task(run.parent / "spans.tsv", corpus="folder", root=corpus, split="test")
    site = Site(run=run, samples=lambda: samples, task=task, why_not=NAMES[0])
    door = _listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(site), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([door],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{door.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def page():
    """A page that notes every dialog, error and blocked script."""
    with open_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.heard = []
        page.on("dialog", lambda dialog: (page.heard.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("console", lambda m: page.heard.append(m.text) if m.type in ("error", "warning") else None)
        yield page


TEXT = """() => {
  const body = document.body.cloneNode(true);
  body.querySelectorAll("script, style").forEach((part) => part.remove());
  return body.textContent + [...document.querySelectorAll("[title], [aria-label]")].map(
    (e) => e.title + e.getAttribute("aria-label")).join();
}"""
CODE = """() => {
  const links = ["href", "src", "action", "formaction"];
  const runs = (a) => a.name.startsWith("on") || (links.includes(a.name) && /^\\s*javascript:/i.test(a.value));
  const found = [...document.querySelectorAll("*")].filter((e) => [...e.attributes].some(runs));
  return found.map((e) => e.outerHTML.slice(0, 200));
}"""
WIDE = """() => {
  const out = (e) => e.getBoundingClientRect().right > innerWidth && !e.closest(".scroll, pre");
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  return [...document.querySelectorAll("body *")].filter(out).slice(0, 9).map((e) => `${e.tagName}.${e.className}`);
}"""


def shows(page, names, *, where="") -> None:
    found = page.evaluate(TEXT)
    missing = [name[:60] for name in names if visible(name) not in found]
    assert missing == [], where
    assert page.evaluate(CODE) == [], where
    assert page.evaluate("() => document.querySelectorAll('img[src=x]').length") == 0, where
    lost = "Failed to load resource"  # a filmstrip of a clip that the corpus does not have
    assert [line for line in page.heard if not line.startswith(lost)] == [], where


def test_the_report(run, page, tmp_path):
    from signcl.pages.report import report

    path = report([run], out=tmp_path / "report.html")
    page.goto(path.as_uri())
    shows(page, [*NAMES, run.name])
    assert page.evaluate("() => document.querySelectorAll('.cross').length") > 0, "our own script did run"
    assert page.evaluate(WIDE) == [], "a long name sticks out"
    # what is added to a page by another hand does not run: the page allows one script, by its digest
    path.write_text(path.read_text(encoding="utf-8").replace("<main>", "<main><script>alert(8)</script>" + NAMES[0], 1))
    page.goto(path.as_uri())
    page.wait_for_timeout(200)
    assert len(page.heard) >= 2
    assert not [line for line in page.heard if line.startswith("dialog")]
    page.heard.clear()


def test_the_page_of_scores(page, tmp_path):
    from signcl.cli import main

    references, answers = tmp_path / "references.txt", tmp_path / "<img src=x onerror=alert(9)>.txt"
    references.write_text("\n".join(NAMES[:6]) + "\n", encoding="utf-8")
    answers.write_text("\n".join(reversed(NAMES[:6])) + "\n", encoding="utf-8")
    assert main(["score", str(answers), str(references), "--html", str(tmp_path / "page.html")]) == 0
    page.goto((tmp_path / "page.html").as_uri())
    shows(page, [answers.name])


def test_the_explorer(explorer, page):
    page.goto(explorer.as_uri())
    page.wait_for_function("() => window.explorer?.planes.length === 1")
    shows(page, [*NAMES, CONTROL])
    for sign in (0, 2, 4, 20):
        page.evaluate(f"explorer.select({sign})")
        page.wait_for_selector("#sign .near li")
        shows(page, [[*NAMES, CONTROL][sign // 2]], where=f"sign {sign}")
    assert page.evaluate(WIDE) == [], "a long name sticks out"


def test_the_served_pages(address, run, page):
    page.goto(address)
    page.wait_for_selector(".door")
    shows(page, [run.name])
    page.goto(f"{address}/translate")
    page.wait_for_selector("#problem:not([hidden])")
    shows(page, [NAMES[0]], where="why nothing is translated")
    page.goto(f"{address}/report")
    shows(page, NAMES, where="report")
    page.goto(f"{address}/explorer")
    page.wait_for_function("() => window.explorer?.planes.length === 1")
    page.evaluate("explorer.select(3)")
    page.wait_for_selector("#sign .near li")
    shows(page, NAMES, where="explorer")


def test_choosing_frames(address, page):
    page.goto(f"{address}/annotate?annotator={quote(NAMES[0])}")
    for place, name in enumerate(NAMES):
        page.wait_for_selector(".cell.at")
        shows(page, [name, f"says {name}"], where=f"sign {place}")
        for done in (2 * place + 1, 2 * place + 2):
            page.wait_for_selector(".cell.at")  # no frame is chosen before the frames are there
            page.keyboard.press("Enter")
            page.wait_for_function(
                "(n) => document.getElementById('count').textContent.startsWith(n)", arg=f"{done} of"
            )
    page.click("#done-agree")
    page.wait_for_selector("#figures *")
    shows(page, [NAMES[0]], where="agreement")


def test_answers_that_are_errors(address, page):
    """Opened as a page, the text of an error is no HTML; and no file of a run runs a script in our name."""
    for path in ("/run/", "/static/", "/api/strip?start=1&stop=2&clip=", "/api/annotate/span/", "/"):
        for name in (NAMES[0], NAMES[2], NAMES[-1]):
            page.goto(f"{address}{path}{quote(name, safe='')}")
            assert page.evaluate(CODE) == []
    page.heard.clear()  # the statuses themselves, 404 and 422
    page.goto(f"{address}/run/explorer.html")
    page.wait_for_timeout(200)
    assert page.evaluate("() => window.explorer === undefined"), "only /explorer runs it"
    page.heard.clear()


def test_the_policy_names_our_scripts_by_their_digest():
    policy = page_policy("page.js", "explorer.js")
    assert policy.count("'sha256-") == 2
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
