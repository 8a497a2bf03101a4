"""The web application: pages and a small JSON API for a run, an annotation task, or both. Needs the extra `serve`.

/  /translate  /report  /explorer  /annotate  /subtitles      pages
/run/FILE                                         files of the run folder, of the kinds in `FILES`
/api/...                                          see docs/pages.md
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import Body, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPError  # also raised if no route matches

from signcl.data.batch import Sample
from signcl.data.files import write_text
from signcl.pages.access import Access
from signcl.pages.browser_poses import add_browser_poses, key_points_here
from signcl.pages.explorer import in_language
from signcl.pages.guard import Guard
from signcl.pages.job_queue import JobQueue
from signcl.pages.kept_clips import Keeper
from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Html, data, html, inline_script, joined, page_file, page_policy, visible
from signcl.pages.page_words import spoken, words
from signcl.pages.report import is_of_one_run, make_report
from signcl.pages.signs import span_view, strips
from signcl.pages.subtitle_editor import Changed, Subtitles
from signcl.pages.task import Task
from signcl.pages.translate_route import add_translation
from signcl.pages.uploads import Limits
from signcl.training.result_files import read_density, read_scores
from signcl.training.run_folder import read_card
from signcl.training.runs import read_recipe

__all__ = ["Site", "make_app"]

STATIC = Path(__file__).parent / "static"
STYLE = Path(__file__).parent / "style.css"
FILES = {".html", ".json", ".jsonl", ".tsv", ".csv", ".png", ".jpg", ".svg", ".pdf", ".yaml", ".txt"}
PICTURES = 4  # threads that read pictures from clips, so that the other threads stay free

T = TypeVar("T")


@dataclass
class Site:
    """What the server offers."""

    run: Path | None = None
    """A run folder."""
    queue: JobQueue | None = None
    """Translates uploads, if the run can translate."""
    why_not: str = "no run is served"
    """Why nothing is translated, if there is no queue."""
    task: Task | None = None
    """The spans to annotate."""
    samples: Callable[[], dict[str, Sample]] = field(default=dict)
    """Clips of the served split by name, for frames on demand."""
    split: str = "test"
    access: Access = field(default_factory=Access)
    """Access rules."""
    keeper: Keeper | None = None
    """Stores clips whose signers have agreed; None: no clip is kept."""
    subtitles: Subtitles | None = None
    """A long video whose subtitles can be edited."""
    language: str | None = None
    """Language of the pages; None: that of the reader's browser, if it is available."""

    @property
    def limits(self) -> Limits:
        """Limits of requests."""
        return Limits() if self.queue is None else self.queue.limits


