"""Every system can be captured by torch.compile, whatever the sizes of a batch."""

import pytest
import torch
from systems import CASES, batch_of, built, recipe_of

FIRST = {case.name: case for case in reversed(CASES)}
"""One row of each system: capturing takes seconds, and what a row differs in is mostly the same graph."""


@pytest.mark.parametrize("case", FIRST.values(), ids=str)
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
