"""`explore`: one self-contained HTML page of a feature space, or of two side by side.

Every sign is a dot on a map; a click shows its frames and nearest neighbours. The page also lists the glosses by SDR,
and the nearest pairs of glosses. It loads nothing from elsewhere. Filmstrips of large sets do not fit into the page;
`signcl serve RUN` delivers them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signcl.data.annotation.span_table import attach_spans, is_choices
from signcl.data.batch import Sample
from signcl.data.files import write_text
from signcl.data.installed import version_of
from signcl.data.json_files import parse_json
from signcl.data.progress import say, track
from signcl.density import retrieval, sdr_interval, sign_density_ratio
from signcl.density.by_signer import signer_ratios
from signcl.density.figures import density_panels
from signcl.density.instance_files import Annotation, load_instances
from signcl.density.instances import Frame, Instances
from signcl.density.maps import Projection, tsne, umap
from signcl.density.verdicts import NOTES, Note, disagreement_note
from signcl.inference.run_density import sign_instances
from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Html, data, document, html, joined, page_file
from signcl.pages.nearness import confusable_pairs, medoids, nearest
from signcl.pages.page_words import Words, words
from signcl.pages.report_runs import labels
from signcl.pages.signs import strips
from signcl.training.recipe import recipe_samples
from signcl.training.run_folder import check_run_folder
from signcl.training.runs import load_run

__all__ = ["FeatureSet", "explore", "in_language", "write_explorer"]

NEIGHBOURS = 8
PAIRS = 40
MOST_RETRIEVED = 5000  # with more signs, retrieval is left to `signcl density`
DATA = '<script type="application/json" id="explorer-data">'
GRID = 10_000  # coordinates are whole numbers 0..GRID in the page

Where = tuple[str, int, int]


@dataclass(frozen=True)
class FeatureSet:
    """One feature space, with a row per sign."""

    label: str
    """Its name on the page."""
    features: Tensor
    """[N, D]"""
    glosses: Sequence[str]
    """Gloss of each row. [N]"""
    where: Sequence[Where]
    """(clip, start, stop) of each row, in frames of the clip. [N]"""
    made: dict[str, Any] = field(default_factory=dict)
    """How the features were made, printed at the end of the page."""
    signers: Sequence[str] | None = None
    """Signer of each row, if all are known. [N]"""


def explore(
    runs: Sequence[Path | str],
    *,
    out: Path | None = None,
    split: str = "test",
    root: str | Path | None = None,
    spans: str | None = None,
    glosses: str | None = None,
    tap: str = "features",
    frame: Frame = "centre",
    method: str = "tsne",
    perplexity: float = 30.0,
    pca: int = 50,
    seed: int = 0,
    thumbnails: int = 600,
    figure: Path | None = None,
    device: str = "auto",
    language: str = LANGUAGES[0],
    progress: bool = True,
) -> Path:
    """Write the page of one feature space, or of two compared, and return its path.

    Args:
        runs: one or two run folders made by `signcl fit`; or files of features that `signcl density` can read.
        out: file of the page; None is RUN/explorer.html of the first run, which `signcl serve` shows.
        split: the split whose signs are shown; its spans must be known.
        root: the corpus folder, if it has moved.
        spans: a table of spans or a file of choices, instead of the corpus's own; feature files need this or glosses.
        glosses: for feature files: a gloss per row or clip, see `signcl.density.instance_files.Annotation`.
        tap: where in the model to read features, see `signcl.inference.run_density.extract_features`.
        frame: which vector of a span represents the sign, see `signcl.density.pool_spans`.
        method: tsne or umap.
        perplexity, pca, seed: of the map; printed on the page.
        thumbnails: most filmstrips in the page (4 kB each); the most typical sign of each gloss comes first.
        figure: also write the maps as a figure for a paper, .pdf, .svg or .png.
        language: of the page, en or de.

    Raises:
        FileNotFoundError: a folder is not a run.
        ValueError: no spans, more than two runs, or an option that makes no sense.
    """
    Words(language)  # checked before minutes of work
    folders = [Path(run) for run in runs]
    if not 1 <= len(folders) <= 2:
        raise ValueError(f"explore needs one run or feature file, or two to compare, got {len(folders)}")
    folders = [folder if _is_features(folder) else check_run_folder(folder) for folder in folders]
    path = Path(out) if out is not None else folders[0] / "explorer.html"
    if path.is_dir() or (out is None and not _is_run(folders[0])):
        raise ValueError(f"explore needs a file name for its page, got {path}: give one with -o")
    names = labels(folders)
    sets, samples = [], {}
    for folder, name in zip(folders, names):
        if _is_features(folder) and not _is_run(folder):
            (signs,) = load_instances(folder, Annotation(spans=spans, glosses=glosses), (frame,))
            made: dict[str, Any] = {"file": folder.name, "frame": signs.frame}
        else:
            signs, found, made = _run_signs(folder, split, root, spans, tap, frame, device, progress)
            samples.update({sample.name: sample for sample in found})
        if spans is not None:
            made["spans"] = Path(spans).name
        rows = torch.as_tensor(np.array(signs.features))
        sets.append(FeatureSet(name, rows, signs.glosses, signs.where, made, signs.signers))
    return write_explorer(
        sets,
        path,
        samples=samples,
        split=split,
        method=method,
        perplexity=perplexity,
        pca=pca,
        seed=seed,
        thumbnails=thumbnails,
        figure=figure,
        language=language,
        progress=progress,
    )


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.yaml").is_file()


def _is_features(path: Path) -> bool:
    return path.is_file() or (path / "index.json").is_file()


def _run_signs(
    folder: Path,
    split: str,
    root: str | Path | None,
    spans: str | None,
    tap: str,
    frame: Frame,
    device: str,
    progress: bool,
) -> tuple[Instances, list[Sample], dict[str, Any]]:
    """One vector per sign of a run, the clips, and how the vectors were made."""
    run = load_run(folder)
    samples = recipe_samples(run.recipe, split, root)
    if spans is not None:
        samples = attach_spans(samples, spans)
    if not any(sample.spans for sample in samples):
        raise ValueError(
            f"explore needs the frames of each sign, and split {split} of corpus {run.recipe.corpus.name} has "
            "no spans; give them with --spans TSV"
        )
    people = is_choices(spans)  # spans of one frame
    picked: Frame = "centre" if people else frame
    (signs,) = sign_instances(run, samples, (picked,), tap=tap, device=device, progress=progress)
    return signs, samples, {"system": run.recipe.model.name, "frame": "people" if people else frame, "tap": tap}


def write_explorer(
    sets: Sequence[FeatureSet],
    path: Path,
    *,
    samples: dict[str, Sample] | None = None,
    split: str = "test",
    method: str = "tsne",
    perplexity: float = 30.0,
    pca: int = 50,
    seed: int = 0,
    thumbnails: int = 600,
    figure: Path | None = None,
    language: str = LANGUAGES[0],
    progress: bool = True,
) -> Path:
    """Write the page for any features: one set, or two, in which common signs are linked.

    Args:
        sets: the feature spaces.
        path: file of the page.
        samples: the clips by name, for the filmstrips; None: no filmstrips.
        split: name of the split on the page.
        method, perplexity, pca, seed, thumbnails, figure, language: see `explore`.

    Raises:
        ValueError: no set or more than two, too few signs, or features that are not finite.
    """
    say = Words(language)
    if not 1 <= len(sets) <= 2:
        raise ValueError(f"an explorer shows one or two feature sets, got {len(sets)}")
    if method not in ("tsne", "umap"):
        raise ValueError(f"method must be tsne or umap, got {method!r}")
    for one in sets:
        if not len(one.features) == len(one.glosses) == len(one.where):
            raise ValueError(
                f"{one.label}: needs a gloss and a place for every row, got {len(one.features)} rows, "
                f"{len(one.glosses)} glosses and {len(one.where)} places"
            )
        if one.signers is not None and len(one.signers) != len(one.features):
            raise ValueError(
                f"{one.label}: needs a signer for every row, got {len(one.signers)} of {len(one.features)}"
            )
    signs = list(dict.fromkeys((*w, g) for one in sets for w, g in zip(one.where, one.glosses)))
    clips = sorted({sign[0] for sign in signs})
    counts = Counter(sign[3] for sign in signs)
    glosses = sorted(counts, key=lambda gloss: (-counts[gloss], gloss))
    gloss_of, clip_of = ({name: i for i, name in enumerate(names)} for names in (glosses, clips))
    shown = []
    maps = []
    for one in sets:
        with track(f"mapping {one.label}", total=None, show=progress):
            maps.append(_map(one.features.detach().cpu().float(), method, perplexity, pca, seed))
            shown.append(_set(one, maps[-1], signs, gloss_of, seed))
    if figure is not None:
        ratios = [None if one["summary"]["sdr"] is None else one["summary"]["sdr"] / 100 for one in shown]
        density_panels(maps, [one.glosses for one in sets], [one.label for one in sets], path=figure, sdr=ratios)
    first = [
        sign for one in shown for sign in (*one["medoid"], *_best(one["medoid"], one["pairs"])) if sign is not None
    ]
    wanted = list(dict.fromkeys([*first, *range(len(signs))]))[: max(0, thumbnails)]
    note = _disagreement_of(sets, shown)
    content = {
        "split": split,
        "note": None if note is None else {"name": note.name, "values": dict(note.values)},
        "glosses": glosses,
        "clips": clips,
        "texts": [samples[name].text if samples and name in samples else "" for name in clips],
        "gloss": [gloss_of[sign[3]] for sign in signs],
        "clip": [clip_of[sign[0]] for sign in signs],
        "start": [sign[1] for sign in signs],
        "stop": [sign[2] for sign in signs],
        **_signers(sets, signs),
        "strips": _strips(signs, wanted, samples or {}, progress),
        "sets": shown,
    }
    write_text(Path(path), _page(content, say))
    return Path(path)


def _disagreement_of(sets: Sequence[FeatureSet], shown: Sequence[dict[str, Any]]) -> Note | None:
    """Where SDR and retrieval disagree about two sets of the same signs."""
    if len(sets) != 2 or sorted(zip(sets[0].where, sets[0].glosses)) != sorted(zip(sets[1].where, sets[1].glosses)):
        return None
    one, two = (part["summary"] for part in shown)
    if "map" not in one or "map" not in two:
        return None
    return disagreement_note((one["sdr"], two["sdr"]), (one["map"], two["map"]))  # with mAP there is an SDR too


def _best(typical: list[int | None], pairs: list[list[float]]) -> list[int | None]:
    return [typical[int(pair[side])] for pair in pairs for side in (0, 1)]


def _map(features: Tensor, method: str, perplexity: float, pca: int, seed: int) -> Projection:
    if method == "umap":
        return umap(features, neighbours=max(2, round(perplexity)), seed=seed, pca=pca)
    return tsne(features, perplexity=perplexity, seed=seed, pca=pca, engine="auto")


def _set(
    one: FeatureSet,
    projection: Projection,
    signs: list[tuple[str, int, int, str]],
    gloss_of: dict[str, int],
    seed: int,
) -> dict[str, Any]:
    """Data of one feature space for the page, in the page's numbering of signs and glosses."""
    place = {sign: number for number, sign in enumerate(signs)}
    rows = [place[(*w, g)] for w, g in zip(one.where, one.glosses)]
    features = one.features.detach().cpu().float()
    present = sorted({gloss_of[g] for g in one.glosses})
    local = {gloss: i for i, gloss in enumerate(present)}
    ids = torch.tensor([local[gloss_of[g]] for g in one.glosses])
    near = nearest(features, NEIGHBOURS)
    same = float((ids[torch.from_numpy(near)] == ids[:, None]).float().mean()) if near.size else 0.0
    count = len(gloss_of)
    table: dict[str, list[float | None]] = {name: [None] * count for name in ("sdr", "intra", "inter", "found")}
    summary: dict[str, Any] = {"sdr": None, "interval": None}
    try:
        density = sign_density_ratio(features, ids)
    except ValueError as error:
        summary["note"] = str(error)
    else:
        interval = sdr_interval(density, seed=seed)
        summary = {
            "sdr": _short(100 * density.mean),
            "interval": [_short(100 * v) for v in (interval.low, interval.high)],
        }
        for i, gloss in enumerate(density.gloss_ids.tolist()):
            for name in ("sdr", "intra", "inter"):
                table[name][present[gloss]] = _short(float(getattr(density, name)[i]))
        if len(features) <= MOST_RETRIEVED:
            with contextlib.suppress(ValueError):  # if every gloss has one clip, there is nothing to find in another
                clips = [f"{clip} {start}" if clip == "row" else clip for clip, start, _ in one.where]
                again = retrieval(features, ids, clips)
                summary |= {"map": _short(100 * again.map), "nearest": _short(100 * again.one_nn)}
                for gloss, average in zip(again.gloss_ids.tolist(), again.by_gloss.tolist()):
                    table["found"][present[gloss]] = _short(average)
            summary |= _by_signer(features, ids, one.signers)
    typical: list[int | None] = [None] * count
    for i, row in enumerate(medoids(features, ids)):
        typical[present[i]] = rows[row]
    x, y = _grid(projection.coordinates)
    whole = len(signs)
    spread = {"x": [-1] * whole, "y": [-1] * whole}
    neighbours: list[list[int]] = [[] for _ in range(whole)]
    for i, row in enumerate(rows):
        spread["x"][row], spread["y"][row] = x[i], y[i]
        neighbours[row] = [rows[j] for j in near[i]]
    return {
        "label": one.label,
        "size": list(features.shape),
        "map": _settings(projection),
        "made": ", ".join(f"{key} {value}" for key, value in one.made.items()),
        "summary": summary,
        "same": _short(same),
        **spread,
        "near": neighbours,
        **table,
        "medoid": typical,
        "pairs": [
            [present[p.a], present[p.b], _short(p.distance), _short(p.ratio)]
            for p in confusable_pairs(features, ids, PAIRS)
        ],
    }