def make_app(site: Site) -> FastAPI:
    """Build the application for a site."""
    app = FastAPI(title="signcl", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(Guard, access=site.access, limits=site.limits)
    app.add_exception_handler(AnyHTTPError, _as_json)
    app.add_exception_handler(RequestValidationError, _as_json)
    _pages(app, site)
    _run_files(app, site)
    add_browser_poses(app)
    add_translation(app, site.queue, lambda: site.why_not, site.keeper)
    if site.task is not None:
        _annotation(app, site.task)
    if site.subtitles is not None:
        _subtitles(app, site.subtitles)
    return app


async def _as_json(_: Request, error: Any) -> JSONResponse:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


class _Slow:
    """Runs work that takes seconds in a few separate threads; unfinished work is abandoned when the server stops."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.limiter: CapacityLimiter | None = None

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        if self.limiter is None:  # it must be created in the serving event loop
            self.limiter = CapacityLimiter(self.threads)
        return await to_thread.run_sync(partial(function, *arguments), abandon_on_cancel=True, limiter=self.limiter)


# -- pages -------------------------------------------------------------------------------------------------------------


def _pages(app: FastAPI, site: Site) -> None:
    files = {path.name: path for path in STATIC.iterdir() if path.suffix in (".css", ".js", ".svg")}
    files["base.css"] = STYLE  # one style for all pages
    making = _Slow(1)

    def answer(content: str, *scripts: str) -> HTMLResponse:
        return HTMLResponse(content, headers={"content-security-policy": page_policy(*scripts, served=True)})

    def page(request: Request, name: str, title: str | None = None) -> HTMLResponse:
        language = _language(site, request)
        table = words(language)
        content = html(
            page_file(f"{name}.html"),
            bar=_bar(site, name, language),
            title=title or table[f"bar.{name.removeprefix('no-')}"],
            words=data("words", table),
            w=table,
            language=language,
        )
        return answer(str(content))

    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> HTMLResponse:
        return page(request, "home", site.run.name if site.run is not None else "signcl")

    @app.get("/translate", include_in_schema=False)
    async def translate_page(request: Request) -> HTMLResponse:
        return page(request, "translate")

    @app.get("/annotate", include_in_schema=False)
    async def annotate_page(request: Request) -> HTMLResponse:
        return page(request, "annotate")

    @app.get("/subtitles", include_in_schema=False)
    async def subtitles_page(request: Request) -> HTMLResponse:
        if site.subtitles is None:
            raise HTTPException(404, "no subtitles are served: start `signcl serve --subtitles FILM.srt`")
        return page(request, "subtitles")

    @app.get("/report", include_in_schema=False)
    async def report_page(request: Request) -> HTMLResponse:
        if site.run is None:
            raise HTTPException(404, "no run is served: start `signcl serve RUN`")
        if not (site.run / "report.html").is_file() and request.headers.get("sec-fetch-site") in (
            "cross-site",
            "same-site",
        ):
            raise HTTPException(403, "a link from another site cannot make the report: open it from the front page")
        return answer(await making(_report, site, _language(site, request)), "words.js", "page.js")

    @app.get("/explorer", include_in_schema=False)
    async def explorer_page(request: Request) -> HTMLResponse:
        content = await making(_explorer, site, _language(site, request))
        return page(request, "no-explorer") if content is None else answer(content, "words.js", "explorer.js")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, f"there is no {name}")
        return FileResponse(files[name])

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> RedirectResponse:
        return RedirectResponse("/static/icon.svg")

    @app.get("/api/site")
    async def about() -> dict[str, Any]:
        """What this server offers, for the front page and for scripts."""
        queue = site.queue
        found: dict[str, Any] = {
            "run": site.run and site.run.name,
            "split": site.split,
            "translates": queue is not None,
            "why_not": None if queue is not None else site.why_not,
            "annotates": site.task is not None,
            "subtitles": site.subtitles is not None,
            "report": site.run is not None,
            "explorer": site.run is not None and (site.run / "explorer.html").is_file(),
            "keeps": site.keeper is not None and queue is not None,
            "max_upload": site.limits.size,
            "run_folder": None if site.run is None else str(site.run),
        }
        if queue is not None:
            found["queue"] = {"waiting": len(queue), "most": queue.limits.waiting}
            found["model"] = model
            found["key_points"] = await to_thread.run_sync(key_points_here, queue.run)
            found["most_frames"] = queue.limits.frames
        if found["keeps"] and site.keeper is not None:
            found["kept_full"] = await to_thread.run_sync(lambda: site.keeper is not None and site.keeper.full)
        if site.run is not None:
            found |= _headline(site.run, site.split)
        return found

    model = None if site.queue is None else _model(site.queue.run)


def _model(run: Path) -> dict[str, Any]:
    """Describe the run that translates."""
    recipe = read_recipe(run)
    card = read_card(run)
    wants = "video" if card.get("feature_dim") is None else "key points" if card.get("poses") else "features"
    return {"system": recipe.model.name, "corpus": recipe.corpus.name, "wants": wants}


def _language(site: Site, request: Request) -> str:
    return site.language or spoken(request.headers.get("accept-language", ""))


def _report(site: Site, language: str) -> str:
    assert site.run is not None
    path = site.run / "report.html"
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not content:
        try:
            content, _ = make_report([site.run], split=site.split, language=language)
            write_text(path, content)
        except (ValueError, OSError) as error:
            raise HTTPException(404, f"the report cannot be made: {error}") from None
    elif f'<html lang="{language}"' not in content and is_of_one_run(content, site.split):
        with contextlib.suppress(ValueError, OSError):  # then it is shown in its own language
            content = _report_in(language, site.run, site.split, path.stat().st_mtime_ns)
    return _with_bar(content, site, "report", language)


@functools.lru_cache(maxsize=len(LANGUAGES))
def _report_in(language: str, run: Path, split: str, stamp: int) -> str:
    """A report in another language than its file of this time stamp."""
    page, _ = make_report([run], split=split, language=language)
    return page


def _explorer(site: Site, language: str) -> str | None:
    """The run's explorer page; None if it is missing or made by another version, whose script would not run."""
    path = site.run and site.run / "explorer.html"
    if path is None or not path.is_file():
        return None
    content = path.read_text(encoding="utf-8")
    if inline_script("explorer.js") not in content:
        return None
    content = in_language(content, language)
    return _with_bar(content.replace('data-server=""', 'data-server="/api/"', 1), site, "explorer", language)


def _headline(run: Path, split: str) -> dict[str, Any]:
    """The run's main numbers, if they were measured."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        scores = read_scores(run).get(split, {})
        found["scores"] = {key: scores[key] for key in ("bleu4", "bleu1", "rouge_l", "wer") if key in scores}
    with contextlib.suppress(OSError, ValueError):
        density = read_density(run, split)
        found |= {} if density is None else {"sdr": density["sdr"]}
    return found


def _bar(site: Site, here: str, language: str) -> Html:
    """The links between the pages."""
    table = words(language)
    names = ["translate", "report", "explorer"] * (site.run is not None) + ["annotate"] * (site.task is not None)
    names += ["subtitles"] * (site.subtitles is not None)
    links = [("/", "home", "signcl"), *((f"/{name}", name, table[f"bar.{name}"]) for name in names)]
    current = html(' aria-current="page"')
    items = joined(
        html('<a href="{}"{}>{}</a>', to, current if name == here.removeprefix("no-") else "", label)
        for to, name, label in links
    )
    return html('<nav class="bar" aria-label="{}" lang="{}">{}</nav>', table["bar.pages"], language, items)


def _with_bar(content: str, site: Site, here: str, language: str) -> str:
    style = html("<style>{}</style>", Html(page_file("bar.css")))
    return content.replace("<body>", f"<body>{style}{_bar(site, here, language)}", 1)


# -- files of the run --------------------------------------------------------------------------------------------------


def _run_files(app: FastAPI, site: Site) -> None:
    @app.get("/run/{name:path}", include_in_schema=False)
    async def run_file(name: str) -> FileResponse:
        if site.run is None:
            raise HTTPException(404, "no run is served")
        root = site.run.resolve()
        hidden = any(part.startswith(".") for part in Path(name).parts)
        try:
            path = (root / name).resolve()  # follows symbolic links, so that one that leads outside is refused too
            if not hidden and path.is_relative_to(root) and path.suffix in FILES and path.is_file():
                return FileResponse(path)
        except (ValueError, OSError):  # a zero byte, or a name that is too long
            pass
        raise HTTPException(404, "the run has no such file, or files of its kind are not served")

    cutting = _Slow(PICTURES)

    @app.get("/api/strip")
    async def strip(clip: str, start: int, stop: int) -> dict[str, str]:
        """A small filmstrip of some frames of a clip of the served split, as a data URI."""
        if not 0 <= start < stop:
            raise HTTPException(422, f"frames 0 <= start < stop are needed, got {start} and {stop}")
        for _, picture in await cutting(lambda: list(strips([(_sample(site, clip), start, stop)]))):
            return {"strip": picture}
        raise HTTPException(404, f"frames {start} to {stop} of {clip} cannot be read")

    @app.get("/api/frames")
    async def frames(clip: str, start: int, stop: int) -> dict[str, Any]:
        """Every frame of a span as one sheet, or its readings if the corpus has no pictures."""
        try:
            return await cutting(lambda: span_view(_sample(site, clip), start, stop))
        except (ValueError, OSError) as error:
            raise HTTPException(404, str(error)) from None


def _sample(site: Site, clip: str) -> Sample:
    try:
        samples = site.samples()
    except (ValueError, OSError) as error:
        raise HTTPException(404, f"the corpus cannot be read: {error}") from None
    if clip in samples:
        return samples[clip]
    for name, sample in samples.items():
        if visible(name) == clip:  # the name as the explorer shows it
            return sample
    raise HTTPException(404, f"split {site.split} has no clip {visible(clip)!r}")


# -- annotation --------------------------------------------------------------------------------------------------------

Who = Annotated[str, Query(min_length=1, max_length=80, pattern=r"\S")]
Part = Literal["annotator", "judge"]


def _annotation(app: FastAPI, task: Task) -> None:
    cutting = _Slow(PICTURES)

    @app.get("/api/annotate/task")
    def what() -> dict[str, Any]:
        """The spans, as rows (clip, gloss, start, stop). The other routes identify a span by its index in this list."""
        return task.describe()

    @app.get("/api/annotate/state")
    def state(annotator: Who, role: Part = "annotator") -> dict[str, Any]:
        """What this person has decided."""
        return task.state(annotator.strip(), role)

    @app.get("/api/annotate/span/{place}")
    async def span(place: int) -> dict[str, Any]:
        """The frames of a span."""
        try:
            return await cutting(task.view, place)
        except (ValueError, OSError) as error:
            raise HTTPException(404, str(error)) from None

    @app.get("/api/annotate/summary")
    def summary() -> dict[str, Any]:
        """Progress and agreement of all annotators."""
        return task.summary()

    @app.post("/api/annotate/decision")
    def decide(
        place: Annotated[int, Body()],
        annotator: Annotated[str, Body(min_length=1, max_length=80, pattern=r"\S")],
        action: Annotated[Literal["choose", "skip", "undo"], Body()],
        frame: Annotated[int | None, Body()] = None,
        role: Annotated[Part, Body()] = "annotator",
        id: Annotated[str, Body(max_length=80)] = "",
    ) -> dict[str, Any]:
        """Write a decision to the file, and return the new state once it is on disk."""
        try:
            task.decide(place, annotator=annotator, role=role, action=action, frame=frame, id=id)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        except OSError as error:
            raise HTTPException(507, f"not saved: {error}") from None
        return task.state(annotator.strip(), role)


# -- subtitles ---------------------------------------------------------------------------------------------------------


def _subtitles(app: FastAPI, subtitles: Subtitles) -> None:
    @app.get("/film", include_in_schema=False)
    async def film() -> FileResponse:
        if subtitles.film is None:
            raise HTTPException(404, "there is no video next to the subtitles: start with --film VIDEO")
        return FileResponse(subtitles.film)

    @app.get("/api/subtitles")
    def cues() -> dict[str, Any]:
        """The sentences in order of time, and the version of the file."""
        return _answered(subtitles.state)

    @app.post("/api/subtitles")
    def save(version: Annotated[str, Body(max_length=80)], cues: Annotated[list[CueBody], Body()]) -> dict[str, Any]:
        """Write the sentences to the file, and return the new state once they are on disk."""
        return _answered(lambda: subtitles.save([cue.model_dump() for cue in cues], version))

    @app.get("/api/subtitles/export")
    def export(kind: str) -> Response:
        """The sentences as a file of another kind: srt, vtt, eaf, tsv."""
        content = _answered(lambda: subtitles.exported(f".{kind}"))
        name = quote(f"{subtitles.path.stem}.{kind}")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}"}
        return Response(content, media_type="application/octet-stream", headers=headers)


class CueBody(BaseModel):
    """A sentence as the page sends it."""

    start: float
    """Seconds."""
    stop: float
    text: str


def _answered(function: Callable[[], T]) -> T:
    """Return the result of a function, and turn its errors into HTTP errors."""
    try:
        return function()
    except Changed as changed:
        raise HTTPException(409, str(changed)) from None
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    except OSError as error:
        raise HTTPException(507, f"not saved: {error}") from None
