"""Write real inputs for `signcl density` in general file formats: arrays, spans, labels.

    python benchmarks/density_inputs.py DATA OUT

    OUT/imu.npz + imu-spans.tsv    continuous Persian numbers, sensor readings [T, 36], true spans (test split)
    OUT/skels.npz                           15 PHOENIX-2014T sentences, skeletons [T, 150], for --phoenix-alignments
    OUT/digits-pixels.npy + digits.txt      2,062 photos of ten digit signs, 32 x 32 RGB, PCA to 128
    OUT/digits-resnet.npy                   the same photos through a ResNet-18 with RANDOM weights, pooled [512]

The commands that measure them are in docs/density.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from label_free import principal, skeletons

from signcl.data.annotation.span_table import write_spans
from signcl.data.corpora import imu_numbers


def digits(root: Path, out: Path) -> None:
    import cv2
    from transformers import ResNetConfig, ResNetModel

    photos, labels = [], []
    for path in sorted((root / "digits-images" / "Dataset").glob("*/*.JPG")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        photos.append(cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA))
        labels.append(path.parent.name)
    (out / "digits.txt").write_text("\n".join(labels) + "\n")
    small = np.array([cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA).ravel() for p in photos], dtype=np.float32)
    mean, axes = principal([small], 128)
    np.save(out / "digits-pixels.npy", (small - mean) @ axes)
    torch.manual_seed(0)
    sizes = {"depths": [2, 2, 2, 2], "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
    model = ResNetModel(
        ResNetConfig(**sizes, embedding_size=64)
    ).train()  # batch statistics, since random weights have no running ones
    rows = []
    with torch.no_grad():
        for part in torch.from_numpy(np.array(photos)).permute(0, 3, 1, 2).split(256):
            rows.append(model(part.float() / 255 - 0.5).pooler_output.flatten(1))
    np.save(out / "digits-resnet.npy", torch.cat(rows).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    samples = imu_numbers.samples(options.root / "imu-number-signs", "test")
    np.savez(options.out / "imu.npz", **{s.name: np.asarray(s.features) for s in samples})
    write_spans(options.out / "imu-spans.tsv", {s.name: s.spans for s in samples})
    np.savez(options.out / "skels.npz", **skeletons(options.root / "phoenix14t-skels15"))
    digits(options.root, options.out)


if __name__ == "__main__":
    main()
