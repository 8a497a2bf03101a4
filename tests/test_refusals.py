"""Steps with non-finite gradients are skipped: no bit changes, and the host does not wait for the device."""

import json
import math
import os
import sys

import pytest
import torch
from fresh_process import PROCESSES, free_port, place_of_rank
from systems import Case, recipe_of
from torch.utils._python_dispatch import TorchDispatchMode

from signcl.systems.gfslt import GFSLT
from signcl.systems.slt import SLT
from signcl.systems.terms import Term
from signcl.systems.terms.shared import translation
from signcl.training import run_folder
from signcl.training.loop import Loop
from signcl.training.recipe import recipe_from_dict, recipe_to_dict
from signcl.training.refusals import MOST_IN_A_ROW, carried

PARTS = {"parts": {"decoder": {"modules": ["mbart.model.decoder.layers"], "optimizer": "sgd", "lr": 0.01}}}
KINDS = pytest.mark.parametrize(
    "train",
    [{"optimizer": "adam"}, {"optimizer": "adamw"}, {"optimizer": "sgd"}, PARTS, {"clip_norm": None}, {"accumulate": 2},
     {"precision": "bf16-mixed"}],
    ids=str,
)  # fmt: skip


class Poison:
    """A term whose gradient is NaN for batches that hold a clip of these names."""

    def __init__(self, *names: str, value: float = math.nan) -> None:
        self.names, self.value = names, value

    def __call__(self, outputs, batch, context):
        bad = any(name.startswith(self.names) for name in batch.names) if self.names else False
        return translation(outputs, batch, context) * (self.value if bad else 1.0)


def loop_of(corpora, folder, poison, monkeypatch, **train) -> Loop:
    monkeypatch.setattr(
        GFSLT, "terms", {**GFSLT.terms, "translation": Term(poison, counts=GFSLT.terms["translation"].counts)}
    )
    frozen = {} if "parts" in train else {"freeze": ["mbart.model.encoder.layers.0"]}
    case = Case("gfslt", frozen, {"translation": 1.0})
    made = Loop(recipe_of(case, corpora, folder, **train), folder, None, progress=False)
    made.started = 0.0
    made._log = lambda *_: None  # the record is opened by `run`
    return made


