"""Parts of a model that train by an optimizer of their own (`train.parts`), as the released text decoder does."""

import math

import pytest
import torch
from test_train import corpus, recipe, weights

from signcl.training import fit, loop
from signcl.training.optimizer import PartOptimizers, drop_waiting, learning_rate, make_optimizer, set_rates
from signcl.training.recipe import PartRecipe, TrainRecipe, recipe_from_dict, recipe_to_dict

__all__ = ["corpus"]  # the fixture of test_train
DECODER = {"modules": ["decoder", "words", "lm_head"], "lr": 0.01, "betas": [0.9, 0.98], "weight_decay": 0.0}
SGD = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant", "weight_decay": 0.0}


def two_layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))


def train_of(**changes):
    part = PartRecipe(modules=["1"], lr=0.01, betas=(0.9, 0.98), weight_decay=0.0, **changes)
    return TrainRecipe(**SGD, parts={"last": part})


def test_each_part_moves_as_its_own_optimizer_alone_would_move_it():
    # Beside: the same two layers, the first under SGD, the second under AdamW, which sees every third gradient only.
    model, other, train = two_layers(), two_layers(), train_of(every=3)
    optimizer = make_optimizer(model, train)
    assert isinstance(optimizer, PartOptimizers)
    sgd = torch.optim.SGD(other[0].parameters(), lr=0.1, momentum=0.9, nesterov=True)
    adamw = torch.optim.AdamW(other[1].parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    inputs = torch.randn(7, 4, 3)
    for step, x in enumerate(inputs):
        for net in (model, other):
            net(x).square().sum().backward()
        set_rates(optimizer, step, len(inputs), train, 1.0)
        drop_waiting(optimizer, step, train)
        assert (model[1].weight.grad is None) == (step % 3 > 0)
        optimizer.step()
        optimizer.zero_grad()
        sgd.step()
        if step % 3 == 0:
            adamw.step()
        other.zero_grad()
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_the_rates_of_parts_follow_the_schedule_of_the_run():
    train = TrainRecipe(
        lr=0.1, min_lr=0.0, lr_scale={"1": 0.5, "0": 0.1}, schedule="cosine", parts={"1": PartRecipe(lr=0.01)}
    )
    optimizer = make_optimizer(two_layers(), train)
    half = 0.5 * (1 + math.cos(math.pi * 0.25))
    assert set_rates(optimizer, 5, 20, train, 2.0) == pytest.approx(2 * learning_rate(5, 20, train))
    rates = {(group["part"], group["lr"]) for group in optimizer.param_groups}
    assert {(part, round(rate, 9)) for part, rate in rates} == {
        ("", round(2 * 0.1 * 0.1 * half, 9)),
        ("1", round(2 * 0.5 * 0.01 * half, 9)),
    }


def test_a_state_goes_on_where_it_was():
    train, x = train_of(), torch.randn(4, 3)
    torch.manual_seed(1)
    results = []
    for stop in (None, 2):
        model = two_layers()
        optimizer = make_optimizer(model, train)
        for step in range(5):
            if step == stop:
                state, values = optimizer.state_dict(), model.state_dict()
                model = two_layers()
                model.load_state_dict(values)
                optimizer = make_optimizer(model, train)
                optimizer.load_state_dict(state)
            model(x).square().sum().backward()
            set_rates(optimizer, step, 5, train, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        results.append(model[1].weight)
    torch.testing.assert_close(*results, rtol=0, atol=0)


def with_parts(r, part=DECODER, **train):
    data = recipe_to_dict(r)
    data["train"] |= {**train, "parts": {"text_decoder": part}}
    return recipe_from_dict(data)


def test_a_run_moves_the_part_in_the_first_step_of_an_epoch_and_every_fifth_after(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run", "pretrain", batch_size=2, epochs=2, max_steps=6, clip_norm=1.0, accumulate=2)
    made = loop.Loop(with_parts(r, {**DECODER, "every": 2}, **SGD), tmp_path / "run", None, progress=False)
    moved, step = [], made._train_step

    def watched(batches):
        before = {name: p.clone() for name, p in made.model.named_parameters()}
        at = made.step - made.epoch * made.steps_per_epoch
        step(batches)
        changed = {name.split(".")[0] for name, p in made.model.named_parameters() if not torch.equal(before[name], p)}
        moved.append((at, changed))

    made._train_step = watched
    made.run()
    assert len(moved) > 3
    for at, changed in moved:
        assert "visual" in changed
        assert (changed & {"decoder", "words", "lm_head"} != set()) == (at % 2 == 0)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(corpus, tmp_path, monkeypatch):
    def made(name):
        r = recipe(corpus, tmp_path / name, "pretrain", epochs=2, batch_size=4)
        return with_parts(r, {**DECODER, "every": 2}, **SGD)

    fit(made("whole"), progress=False)
    step = loop.Loop._train_step

    def stopped(self, batches):
        if self.step == 4:
            raise KeyboardInterrupt
        step(self, batches)

    monkeypatch.setattr(loop.Loop, "_train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit(made("broken"), progress=False)
    monkeypatch.undo()
    fit(made("broken"), progress=False)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("parts", "model", "message"),
    [
        ({"mbart": {}}, {}, "train.parts.mbart: this model has .*decoder.*not 'mbart'"),
        ({"a": {"modules": ["decoder"]}, "decoder": {}}, {}, "decoder is in a and in decoder; leave it in one"),
        (
            {"decoder": {}},
            {"freeze": ["decoder"]},
            "train.parts.decoder: none of its weights is trained by this optimizer",
        ),
    ],
)
def test_a_part_that_cannot_train_is_refused(parts, model, message, corpus, tmp_path):
    data = recipe_to_dict(recipe(corpus, tmp_path / "run", "pretrain", model=model))
    data["train"]["parts"] = parts
    with pytest.raises(ValueError, match=message):
        loop.Loop(recipe_from_dict(data), tmp_path / "run", None, progress=False)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"lr": 0}, "train.parts.d.lr: needs a number above 0"),
        ({"every": 0}, "train.parts.d.every: needs a number from 1"),
        ({"lr": 1e-9}, "train.parts.d.lr=1e-09: cosine falls from it to train.min_lr=1e-08"),
        ({"speed": 1}, "unknown recipe key train.parts.d.speed"),
    ],
)
def test_settings_of_a_part_are_checked(part, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({"stage": "pretrain", "model": {"name": "vlp"}, "train": {"parts": {"d": part}}})


def test_a_loss_scale_is_taken_off_once_for_all_parts():
    # 16-mixed scales the loss; were the parts stepped one by one, the second would take its gradients for scaled anew.
    train, x = train_of(), torch.randn(4, 3)
    results = []
    for scaler in (torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1), None):
        model = two_layers()
        optimizer = make_optimizer(model, train)
        for _ in range(3):
            loss = model(x).square().sum()
            (loss if scaler is None else scaler.scale(loss)).backward()
            if scaler is None:
                optimizer.step()
            else:
                scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
        results.append(list(model.parameters()))
    for scaled, plain in zip(*results, strict=True):
        torch.testing.assert_close(scaled, plain)
