"""What a run needs is counted before it begins; a step reads nothing from the device; big models fit by recipe."""

import pytest
import torch
from systems import Case, batch_of, built, recipe_of

from signcl.data.batch import padded_to
from signcl.training import fit, run_folder, runs
from signcl.training.loop import Loop
from signcl.training.memory import activation_bytes, memory_of
from signcl.training.optimizer import Objective, keep_frozen_in_bf16, make_optimizer

SIZED = {
    "gfslt": Case("gfslt", visual="small_cnn"),
    "vlp": Case("vlp"),
    "slt": Case("slt"),
    "gaslt": Case("gaslt", {"keys": 5}, {"translation": 1.0}),
    "sign2gpt": Case("sign2gpt", {"layer_scale": 0.1, "lm": {"width": 32, "gate": 0.5}}),
}


def objective_of(case, corpora, folder, **train):
    recipe = recipe_of(case, corpora, folder, **train)
    model, material = built(recipe)
    return Objective(model, recipe, 0, None).train(), batch_of(material, recipe, [0, 1, 2, 3]), recipe


@pytest.mark.parametrize("name", SIZED)
def test_activations_are_those_of_a_real_step_and_nothing_is_read_from_the_device(name, corpora, tmp_path):
    # Tensors without data raise where the host asks for a value: transformers asked whether a mask hides anything.
    objective, batch, _ = objective_of(SIZED[name], corpora, tmp_path)
    estimate = activation_bytes(objective, batch)
    assert estimate is not None, "the forward pass reads a value from the device"
    weights, kept = {p.untyped_storage()._cdata for p in objective.parameters()}, {}

    def keep(tensor):
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective(batch)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert 0.9 * real < estimate < 1.4 * real  # attention keeps less than is counted


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weights_gradients_and_optimizer_state_are_counted(optimizer, corpora, tmp_path):
    recipe = recipe_of(Case("slt", {"freeze": ["visual"]}), corpora, tmp_path, optimizer=optimizer)
    loop = Loop(recipe, tmp_path, None, progress=False)
    loop._log = lambda *_: None
    needed = loop.memory(0)
    loop.optimizer.zero_grad = lambda **_: None
    loop._train_step([loop.material.train[[0, 1]].batch])

    def size(tensors):
        return sum(t.numel() * t.element_size() for t in tensors)

    assert needed.weights == size([*loop.model.parameters(), *loop.model.buffers()])
    assert needed.gradients == size(p.grad for p in loop.model.parameters() if p.grad is not None)
    state = loop.optimizer.state_dict()["state"].values()
    assert needed.optimizer == size(t for one in state for key, t in one.items() if key != "step" and t is not None)
    assert "needs about" in str(needed)
    halved = memory_of(
        loop.optimizer, loop.model, recipe_of(Case("slt"), corpora, tmp_path, strategy="fsdp").train, ranks=2
    )
    assert halved.gradients < needed.gradients


def test_recomputed_layers_keep_less_and_give_the_same_gradient(corpora, tmp_path):
    gradients, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        recipe = recipe_of(Case("slt", {"encoder_layers": 4, "dropout": 0.1}), corpora, tmp_path, recompute=recompute)
        loop = Loop(recipe, tmp_path, None, progress=False)
        batch = loop.material.train[[0, 1, 2, 3]].batch
        torch.manual_seed(1)
        loop.wrapped.train()
        kept.append(0)

        def count(tensor):
            kept[-1] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            total = sum(loop.wrapped(batch).values())
        total.backward()
        gradients.append({name: p.grad for name, p in loop.model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert kept[1] < 0.7 * kept[0]


def test_frozen_matrices_in_bfloat16_train_the_rest_and_load_again(corpora, tmp_path):
    frozen = Case("sign2gpt", {"layer_scale": 0.1, "lm": {"width": 32, "gate": 0.5}})
    train = {"precision": "bf16-mixed", "frozen_precision": "bf16", "epochs": 1, "evaluate_every": 1}
    folder = fit(recipe_of(frozen, corpora, tmp_path / "run", **train), progress=False)
    state = run_folder.load_state(folder)["model"]
    halves = [name for name, tensor in state.items() if tensor.dtype == torch.bfloat16]
    assert halves
    assert not any("lora" in name for name in halves)
    assert runs.load_run(folder).model is not None
    with pytest.raises(ValueError, match=r"needs train\.precision=bf16-mixed, got 32-true"):
        recipe_of(frozen, corpora, tmp_path, frozen_precision="bf16")


def test_keeping_frozen_matrices_in_half_says_what_it_saves():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)).requires_grad_(False)
    model[1].requires_grad_(True)
    assert keep_frozen_in_bf16(model) == 2 * 12
    assert [p.dtype for p in model.parameters()] == [torch.bfloat16, *[torch.float32] * 3]


@pytest.mark.parametrize("name", ["gfslt", "vlp", "slt"])
def test_batches_padded_to_a_multiple_repeat_their_shapes_and_keep_their_losses(name, corpora, tmp_path):
    objective, batch, recipe = objective_of(SIZED[name], corpora, tmp_path)
    objective.eval()
    longer = padded_to(batch, 16, 0)
    assert longer.max_length == 32 if batch.max_length < 33 else longer.max_length % 16 == 0
    assert longer.tokens.shape[1] % 4 == 0
    assert padded_to(batch, 1, 0) is batch
    with torch.no_grad():
        for one, other in zip(objective(batch).values(), objective(longer).values()):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert make_optimizer(objective.model, recipe.train).defaults["fused"]
