"""What `train.compile` does, and that a whole model can be captured by torch.compile, whatever the sizes of a batch.

Capturing a complete GFSLT takes twenty seconds, so only the recurrent system is tested.
"""

import pytest
import torch
from systems import Case, batch_of, built, recipe_of

from signcl.training import repeated_layers
from signcl.training.loop import Loop


@pytest.mark.parametrize("case", [Case("nslt2018")], ids=str)
@pytest.mark.slow
def test_torch_compile_gives_the_same(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    model, material = built(recipe)
    model.eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", dynamic=True)  # what is captured; code generation is torch's own
    with torch.no_grad():
        for indices in ([0, 1, 2], [3, 4]):  # other sizes, same graph
            batch = batch_of(material, recipe, indices)
            eager, captured = model(batch), compiled(batch)
            for name, value in vars(eager).items():
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    torch.testing.assert_close(getattr(captured, name), value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gfslt", "vlp", "slt"])
@pytest.mark.slow
def test_a_compiled_run_compiles_each_kind_of_layer_once(name, corpora, tmp_path, monkeypatch):
    # Compiling whole models did not end in nine minutes. Here capture alone is tested; code generation is torch's own.
    monkeypatch.setattr(repeated_layers, "BACKEND", "eager")
    case, steps = Case(name), [[0, 1, 2], [3, 4], [5, 6, 7, 1], [2, 3, 4, 5, 6]]
    weights, captured = [], []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        torch.manual_seed(0)
        recipe = recipe_of(case, corpora, tmp_path / str(compiled), compile=compiled, optimizer="sgd", lr=0.01)
        loop = Loop(recipe, tmp_path, None, progress=False)
        loop._log = lambda *_: None
        for clips in steps:
            loop._train_step([loop.material.train[clips].batch])
            captured.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
            loop.step += 1
        weights.append(loop.model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-4, atol=1e-5)
    kinds = {type(layer) for layer in repeated_layers.repeated_layers(loop.model)}
    assert captured[:4] == [0] * 4
    assert 1 <= captured[5] <= 2 * len(kinds)
    assert captured[-1] == captured[5], "another batch was compiled anew"  # sizes that differ become symbols


def test_a_mode_of_compiling_needs_its_device(corpora, tmp_path):
    recipe = recipe_of(Case("slt"), corpora, tmp_path, compile=True, compile_mode="reduce-overhead")
    with pytest.raises(ValueError, match="needs a CUDA device, got cpu"):
        Loop(recipe, tmp_path, None, progress=False)
    with pytest.raises(ValueError, match=r"needs train\.compile=true"):
        recipe_of(Case("slt"), corpora, tmp_path, compile_mode="reduce-overhead")
