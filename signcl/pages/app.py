"""The application: pages and a small JSON API over a run, a task of annotation, or both. Needs the extra `serve`.

/  /translate  /report  /explorer  /annotate      pages
/run/FILE                                         files of the run folder, by the kinds in `FILES`
/api/...                                          see docs/pages.md
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from starlette.exceptions import HTTPException as AnyHTTPError  # also what no route answers

from signcl.data.batch import Sample
from signcl.inference.translation import translate
from signcl.pages.guard import Guard
from signcl.pages.markup import text
from signcl.pages.report import report
from signcl.pages.signs import clip_strip, span_view, strips
from signcl.pages.task import Task
from signcl.pages.uploads import Limits, Refused, read_upload

__all__ = ["Site", "make_app"]

STATIC = Path(__file__).parent / "static"
REPORT_STYLE = Path(__file__).parent / "style.css"  # one look for all pages
FILES = {".html", ".json", ".jsonl", ".tsv", ".csv", ".png", ".jpg", ".svg", ".pdf", ".yaml", ".txt"}


@dataclass
class Site:
    """What is served."""

    run: Path | None = None
    """A run folder."""
    model: Any = None
    """`signcl.inference.translation.Model`, where the run translates."""
    why_no_model: str = "no run is served"
    task: Task | None = None
    """What there is to annotate."""
    samples: Callable[[], dict[str, Sample]] = field(default=dict)
    """Clips of the served split by name, for frames on demand."""
    split: str = "test"
    limits: Limits = field(default_factory=Limits)
    hosts: frozenset[str] | None = frozenset({"localhost", "127.0.0.1", "[::1]"})
    """Names that requests may call this server; None takes any."""


def make_app(site: Site) -> FastAPI:
    """The application for a site."""
    app = FastAPI(title="signcl", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(Guard, hosts=site.hosts, limit=site.limits.size)
    app.add_exception_handler(AnyHTTPError, _as_json)
    app.add_exception_handler(RequestValidationError, _as_json)
    _pages(app, site)
    _run_files(app, site)
    _translation(app, site)
    if site.task is not None:
        _annotation(app, site.task)
    return app


def _as_json(_: Request, error: Any) -> JSONResponse:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)
    return JSONResponse({"error": str(error.detail)}, error.status_code)


# -- pages -------------------------------------------------------------------------------------------------------------


def _pages(app: FastAPI, site: Site) -> None:
    def page(name: str, title: str) -> HTMLResponse:
        content = (STATIC / f"{name}.html").read_text(encoding="utf-8")
        return HTMLResponse(content.replace("<!--bar-->", _bar(site, name)).replace("<!--title-->", text(title)))

    @app.get("/", include_in_schema=False)
    def home() -> HTMLResponse:
        return page("home", site.run.name if site.run is not None else "signcl")

    @app.get("/translate", include_in_schema=False)
    def translate_page() -> HTMLResponse:
        return page("translate", "Translate")

    @app.get("/annotate", include_in_schema=False)
    def annotate_page() -> HTMLResponse:
        return page("annotate", "Choose frames")

    @app.get("/report", include_in_schema=False)
    def report_page() -> HTMLResponse:
        if site.run is None:
            raise HTTPException(404, "no run is served: start `signcl serve RUN`")
        path = site.run / "report.html"
        if not path.is_file():
            try:
                report([site.run], split=site.split)
            except (ValueError, OSError) as error:
                raise HTTPException(404, f"the report cannot be made: {error}") from None
        return HTMLResponse(_with_bar(path.read_text(encoding="utf-8"), site, "report"))

    @app.get("/explorer", include_in_schema=False)
    def explorer_page() -> HTMLResponse:
        path = site.run and site.run / "explorer.html"
        if path is None or not path.is_file():
            return page("no-explorer", "Explorer")
        content = path.read_text(encoding="utf-8").replace('data-server=""', 'data-server="/api/"', 1)
        return HTMLResponse(_with_bar(content, site, "explorer"))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> FileResponse:
        path = REPORT_STYLE if name == "base.css" else STATIC / name
        inside = path.parent in (STATIC, REPORT_STYLE.parent)
        if not inside or path.suffix not in (".css", ".js", ".svg") or not path.is_file():
            raise HTTPException(404, f"there is no {name}")
        return FileResponse(path)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> RedirectResponse:
        return RedirectResponse("/static/icon.svg")

    @app.get("/api/site")
    def about() -> dict[str, Any]:
        """What this server has: for the front page and for scripts."""
        found: dict[str, Any] = {
            "run": site.run and site.run.name,
            "split": site.split,
            "translates": site.model is not None,
            "why_not": None if site.model is not None else site.why_no_model,
            "annotates": site.task is not None,
            "report": site.run is not None,
            "explorer": site.run is not None and (site.run / "explorer.html").is_file(),
            "max_upload": site.limits.size,
            "run_folder": None if site.run is None else str(site.run),
        }
        if site.model is not None:
            recipe = site.model.run.recipe
            found["model"] = {
                "system": recipe.model.name,
                "corpus": recipe.corpus.name,
                "wants": "video" if site.model.run.feature_dim is None or site.model.poses is not None else "features",
            }
        if site.run is not None:
            found |= _headline(site.run, site.split)
        return found


def _headline(run: Path, split: str) -> dict[str, Any]:
    """The run's main numbers, as far as they were measured."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        scores = json.loads((run / "scores.json").read_text(encoding="utf-8")).get(split, {})
        found["scores"] = {key: scores[key] for key in ("bleu4", "bleu1", "rouge_l", "wer") if key in scores}
    with contextlib.suppress(OSError, ValueError, KeyError):
        found["sdr"] = json.loads((run / f"density.{split}.json").read_text(encoding="utf-8"))["sdr"]
    return found


