"""BOBSL: British Sign Language of BBC broadcasts with an interpreter, 1,447 hours of about 1,960 episodes; English.

    splits       ROOT/subset2episode.json (or in metadata/, original_data/metadata/): {"train": [EPISODE, ...],
                 "val": ..., "public_test" or "test": ...}
    subtitles    EPISODE.vtt, below a folder per kind (`SUBTITLES`); v1.0 to v1.2 and v1.4 use different names
    videos       EPISODE.mp4 in videos/, videos/mp4, original_data/videos or original_data/videos/mp4
    spottings    spottings/KIND_spottings.json: {split: {word: {"names": [EPISODE], "global_times": [seconds],
                 "probs": []}}}

A sentence is a subtitle, which is a segment of its episode. Subtitles aligned to the **audio** are on average about
2.7 s before the signing, so the default is `subtitles: manual` (55 episodes). Spotted signs are English words with a
probability, at a point in time, and not human annotation; they become the gloss only if `spottings` names a kind. The
challenge episodes have no subtitles and are not read.

Source: README of BOBSL v1.2; hannahbull/subtitle_align (2.7 s, folder names); third-party code for the folders of v1.4;
sign-language-processing/datasets, bobsl.py (spottings). They disagree about the location of the videos in v1.4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signcl.data.annotation.table_files import OnError, stop
from signcl.data.batch import Sample, Segment
from signcl.data.corpora._captions import read_captions
from signcl.data.corpora._layout import Layout, OnMissing, check_split, names_in, present, told
from signcl.data.json_files import read_json

__all__ = ["samples"]

OFFICIAL = {"train": ("train",), "dev": ("val",), "test": ("public_test", "test")}
SPLIT_FILES = (
    "subset2episode.json",
    "metadata/subset2episode.json",
    "original_data/metadata/subset2episode.json",
    "splits/subset2episode.json",
)
SUBTITLES = {
    "manual": ("subtitles/manually-aligned", "manual_annotations/signing_aligned_subtitles"),
    "audio": ("subtitles/audio-aligned",),
    "audio_corrected": (
        "subtitles/audio-aligned-heuristic-correction",
        "automatic_annotations/signing_aligned_subtitles/audio_aligned_heuristic_correction",
    ),
    "automatic": ("automatic_annotations/signing_aligned_subtitles/auto_sat_aligned",),
}
VIDEOS = ("videos", "videos/mp4", "original_data/videos", "original_data/videos/mp4")
SPOTTINGS = ("mouthing", "dict", "attention", "verified_mouthing", "verified_dict")

LAYOUT = Layout(
    files=SPLIT_FILES,
    about="BOBSL, British Sign Language of BBC broadcasts",
    published="https://www.robots.ox.ac.uk/~vgg/data/bobsl/ (after an agreement with the BBC)",
    needs="subset2episode.json, subtitles/manually-aligned/EPISODE.vtt and videos/EPISODE.mp4",
)


def samples(
    root: Path,
    split: str,
    *,
    subtitles: str = "manual",
    spottings: str = "",
    min_prob: float = 0.8,
    on_error: OnError = stop,
    on_missing: OnMissing = told,
) -> list[Sample]:
    """Reads the subtitles of one split; episodes without a video are left out and reported.

    Episodes without subtitles of the kind have no sentences (55 of 1,940 episodes are aligned by people).

    Args:
        root: the corpus folder.
        split: `train`, `dev` (val) or `test` (public_test).
        subtitles: `manual`, `audio`, `audio_corrected` or `automatic`.
        spottings: `mouthing`, `dict`, `attention` ... to use spotted words as the gloss; "" = no gloss.
        min_prob: minimum probability of a spotted word.
        on_error: called with each broken subtitle; by default the first one is raised.
        on_missing: called with the episodes without a video.

    Raises:
        ValueError: an unknown split or kind, no list of episodes, no subtitles of the kind, no videos.
    """
    check_split("bobsl", root, split)
    if subtitles not in SUBTITLES:
        raise ValueError(f"bobsl: corpus.options.subtitles needs one of {', '.join(SUBTITLES)}, got {subtitles!r}")
    if spottings and spottings not in SPOTTINGS:
        raise ValueError(f"bobsl: corpus.options.spottings needs one of {', '.join(SPOTTINGS)}, got {spottings!r}")
    if isinstance(min_prob, bool) or not isinstance(min_prob, int | float) or not 0 <= min_prob <= 1:
        raise ValueError(f"bobsl: corpus.options.min_prob needs a number from 0 to 1, got {min_prob!r}")
    root = Path(root)
    table = next((root / name for name in SPLIT_FILES if (root / name).is_file()), None)
    if table is None:
        raise ValueError(f"{root}: bobsl needs the list of episodes subset2episode.json; from {LAYOUT.published}")
    loaded = _json(table)
    subset = next((loaded[name] for name in OFFICIAL[split] if isinstance(loaded, dict) and name in loaded), None)
    if not isinstance(subset, list):
        raise ValueError(f"{table}: needs the key {' or '.join(OFFICIAL[split])} with a list of episodes")
    folder = next((root / name for name in SUBTITLES[subtitles] if (root / name).is_dir()), None)
    if folder is None:
        there = [kind for kind, places in SUBTITLES.items() if any((root / place).is_dir() for place in places)]
        raise ValueError(
            f"{root}: bobsl needs the {subtitles} subtitles in {' or '.join(SUBTITLES[subtitles])}; there are those of "
            f"{', '.join(there) or 'no kind'} (corpus.options.subtitles)"
        )
    files = {path.stem: path for path in sorted(folder.rglob("*.vtt")) if path.name[0] != "."}
    videos = {name: root / place / name for place in reversed(VIDEOS) for name in names_in(root / place)}
    words = _spotted(root, spottings, OFFICIAL[split], min_prob) if spottings else {}
    result: list[Sample] = []
    missing: list[str] = []
    for episode in map(str, subset):
        episode = episode.removesuffix(".mp4")
        if episode not in files:
            continue
        if f"{episode}.mp4" not in videos:
            missing.append(episode)
            continue
        spotted = words.get(episode, [])
        for number, caption in enumerate(read_captions(files[episode], on_error)):
            gloss = tuple(word for time, word in spotted if caption.start <= time < caption.stop)
            segment = Segment(caption.start, caption.stop, row=caption.where)
            result.append(
                Sample(f"{episode}-{number:04}", caption.text, videos[f"{episode}.mp4"], gloss=gloss, segment=segment)
            )
    where = f"{root}/ {', '.join(VIDEOS)}"
    return present(result, missing, corpus="bobsl", split=split, table=table, where=where, on_missing=on_missing)


def _json(path: Path) -> Any:
    return read_json(path, Any, "copy it again")


def _spotted(root: Path, kind: str, names: tuple[str, ...], least: float) -> dict[str, list[tuple[float, str]]]:
    """Spotted words of each episode in order of time: (seconds, word)."""
    path = root / "spottings" / f"{kind}_spottings.json"
    if not path.is_file():
        raise ValueError(
            f"{root}: bobsl needs the spottings {path.name} in spottings/; leave out the option if you have none"
        )
    loaded = _json(path)
    found: dict[str, list[tuple[float, str]]] = {}
    try:
        for name in names:
            for word, one in loaded.get(name, {}).items():
                for episode, time, probability in zip(one["names"], one["global_times"], one["probs"], strict=True):
                    if probability >= least:
                        found.setdefault(str(episode).removesuffix(".mp4"), []).append((float(time), word))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: needs {{split: {{word: names, global_times, probs}}}} ({error!r})") from None
    return {episode: sorted(spotted) for episode, spotted in found.items()}
