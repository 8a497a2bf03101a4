"""Several processes: contrast and similarity over all ranks have the gradient of one batch, with unequal shares too."""

import json
import os

import pytest
import torch
from fresh_process import PROCESSES, free_port, place_of_rank, run_on_ranks
from systems import Case, recipe_of

from signcl.losses import clip_loss, sentence_similarity_loss
from signcl.training import run_folder
from signcl.training.loop import Loop
from signcl.training.recipe import recipe_from_dict, recipe_to_dict

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


def test_gradients_over_two_ranks_are_those_of_one_batch(tmp_path):
    found = tmp_path / "gradients.pt"
    run_on_ranks(SCRIPT, found)
    torch.manual_seed(0)
    video, text, alike = (torch.nn.Linear(4, 3) for _ in range(3))
    clips, sentences, ids = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 4])
    clip_loss(video(clips), text(sentences), torch.tensor(1.0), sentence_ids=ids).backward()
    sentence_similarity_loss(alike(clips), sentences).backward()
    gradients = torch.load(found)
    for name, tower in (("video", video), ("text", text), ("clips", alike)):
        for part in ("weight", "bias"):
            torch.testing.assert_close(gradients[f"{name}.{part}"], getattr(tower, part).grad)


STILL = {"freeze": ["visual.standardize", "encoder.embedding.norm", "decoder.embedding.norm"]}
"""Batch norms that see each rank's share by itself."""


def three_steps(rank, port, given, shares, folder, resumed):
    """What one process does, started as by torchrun: steps on its clips, a scoring, the state."""
    ranks = len(shares)
    if ranks > 1:
        os.environ.update(place_of_rank(rank, ranks, port))
    torch.set_num_threads(1)
    state = None if resumed is None else run_folder.load_state(resumed)
    loop = Loop(recipe_from_dict(given), folder, state, progress=False)
    loop.started, loop._log = 0.0, lambda *_: None
    for _ in range(3):
        loop._train_step([loop.material.train[clips].batch for clips in shares[rank]])
        loop.step += 1
    scores = loop._score()  # ranks have other numbers of batches
    loop._save()
    tensors = loop._whole(loop.model.state_dict())  # every rank needs to ask
    if rank == 0:
        run_folder.save_weights(folder, loop.model, tensors if loop.sharded else None)
        (folder / "scores.json").write_text(json.dumps(scores))


def trained(corpora, folder, shares, resumed=None, **train):
    """The state after three steps on these clips of each rank, and the dev scores."""
    case = Case("slt", STILL, {"translation": 1.0, "recognition": 0.1})
    settings = {"optimizer": "sgd", "lr": 0.01, "clip_norm": 1.0, "devices": len(shares), "batch_size": 1, **train}
    given = recipe_to_dict(recipe_of(case, corpora, folder, **settings))
    folder.mkdir()
    port = free_port()
    started = [
        PROCESSES.Process(target=three_steps, args=(rank, port, given, shares, folder, resumed))
        for rank in range(len(shares))
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    return run_folder.load_state(folder), json.loads((folder / "scores.json").read_text())


def assert_same(state, expected):
    for name, value in expected["model"].items():
        torch.testing.assert_close(state["model"][name], value, rtol=1e-5, atol=1e-5)
    for number, moments in expected["optimizer"]["state"].items():
        for name, value in moments.items():
            torch.testing.assert_close(state["optimizer"]["state"][number][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_ranks_are_one_big_batch_whole_or_sharded(corpora, tmp_path):
    """Ranks hold other numbers of clips, tokens and glosses, in accumulated batches of unequal size."""
    all_clips, shares = [[[0, 1, 2, 3, 4, 5]]], [[[0], [1, 2]], [[3, 4], [5]]]
    one, scores = trained(corpora, tmp_path / "one", all_clips)
    for strategy in ("ddp", "fsdp"):
        two, scores_of_two = trained(corpora, tmp_path / strategy, shares, strategy=strategy)
        assert_same(two, one)
        assert scores_of_two["loss"] == pytest.approx(scores["loss"], rel=1e-5)
    files = [run_folder.read_weights(tmp_path / name) for name in ("one", "fsdp")]
    assert files[0].keys() == files[1].keys()
    # a sharded run goes on in one process, and the other way round
    after, _ = trained(corpora, tmp_path / "one-on", all_clips, tmp_path / "fsdp")
    sharded, _ = trained(corpora, tmp_path / "fsdp-on", shares, tmp_path / "one", strategy="fsdp")
    assert_same(sharded, after)
