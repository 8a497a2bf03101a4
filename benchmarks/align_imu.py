"""Forced alignment on real signing: train a small CTC recogniser of Persian number signs without spans, align signs,
and compare with the true boundaries. Takes two to four minutes on one CPU core.

    python benchmarks/align_imu.py DATA/imu-number-signs
"""

import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from signcl.data.batch import Span
from signcl.data.corpora.imu_numbers import samples
from signcl.density import pool_spans, sign_density_ratio
from signcl.density.forced_align import alignment_quality, forced_align, frame_spans, peak_frames
from signcl.metrics import wer

EPOCHS, STRIDE = 25, 2


def steps(frames: torch.Tensor) -> torch.Tensor:
    return (frames - 1) // STRIDE + 1


class Recogniser(nn.Module):
    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.conv = nn.Conv1d(36, width, 9, stride=STRIDE, padding=4)  # step s is centred on frame 2s
        self.recurrent = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = self.drop(F.relu(self.conv(features.mT)).mT)
        packed = nn.utils.rnn.pack_padded_sequence(x, steps(lengths), batch_first=True, enforce_sorted=False)
        x, _ = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.head(self.drop(x)).log_softmax(-1)


def main(root: Path, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    train, test = samples(root, "train"), samples(root, "test")
    glosses = sorted({gloss for sample in train for gloss in sample.gloss}, key=int)
    number = {gloss: place for place, gloss in enumerate(glosses, start=1)}
    model = Recogniser(len(glosses) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        model.train()
        for places in torch.randperm(len(train)).split(16):
            part = [train[int(place)] for place in places]
            lengths = torch.tensor([len(sample.features) for sample in part])
            features = nn.utils.rnn.pad_sequence([torch.from_numpy(s.features) for s in part], batch_first=True)
            target = torch.tensor([number[gloss] for sample in part for gloss in sample.gloss])
            said = model(features, lengths).transpose(0, 1)
            loss = F.ctc_loss(said, target, steps(lengths), torch.tensor([len(sample.gloss) for sample in part]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"seed {seed}: trained in {time.perf_counter() - started:.0f} s, loss of the last batch {loss.item():.3f}")
    model.eval()
    with torch.no_grad():
        said = [model(torch.from_numpy(s.features)[None], torch.tensor([len(s.features)]))[0] for s in test]
    spelled = [torch.unique_consecutive(row.argmax(-1)) for row in said]
    names = ["", *glosses]
    scored = wer([" ".join(names[k] for k in row.tolist() if k) for row in spelled], [" ".join(s.gloss) for s in test])
    print(f"test WER {scored.wer:.1f} %, {len(test)} clips")
    truth = [[Span(number[str(span.token)], span.start, span.stop) for span in s.spans] for s in test]
    lengths = [len(s.features) for s in test]
    print(f"{'fill':8} {'boundary error':>15} {'median':>7} {'within 6':>9} {'sign frames':>12} {'all frames':>11}")
    aligned = {}
    for fill in ("label", "nearest"):
        found = [forced_align(row, [number[g] for g in s.gloss], fill=fill) for row, s in zip(said, test)]
        aligned[fill] = found
        frames = [frame_spans(spans, n, stride=STRIDE, first_centre=0.5) for spans, n in zip(found, lengths)]
        q = alignment_quality(frames, truth, lengths, tolerance=6)
        cells = (
            f"{q.boundary_error:15.1f} {q.boundary_median:7.1f} {100 * q.within:8.1f}% {100 * q.sign_accuracy:11.1f}%"
        )
        print(f"{fill:8} {cells} {100 * q.frame_accuracy:10.1f}%")
    ids = torch.tensor([span.token for spans in truth for span in spans])
    features = [torch.from_numpy(s.features) for s in test]
    _, dense = ids.unique(return_inverse=True)
    spans = [frame_spans(found, n, stride=STRIDE, first_centre=0.5) for found, n in zip(aligned["nearest"], lengths)]
    for kind, places in (("true", truth), ("aligned", spans)):
        for choice in ("centre", "mean", "medoid"):
            rows = torch.cat([pool_spans(x, place, choice) for x, place in zip(features, places)])
            print(
                f"SDR of the raw readings, {kind} spans, {choice}: {100 * sign_density_ratio(rows, dense).mean:.1f} %"
            )
    peaks = [torch.tensor(peak_frames(row, found)) * STRIDE for row, found in zip(said, aligned["label"])]
    rows = torch.cat([x[peak] for x, peak in zip(features, peaks)])
    print(f"SDR of the raw readings, aligned spans, peak: {100 * sign_density_ratio(rows, dense).mean:.1f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