def _by_signer(features: Tensor, ids: Tensor, signers: Sequence[str] | None) -> dict[str, Any]:
    """Density and retrieval within one signer and across signers; empty with fewer than two signers."""
    if signers is None or len(set(signers)) < 2:
        return {}
    found: dict[str, Any] = {"signers": len(set(signers))}
    with contextlib.suppress(ValueError):
        ratios = signer_ratios(features, ids, signers)
        both = {"within": ratios.within, "across": ratios.across}
        found |= {name: _short(100 * value) for name, value in both.items() if value is not None and np.isfinite(value)}
    with contextlib.suppress(ValueError):  # no gloss has two signers
        found["others"] = _short(100 * retrieval(features, ids, signers, signers=signers).map)
    return found


def _signers(sets: Sequence[FeatureSet], signs: list[tuple[str, int, int, str]]) -> dict[str, Any]:
    """The signer of each sign of the page, -1 if unknown; the most frequent signers come first."""
    known = {
        (*where, gloss): signer
        for one in sets
        if one.signers is not None
        for where, gloss, signer in zip(one.where, one.glosses, one.signers)
    }
    counts = Counter(known.values())
    names = sorted(counts, key=lambda name: (-counts[name], name))
    number = {name: i for i, name in enumerate(names)}
    return {"signers": names, "signer": [number.get(known.get(sign, ""), -1) for sign in signs]}


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _grid(coordinates: np.ndarray) -> tuple[list[int], list[int]]:
    """Coordinates as whole numbers 0..GRID, with one scale for both directions and y upwards."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    scale = GRID / max(float((high - low).max()), 1e-9)
    placed = np.rint(GRID / 2 + (coordinates - (low + high) / 2) * scale).astype(int)
    return placed[:, 0].tolist(), (GRID - placed[:, 1]).tolist()


def _settings(projection: Projection) -> str:
    """Describe every setting of a map."""
    found = {k: v for k, v in projection.settings.items() if v is not None and k not in ("method", "version")}
    parts = [f"{k.replace('_', ' ').replace('pca', 'PCA')} {v}" for k, v in found.items()]
    return f"{projection.settings.get('method', 'map')}: {', '.join(parts)}, {projection.settings.get('version', '')}"


def _strips(
    signs: list[tuple[str, int, int, str]], wanted: list[int], samples: dict[str, Sample], progress: bool
) -> dict[int, str]:
    """Filmstrips by sign; they are cut clip by clip, so that each clip is opened once."""
    order = sorted((number for number in wanted if signs[number][0] in samples), key=lambda number: signs[number][:2])
    numbers = {signs[number][:3]: number for number in order}
    found: dict[int, str] = {}
    with track("cutting filmstrips", total=len(order), show=progress and len(order) > 50) as bar:
        items = ((samples[signs[number][0]], signs[number][1], signs[number][2]) for number in order)
        for where, picture in strips(items):
            found[numbers[where]] = picture
            bar.advance()
    if len(found) < len(order):
        say(f"{len(order) - len(found)} of {len(order)} filmstrips could not be made: their clips cannot be read")
    return found


def in_language(page: str, language: str) -> str:
    """A page of the explorer in another language, made from the data that it holds; as it is, if it is damaged."""
    if f'<html lang="{language}"' in page:
        return page
    try:
        start = page.index(DATA) + len(DATA)
        return _page(parse_json(page[start : page.index("</script>", start)]), Words(language))
    except (ValueError, LookupError, TypeError):
        return page


def _page(content: dict[str, Any], say: Words) -> str:
    names = f" {say('and')} ".join(one["label"] for one in content["sets"])
    counted = say("explorer.counted", signs=len(content["gloss"]), glosses=len(content["glosses"]))
    body = html(
        page_file("explorer.html"),
        title=names,
        kind=joined(["signcl explorer", say("home.split", split=content["split"]), counted], " · "),
        disagree=_disagreement(content, say),
        made=say("made", version=version_of("signcl")),
        words=say.table("explorer.", "frames", "no_server", "others", "gloss"),
        w=words(say.language),
        data=data("explorer", content),
    )
    scripts = ["words.js", "explorer.js"]
    return document(names, "signcl explorer", body, scripts, ["explorer.css"], say.language, data_server="")


def _disagreement(content: dict[str, Any], say: Words) -> Html:
    """Where SDR and retrieval disagree about two feature spaces."""
    note = content["note"]
    if note is None:
        return Html()
    what = say.defined(f"note.{note['name']}", NOTES[note["name"]], note["values"])
    one, two = (part["label"] for part in content["sets"])
    return html('<p class="facts">{}.</p>', say("against", other=two, first=one, what=what))
