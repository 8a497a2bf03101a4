"""Verbs that make or serve pages: `explore`, `serve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "serve", _serve, "pages for a browser: translate, report, explorer, frames, subtitles")
    add_run(command, "folder", nargs="?", help="a run folder made by `signcl fit`, or org/name on the hub")
    command.add_argument(
        "--annotate",
        nargs="?",
        const=True,
        default=False,
        metavar="SPANS.tsv",
        help="choose the frame that shows each sign; without a table: for the spans that the corpus knows",
    )
    command.add_argument("--choices", metavar="FILE", help="where choices go; default SPANS.choices.jsonl")
    command.add_argument("--corpus", help="kind of corpus of the spans: folder, synthetic, imu_numbers, ...")
    command.add_argument("--root", help="the corpus folder; default that of the run")
    command.add_argument("--split", default="test")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; beyond the loopback address people need the token"
    )
    command.add_argument("--port", type=whole(low=0, high=65_535), default=8765, help="0 takes any free one")
    command.add_argument(
        "--max-upload", type=real(above=0, high=1e6), default=64.0, metavar="MB", help="largest clip that is taken"
    )
    command.add_argument(
        "--max-seconds",
        type=real(above=0, high=1e6),
        default=60.0,
        metavar="S",
        help="most time that one clip may take",
    )
    command.add_argument(
        "--max-memory", type=real(above=0, high=1e7), default=4000.0, metavar="MB", help="most memory of one clip"
    )
    command.add_argument(
        "--max-waiting", type=whole(low=1, high=100_000), default=16, metavar="N", help="clips in the queue"
    )
    command.add_argument(
        "--token", metavar="FILE", help="a file with the token that everybody needs; made where there is none"
    )
    command.add_argument("--pose-python", metavar="PATH", help="for a run of key points: the Python that has MediaPipe")
    command.add_argument(
        "--keep-in",
        metavar="FOLDER",
        help="a folder corpus for clips whose signers agree to be kept; without it nothing that is sent stays",
    )
    command.add_argument(
        "--subtitles", metavar="FILE", help="subtitles of a long video, edited on a time line: .srt, .vtt, .eaf or .tsv"
    )
    command.add_argument("--film", metavar="VIDEO", help="of the subtitles; default: the video beside them")
    command.add_argument("--language", choices=("en", "de"), help="of the pages; default: that of the reader's browser")
    command.add_argument("--device", default="auto")

    command = add_verb(verbs, "explore", _explore, "one HTML page: every sign on a map, its frames and neighbours")
    add_run(command, "runs", nargs="+", help="a run or a file of features; two to compare")
    command.add_argument("-o", "--out", help="where the page goes; default RUN/explorer.html")
    command.add_argument("--split", default="test")
    command.add_argument("--root", help="the corpus folder, where it has moved")
    command.add_argument("--spans", metavar="FILE", help="a table of spans, or frames that people chose (.jsonl)")
    command.add_argument("--glosses", metavar="LABELS", help="of a file of features: a gloss per row or clip")
    command.add_argument("--tap", default="features", help="where to look; `signcl systems` lists a system's taps")
    command.add_argument(
        "--frame", choices=("centre", "peak", "mean", "medoid"), default="centre", help="a sign's one vector"
    )
    command.add_argument("--method", choices=("tsne", "umap"), default="tsne")
    command.add_argument(
        "--perplexity", type=real(above=0, high=1e6), default=30.0, help="of t-SNE; neighbours of UMAP"
    )
    command.add_argument(
        "--pca", type=whole(low=1, high=1_000_000), default=50, help="principal components that enter the map"
    )
    command.add_argument("--seed", type=whole(low=0, high=2**32 - 1), default=0)
    command.add_argument(
        "--thumbnails", type=whole(low=0, high=1_000_000), default=600, help="most filmstrips put into the page"
    )
    command.add_argument("--figure", metavar="FILE", help="also the maps as .pdf, .svg or .png, for a paper")
    command.add_argument("--device", default="auto")
    add_json(command)


def _serve(options: argparse.Namespace) -> None:
    from signcl.pages.server import serve
    from signcl.pages.uploads import Limits

    serve(
        options.folder,
        annotate=options.annotate,
        corpus=options.corpus,
        root=options.root,
        split=options.split,
        choices=options.choices,
        host=options.host,
        port=options.port,
        token=options.token,
        limits=Limits(
            megabytes=options.max_upload,
            seconds=options.max_seconds,
            memory_megabytes=options.max_memory,
            waiting=options.max_waiting,
        ),
        device=options.device,
        pose_python=options.pose_python,
        keep_in=options.keep_in,
        language=options.language,
        subtitles=options.subtitles,
        film=options.film,
    )


def _explore(options: argparse.Namespace) -> None:
    from signcl.pages.explorer import explore

    page = explore(
        [Path(run) for run in options.runs],
        out=options.out and Path(options.out),
        split=options.split,
        root=options.root,
        spans=options.spans,
        glosses=options.glosses,
        tap=options.tap,
        frame=options.frame,
        method=options.method,
        perplexity=options.perplexity,
        pca=options.pca,
        seed=options.seed,
        thumbnails=options.thumbnails,
        figure=options.figure and Path(options.figure),
        device=options.device,
    )
    show(options, {"page": str(page)}, lambda found: found["page"])
