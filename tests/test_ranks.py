"""Several processes: the contrast over all ranks has the gradient of one big batch, also with unequal shares."""

import os
import subprocess
import sys

import pytest
import torch

from signcl.losses import clip_loss

SCRIPT = """
import sys, torch
from lightning_fabric import Fabric
from signcl.losses import clip_loss
from signcl.train.optimise import gather_rows

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

torch.manual_seed(0)
towers = Towers()
data = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 4])
own = slice(0, 3) if fabric.global_rank == 0 else slice(3, 5)
wrapped = fabric.setup_module(towers)
fabric.backward(wrapped(*(part[own] for part in data)))
if fabric.global_rank == 0:
    torch.save({name: p.grad for name, p in towers.named_parameters()}, sys.argv[1])
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
    video, text = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    clips, sentences, ids = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 4])
    clip_loss(video(clips), text(sentences), torch.tensor(1.0), sentence_ids=ids).backward()
    gradients = torch.load(found)
    for name, tower in (("video", video), ("text", text)):
        for part in ("weight", "bias"):
            torch.testing.assert_close(gradients[f"{name}.{part}"], getattr(tower, part).grad)
