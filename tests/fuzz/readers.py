"""All readers of the package: how to make a small valid file for each, and which files to mutate how."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["READERS", "Reader"]

FRAMES = np.random.default_rng(0).integers(0, 255, (6, 24, 32, 3)).astype(np.uint8)
ROWS = np.arange(20, dtype=np.float32).reshape(5, 4)
TABLE = "name\tpath\ttext\tsigner\tgloss\tnum_frames\tspans\n" + "".join(
    f"clip{i}\tclip{i}.npy\tdas ist der {i}. Satz\tS{i}\tA B\t5\tA:0-2 B:2-5\n" for i in range(3)
)


@dataclass(frozen=True)
class Reader:
    """One kind of file."""

    make: Callable[[Path], None]
    """Writes the valid file or files into an empty folder."""
    read: Callable[[Path], Any]
    """Reads them from the folder; the result is searched for NaN."""
    files: dict[str, str]
    """Files to change, one per case: name or pattern -> key of `mutations.FORMS`."""
    exact: tuple[str, ...] = ()
    """Files with a checksum: after a blind change, they must be refused or read unchanged."""
    finite: bool = True
    """Whether NaN is a fault; False for values of a checkpoint."""
    slow: bool = False
    """Takes more than 0.1 s per case."""


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8") and None


# -- video and pictures ------------------------------------------------------------------------------------------------


def _video(suffix: str, codec: str, pix_fmt: str) -> Reader:
    def make(folder: Path) -> None:
        import av

        with av.open(str(folder / f"clip{suffix}"), "w") as file:
            stream = file.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt, stream.thread_count = 24, 32, pix_fmt, 1
            for pixels in FRAMES:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))

    return Reader(make, lambda folder: _clip(folder / f"clip{suffix}"), {f"clip{suffix}": "bytes"})


def _clip(path: Path) -> Any:
    from signcl.data.video import probe, read_frames
    from signcl.data.video.reading import clip_rate, count_clip_frames, remarks

    said = []
    frames = read_frames(path, note=said.append)
    probe(path), clip_rate(path), remarks(path)
    few = read_frames(path, size=8, max_frames=3, fps=10 if path.is_file() else None, note=said.append, strict=False)
    assert few.shape[1:] == (8, 8, 3), few.shape
    count_clip_frames(path)  # from the header, which may be wrong; code that reads frames counts them
    return [frames, few, *said]


def _pictures(suffix: str) -> Reader:
    def make(folder: Path) -> None:
        import cv2

        (folder / "clip").mkdir()
        for number, pixels in enumerate(FRAMES):
            cv2.imwrite(str(folder / "clip" / f"{number}{suffix}"), pixels)

    return Reader(make, lambda folder: _clip(folder / "clip"), {"clip/*": "bytes"})


def _pack(form: str) -> Reader:
    def make(folder: Path) -> None:
        from signcl.data.packing import PackSettings, pack_corpus

        corpus = folder.parent / f"{folder.name}-corpus"
        for i in range(3):
            _pictures(".png").make(_made(corpus / str(i)))
        lines = [f"c{i}\t{i}/clip\tein Satz {i}\tS\tA\tA:0-2" for i in range(3)]
        (corpus / "train.tsv").write_text("name\tpath\ttext\tsigner\tgloss\tspans\n" + "\n".join(lines) + "\n")
        settings = PackSettings(form=form, size=16)  # type: ignore[arg-type]
        pack_corpus(corpus, folder, "folder", settings, splits=("train",), progress=False)
        shutil.rmtree(corpus)

    def read(folder: Path) -> Any:
        from signcl.data.corpora import load_samples
        from signcl.data.video import read_frames
        from signcl.data.video.shards import check_shard

        found = []
        for sample in load_samples("folder", folder, "train"):
            found.append((sample.name, sample.text, sample.spans, read_frames(sample.clip)))
            if form == "uint8":  # training reads only some frames; `corpus check` verifies the complete shard
                check_shard(sample.clip)
        return found

    files = {"*.tar": "bytes", "*.index.json": "json", "pack.json": "json", "train.tsv": "table"}
    return Reader(make, read, files, exact=("*.tar",))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# -- tables and annotation ---------------------------------------------------------------------------------------------


def _folder_corpus(folder: Path) -> None:
    (folder / "train.tsv").write_text(TABLE, encoding="utf-8")
    for i in range(3):
        np.save(folder / f"clip{i}.npy", ROWS)


def _samples(name: str, **options: Any) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from signcl.data.corpora import load_samples

        return load_samples(name, folder, "train", **options)

    return read


def _spans(folder: Path) -> Any:
    from signcl.data.annotation.span_table import read_spans

    return read_spans(folder / "spans.tsv", lengths={"clip0": 50, "clip1": 50})


def _choices(folder: Path) -> Any:
    from signcl.data.annotation.choices import agreement, progress, read_choices, read_decisions

    decisions = read_decisions(folder / "a.choices.jsonl")
    return [agreement(decisions), progress(decisions), read_choices(folder / "a.choices.jsonl")]


CHOICES = "".join(
    json.dumps({"annotator": who, "role": "annotator", "clip": "clip0", "gloss": "A", "start": 7, "stop": 16,
                "action": "choose", "frame": 11, "time": "2026-01-31T12:00:00.123Z", "id": f"{who}{i}"}) + "\n"
    for who in ("ada", "bo") for i in range(2)
)  # fmt: skip


def _elan(folder: Path) -> None:
    from signcl.data.annotation.elan import write_elan
    from signcl.data.batch import Span

    write_elan(folder, {"clip": (Span("A", 0, 10), Span("B", 10, 20), Span("C", 5, 15))}, fps=25)


def _read_elan(folder: Path) -> Any:
    from signcl.data.annotation.elan import read_elan

    return [read_elan(folder / "clip.eaf", fps=25), read_elan(folder / "clip.eaf", tier="gloss")]


CUES = (
    "{}00:00:01{}000 --> 00:00:02{}000\nder <i>erste</i> Satz\nzweite Zeile\n\n2\n00:00:03{}000 --> 00:00:04{}500\nB\n"
)


def _subtitles(suffix: str) -> Reader:
    head, mark = ("1\n", ",") if suffix == ".srt" else ("WEBVTT\n\nNOTE x\n\n", ".")

    def read(folder: Path) -> Any:
        from signcl.data.annotation.subtitles import read_subtitles

        return read_subtitles(folder / f"clip{suffix}", fps=25)

    return Reader(_write(f"clip{suffix}", CUES.format(head, *[mark] * 4)), read, {f"clip{suffix}": "text"})


def _sentences(name: str, text: str, form: str) -> Reader:
    def read(folder: Path) -> Any:
        from signcl.evaluation.sentence_files import read_sentences

        return read_sentences(folder / name)

    return Reader(_write(name, text), read, {name: form})


def _predictions(folder: Path) -> Any:
    from signcl.evaluation.scoring import read_predictions

    return read_predictions(folder / "predictions.test.tsv")


def _against(folder: Path) -> Any:
    from signcl.density.against import read_scores

    return read_scores(folder / "scores.tsv")


def _vectors(folder: Path) -> Any:
    from signcl.data.text.word_vectors import read_vectors

    return [read_vectors(folder / "words.vec"), read_vectors(folder / "words.bin")]


def _make_vectors(folder: Path) -> None:
    (folder / "words.vec").write_text("3 4\n" + "".join(f"wort{i} 0.1 0.2 -0.3 {i}\n" for i in range(3)))
    rows = b"".join(f"wort{i} ".encode() + ROWS[i].tobytes() + b"\n" for i in range(3))
    (folder / "words.bin").write_bytes(b"3 4\n" + rows)


PHOENIX = "name|video|start|end|speaker|orth|translation\n" + "".join(
    f"clip{i}|clip{i}/1/*.png|-1|-1|Signer0{i}|JETZT WETTER|und nun das wetter {i} .\n" for i in range(3)
)


def _phoenix(folder: Path) -> None:
    path = folder / "annotations" / "manual" / "PHOENIX-2014-T.train.corpus.csv"
    path.parent.mkdir(parents=True)
    path.write_text(PHOENIX)


def _phoenix_pickle(folder: Path) -> None:
    import torch

    records = [{"name": f"train/clip{i}", "signer": "S", "gloss": "A B", "text": "ein satz .", "num_frames": 5,
                "sign": torch.ones(5, 4)} for i in range(2)]  # fmt: skip
    (folder / "phoenix14t.pami0.train").write_bytes(gzip.compress(pickle.dumps(records), mtime=0))


def _states(folder: Path) -> None:
    rows = "".join(f"clip{i}\t6\tA B\tein satz\t1 2 3 4 5 6\n" for i in range(2))
    (folder / "train.tsv").write_text("name\tnum_frames\tgloss\ttext\tpami0_gloss_hmm_state\n" + rows)
    (folder / "unit2gloss.json").write_text('{"0": "A", "1": "B", "2": ""}')


def _read_states(folder: Path) -> Any:
    from signcl.data.annotation.phoenix_states import samples

    return samples(folder, "train")


def _news(folder: Path) -> None:
    from signcl.data.corpora import csl_news

    path = folder / csl_news.LABELS
    path.write_text(json.dumps([{"video": f"v{i}_0.mp4", "text": "他 说", "pose": f"v{i}.pkl"} for i in range(3)]))
    for i in range(3):
        (folder / f"v{i}_0.mp4").touch()


def _asl(folder: Path) -> None:
    (folder / "youtube_asl_video_ids.txt").write_text("AAAAAAAAAA1\nAAAAAAAAAA2\n")
    (folder / "AAAAAAAAAA1.en.vtt").write_text(CUES.format("WEBVTT\n\n", *["."] * 4))
    (folder / "AAAAAAAAAA2.json").write_text(json.dumps([{"text": "a &amp; b", "start": 1.5, "duration": 2.0}]))
    for i in (1, 2):
        (folder / f"AAAAAAAAAA{i}.mp4").touch()


# -- arrays, key points, stores ----------------------------------------------------------------------------------------


def _points() -> np.ndarray:
    """COCO-WholeBody, one person. [T, K, 3]"""
    points = np.random.default_rng(0).uniform(10, 90, (3, 133, 3)).astype(np.float32)
    points[..., 2] = 0.9
    return points


def _pose(name: str, form: str, make: Callable[[Path], None], files: str = "") -> Reader:
    def read(folder: Path) -> Any:
        from signcl.data.poses import read_pose

        return read_pose(folder / name)

    return Reader(make, read, {files or name: form})


def _pose_file(folder: Path) -> None:
    from pose_format import Pose
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    from signcl.data.poses import LAYOUTS

    components = [
        PoseHeaderComponent(part.component, list(part.points or map(str, range(part.count))), [], [], "XYC")
        for part in LAYOUTS["openpose"].parts
    ]
    count = sum(len(component.points) for component in components)
    header = PoseHeader(0.1, PoseHeaderDimensions(100, 100, 0), components)
    points = np.ma.masked_array(np.random.default_rng(0).uniform(10, 90, (3, 1, count, 2)).astype(np.float32))
    with (folder / "clip.pose").open("wb") as file:
        Pose(header, NumPyPoseBody(25, points, np.ones(points.shape[:3], np.float32))).write(file)


def _openpose(folder: Path) -> None:
    (folder / "clip").mkdir()
    sizes = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
    for t in range(3):
        person = {f"{part}_keypoints_2d": [float(10 + k % 7 + t) for k in range(3 * n)] for part, n in sizes.items()}
        text = json.dumps({"version": 1.3, "people": [person]})
        (folder / "clip" / f"clip_{t:012}_keypoints.json").write_text(text)


def _mmpose(folder: Path) -> None:
    people = [
        [{"keypoints": frame[:, :2].tolist(), "keypoint_scores": frame[:, 2].tolist()}] for frame in _points()[:2]
    ]
    frames = [{"frame_id": t, "instances": instances} for t, instances in enumerate(people)]
    (folder / "clip.json").write_text(json.dumps({"meta_info": {}, "instance_info": frames}))


def _alphapose(folder: Path) -> None:
    entries = [{"image_id": f"{t}.jpg", "keypoints": frame.reshape(-1).tolist(), "score": 2.5, "idx": 0}
               for t, frame in enumerate(_points()[:2])]  # fmt: skip
    (folder / "clip.json").write_text(json.dumps(entries))


def _mska(folder: Path) -> None:
    record = {"name": "clip", "keypoints": list(_points()[:, None, :, :2]), "scores": list(_points()[:, None, :, 2])}
    (folder / "clip.pkl").write_bytes(pickle.dumps(record))


def _features(name: str, form: str, make: Callable[[Path], None]) -> Reader:
    def read(folder: Path) -> Any:
        from signcl.data.features import open_features

        source = open_features(folder / name)
        return [source[clip] for clip in source.names]

    return Reader(make, read, {name: form})


def _torch(value: Any, name: str, legacy: bool = False) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import torch

        torch.save(value(), folder / name, _use_new_zipfile_serialization=not legacy)

    return make


def _tensors() -> dict[str, Any]:
    import torch

    return {"model": {"a.weight": torch.ones(3, 4), "b": torch.arange(5)}, "epoch": 3, "scores": np.arange(3.0),
            "best": np.float64(2.5), "args": {"lr": 0.1, "names": ["x", ("y", None)]}}  # fmt: skip


def _checkpoint(name: str, form: str, make: Callable[[Path], None]) -> Reader:
    def read(folder: Path) -> Any:
        from signcl.systems.parts.checkpoints import read_data, tensors_of

        return tensors_of(read_data(folder / name))

    return Reader(make, read, {name: form}, finite=False)


def _make_safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a.weight": ROWS, "b": np.arange(5)}, str(folder / "w.safetensors"))


def _make_store(folder: Path) -> None:
    from signcl.data.features.store import write_store

    meta = {"stride": 4, "thinned": {"clip 1": (10, 5)}}
    write_store(folder / "store", [(f"clip {i}", ROWS + i) for i in range(3)], shard_samples=2, meta=meta)


def _read_store(folder: Path) -> Any:
    from signcl.data.features import open_features
    from signcl.data.features.store import FeatureStore

    store = FeatureStore(folder / "store")
    source = open_features(folder / "store")
    return [(store[name], source[name], store.mapped(name).shape, store.clock(name)) for name in store.names]


def _pickle(name: str, pack: bool) -> Reader:
    def make(folder: Path) -> None:
        data = pickle.dumps([{"name": "a", "n": 3, "x": ROWS, "s": {1, 2}, "t": ("b", None, 2.5)}] * 2, protocol=2)
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if pack else data)

    def read(folder: Path) -> Any:
        from signcl.data.pickles import load_pickle

        return load_pickle(folder / name)

    return Reader(make, read, {name: "gzip" if pack else "bytes"}, exact=(name,) if pack else (), finite=False)


# -- recipes and runs --------------------------------------------------------------------------------------------------


def _make_recipe(folder: Path) -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    for name in ("synthetic", "phoenix14t", "how2sign"):
        shutil.copy(min((recipes / name).glob("*.yaml")), folder / f"{name}.yaml")


def _read_recipe(folder: Path) -> Any:
    from signcl.training.recipe import load_recipe

    return [vars(load_recipe(path)) for path in sorted(folder.glob("*.yaml"))]


def _make_run(folder: Path) -> None:
    from signcl.evaluation import scoring
    from signcl.testing import SMALL, write_tiny_corpus
    from signcl.training import fit
    from signcl.training.recipe import recipe_from_dict

    corpus = write_tiny_corpus(folder.parent / f"{folder.name}-corpus")
    recipe = recipe_from_dict({
        "stage": "finetune", "out": str(folder / "run"), "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": "gfslt", "visual": "feature_mlp", "visual_dim": 16,
                  **{key: value for key, value in SMALL.items() if "text" not in key}},
        "loss": {"weights": {"translation": 1.0}},
        "train": {"epochs": 1, "max_steps": 1, "batch_size": 4, "device": "cpu"},
        "decode": {"beams": 1, "max_new_tokens": 4},
    })  # fmt: skip
    fit(recipe, progress=False)
    scoring.evaluate(folder / "run", "test", device="cpu", bootstrap=10, progress=False)
    density = {"sdr": 80.0, "interval": [70.0, 90.0], "shuffled": 99.0, "intra": 1.0, "inter": 2.0, "feature_norm": 3.0,
               "instances": 6, "glosses": 2, "glosses_left_out": 0, "notes": ["n"], "nearest": {"auc": 0.5},
               "made": {"frame": "centre", "tap": "features", "distance": "euclidean", "inter": "gloss"}}  # fmt: skip
    points = [{"x": i, "y": i / 2, "gloss": "AB"[i % 2], "clip": "c", "start": i, "stop": i + 1} for i in range(6)]
    run = folder / "run"
    (run / "density.test.json").write_text(json.dumps(density))
    (run / "density.test.points.json").write_text(json.dumps(points))
    (run / "density.test.csv").write_text("gloss,count,intra,inter,sdr\nA,3,1,2,0.5\nB,3,1.5,2,0.75\n")
    for useless in (*run.glob("events.*"), *run.glob("state/*")):
        useless.unlink()


def _same_run(folder: Path) -> None:
    """Copies the run of the reader `run` if it exists, because training takes longer than a hundred cases."""
    made = folder.parent / "run"
    if made.is_dir():
        shutil.copytree(made, folder, dirs_exist_ok=True)
    else:
        _make_run(folder)


def _read_run(folder: Path) -> Any:
    from signcl.training.runs import load_run

    run = load_run(folder / "run")
    return [run.tokenizer.vocab_size, *[value.sum() for value in run.model.state_dict().values()]]


def _report(folder: Path) -> Any:
    from signcl.pages.report import report

    report([folder / "run"], out=folder / "page.html")
    page = (folder / "page.html").read_text(encoding="utf-8")
    (folder / "page.html").unlink()
    return len(page) > 1000


SENTENCES = [f"das ist satz {i}" for i in range(3)]

READERS: dict[str, Reader] = {
    "mp4": _video(".mp4", "libx264", "yuv420p"),
    "webm": _video(".webm", "libvpx", "yuv420p"),
    "mkv": _video(".mkv", "libx264", "yuv444p"),
    "avi": _video(".avi", "mjpeg", "yuvj420p"),
    "gif": _video(".gif", "gif", "rgb8"),
    "png": _pictures(".png"),
    "jpg": _pictures(".jpg"),
    "pack-mp4": _pack("mp4"),
    "pack-jpeg": _pack("jpeg"),
    "pack-uint8": _pack("uint8"),
    "table": Reader(_folder_corpus, _samples("folder"), {"train.tsv": "table"}),
    "phoenix14t": Reader(_phoenix, _samples("phoenix14t"), {"annotations/manual/*": "table"}),
    "phoenix14t-pickle": Reader(
        _phoenix_pickle,
        _samples("phoenix14t"),
        {"phoenix14t.pami0.train": "gzip"},
        exact=("phoenix14t.pami0.train",),
        finite=False,  # features are checked later, when a clip is read
    ),
    "phoenix-states": Reader(_states, _read_states, {"train.tsv": "table", "unit2gloss.json": "json"}),
    "csl-news": Reader(_news, _samples("csl_news"), {"*.json": "json"}),
    "youtube-asl": Reader(_asl, _samples("youtube_asl"), {"*.txt": "text", "*.vtt": "text", "*.json": "json"}),
    "spans": Reader(
        _write("spans.tsv", "name\tgloss\tstart\tstop\tscore\nclip0\tA\t0\t10\t-0.5\nclip1\tB\t3\t9\t-1.5\n"),
        _spans,
        {"spans.tsv": "table"},
    ),
    "choices": Reader(_write("a.choices.jsonl", CHOICES), _choices, {"a.choices.jsonl": "jsonl"}),
    "elan": Reader(_elan, _read_elan, {"clip.eaf": "xml"}),
    "srt": _subtitles(".srt"),
    "vtt": _subtitles(".vtt"),
    "pose": _pose("clip.pose", "bytes", _pose_file),
    "openpose": _pose("clip", "json", _openpose, "clip/*"),
    "mmpose": _pose("clip.json", "json", _mmpose),
    "alphapose": _pose("clip.json", "json", _alphapose),
    "pose-pickle": _pose("clip.pkl", "bytes", _mska),
    "pose-npy": _pose("clip.npy", "npy", lambda folder: np.save(folder / "clip.npy", _points())),
    "pose-npz": _pose("clip.npz", "zip", lambda folder: np.savez(folder / "clip.npz", keypoints=_points())),
    "npy": _features("f.npy", "npy", lambda folder: np.save(folder / "f.npy", ROWS)),
    "npz": _features("f.npz", "zip", lambda folder: np.savez(folder / "f.npz", a=ROWS, b=ROWS + 1)),
    "features-pickle": _features(
        "f.pkl", "bytes", lambda folder: (folder / "f.pkl").write_bytes(pickle.dumps({"a": ROWS, "b": ROWS})) and None
    ),
    "features-pt": _features("f.pt", "zip", _torch(lambda: {"a": _torch_rows(), "b": _torch_rows()}, "f.pt")),
    "store": Reader(_make_store, _read_store, {"store/index.json": "json", "store/*.safetensors": "safetensors"}),
    "pickle": _pickle("data.pkl", pack=False),
    "pickle-gzip": _pickle("data.pkl.gz", pack=True),
    "checkpoint": _checkpoint("w.pt", "zip", _torch(_tensors, "w.pt")),
    "checkpoint-legacy": _checkpoint("w.pth", "bytes", _torch(_tensors, "w.pth", legacy=True)),
    "safetensors": _checkpoint("w.safetensors", "safetensors", _make_safetensors),
    "recipe": Reader(_make_recipe, _read_recipe, {"*.yaml": "yaml"}, slow=True),
    "sentences-jsonl": _sentences(
        "a.jsonl", "".join(json.dumps({"id": f"c{i}", "text": s}) + "\n" for i, s in enumerate(SENTENCES)), "jsonl"
    ),
    "sentences-json": _sentences("a.json", json.dumps({f"c{i}": s for i, s in enumerate(SENTENCES)}), "json"),
    "sentences-csv": _sentences(
        "a.csv", "id,text\n" + "".join(f'c{i},"{s}, ""x"""\n' for i, s in enumerate(SENTENCES)), "table"
    ),
    "sentences-txt": _sentences("a.txt", "".join(f"c{i}|{s}\n" for i, s in enumerate(SENTENCES)), "text"),
    "predictions": Reader(
        _write("predictions.test.tsv", "name\treference\thypothesis\nc0\tA B\tA\nc1\tC\tC D\n"),
        _predictions,
        {"predictions.test.tsv": "table"},
    ),
    "gloss-scores": Reader(
        _write("scores.tsv", "gloss\tscore\tfrequency\nA\t90.5\t3\nB\t10\t4\n"), _against, {"scores.tsv": "table"}
    ),
    "word-vectors": Reader(_make_vectors, _vectors, {"words.vec": "text", "words.bin": "bytes"}),
    "run": Reader(
        _make_run,
        _read_run,
        {
            **{"run/recipe.yaml": "yaml", "run/card.json": "json", "run/tokenizer.json": "json"},
            **{"run/manifest.json": "json", "run/model.safetensors": "safetensors"},
        },
        exact=("run/model.safetensors", "run/tokenizer.json"),
        slow=True,
    ),
    "report": Reader(
        _same_run,
        _report,
        {
            **{"run/scores.json": "json", "run/metrics.jsonl": "jsonl", "run/card.json": "json"},
            **{"run/predictions.test.tsv": "table", "run/density.test.json": "json", "run/density.test.csv": "table"},
            **{"run/density.test.points.json": "json", "run/recipe.yaml": "yaml"},
        },
        slow=True,
    ),
}


def _torch_rows() -> Any:
    import torch

    return torch.from_numpy(ROWS)
