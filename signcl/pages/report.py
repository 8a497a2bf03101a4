"""`report`: reads the runs, makes the sections, and writes one self-contained file."""

from __future__ import annotations

from pathlib import Path

from signcl.data.files import atomic_write
from signcl.data.installed import version_of
from signcl.pages.cards import cards_section, quoted, what_was_trained
from signcl.pages.crowding import density_section, map_section
from signcl.pages.curves import curves_section
from signcl.pages.markup import code, document, html, joined
from signcl.pages.reliability import confidence_section
from signcl.pages.report_runs import RunFiles, labels, read_run
from signcl.pages.score_page import files_section
from signcl.pages.score_tables import differences, headline, health_box, key_numbers, scores_section
from signcl.pages.translations import translations_section
from signcl.training.run_folder import check_run_folder

__all__ = ["report"]

MOST_RUNS = 6  # as many as there are colours that everybody can distinguish


def report(runs: list[Path], *, out: Path | None = None, split: str = "test") -> Path:
    """Write one self-contained HTML page about one run, or several side by side.

    Args:
        runs: run folders or hub ids; differences are taken against the first. Files of sentences that
            `signcl score` can read are scored against the first run's references.
        out: file of the page; None is RUN/report.html of the first run.
        split: the split whose scores, density and translations are shown.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: a folder is not a run.
        ValueError: no run, the same run twice, too many runs, or a damaged file in a run folder.
    """
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
    path = Path(out) if out is not None else folders[0] / "report.html"
    if path.is_dir():
        raise ValueError(f"out={path}: needs a file name, got a folder")
    page = _page(found, split, files)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _page(runs: list[RunFiles], split: str, files: list[Path]) -> str:
    paired = differences(runs)
    names = [run.label for run in runs]
    title = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
    corpora = ", ".join(dict.fromkeys(run.recipe.corpus.name for run in runs))
    sections = (
        ("curves", "Training", curves_section(runs)),
        ("scores", "Scores", scores_section(runs, paired)),
        *([("files", "Other sentences", files_section(runs[0], files))] if files else []),
        *([("confidence", "Confidence", sure)] if (sure := confidence_section(runs)) else []),
        ("density", "Density", density_section(runs)),
        ("map", "Map of signs", map_section(runs)),
        ("samples", "Translations", translations_section(runs)),
        ("card", "Run card", cards_section(runs)),
    )
    links = joined(html('<a href="#{}">{}</a>', anchor, heading) for anchor, heading, _ in sections)
    section = '<section id="{at}" aria-labelledby="{at}-h"><h2 id="{at}-h">{heading}</h2>{content}</section>'
    body = joined(html(section, at=anchor, heading=heading, content=content) for anchor, heading, content in sections)
    return document(
        title,
        "signcl report",
        html(
            """<header class="top">
<p class="kind">signcl report · {corpora} · {split} split</p>
<h1>{title}</h1>
{trained}
{headline}
{health}
{numbers}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}
</main>
<footer>Made by signcl {version} with {command} from the files of the run folders.</footer>
<div id="tip" role="status" hidden></div>""",
            corpora=corpora,
            split=split,
            title=title,
            trained=what_was_trained(runs),
            headline=headline(runs, paired),
            health=health_box(runs),
            numbers=key_numbers(runs, paired),
            links=links,
            body=body,
            version=version_of("signcl"),
            command=code(quoted(runs)),
        ),
        script="page.js",
    )