def _bar(site: Site, here: str) -> str:
    """The links between the pages."""
    links = [("/", "home", "signcl")]
    if site.run is not None:
        links += [("/translate", "translate", "Translate"), ("/report", "report", "Report")]
        links += [("/explorer", "explorer", "Explorer")]
    if site.task is not None:
        links += [("/annotate", "annotate", "Choose frames")]
    items = "".join(
        f'<a href="{to}"{" aria-current=page" if name == here else ""}>{label}</a>' for to, name, label in links
    )
    return f'<nav class="bar" aria-label="Pages">{items}</nav>'


def _with_bar(content: str, site: Site, here: str) -> str:
    style = f"<style>{(STATIC / 'bar.css').read_text(encoding='utf-8')}</style>"
    return content.replace("<body>", f"<body>{style}{_bar(site, here)}", 1)


# -- files of the run --------------------------------------------------------------------------------------------------


def _run_files(app: FastAPI, site: Site) -> None:
    @app.get("/run/{name:path}", include_in_schema=False)
    def run_file(name: str) -> FileResponse:
        if site.run is None:
            raise HTTPException(404, "no run is served")
        if "\0" in name:
            raise HTTPException(404, "no file has such a name")
        root = site.run.resolve()
        path = (root / name).resolve()  # links are followed here, so that one that leads outside is refused too
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if not path.is_relative_to(root) or hidden or path.suffix not in FILES or not path.is_file():
            raise HTTPException(404, "the run has no such file, or not of a kind that is served")
        return FileResponse(path)

    @app.get("/api/strip")
    def strip(clip: str, start: int, stop: int) -> dict[str, str]:
        """A small filmstrip of some frames of a clip of the served split, as a data URI."""
        sample = _sample(site, clip)
        if not 0 <= start < stop:
            raise HTTPException(422, f"frames 0 <= start < stop are needed, got {start} and {stop}")
        for _, picture in strips([(sample, start, stop)]):
            return {"strip": picture}
        raise HTTPException(404, f"frames {start} to {stop} of {clip} cannot be read")

    @app.get("/api/frames")
    def frames(clip: str, start: int, stop: int) -> dict[str, Any]:
        """Every frame of a span as one sheet, or the readings where the corpus has no pictures."""
        try:
            return span_view(_sample(site, clip), start, stop)
        except (ValueError, OSError) as error:
            raise HTTPException(404, str(error)) from None


