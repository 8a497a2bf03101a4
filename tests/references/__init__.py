"""Reference outputs of official code with random weights; the weights are regenerated from their names.

A reference file has inputs and outputs. Its metadata names the code that made them (repository, commit, what was run)
and the names and shapes of the weights. Weights are drawn by numpy's legacy generator, whose results never change,
seeded with their name. This keeps files small, even with the official layout at its published widths.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

FOLDER = Path(__file__).parent


def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Draws the values of one tensor: near 1 for scales of norms, small otherwise; counters are 0."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if name.endswith("final_logits_bias"):
        return torch.zeros(shape)
    if name.endswith("running_var"):
        return torch.from_numpy(random.uniform(0.5, 1.5, shape)).float()
    if len(shape) < 2:
        values = 0.1 * random.standard_normal(shape)
        is_scale = name.endswith("weight")
        return torch.from_numpy(np.asarray(values + is_scale)).float()
    fan = int(np.prod(shape[1:]))
    return torch.from_numpy(random.standard_normal(shape) / np.sqrt(fan)).float()


class Reference:
    """One reference file."""

    def __init__(self, name: str) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.about = file.metadata()
            self.tensors = {key: file.get_tensor(key) for key in list(file.keys())}
        self.shapes = json.loads(self.about.get("weights", "{}"))
        """Name of a weight -> its shape, or the name of another weight with the same values."""

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def weights(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """The official state dict of the outputs; `prefix` selects one of several models and is removed from names."""
        return {name.removeprefix(prefix): self._weight(name) for name in self.shapes if name.startswith(prefix)}

    def _weight(self, name: str) -> torch.Tensor:
        if f"weight.{name}" in self.tensors:
            return self.tensors[f"weight.{name}"]
        shape = self.shapes[name]
        return self._weight(shape) if isinstance(shape, str) else drawn(name, tuple(shape))
