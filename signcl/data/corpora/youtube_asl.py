"""YouTube-ASL: American Sign Language in 11,093 YouTube videos, 984 hours, 610,193 English captions; no gloss.

The release is a list of video ids; users download videos and captions themselves:

    ROOT/youtube-asl_youtube_asl_video_ids.txt (or youtube_asl_video_ids.txt)    one id per line
    captions    ID.en.vtt, ID.en-US.vtt ... (yt-dlp), ID.srt, or ID.json (youtube-transcript-api: text, start, duration)
    videos      ID.mp4, .webm or .mkv

Files are in ROOT or in its folders listed in `CAPTIONS` and `VIDEOS`. Each caption is one sentence and one segment of
its video. The release has **no splits**: by default every video is in train. `dev_share` and `test_share` move videos
to dev and test by a checksum of their ids. These splits are our own, so scores on them are not comparable with others.
Many captions are not full sentences. The paper filters some of them; its rules are not applied here.

Source: google-research/google-research, youtube_asl/README.md (list of ids); file names as written by yt-dlp and
youtube-transcript-api.
"""

from __future__ import annotations

from pathlib import Path

from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.table_files import OnError, stop
from signcl.data.batch import Sample, Segment
from signcl.data.corpora._captions import read_captions
from signcl.data.corpora._layout import (
    Layout,
    OnMissing,
    check_share,
    check_split,
    names_in,
    present,
    split_by_share,
    told,
)

__all__ = ["samples"]

LISTS = ("youtube-asl_youtube_asl_video_ids.txt", "youtube_asl_video_ids.txt")
CAPTIONS = (".", "captions", "transcripts", "transcript", "subtitles", "videos")
VIDEOS = (".", "videos", "video")
SUFFIXES = (".mp4", ".webm", ".mkv")

LAYOUT = Layout(
    files=LISTS,
    about="YouTube-ASL, American Sign Language from YouTube",
    published="https://github.com/google-research/google-research/tree/master/youtube_asl (ids; fetch videos and "
    "captions with yt-dlp)",
    needs="the list of ids, the captions ID.en.vtt or ID.json, and the videos ID.mp4",
)


def samples(
    root: Path,
    split: str,
    *,
    language: str = "en",
    dev_share: float = 0.0,
    test_share: float = 0.0,
    on_error: OnError = stop,
    on_missing: OnMissing = told,
) -> list[Sample]:
    """Reads the captions of one split. Videos without a file or captions are left out; their number is reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        language: language of the captions, as in their file names: `en` matches en, otherwise en-US and similar.
        dev_share, test_share: shares of the videos in dev and test; 0 leaves the split empty.
        on_error: called with each broken caption; by default the first error is raised.
        on_missing: called with the ids of videos without a file or captions.

    Raises:
        ValueError: the split is unknown or empty, the list of ids is missing, no video is found, or a caption is
            broken.
    """
    check_split("youtube_asl", root, split)
    check_share("youtube_asl", "dev_share", dev_share)
    check_share("youtube_asl", "test_share", test_share)
    root = Path(root)
    table = next((root / name for name in LISTS if (root / name).is_file()), None)
    if table is None:
        raise ValueError(f"{root}: youtube_asl needs the list of ids {' or '.join(LISTS)}; from {LAYOUT.published}")
    ids = list(dict.fromkeys(read_plain(table).split()))
    wanted = [i for i in ids if split_by_share(i, dev_share, test_share) == split]
    if not wanted:
        raise ValueError(
            f"{table}: the release has no splits, and none of its {len(ids)} videos is in {split}; set "
            f"corpus.options.{'dev_share=0.02' if split != 'test' else 'test_share=0.02'} to move some there"
        )
    files = {name: root / folder / name for folder in reversed(VIDEOS) for name in names_in(root / folder)}
    captions = {name: root / folder / name for folder in reversed(CAPTIONS) for name in names_in(root / folder)}
    tracks: dict[str, list[str]] = {}
    for name in sorted(captions):
        if name.endswith((".vtt", ".srt", ".json")):
            tracks.setdefault(name.split(".")[0], []).append(name)
    result: list[Sample] = []
    missing = []
    for video in wanted:
        clip = next((files[video + suffix] for suffix in SUFFIXES if video + suffix in files), None)
        track = _track(video, tracks.get(video, []), language)
        if clip is None or track is None:
            missing.append(video)
            continue
        for number, caption in enumerate(read_captions(captions[track], on_error)):
            segment = Segment(caption.start, caption.stop, row=caption.where)
            result.append(Sample(f"{video}-{number:04}", caption.text, clip, segment=segment, language=language))
    where = f"{root}/ {', '.join(VIDEOS)} (captions: {', '.join(CAPTIONS)})"
    return present(result, missing, corpus="youtube_asl", split=split, table=table, where=where, on_missing=on_missing)


def _track(video: str, names: list[str], language: str) -> str | None:
    """The caption file of a video: of exactly this language, else of a regional variant, else without a language."""
    for suffix in (f".{language}.vtt", f".{language}.srt", f".{language}.json"):
        if video + suffix in names:
            return video + suffix
    variant = next((name for name in names if name.startswith(f"{video}.{language}-")), None)
    return variant or next((n for n in names if n in (f"{video}.vtt", f"{video}.srt", f"{video}.json")), None)