def _sample(site: Site, clip: str) -> Sample:
    try:
        return site.samples()[clip]
    except KeyError:
        raise HTTPException(404, f"split {site.split} has no clip {clip!r}") from None
    except (ValueError, OSError) as error:
        raise HTTPException(404, f"the corpus cannot be read: {error}") from None


# -- translation -------------------------------------------------------------------------------------------------------


def _translation(app: FastAPI, site: Site) -> None:
    turn = threading.Lock()  # one clip at a time: the model is one, and memory is bounded

    def work(path: Path, name: str) -> Iterator[dict[str, Any]]:
        """The stages of a translation; the last one is done or failed."""
        if not turn.acquire(blocking=False):
            yield {"stage": "waiting"}
            turn.acquire()
        try:
            yield {"stage": "reading"}
            notes: list[str] = []
            raw = read_upload(path, site.model.run, site.limits, notes.append, site.model.poses)
            yield {"stage": "translating", "frames": len(raw), "strip": clip_strip(raw)}
            found = translate(site.model, raw)
            yield {
                "stage": "done",
                "clip": name,
                "text": found.text,
                "frames": found.num_frames,
                "seconds": round(found.seconds, 3),
                "run": site.run.name if site.run else "",
                **({"notes": notes} if notes else {}),
            }
        except Refused as error:
            yield {"stage": "failed", "error": f"{name}: {error}", "status": error.status}
        except (ValueError, OSError) as error:
            yield {"stage": "failed", "error": f"{name}: {error}", "status": 422}
        finally:
            turn.release()

    @app.post("/api/translate", response_model=None)
    def translate_clip(
        clip: Annotated[UploadFile, File(description="a video, or features where the model wants those")],
        progress: Annotated[bool, Query(description="answer with one JSON line for each stage")] = False,
    ) -> JSONResponse | StreamingResponse:
        """Translate one clip. Errors are {"error": "..."} with 413 (too large), 415 (no clip), 422 (cannot be read)."""
        if site.model is None:
            raise HTTPException(409, f"this server does not translate: {site.why_no_model}")
        name = Path(clip.filename or "clip").name[:120]
        folder = tempfile.TemporaryDirectory(prefix="signcl-upload-")
        path = Path(folder.name) / "clip"
        with path.open("wb") as file:
            while chunk := clip.file.read(1 << 20):
                file.write(chunk)
        if not path.stat().st_size:
            folder.cleanup()
            raise HTTPException(422, f"{name}: the file is empty")

        def stages() -> Iterator[dict[str, Any]]:
            with folder:
                yield from work(path, name)

        if progress:
            lines = (json.dumps(stage, ensure_ascii=False) + "\n" for stage in stages())
            return StreamingResponse(lines, media_type="application/x-ndjson")
        last = list(stages())[-1]
        if last.pop("stage") == "failed":
            raise HTTPException(last["status"], last["error"])
        return JSONResponse(last)


# -- annotation --------------------------------------------------------------------------------------------------------

Who = Annotated[str, Query(min_length=1, max_length=80, pattern=r"\S")]
Part = Literal["annotator", "judge"]


def _annotation(app: FastAPI, task: Task) -> None:
    @app.get("/api/annotate/task")
    def what() -> dict[str, Any]:
        """The spans, as rows (clip, gloss, start, stop); a span's place in this list is its number elsewhere."""
        return task.describe()

    @app.get("/api/annotate/state")
    def state(annotator: Who, role: Part = "annotator") -> dict[str, Any]:
        """What this person has decided."""
        return task.state(annotator.strip(), role)

    @app.get("/api/annotate/span/{place}")
    def span(place: int) -> dict[str, Any]:
        """The frames of a span."""
        try:
            return task.view(place)
        except (ValueError, OSError) as error:
            raise HTTPException(404, str(error)) from None

    @app.get("/api/annotate/summary")
    def summary() -> dict[str, Any]:
        """Progress and agreement of everybody."""
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
        """Write a decision to the file; it is on the disk when this answers. The answer is the state after it."""
        try:
            task.decide(place, annotator=annotator, role=role, action=action, frame=frame, id=id)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        except OSError as error:
            raise HTTPException(507, f"not saved: {error}") from None
        return task.state(annotator.strip(), role)
