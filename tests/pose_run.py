"""A tiny run trained on key points like those of `signcl pose`."""

import json
from pathlib import Path

import numpy as np

from signcl import fit
from signcl.data.pose_estimation import Extractor, pose_bytes
from signcl.data.pose_estimation.pose_worker import Holistic
from signcl.training.recipe import recipe_from_dict

EXTRACTOR = Extractor("mediapipe-holistic", "0.10.21", dict(Holistic.SETTINGS), 5)


def some_points(frames: int = 12, seed: int = 0) -> np.ndarray:
    """A body with face and hands that moves across a 64 x 48 picture. [T, 543, 4]"""
    random = np.random.default_rng(seed)
    points = np.ones((frames, 543, 4), np.float32)
    points[..., :2] = random.uniform(10, 40, (1, 543, 2)) + np.arange(frames)[:, None, None]
    points[..., 2] = random.normal(size=(1, 543))
    points[:, (11, 12), :2] = np.array([[40, 20], [20, 20]]) + np.arange(frames)[:, None, None]
    return points


def make_pose_run(place: Path, extractor: Extractor = EXTRACTOR, fps: float = 25.0) -> Path:
    """Trains the run on `place/poses` and returns its folder; its card names the extractor."""
    poses = place / "poses"
    poses.mkdir(parents=True)
    (poses / "pose.json").write_text(json.dumps({"extractor": extractor.described(), "fps": None}))
    for n, name in enumerate("ab"):
        (poses / f"{name}.pose").write_bytes(pose_bytes(some_points(seed=n), 48, 64, fps))
    for split in ("train", "dev", "test"):
        rows = [f"{name}\t{name}.pose\t{text}" for name, text in (("a", "regen am abend"), ("b", "sonne"))]
        (poses / f"{split}.tsv").write_text("\n".join(["name\tpath\ttext", *rows]) + "\n")
    sizes = {"conv_width": 16, "width": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "ffn": 16}
    return fit(recipe_from_dict({
        "out": str(place / "run"), "corpus": {"name": "folder", "root": str(poses)},
        "input": {"pose_confidence": True},
        "model": {"name": "gfslt", "visual": "pose_stream", "visual_dim": 8, **sizes},
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu"}, "decode": {"max_new_tokens": 4},
    }), progress=False)  # fmt: skip
