"""Several processes: contrast and similarity over all ranks have the gradient of one batch, with unequal shares too."""

import os
import subprocess
import sys

import pytest
import torch

from signcl.losses import clip_loss, sentence_similarity_loss

SCRIPT = """
import sys, torch
from lightning_fabric import Fabric
from signcl.losses import clip_loss, sentence_similarity_loss
from signcl.training.optimizer import gather_rows

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()

class Towers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.video, self.text = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

    def forward(self, clips, sentences, ids):
        rows = [gather_rows(fabric, part) for part in (self.video(clips), self.text(sentences), ids)]
        return clip_loss(rows[0], rows[1], torch.tensor(1.0), sentence_ids=rows[2])

class Alike(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.clips = torch.nn.Linear(4, 3)

    def forward(self, clips, sentences):
        return sentence_similarity_loss(gather_rows(fabric, self.clips(clips)), gather_rows(fabric, sentences))

torch.manual_seed(0)
towers, alike = Towers(), Alike()
data = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 4])
own = slice(0, 3) if fabric.global_rank == 0 else slice(3, 5)
wrapped = fabric.setup_module(towers)
fabric.backward(wrapped(*(part[own] for part in data)))
own = slice(0, 4) if fabric.global_rank == 0 else slice(4, 5)  # one clip alone still has pairs with the others
also = fabric.setup_module(alike)
fabric.backward(also(data[0][own], data[1][own]))
if fabric.global_rank == 0:
    torch.save({name: p.grad for part in (towers, alike) for name, p in part.named_parameters()}, sys.argv[1])
"""


@pytest.mark.slow
def test_gradients_over_two_ranks_are_those_of_one_batch(tmp_path):
    script, found = tmp_path / "ranks.py", tmp_path / "gradients.pt"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(found)], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    video, text, alike = (torch.nn.Linear(4, 3) for _ in range(3))
    clips, sentences, ids = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 4])
    clip_loss(video(clips), text(sentences), torch.tensor(1.0), sentence_ids=ids).backward()
    sentence_similarity_loss(alike(clips), sentences).backward()
    gradients = torch.load(found)
    for name, tower in (("video", video), ("text", text), ("clips", alike)):
        for part in ("weight", "bias"):
            torch.testing.assert_close(gradients[f"{name}.{part}"], getattr(tower, part).grad)
