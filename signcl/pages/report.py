"""`report`: reads the runs, makes the sections, and writes one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signcl.data.files import atomic_write
from signcl.data.installed import version_of
from signcl.pages.cards import cards_section, quoted, what_was_trained
from signcl.pages.crowding import density_section, map_section
from signcl.pages.curves import curves_section
from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Html, attributes, code, document, html, joined
from signcl.pages.page_words import Words
from signcl.pages.reliability import confidence_section
from signcl.pages.report_runs import RunFiles, labels, read_run
from signcl.pages.score_page import files_section
from signcl.pages.score_tables import differences, headline, health_box, key_numbers, scores_section
from signcl.pages.translations import translations_section
from signcl.training.run_folder import check_run_folder

__all__ = ["is_of_one_run", "make_report", "report"]

MOST_RUNS = 6  # as many as there are colours that everybody can distinguish


def report(runs: list[Path], *, out: Path | None = None, split: str = "test", language: str = LANGUAGES[0]) -> Path:
    """Write one self-contained HTML page about one run, or several side by side.

    Args:
        runs: run folders or hub ids; differences are taken against the first. Files of sentences that
            `signcl score` can read are scored against the first run's references.
        out: file of the page; None is RUN/report.html of the first run.
        split: the split whose scores, density and translations are shown.
        language: of the page, en or de.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: a folder is not a run.
        ValueError: no run, the same run twice, too many runs, or a damaged file in a run folder.
    """
    path = None if out is None else Path(out)
    if path is not None and path.is_dir():
        raise ValueError(f"out={path}: needs a file name, got a folder")
    page, first = make_report(runs, split=split, language=language)
    path = path or first / "report.html"
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def make_report(runs: Sequence[Path], *, split: str = "test", language: str = LANGUAGES[0]) -> tuple[str, Path]:
    """The page of `report` as HTML, and the folder of the first run."""
    say = Words(language)
    files = [Path(run) for run in runs if Path(run).is_file()]
    folders = [check_run_folder(run) for run in runs if not Path(run).is_file()]
    if files and not folders:
        raise ValueError(
            f"report shows files of sentences next to a run, got {files[0]} without a run; "
            f"`signcl score {' '.join(map(str, files))} REF --html PAGE.html` makes a page without a run"
        )
    if not 1 <= len(folders) <= MOST_RUNS:
        raise ValueError(f"report needs 1 to {MOST_RUNS} run folders, got {len(folders)}")
    found = [read_run(folder, split, label) for folder, label in zip(folders, labels(folders))]
    return _page(found, split, files, say), folders[0]


def is_of_one_run(page: str, split: str) -> bool:
    """Whether a page of `report` is about one run and this split, so that it can be made again from that run."""
    return _made(1, split) in page


def _made(count: int, split: str) -> Html:
    return attributes(data_made=f"{count} {split}")


def _page(runs: list[RunFiles], split: str, files: list[Path], say: Words) -> str:
    paired = differences(runs)
    names = [run.label for run in runs]
    title = ", ".join(names[:-1]) + (f" {say('and')} " if len(names) > 1 else "") + names[-1]
    corpora = ", ".join(dict.fromkeys(run.recipe.corpus.name for run in runs))
    sections = (
        ("curves", say("report.training"), curves_section(runs, say)),
        ("scores", say("report.scores"), scores_section(runs, paired, say)),
        *([("files", say("report.files"), files_section(runs[0], files, say))] if files else []),
        *([("confidence", say("report.confidence"), sure)] if (sure := confidence_section(runs, say)) else []),
        ("density", say("report.density"), density_section(runs, say)),
        ("map", say("report.map"), map_section(runs, say)),
        ("samples", say("report.translations"), translations_section(runs, say)),
        ("card", say("report.card"), cards_section(runs, say)),
    )
    links = joined(html('<a href="#{}">{}</a>', anchor, heading) for anchor, heading, _ in sections)
    section = '<section id="{at}" aria-labelledby="{at}-h"><h2 id="{at}-h">{heading}</h2>{content}</section>'
    body = joined(html(section, at=anchor, heading=heading, content=content) for anchor, heading, content in sections)
    return document(
        title,
        "signcl report",
        html(
            """<header class="top">
<p class="kind">signcl report · {corpora} · {split}</p>
<h1>{title}</h1>
{trained}
{headline}
{health}
{numbers}
<nav aria-label="{sections}">{links}</nav>
</header>
<main>
{body}
</main>
<footer>{made}</footer>
<div id="tip" role="status" hidden></div>
{words}""",
            corpora=corpora,
            split=say("home.split", split=split),
            title=title,
            trained=what_was_trained(runs, say),
            headline=headline(runs, paired, say),
            health=health_box(runs, say),
            numbers=key_numbers(runs, paired, say),
            links=links,
            sections=say("sections"),
            body=body,
            made=say("report.made", version=version_of("signcl"), command=code(quoted(runs, say.language))),
            words=say.table("page."),
        ),
        scripts=["words.js", "page.js"],
        language=say.language,
        data_made=f"{len(runs) + len(files)} {split}",
    )