def everything(loop):
    """Weights, buffers and the optimizer's state."""
    optimizer = loop.optimizer.state_dict()
    parts = optimizer.get("parts", [optimizer])
    moments = {
        f"{i} {n} {k}": v for i, part in enumerate(parts) for n, s in part["state"].items() for k, v in s.items()
    }
    return {k: v.clone() for k, v in (loop.model.state_dict() | moments).items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [k for k in expected if not torch.equal(found[k], expected[k])] == []


def steps(loop, groups):
    for group in groups:
        loop._train_step([loop.material.train[clips].batch for clips in group])
        loop.step += 1


GOOD, BAD, ALSO = [0, 1], [2, 3], [4, 5]


@KINDS
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_poisoned_step_moves_nothing_and_the_run_is_as_if_it_had_not_been(
    corpora, tmp_path, monkeypatch, train, value
):
    micro = train.get("accumulate", 1)
    loop = loop_of(corpora, tmp_path / "a", Poison("train2", value=value), monkeypatch, **train)
    steps(loop, [[GOOD] * micro])
    before = everything(loop)
    steps(loop, [[GOOD] * (micro - 1) + [BAD]])
    assert_equal(everything(loop), before)  # batch norms too, which have seen the clips
    steps(loop, [[ALSO] * micro])
    loop.refusals.look()
    assert (loop.refusals.count, loop.refusals.in_a_row) == (1, 0)

    other = loop_of(corpora, tmp_path / "b", Poison(), monkeypatch, **train)
    steps(other, [[GOOD] * micro])
    other.step += 1  # the schedule and the seeds of a step go on
    steps(other, [[ALSO] * micro])
    assert_equal(everything(loop), everything(other))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_refused_first_step_is_no_step(corpora, tmp_path, monkeypatch, optimizer):
    # torch's fused sgd leaves the momentum of a refused first step unset: whatever memory held would be trained on
    loop = loop_of(corpora, tmp_path / "a", Poison("train2"), monkeypatch, optimizer=optimizer)
    other = loop_of(corpora, tmp_path / "b", Poison(), monkeypatch, optimizer=optimizer)
    monkeypatch.setattr(torch, "empty_like", lambda like, **_: torch.full_like(like, 1e6))
    steps(loop, [[BAD]])
    other.step += 1
    loop._seed, other._seed = (lambda: torch.manual_seed(0)), (lambda: torch.manual_seed(0))
    for one in (loop, other):
        steps(one, [[GOOD], [ALSO]])
    # the poison of `other` is that of both: neither batch has the clip
    assert_equal(everything(loop), everything(other))


class Reads(TorchDispatchMode):
    """Counts values that the host reads."""

    number = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.number += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("train", [{"optimizer": "adam"}, {"optimizer": "sgd"}, PARTS, {"accumulate": 2}], ids=str)
def test_the_usual_step_reads_nothing_from_the_device(corpora, tmp_path, monkeypatch, train):
    loop = loop_of(corpora, tmp_path / "a", Poison("train2"), monkeypatch, clip_norm=1.0, **train)
    loop.step = 1  # the first step is logged
    groups = [[batch] * train.get("accumulate", 1) for batch in (GOOD, BAD, ALSO)]
    plain = {
        name: getattr(torch.Tensor, name) for name in ("tolist", "numpy", "cpu", "__float__", "__bool__", "__int__")
    }

    def counted(name):
        def method(tensor, *arguments, **options):
            caller = sys._getframe(1).f_code.co_filename
            if not caller.endswith(("losses/signcl.py", "losses/lengths.py")):  # they look at numbers of the host only
                reads.append((name, caller))
            return plain[name](tensor, *arguments, **options)

        return method

    for name in plain:
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    reads = []
    batches = [[loop.material.train[clips].batch for clips in group] for group in groups]
    reads.clear()
    with Reads() as mode:
        for group in batches:
            loop._train_step(group)
            loop.step += 1
    assert (mode.number, reads) == (0, [])
    loop.refusals.look()
    assert loop.refusals.count == 1


def test_which_steps_were_left_out_is_said_and_kept(corpora, tmp_path, monkeypatch, capsys):
    loop = loop_of(corpora, tmp_path / "run", Poison("train2"), monkeypatch, batch_size=2, epochs=2, max_steps=6)
    loop.run()
    said = capsys.readouterr().err
    assert "left out: the gradient is not finite; losses" in said
    assert "translation nan" in said
    assert "train2" in said
    assert "2 of 6 steps had non-finite gradients and were skipped" in said
    assert json.loads((tmp_path / "run/card.json").read_text())["refused_steps"] == 2
    assert run_folder.load_state(tmp_path / "run")["refusals"] == {"count": 2, "in_a_row": 0}
    again = Loop(loop.recipe, tmp_path / "run", run_folder.load_state(tmp_path / "run"), progress=False)
    assert again.refusals.count == 2


def test_a_run_that_learns_nothing_stops_in_one_line_and_keeps_its_weights(corpora, tmp_path, monkeypatch):
    loop = loop_of(corpora, tmp_path / "run", Poison("train"), monkeypatch, batch_size=2, epochs=50)
    before = everything(loop)
    with pytest.raises(ValueError, match=r"the gradient was not finite in 4 steps in a row.*lower train\.lr"):
        loop.run()  # an epoch has 4 steps: no clip helps
    assert_equal({k: v for k, v in everything(loop).items() if k in before}, before)
    assert not (tmp_path / "run/model.safetensors").exists()
    loop.refusals.scaled, loop.refusals.in_a_row = True, 4  # float16 looks for its loss scale
    loop.refusals.check(3, 100)
    loop.refusals.in_a_row = MOST_IN_A_ROW
    with pytest.raises(ValueError, match="in 20 steps in a row"):
        loop.refusals.check(3, 100)


def test_a_loss_that_is_infinite_has_no_finite_gradient():
    weight = torch.tensor([1.5, -2.0], requires_grad=True)
    (plain,) = torch.autograd.grad((weight**3).sum(), weight)
    (same,) = torch.autograd.grad(carried((weight**3).sum()), weight)
    assert torch.equal(plain, same)
    (gone,) = torch.autograd.grad(carried(weight.sum() + math.inf), weight)
    assert gone.isnan().all()


def on_a_rank(rank, port, given, folder):
    """A good, a poisoned and a good step; the poisoned clip is rank 1's alone."""
    os.environ.update(place_of_rank(rank, 2, port))
    torch.set_num_threads(1)
    poison = Term(Poison("train2"), counts=SLT.terms["translation"].counts)
    SLT.terms = {**SLT.terms, "translation": poison}
    loop = Loop(recipe_from_dict(given), folder, None, progress=False)
    loop.started, loop._log = 0.0, lambda *_: None
    own = {0: ([0], [1], [0]), 1: ([3], [2], [4])}[rank]
    found = []
    for clips in own:
        steps(loop, [[clips]])
        found.append(loop._whole(everything(loop)))
    loop.refusals.look()
    torch.save((found, loop.refusals.count), folder / f"rank{rank}.pt")


@pytest.mark.parametrize(("strategy", "optimizer"), [("ddp", "adamw"), ("fsdp", "adamw"), ("fsdp", "sgd")])
def test_two_ranks_leave_the_same_step_out(corpora, tmp_path, strategy, optimizer, capfd):
    still = {"freeze": ["visual.standardize", "encoder.embedding.norm", "decoder.embedding.norm"]}
    case, train = Case("slt", still, {"translation": 1.0}), {"strategy": strategy, "optimizer": optimizer, "devices": 2}
    given, port = recipe_to_dict(recipe_of(case, corpora, tmp_path, batch_size=1, **train)), free_port()
    started = [PROCESSES.Process(target=on_a_rank, args=(rank, port, given, tmp_path)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    (first, count), (second, other) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert (count, other) == (1, 1)
    for one, two in zip(first, second):
        assert_equal(one, two)
    assert_equal(first[1], first[0])
    assert [k for k in first[1] if not torch.equal(first[1][k], first[2][k])]
