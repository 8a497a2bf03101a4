"""Verbs that make or serve pages: `explore`, `serve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_language, add_run, add_verb, show
from signcl.cli.number_options import real, whole
from signcl.pages.languages import LANGUAGES

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "serve", _serve, "serve web pages: translate, report, explorer, frame choice, subtitles")
    add_run(command, "folder", nargs="?", help="a run folder made by `signcl fit`, or org/name on the hub")
    command.add_argument(
        "--annotate",
        nargs="?",
        const=True,
        default=False,
        metavar="SPANS.tsv",
        help="serve a page to choose the frame that shows each sign; without a table: for the spans of the corpus",
    )
    command.add_argument("--choices", metavar="FILE", help="file for the choices; default: SPANS.choices.jsonl")
    command.add_argument(
        "--corpus", help="kind of corpus that the spans belong to: folder, synthetic, imu_numbers, ..."
    )
    command.add_argument("--root", help="the corpus folder; default: the run's")
    command.add_argument("--split", default="test", help="split of the spans and of the report")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; any but a loopback address requires the token"
    )
    command.add_argument(
        "--port", type=whole(low=0, high=65_535), default=8765, help="port to listen on; 0: any free port"
    )
    command.add_argument(
        "--max-upload", type=real(above=0, high=1e6), default=64.0, metavar="MB", help="largest clip that is accepted"
    )
    command.add_argument(
        "--max-seconds",
        type=real(above=0, high=1e6),
        default=60.0,
        metavar="S",
        help="longest time for reading and translating one clip",
    )
    command.add_argument(
        "--max-memory",
        type=real(above=0, high=1e7),
        default=4000.0,
        metavar="MB",
        help="most memory for one clip, besides the model's",
    )
    command.add_argument(
        "--max-waiting", type=whole(low=1, high=100_000), default=16, metavar="N", help="most clips in the queue"
    )
    command.add_argument(
        "--token", metavar="FILE", help="file with the token that every visitor needs; created if it is missing"
    )
    command.add_argument("--pose-python", metavar="PATH", help="for a key-point run: the Python that has MediaPipe")
    command.add_argument(
        "--keep-in",
        metavar="FOLDER",
        help="folder corpus for clips whose signers agree to have them kept; without it, no upload is kept",
    )
    command.add_argument(
        "--max-kept",
        type=real(above=0, high=1e9),
        default=5000.0,
        metavar="MB",
        help="most that the clips of --keep-in may take; when it is reached, no more are kept",
    )
    command.add_argument(
        "--subtitles",
        metavar="FILE",
        help="subtitles of a long video, to edit on a time line: .srt, .vtt, .eaf or .tsv",
    )
    command.add_argument(
        "--film", metavar="VIDEO", help="video of the subtitles; default: the one next to them with the same name"
    )
    command.add_argument(
        "--language", choices=LANGUAGES, help="language of the pages; default: that of the reader's browser"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")

    command = add_verb(
        verbs, "explore", _explore, "write one HTML page: a map of all signs, with their frames and nearest neighbours"
    )
    add_run(command, "runs", nargs="+", help="a run or a file of features; give two to compare them")
    command.add_argument("-o", "--out", help="file of the page; default: RUN/explorer.html")
    command.add_argument("--split", default="test", help="split to show")
    command.add_argument("--root", help="the corpus folder, if it has moved")
    command.add_argument("--spans", metavar="FILE", help="a table of spans, or a file of chosen frames (.jsonl)")
    command.add_argument("--glosses", metavar="LABELS", help="for a file of features: the gloss of each row or clip")
    command.add_argument(
        "--tap", default="features", help="where in the model to read features; `signcl systems NAME` lists the taps"
    )
    command.add_argument(
        "--frame",
        choices=("centre", "peak", "mean", "medoid"),
        default="centre",
        help="which vector of a span represents the sign",
    )
    command.add_argument("--method", choices=("tsne", "umap"), default="tsne", help="how to draw the map")
    command.add_argument(
        "--perplexity",
        type=real(above=0, high=1e6),
        default=30.0,
        help="perplexity of t-SNE, or number of neighbours of UMAP",
    )
    command.add_argument(
        "--pca",
        type=whole(low=1, high=1_000_000),
        default=50,
        help="number of principal components to draw the map from",
    )
    command.add_argument("--seed", type=whole(low=0, high=2**32 - 1), default=0, help="seed of the map")
    command.add_argument(
        "--thumbnails", type=whole(low=0, high=1_000_000), default=600, help="most filmstrips in the page"
    )
    command.add_argument(
        "--figure", metavar="FILE", help="also write the maps as a figure for a paper: .pdf, .svg or .png"
    )
    add_language(command)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
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
            kept_megabytes=options.max_kept,
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
        language=options.language,
    )
    show(options, {"page": str(page)}, lambda found: found["page"])
